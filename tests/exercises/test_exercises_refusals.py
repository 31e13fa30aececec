"""npformer exercise refuses bad usage in one line, before anything is done; damaged progress stops nothing."""

import json
from pathlib import Path

import pytest
from commands_run import NAME, Captured, folder, refusal, run, write
from made_grades import Grader, grader

from npformer.cli import main
from npformer.exercises.progress import PROGRESS

__all__ = ["folder", "grader"]  # fixtures

pytestmark = pytest.mark.usefixtures("folder")


def test_damaged_progress_stops_nothing(capsys: Captured, grader: Grader) -> None:
    Path(PROGRESS).write_text("mine", encoding="utf-8")
    write("solved")
    for arguments in (["list"], ["check", NAME], ["hint", NAME]):
        status, out = run(capsys, *arguments)
        assert out.splitlines()[-1].startswith(f"Progress is not kept in {PROGRESS}: it is damaged")
        assert status == 0
    json.loads(run(capsys, "check", NAME, "--json")[1])
    assert Path(PROGRESS).read_text(encoding="utf-8") == "mine"


def test_junit_is_refused_before_anything_is_run(capsys: Captured, grader: Grader) -> None:
    write("solved")
    assert "must be a file for results" in refusal(capsys, "check", NAME, "--junit", "layer_norm.py")
    assert "must be a file in a folder that exists" in refusal(capsys, "check", NAME, "--junit", "no/results.xml")
    assert "must be a file in a folder that exists" in refusal(capsys, "check", NAME, "--junit", ".")
    assert grader.calls == []
    assert Path("layer_norm.py").read_text(encoding="utf-8") == "# solved"


def test_bad_usage_is_one_line(capsys: Captured, grader: Grader) -> None:
    assert "'layernorm' is none; did you mean layer_norm" in refusal(capsys, "start", "layernorm")
    assert "did you mean layer_norm" in refusal(capsys, "hint", "Layer_Norm")
    assert refusal(capsys, "solution", "?").endswith("npformer exercise list shows them")
    assert refusal(capsys, "check", NAME) == (
        "layer_norm must be started, but layer_norm.py is not there; npformer exercise start layer_norm"
    )
    assert refusal(capsys, "check", "no/layer_norm.py").endswith("but no/layer_norm.py is none")
    write("solved", "mine")
    assert "'mine' is none" in refusal(capsys, "check", "mine.py")
    write("solved")
    assert refusal(capsys, "check", "--seed", "-1") == "--seed must be at least 0, but it is -1"
    assert refusal(capsys, "check", "--seconds", "nan").startswith("--seconds must lie in (0, ")
    assert refusal(capsys, "check", "--megabytes", "0") == "--megabytes must be at least 1, but it is 0"
    Path("embeddings.py").mkdir()
    assert "Is a directory" in refusal(capsys, "check", "embeddings")
    assert "--all must stand alone" in refusal(capsys, "check", NAME, "--all")
    assert "File name too long" in refusal(capsys, "list", "--dir", "x" * 5000)
    assert "unreadable.py" in refusal(capsys, "list", "--task-file", "unreadable.py")


@pytest.mark.parametrize("arguments", [[], ["check", "--seed", "one"], ["start"], ["list", "--no-such"]])
def test_what_argparse_refuses_is_one_line(capsys: Captured, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["exercise", *arguments])
    assert ended.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
