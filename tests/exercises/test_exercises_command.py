"""npformer exercise, as a learner and a course meet it; made grades stand for the grader where they can."""

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from made_grades import SPOILER, Grader, grader

from npformer.cli import main
from npformer.exercises.progress import PROGRESS
from npformer.exercises.source import imports_for, solution_source
from npformer.exercises.tasks import TASKS

__all__ = ["grader"]  # a fixture

FIRST, *_ = TASKS
NAME = "layer_norm"
TASK = TASKS[NAME]
TEACHER = str(Path(__file__).parents[2] / "examples" / "exercise_rms_norm.py")
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A learner's folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys: Captured, *arguments: str) -> tuple[int, str]:
    """Return the exit status of a command, and what it printed; it prints nothing on stderr."""
    status = main(["exercise", *arguments])
    printed = capsys.readouterr()
    assert printed.err == ""
    return status, printed.out


def refusal(capsys: Captured, *arguments: str) -> str:
    """Return the one line that a refused command prints."""
    assert main(["exercise", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    return line.removeprefix("npformer exercise: ")


def write(kind: str, name: str = NAME) -> None:
    """Write what a learner whose grade is of this kind has written."""
    Path(f"{name}.py").write_text(f"# {kind}", encoding="utf-8")


def shell(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "npformer", "exercise", *arguments]
    return subprocess.run(command, capture_output=True, env=os.environ | environment)


def test_the_list_is_numbered_and_says_how_to_begin(capsys: Captured) -> None:
    status, out = run(capsys, "list")
    rows = [re.match(r" *(\d+) \[ \] (\w+) ", line) for line in out.splitlines()[: len(TASKS)]]
    assert [(row[1], row[2]) for row in rows if row] == [(str(n), name) for n, name in enumerate(TASKS, start=1)]
    total = sum(task.points for task in TASKS.values())
    assert f"0 of {len(TASKS)} solved, 0 of {total} points\n" in out
    assert out.splitlines()[-1] == f"Next: npformer exercise start {FIRST}"
    assert max(map(len, out.splitlines())) <= 100
    assert status == 0


def test_an_exercise_from_start_to_solved(capsys: Captured, grader: Grader) -> None:
    status, out = run(capsys, "check")
    assert (status, out.splitlines()) == (
        1,
        ["No exercise is started.", f"Next: npformer exercise start {FIRST}"],
    )
    status, out = run(capsys, "start", NAME)
    assert (status, out.splitlines()) == (
        0,
        [f"layer_norm.py is for you to fill in: {TASK.title}.", "Then: npformer exercise check layer_norm"],
    )
    status, out = run(capsys, "check")
    assert out.startswith("Checking layer_norm.py, the first that is started and not solved.\n\n")
    assert status == 1
    assert f"[.] {NAME} " in run(capsys, "list")[1]
    write("wrong")
    status, out = run(capsys, "check")
    assert "not yet right, 4 of 6 points" in out
    assert status == 1
    assert f"[!] {NAME} " in run(capsys, "list")[1]
    write("solved")
    status, out = run(capsys, "check", NAME)
    assert "solved, 6 of 6 points" in out
    assert out.splitlines()[-1].startswith("Next: npformer exercise start " if len(TASKS) > 1 else "All exercises")
    assert status == 0
    assert f"[x] {NAME} " in run(capsys, "list")[1]
    assert run(capsys, "check")[0] == 0
    write("wrong")
    assert f"[~] {NAME} " in run(capsys, "list")[1]
    assert run(capsys, "check")[1].startswith("Checking layer_norm.py")


def test_start_never_overwrites(capsys: Captured) -> None:
    write("my work")
    line = "layer_norm.py is there already and is yours; it is not overwritten"
    assert refusal(capsys, "start", NAME) == line
    assert Path("layer_norm.py").read_text(encoding="utf-8") == "# my work"


def test_hints_come_one_by_one_and_then_the_answer(capsys: Captured) -> None:
    hints = len(TASK.hints)
    for shown in [*range(1, hints + 1), hints]:
        status, out = run(capsys, "hint", NAME)
        assert re.findall(r"^Hint (\d+) of", out, flags=re.M) == [str(number) for number in range(1, shown + 1)]
        assert ("npformer exercise solution layer_norm" in out) == (shown == hints)
        assert status == 0
    assert " ".join(TASK.hints[-1].split()) in " ".join(out.split())


def test_all_hints_at_once(capsys: Captured) -> None:
    out = run(capsys, "hint", NAME, "--all")[1]
    assert len(re.findall(r"^Hint \d+ of", out, flags=re.M)) == len(TASK.hints)
    assert max(map(len, out.splitlines())) <= 100


def test_the_solution_says_that_it_is_the_answer_and_writes_nothing(capsys: Captured, folder: Path) -> None:
    status, out = run(capsys, "solution", NAME)
    assert out.startswith("This is the answer to layer_norm")
    assert solution_source(TASK) in out
    assert "over the row: one number for each" in out
    assert status == 0
    assert list(folder.iterdir()) == []


def test_the_spoiler_comes_when_asked_for(capsys: Captured, grader: Grader) -> None:
    write("wrong")
    assert SPOILER not in run(capsys, "check", NAME)[1]
    assert SPOILER in run(capsys, "check", NAME, "--spoil")[1]


def test_limits_and_seed_are_handed_on(capsys: Captured, grader: Grader) -> None:
    write("solved")
    run(capsys, "check", NAME)
    run(capsys, "check", "layer_norm.py", "--seed", "3", "--seconds", "2.5", "--megabytes", "100")
    expected = {"learner": Path("layer_norm.py"), "task": TASK}
    assert grader.calls == [
        expected | {"seed": 0, "seconds": 30.0, "megabytes": 2048},
        expected | {"seed": 3, "seconds": 2.5, "megabytes": 100},
    ]


def test_json_is_all_that_is_printed(capsys: Captured, grader: Grader) -> None:
    write("wrong")
    for arguments in (["check", NAME], ["check"], ["check", "--all"], ["check", "layer_norm.py", "--spoil"]):
        status, out = run(capsys, *arguments, "--json")
        assert [each["status"] for each in json.loads(out)] == ["wrong"]
        assert status == 1


def test_json_of_nothing_is_an_empty_list(capsys: Captured, grader: Grader) -> None:
    assert run(capsys, "check", "--json") == (1, "[]\n")


def test_junit_is_written(capsys: Captured, grader: Grader) -> None:
    write("wrong")
    assert run(capsys, "check", NAME, "--junit", "results.xml")[0] == 1
    root = ElementTree.parse("results.xml").getroot()
    assert (root.get("tests"), root.get("failures")) == ("3", "1")


def test_junit_is_refused_before_anything_is_run(capsys: Captured, grader: Grader) -> None:
    write("solved")
    assert "must be a file for results" in refusal(capsys, "check", NAME, "--junit", "layer_norm.py")
    assert "must be a file in a folder that exists" in refusal(capsys, "check", NAME, "--junit", "no/results.xml")
    assert "must be a file in a folder that exists" in refusal(capsys, "check", NAME, "--junit", ".")
    assert grader.calls == []
    assert Path("layer_norm.py").read_text(encoding="utf-8") == "# solved"


def test_several_are_checked_and_summed_up(capsys: Captured, grader: Grader) -> None:
    write("solved")
    write("wrong", "rms_norm")
    status, out = run(capsys, "check", "--all", "--task-file", TEACHER)
    assert out.splitlines()[-1] == "1 of 2 solved, 8.67 of 10 points"
    assert status == 1
    write("solved", "rms_norm")
    assert run(capsys, "check", NAME, "rms_norm", "--task-file", TEACHER)[0] == 0


def test_files_elsewhere_are_checked_without_a_trace(capsys: Captured, grader: Grader, folder: Path) -> None:
    (folder / "submitted").mkdir()
    write("solved", "submitted/layer_norm")
    assert run(capsys, "check", "submitted/layer_norm.py")[0] == 0
    assert [path.name for path in folder.rglob("*")] == ["submitted", "layer_norm.py"]


def test_another_folder(capsys: Captured, grader: Grader, folder: Path) -> None:
    (folder / "my work").mkdir()
    out = run(capsys, "start", NAME, "--dir", "my work")[1]
    assert out.splitlines()[-1] == "Then: npformer exercise check layer_norm --dir 'my work'"
    write("wrong", "my work/layer_norm")
    assert "hint layer_norm --dir 'my work'" in run(capsys, "check", "--dir", "my work")[1]
    assert sorted(path.name for path in (folder / "my work").iterdir()) == [PROGRESS, "layer_norm.py"]
    assert refusal(capsys, "list", "--dir", "none") == "--dir must be a folder that exists, but none is none"


def test_damaged_progress_stops_nothing(capsys: Captured, grader: Grader) -> None:
    Path(PROGRESS).write_text("mine", encoding="utf-8")
    write("solved")
    for arguments in (["list"], ["check", NAME], ["hint", NAME]):
        status, out = run(capsys, *arguments)
        assert out.splitlines()[-1].startswith(f"Progress is not kept in {PROGRESS}: it is damaged")
        assert status == 0
    json.loads(run(capsys, "check", NAME, "--json")[1])
    assert Path(PROGRESS).read_text(encoding="utf-8") == "mine"


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


def right_file() -> str:
    """Return the file of a learner who wrote what the solution says."""
    code = solution_source(TASK)
    return "\n".join([*imports_for(TASK, code), "", "", code, ""])


def test_the_shell_gets_the_same_from_the_grader_itself() -> None:
    assert shell("start", NAME).returncode == 0
    blank = shell("check")
    assert (blank.returncode, blank.stderr) == (1, b"")
    assert b"still to be written" in blank.stdout
    Path("layer_norm.py").write_text(right_file(), encoding="utf-8")
    right = shell("check", NAME, "--json", "--junit", "results.xml")
    assert (right.returncode, right.stderr) == (0, b"")
    assert json.loads(right.stdout)[0]["status"] == "solved"
    assert ElementTree.parse("results.xml").getroot().get("failures") == "0"
    wrong = right_file().replace("- mean_g -", "-")
    assert wrong != right_file()
    Path("layer_norm.py").write_text(wrong, encoding="utf-8")
    answer = shell("check", NAME, PYTHONIOENCODING="ascii")
    assert (answer.returncode, answer.stderr) == (1, b"")
    assert b"not yet right" in answer.stdout
    assert b"mean term missing (LayerNorm.mean_term_missing)" in answer.stdout
    assert b"x -> mean(x) -> x_hat -> output" in answer.stdout
    assert answer.stdout.isascii()


def test_a_terminal_that_has_no_arrows_gets_others() -> None:
    answer = shell("solution", NAME, PYTHONIOENCODING="ascii")
    assert (answer.returncode, answer.stderr) == (0, b"")
    assert answer.stdout.isascii()


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m npformer exercise solution {NAME} | true"
    done = subprocess.run(command, shell=True, capture_output=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_the_tasks_are_imported_when_they_are_needed() -> None:
    program = (
        "import sys, contextlib, io, npformer.cli as cli\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): cli.main(['--help'])\n"
        "print(*(name for name in sys.modules if name.startswith(('npformer.exercises.tasks', 'npformer.mistakes'))))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("\n", "")


@pytest.mark.parametrize(
    ("setting", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, False), ({"TERM": "dumb"}, False)],
)
def test_colour_is_for_terminals(
    setting: dict[str, str], coloured: bool, capsys: Captured, grader: Grader, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("solved")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert "\033[" not in run(capsys, "check", NAME)[1]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    assert ("\033[" in run(capsys, "check", NAME)[1]) == coloured
    assert "\033[" not in run(capsys, "check", NAME, "--json")[1]
