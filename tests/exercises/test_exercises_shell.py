"""npformer exercise in processes of its own, with the grader itself: exit status, nothing on stderr, any encoding."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from commands_run import NAME, TASK, folder, shell

from npformer.exercises.source import imports_for, solution_source

__all__ = ["folder"]  # a fixture

pytestmark = pytest.mark.usefixtures("folder")


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


@pytest.mark.parametrize("action", ["list", f"solution {NAME}"])
def test_a_closed_output_is_no_traceback(action: str) -> None:
    command = f"{sys.executable} -m npformer exercise {action} >&-"
    done = subprocess.run(["/bin/sh", "-c", command], stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_neighbour_of_the_learner_s_file_is_found_from_everywhere(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "my_means.py").write_text("def mean(a):\n    return a.mean(-1, keepdims=True)\n", "utf-8")
    assert "def backward" in right_file()
    code = right_file().replace("mean_g = ", "from my_means import mean\n        mean_g = ", 1)
    assert code != right_file()
    (tmp_path / "work" / "layer_norm.py").write_text(code, encoding="utf-8")
    for arguments in ([NAME, "--dir", "work"], ["work/layer_norm.py"], [str(tmp_path / "work" / "layer_norm.py")]):
        answer = shell("check", *arguments)
        assert (answer.returncode, answer.stderr) == (0, b""), answer.stdout


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
