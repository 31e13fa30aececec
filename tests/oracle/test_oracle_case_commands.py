"""npformer vectors and npformer compare, as a user of the shell meets them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from npformer.cli import main
from npformer.oracle import read_arrays, write_arrays

CASE = "multi_head_self"
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vectors") / "cases"
    assert main(["vectors", str(folder), "--format", "npz", "--only", CASE, "--only", "layer_norm_float*"]) == 0
    return folder


@pytest.fixture
def answer(folder: Path, tmp_path: Path) -> Path:
    """The case's own arrays in float32, as an implementation would give them."""
    arrays = read_arrays(folder / CASE / "arrays.npz")
    path = tmp_path / "answer.npz"
    write_arrays(path, {name: a.astype(np.float32) if a.dtype.kind == "f" else a for name, a in arrays.items()})
    return path


def put_off(answer: Path, name: str, factor: float) -> Path:
    arrays = read_arrays(answer)
    path = answer.with_name(f"{name} times {factor}.npz")
    write_arrays(path, arrays | {name: arrays[name] * np.float32(factor)})
    return path


def refusal(capsys: Captured, *arguments: str) -> str:
    """Return the one line that a refused command prints."""
    assert main([*arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    return line


def test_vectors_writes_the_cases_that_are_named(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "layer_norm_float16",
        "layer_norm_float32",
        "layer_norm_float64",
        "manifest.json",
        CASE,
    ]


def test_vectors_says_what_it_wrote(tmp_path: Path, capsys: Captured) -> None:
    assert main(["vectors", str(tmp_path / "cases"), "--format", "npz", "--only", "linear_no_bias"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"1 case in {tmp_path / 'cases'}; manifest.json says what the arrays mean"


def test_right_arrays_have_exit_status_0(folder: Path, answer: Path, capsys: Captured) -> None:
    assert main(["compare", str(answer), str(folder / CASE)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("that were given are right.")


def test_a_wrong_array_has_exit_status_1_and_is_named(folder: Path, answer: Path, capsys: Captured) -> None:
    wrong = put_off(answer, "attention.scores", 2)
    assert main(["compare", str(wrong), str(folder / CASE)]) == 1
    conclusion = capsys.readouterr().out.splitlines()[-1]
    assert conclusion.startswith("attention.scores is the first wrong array, and is wrong there: off by the constant ")


def test_a_missing_result_has_exit_status_1(folder: Path, answer: Path, capsys: Captured) -> None:
    arrays = read_arrays(answer)
    del arrays["q_proj.grad_weight"]
    write_arrays(answer, arrays)
    assert main(["compare", str(answer), str(folder / CASE)]) == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith("but q_proj.grad_weight is missing.")
    assert main(["compare", str(answer), str(folder / CASE), "--only", "output"]) == 0


def test_of_several_runs_the_worst_counts(folder: Path, answer: Path, capsys: Captured) -> None:
    wrong = put_off(answer, "output", 1.01)
    assert main(["compare", str(answer), str(wrong), str(answer), str(folder / CASE)]) == 1
    assert "output, worst entries (run 2 of 3)" in capsys.readouterr().out


def test_json_holds_the_rows(folder: Path, answer: Path, capsys: Captured) -> None:
    wrong = put_off(answer, "output", np.nan)
    assert main(["compare", str(wrong), str(folder / CASE), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["first_wrong"] == "output"
    assert not document["passed"]
    assert {row["verdict"] for row in document["rows"]} == {"PASS", "FAIL"}


def test_what_cannot_be_read_is_one_line(folder: Path, answer: Path, tmp_path: Path, capsys: Captured) -> None:
    case, theirs = str(folder / CASE), str(answer)
    missing = str(tmp_path / "missing.npz")
    assert refusal(capsys, "compare", missing, case) == f"npformer compare: {missing}: No such file or directory"
    assert "must hold a conformance case" in refusal(capsys, "compare", theirs, str(folder))
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK")
    assert refusal(capsys, "compare", str(broken), case).startswith(f"npformer compare: {broken} must be ")
    assert "only must match" in refusal(capsys, "compare", theirs, case, "--only", "nothing")
    moved = put_off(answer, "query", 1.5)
    line = "npformer compare: theirs must be computed from the query of the case, but it holds another one"
    assert refusal(capsys, "compare", str(moved), case) == line


def test_vectors_refuses_what_it_cannot_write(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    line = f"npformer vectors: folder must be new or empty, but {folder} is not"
    assert refusal(capsys, "vectors", str(folder), "--format", "npz") == line
    nowhere = str(tmp_path / "missing" / "cases")
    assert refusal(capsys, "vectors", nowhere, "--format", "npz").startswith("npformer vectors: ")
    assert "nothing" in refusal(capsys, "vectors", str(tmp_path / "cases"), "--only", "nothing")
    assert list(tmp_path.iterdir()) == []


def test_without_safetensors_one_line_says_what_to_do(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    line = refusal(capsys, "vectors", str(tmp_path / "cases"), "--only", "dropout")
    assert "pip install 'npformer[oracle]'" in line
    assert list(tmp_path.iterdir()) == []


def test_the_shell_gets_the_same(folder: Path, answer: Path) -> None:
    wrong = put_off(answer, "output", 3)
    command = [sys.executable, "-m", "npformer", "compare", str(wrong), str(folder / CASE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    assert "output is the first wrong array" in done.stdout
