"""npformer exercise, as a learner and a course meet it; made grades stand for the grader where they can."""

import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from commands_run import NAME, TASK, Captured, folder, refusal, run, write
from made_grades import SPOILER, Grader, grader

from npformer.exercises.progress import PROGRESS
from npformer.exercises.source import solution_source
from npformer.exercises.tasks import TASKS

__all__ = ["folder", "grader"]  # fixtures

pytestmark = pytest.mark.usefixtures("folder")

FIRST, *_ = TASKS
TEACHER = str(Path(__file__).parents[2] / "examples" / "exercise_rms_norm.py")


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


def test_the_answer_runs_as_it_is_printed(capsys: Captured) -> None:
    for name, task in TASKS.items():
        out = run(capsys, "solution", name)[1]
        names: dict[str, object] = {}
        exec(code_in(out), names)
        assert task.solution.__name__ in names


def code_in(out: str) -> str:
    """Return what stands below the derivation."""
    return re.split(r"^(?=(?:from|import) .*$)", out, maxsplit=1, flags=re.M)[1]


def test_a_folder_in_which_progress_is_not_kept(capsys: Captured) -> None:
    Path(PROGRESS).mkdir()
    out = run(capsys, "hint", NAME)[1]
    assert "All of them: npformer exercise hint layer_norm --all\n" in out
    assert "One more" not in out


def test_the_learner_s_file_of_a_teacher_s_exercise_says_how_to_check_it(capsys: Captured, folder: Path) -> None:
    (folder / "my work").mkdir()
    Path("week 2.py").write_bytes(Path(TEACHER).read_bytes())
    assert run(capsys, "start", "rms_norm", "--task-file", "week 2.py")[0] == 0
    assert "\n    npformer exercise check rms_norm --task-file 'week 2.py'\n" in Path("rms_norm.py").read_text("utf-8")
    assert run(capsys, "start", "rms_norm", "--task-file", "week 2.py", "--dir", "my work")[0] == 0
    inside = Path("my work", "rms_norm.py").read_text("utf-8")
    assert "\n    npformer exercise hint rms_norm --task-file '../week 2.py'\n" in inside


def test_results_say_which_file_they_are_of(capsys: Captured, grader: Grader, folder: Path) -> None:
    for learner in ("alice", "bob"):
        (folder / learner).mkdir()
        write("solved", f"{learner}/layer_norm")
    files = ["alice/layer_norm.py", "bob/layer_norm.py"]
    out = run(capsys, "check", *files, "--json", "--junit", "results.xml")[1]
    assert [each["file"] for each in json.loads(out)] == files
    suites = ElementTree.parse("results.xml").getroot()
    assert [suite.get("name") for suite in suites] == [f"layer_norm ({file})" for file in files]


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
