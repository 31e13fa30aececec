"""`npformer accuracy`: a table on standard output, and one line for what it cannot do."""

import sys

import pytest

from npformer.accuracy import format_accuracy, measure_accuracy
from npformer.cli import main


def test_the_command_prints_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["accuracy", "--points", "64", "--seed", "1"]) == 0
    rows = measure_accuracy(64, 1)
    assert capsys.readouterr() == (format_accuracy(rows) + "\n", "")
    assert main(["accuracy", "--points", "64", "--seed", "1", "--markdown"]) == 0
    assert capsys.readouterr() == (format_accuracy(rows, markdown=True) + "\n", "")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--points", "3"], "points must be at least 64, but it is 3"),
        (["--seed", "-1"], "seed must be at least 0, but it is -1"),
        (["--points", "x"], "argument --points: invalid int value: 'x' (see npformer accuracy --help)"),
    ],
)
def test_a_bad_number_is_one_line(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main(["accuracy", *arguments])
    except SystemExit as end:
        status = int(end.code or 0)
    assert (status, *capsys.readouterr()) == (2, "", f"npformer accuracy: {sentence}\n")


def test_without_mpmath_one_line_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mpmath", None)
    assert main(["accuracy"]) == 2
    sentence = "accuracy is measured with mpmath, which is not installed: pip install mpmath"
    assert capsys.readouterr() == ("", f"npformer accuracy: {sentence}\n")
