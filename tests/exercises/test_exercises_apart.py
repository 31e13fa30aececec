"""Code that hangs, grows, prints, crashes or exits does so apart, and comes back as an outcome."""

import faulthandler
import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from nothing_left import nothing_is_left

from npformer.exercises import apart
from npformer.exercises.apart import ENDS, GRACE, Outcome, run_apart
from npformer.exercises.quoting import Frame

__all__ = ["nothing_is_left"]  # a fixture
pytestmark = pytest.mark.usefixtures("nothing_is_left")
SHORT = 0.3  # seconds: for work that would never end


def _endless() -> NoReturn:
    while True:
        pass


class Local:
    """A class of this file: pickled by its name."""

    value = 3


def test_the_result_comes_back() -> None:
    x = np.arange(6.0).reshape(2, 3)
    outcome = run_apart(lambda: {"x": 2 * x, "process": os.getpid()})
    assert outcome.result is not None
    np.testing.assert_array_equal(outcome.result["x"], 2 * x)
    assert outcome.result["process"] != os.getpid()
    assert (outcome.printed, outcome.ended, outcome.stack) == ("", "", ())


def test_what_it_changes_stays_apart() -> None:
    x = np.zeros(3)
    assert run_apart(lambda: x.fill(1)) == Outcome(None, "", "")
    assert not x.any()


def test_what_was_not_read_before_the_end_is_read_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    waitpid = os.waitpid
    monkeypatch.setattr(apart, "PAUSE", 0)
    monkeypatch.setattr(os, "waitpid", lambda process, options: waitpid(process, 0))
    assert run_apart(lambda: print("hello")) == Outcome(None, "hello\n", "")


def test_a_large_result_does_not_block() -> None:
    def work() -> tuple[bytes, None]:
        return bytes(20_000_000), print("x" * 200_000)

    outcome = run_apart(work)
    assert outcome.result == (bytes(20_000_000), None)


@pytest.mark.parametrize("seconds", [SHORT, 1])
def test_an_endless_loop_is_ended_in_time_and_says_where_it_was(seconds: float) -> None:
    start = time.monotonic()
    outcome = run_apart(_endless, seconds)
    assert time.monotonic() - start < seconds + GRACE / 2  # by its own alarm: the parent has not had to end it
    assert outcome.ended == f"it was still running after {seconds:g} s"
    assert outcome.result is None
    ((file, line, function),) = outcome.stack
    first = _endless.__code__.co_firstlineno
    assert (file, function) == (__file__, "_endless")
    assert line in {first + 1, first + 2}


def test_the_stack_names_the_callers_of_a_call_into_c_that_never_returns() -> None:
    def backward() -> None:
        sum(itertools.repeat(0))  # without end, and without letting Python in

    stack = run_apart(lambda: backward(), SHORT).stack
    assert [each.function for each in stack] == ["<lambda>", "backward"]
    assert stack[-1] == Frame(__file__, backward.__code__.co_firstlineno + 1, "backward")


def test_the_stack_is_that_of_the_main_thread() -> None:
    def work() -> None:
        threading.Thread(target=_endless, daemon=True).start()
        time.sleep(60)

    assert [each.function for each in run_apart(work, SHORT).stack] == ["work"]


def test_the_stack_names_files_and_functions_in_any_script() -> None:
    names: dict[str, Any] = {}
    exec(compile("def größe():\n    while True: pass\n", "/elsewhere/größe 数 𝛼.py", "exec"), names)
    assert run_apart(names["größe"], SHORT).stack == (Frame("/elsewhere/größe 数 𝛼.py", 2, "größe"),)


def test_a_loop_that_catches_everything_and_holds_every_signal_back_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "GRACE", SHORT)

    def work() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            try:
                time.sleep(60)
            except BaseException:
                continue

    assert run_apart(work, SHORT).ended == "it was still running after 0.3 s"


def test_a_stopped_process_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "GRACE", SHORT)
    outcome = run_apart(lambda: os.kill(os.getpid(), signal.SIGSTOP), SHORT)
    assert outcome.ended == "it was still running after 0.3 s"


