"""A learner's folder, and the commands run in it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from npformer.cli import main
from npformer.exercises.tasks import TASKS

NAME = "layer_norm"
TASK = TASKS[NAME]
Captured = pytest.CaptureFixture[str]


@pytest.fixture
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
