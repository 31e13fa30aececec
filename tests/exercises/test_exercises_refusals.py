"""npformer exercise refuses bad usage in one line, before anything is done; damaged progress stops nothing."""

import json
import os
from pathlib import Path

import pytest
from commands_run import NAME, Captured, folder, refusal, run, write
from made_grades import Grader, grader

from npformer.cli import main
from npformer.exercises.progress import PROGRESS

__all__ = ["folder", "grader"]  # fixtures

TEACHER = Path(__file__).parents[2] / "examples" / "exercise_rms_norm.py"

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


def test_junit_replaces_nothing_but_results(capsys: Captured, grader: Grader) -> None:
    write("solved")
    for name, data in (("notes.txt", "mine"), ("other.xml", '<?xml version="1.0" encoding="utf-8"?>\n<testsuites />')):
        Path(name).write_text(data, encoding="utf-8")
        assert refusal(capsys, "check", NAME, "--junit", name) == (
            f"--junit must be a new file or one with such results, but {name} holds something else"
        )
        assert Path(name).read_text(encoding="utf-8") == data
    assert "where progress is kept" in refusal(capsys, "check", NAME, "--junit", PROGRESS)
    assert grader.calls == []
    Path("results.xml").touch()
    for _ in range(2):
        assert run(capsys, "check", NAME, "--junit", "results.xml")[0] == 0
    assert "where progress is kept" in refusal(capsys, "check", NAME, "--junit", f"./{PROGRESS}")


def test_a_teacher_s_file_is_never_a_learner_s(capsys: Captured, grader: Grader, tmp_path: Path) -> None:
    Path("rms_norm.py").write_bytes(TEACHER.read_bytes())
    with_it = ("--task-file", "rms_norm.py")
    for arguments in (("check", "rms_norm"), ("check", "--all"), ("start", "rms_norm"), ("list",)):
        assert refusal(capsys, *arguments, *with_it) == (
            "--task-file must not be a learner's file, but rms_norm.py is where rms_norm is written"
        )
    Path("work").mkdir()
    line = refusal(capsys, "check", "./rms_norm.py", *with_it, "--dir", "work")
    assert line == "FILE must be a learner's file, but ./rms_norm.py is given as --task-file"
    assert grader.calls == []


def test_bad_usage_is_one_line(capsys: Captured, grader: Grader) -> None:
    assert "'layernorm' is none; did you mean layer_norm" in refusal(capsys, "start", "layernorm")
    assert "did you mean layer_norm" in refusal(capsys, "hint", "Layer_Norm")
    assert refusal(capsys, "solution", "?").endswith("npformer exercise list shows them")
    assert refusal(capsys, "check", NAME) == (
        "layer_norm must be started, but layer_norm.py is not there; npformer exercise start layer_norm"
    )
    assert refusal(capsys, "check", "no/layer_norm.py").endswith("but no/layer_norm.py is none")
    write("solved", "mine")
    assert refusal(capsys, "check", "mine.py").startswith(
        "FILE must be called after its exercise, such as subsequent_mask.py, but 'mine.py' is not"
    )
    write("solved")
    assert refusal(capsys, "check", "--seed", "-1") == "--seed must be at least 0, but it is -1"
    assert refusal(capsys, "check", "--seconds", "nan").startswith("--seconds must lie in (0, ")
    assert refusal(capsys, "check", "--megabytes", "0") == "--megabytes must be at least 1, but it is 0"
    Path("embeddings.py").mkdir()
    assert refusal(capsys, "check", "embeddings") == "embeddings.py must be a learner's file, but it is a folder"
    os.mkfifo("dropout.py")
    assert "but it is a device, a pipe or a socket" in refusal(capsys, "check", "dropout")
    assert refusal(capsys, "check", "./dropout.py").endswith("but ./dropout.py is a device, a pipe or a socket")
    Path("softmax.py").symlink_to("nowhere.py")
    assert "but it is a link to a file that is not there" in refusal(capsys, "check", "softmax")
    assert "--all must stand alone" in refusal(capsys, "check", NAME, "--all")
    assert "File name too long" in refusal(capsys, "list", "--dir", "x" * 5000)
    assert "unreadable.py" in refusal(capsys, "list", "--task-file", "unreadable.py")


@pytest.mark.parametrize("arguments", [[], ["check", "--seed", "one"], ["start"], ["list", "--no-such"]])
def test_what_argparse_refuses_is_one_line(capsys: Captured, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["exercise", *arguments])
    assert ended.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
