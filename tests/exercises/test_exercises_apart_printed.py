"""What code prints apart comes back as text, and nothing of it reaches the parent's streams."""

import io
import os
import subprocess
import sys
from typing import NoReturn

import pytest

from npformer.exercises.apart import ENDS, run_apart

SHORT = 0.3  # seconds: for work that would never end


def _python(program: str, *options: str, typed: str = "") -> tuple[str, str]:
    """Return what a fresh process writes to stdout and stderr."""
    env = os.environ | {"PYTHONUNBUFFERED": ""}
    program = f"from npformer.exercises.apart import run_apart\n{program}"
    done = subprocess.run(
        [sys.executable, *options, "-c", program], capture_output=True, text=True, check=True, env=env, input=typed
    )
    return done.stdout, done.stderr


def test_everything_printed_is_kept_and_nothing_reaches_the_parent(capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> str:
        print("by Python")
        print("to stderr", file=sys.stderr)
        os.write(1, b"to the descriptor\n")
        os.system("echo by a child")
        sys.stdout.buffer.write(b"bytes \xff\n")
        print("half a pair \udc80")
        print("past what replaced it", file=sys.__stdout__)
        return sys.stdin.read() + input_or_end()

    def input_or_end() -> str:
        try:
            return input()
        except EOFError:
            return "no input"

    outcome = run_apart(work)
    expected = ["by Python", "to stderr", "to the descriptor", "by a child", "bytes \ufffd", r"half a pair \udc80"]
    assert outcome.result == "no input"
    assert outcome.printed.splitlines() == [*expected, "past what replaced it"]
    assert capfd.readouterr() == ("", "")


def test_last_words_without_a_line_end_survive_a_crash() -> None:
    def work() -> None:
        print("last", end="")
        os.abort()

    assert run_apart(work).printed == "last"


def test_what_is_typed_for_the_parent_is_not_read_apart() -> None:
    program = "import os, sys\nprint(run_apart(lambda: (sys.stdin.read(), os.read(0, 9))).result, sys.stdin.read())\n"
    assert _python(program, typed="for the parent") == ("('', b'') for the parent\n", "")


def test_what_the_parent_has_in_its_buffers_is_printed_once() -> None:
    program = (
        "import atexit, sys\n"
        "atexit.register(print, 'at exit')\n"
        "print('before')\n"
        "print('to stderr', end='', file=sys.stderr)\n"
        "print(run_apart(lambda: print('apart', file=sys.__stdout__)).printed, end='')\n"
    )
    assert _python(program) == ("before\napart\nat exit\n", "to stderr")


def test_python_does_not_warn_of_a_fork_beside_threads() -> None:  # as 3.12 and later do
    program = (
        "import threading\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "print(run_apart(lambda: 1).result)\n"
    )
    assert _python(program, "-W", "always") == ("1\n", "")


def test_endless_printing_is_cut_in_the_middle() -> None:
    def work() -> NoReturn:
        print("the beginning")
        while True:
            print("é" * 1000)

    printed = run_apart(work, SHORT).printed
    assert printed.startswith("the beginning\né")
    assert printed.rstrip().endswith("é")
    assert len(printed.encode()) < 2 * ENDS + 100
    (middle,) = [line for line in printed.splitlines() if line.startswith("…")]
    assert int(middle.split()[1].replace(",", "")) > 100_000


@pytest.mark.parametrize("length", [ENDS - 1, ENDS, ENDS + 1, 2 * ENDS, 2 * ENDS + 1])
def test_what_fits_is_not_cut(length: int) -> None:
    text = ("é" + "0123456789" * ENDS)[: length - 1]
    printed = run_apart(lambda: print(text, end="")).printed
    assert (printed == text) == (length <= 2 * ENDS)
    assert printed.replace("\n… 1 bytes are not shown …\n", "") in {text, text[: ENDS - 1] + text[ENDS:]}


def test_warnings_stay_apart() -> None:
    program = "import warnings; print(run_apart(lambda: warnings.warn('a slip')).printed)"
    stdout, stderr = _python(program, "-W", "default")
    assert "UserWarning: a slip" in stdout
    assert stderr == ""


def test_a_crash_says_where_and_nothing_reaches_the_parents_stderr() -> None:
    program = (
        "import ctypes\n"
        "def work(): ctypes.string_at(8)\n"
        "outcome = run_apart(work)\n"
        "print(outcome.ended, outcome.printed, outcome.stack[0].function)\n"
    )
    stdout, stderr = _python(program, "-X", "faulthandler")
    assert (stdout, stderr) == ("it was killed by signal 11 (SIGSEGV)  work\n", "")


def test_a_closed_stdout_of_the_parent_is_no_hindrance(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.TextIOWrapper(io.BytesIO())
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    monkeypatch.setattr(sys, "stderr", None)
    assert run_apart(lambda: print("hello")).printed == "hello\n"