def test_work_that_closes_every_descriptor_is_ended() -> None:
    def work() -> None:
        os.closerange(0, 1000)
        _endless()

    assert run_apart(work, SHORT) == Outcome(None, "", "it was still running after 0.3 s")
    assert run_apart(lambda: os.closerange(0, 1000)).ended == "it ended the process with exit status 1"


def test_the_alarm_needs_no_parent() -> None:
    program = (
        "import os, sys, time; from npformer.exercises.apart import run_apart\n"
        "def work():\n"
        "    os.write(own, b'%d' % os.getpid())\n"
        "    time.sleep(60)\n"
        "own = int(sys.argv[1]); run_apart(work, 1)\n"
    )
    reader, writer = os.pipe()
    parent = subprocess.Popen([sys.executable, "-c", program, str(writer)], pass_fds=[writer])
    os.close(writer)
    child = int(os.read(reader, 20))
    parent.kill()
    parent.wait()
    assert os.read(reader, 20) == b""  # at the end of the last that could write
    os.close(reader)
    assert not Path(f"/proc/{child}/fd/0").exists()


@pytest.mark.parametrize(
    ("work", "ended"),
    [
        (lambda: os._exit(3), "it ended the process with exit status 3"),
        (lambda: os._exit(0), "it ended the process with exit status 0"),
        (lambda: sys.exit(), "it ended because sys.exit() was called"),
        (lambda: sys.exit("too bad"), "it ended because sys.exit('too bad') was called"),
        (lambda: dict[str, int]()["key"], "it raised KeyError: 'key'"),
        (lambda: next(iter(())), "it raised StopIteration"),
        (lambda: os.kill(os.getpid(), signal.SIGINT), "it raised KeyboardInterrupt"),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), "it was killed by signal 15 (SIGTERM)"),
        (lambda: os.kill(os.getpid(), 40), "it was killed by signal 40"),
        (
            lambda: os.kill(os.getpid(), signal.SIGKILL),
            "it was killed by signal 9 (SIGKILL), as by a system that runs out of memory",
        ),
        (os.abort, "it was killed by signal 6 (SIGABRT)"),
        (lambda: np.ones(2**50), "it ran out of memory (limit 2,048 MB)"),
        (lambda: [0] * 2**35, "it ran out of memory (limit 2,048 MB)"),
        (lambda: type("Mine", (Exception,), {"__str__": lambda self: 1 / 0})(), ""),
    ],
)
def test_every_end_is_one_sentence(work: Callable[[], object], ended: str) -> None:
    outcome = run_apart(work)
    if ended:
        assert (outcome.ended, outcome.result, outcome.printed) == (ended, None, "")
    else:
        assert outcome.ended.startswith("it returned what cannot be pickled (PicklingError: ")


def test_forking_beside_threads_does_not_warn() -> None:
    stop = threading.Event()
    threads = [threading.Thread(target=stop.wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    outcomes = [run_apart(lambda: 1)]
    elsewhere = threading.Thread(target=lambda: outcomes.append(run_apart(lambda: 1)))
    elsewhere.start()
    elsewhere.join()
    stop.set()
    for thread in threads:
        thread.join()
    assert outcomes == [Outcome(1, "", "")] * 2


def test_what_the_parent_does_on_signals_and_watches_is_not_done_apart() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    faulthandler.dump_traceback_later(60)  # with which a child's own would never return
    try:
        ended = run_apart(lambda: os.kill(os.getpid(), signal.SIGTERM)).ended
        late = run_apart(_endless, SHORT)
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGTERM, before)
    assert ended == "it was killed by signal 15 (SIGTERM)"
    assert [each.function for each in late.stack] == ["_endless"]


@pytest.mark.parametrize(
    "last", [lambda: 1, lambda: os._exit(1), _endless, lambda: os.kill(os.getpid(), signal.SIGSTOP)]
)
def test_processes_that_it_started_are_ended(
    last: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "GRACE", SHORT)

    def work() -> object:
        process = subprocess.Popen(["sleep", "60"])
        (tmp_path / "process").write_text(str(process.pid))
        return last()

    start = time.monotonic()
    run_apart(work, 1)  # time enough to start one on a busy machine
    assert time.monotonic() - start < 5
    assert not _runs(int((tmp_path / "process").read_text()))


def _runs(process: int) -> bool:
    """Whether it is there and no zombie, which its new parent may not have buried yet."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return False
        if state in "ZX":
            return False
        time.sleep(0.01)
    return True


def test_a_fork_in_the_work_gives_one_result() -> None:
    def work() -> int:
        process = os.fork()
        if process:
            os.waitpid(process, 0)
        return process

    assert (run_apart(work).result or 0) > 0


def test_an_interrupt_of_the_parent_ends_the_child_and_passes_on(tmp_path: Path) -> None:
    def work() -> None:
        (tmp_path / "process").write_text(str(os.getpid()))
        _endless()

    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 1)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_apart(work)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not _runs(int((tmp_path / "process").read_text()))


def test_a_result_of_a_class_that_only_the_child_has_is_told() -> None:
    def work() -> object:
        sys.modules["only_there"] = module = type(sys)("only_there")
        exec("class Mine: pass", module.__dict__)
        return module.Mine()

    expected = "what it returned cannot be read (ModuleNotFoundError: No module named 'only_there')"
    assert run_apart(work).ended == expected
    assert run_apart(lambda: Local()).result is not None
    assert run_apart(lambda: lambda: 1).ended.startswith("it returned what cannot be pickled (")


def test_an_exception_that_cannot_be_shown_is_told() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise SystemExit

    def work() -> NoReturn:
        raise MuteError

    assert run_apart(work).ended == "it raised MuteError: (its message cannot be shown: its __str__ raised SystemExit)"


def test_where_nobody_is_told_of_ended_processes_results_come_all_the_same() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert run_apart(lambda: 5).result == 5
        assert run_apart(lambda: os._exit(3)).ended.startswith("it ended the process")
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_without_fork_it_runs_here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        print("out")
        print("x" * 3 * ENDS, file=sys.stderr)
        return os.getpid()

    monkeypatch.delattr(os, "fork")
    outcome = run_apart(work)
    assert outcome.result == os.getpid()
    assert outcome.printed.startswith("out\nxxx")
    assert "bytes are not shown" in outcome.printed
    assert run_apart(lambda: sys.exit(3)) == Outcome(None, "", "it ended because sys.exit(3) was called")
    assert run_apart(lambda: 1 / 0).ended == "it raised ZeroDivisionError: division by zero"
    assert capfd.readouterr() == ("", "")
    with pytest.raises(KeyboardInterrupt):
        run_apart(lambda: signal.raise_signal(signal.SIGINT))


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"work": 3}, TypeError, "work must be a function without arguments, but it is an int"),
        ({"seconds": 0}, ValueError, r"seconds must lie in \(0, 1e\+06\), but it is 0"),
        ({"seconds": float("nan")}, ValueError, r"seconds must lie in \(0, 1e\+06\), but it is nan"),
        ({"seconds": "1"}, TypeError, "seconds must be a number, but it is a str"),
        ({"megabytes": 0}, ValueError, "megabytes must be at least 1, but it is 0"),
        ({"megabytes": 1.5}, TypeError, "megabytes must be a whole number, but it is a float"),
    ],
)
def test_bad_limits_get_a_sentence(arguments: dict[str, Any], error: type[Exception], sentence: str) -> None:
    call: dict[str, Any] = {"work": lambda: 1} | arguments
    with pytest.raises(error, match=f"^{sentence}$"):
        run_apart(**call)


def test_an_outcome_can_be_pickled() -> None:
    outcome = Outcome(1, "two", "", (Frame("file", 3, "function"),))
    assert pickle.loads(pickle.dumps(outcome)) == outcome
