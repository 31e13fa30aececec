"""Running somebody's code apart, with limits: in a forked process, which may hang, grow, print or crash as it likes."""

from __future__ import annotations

import contextlib
import faulthandler
import io
import math
import os
import pickle
import re
import selectors
import signal
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, NoReturn, TextIO, TypeVar

import numpy as np

from npformer.exercises.learner import Frame, message_of, name_of
from npformer.shapes import check_count, check_number, describe

Result = TypeVar("Result")
ENDS = 3_000  # bytes of what was printed that are kept of its beginning, and of its end
GRACE = 2.0  # seconds after the limit in which the process ends itself, saying where it was
PAUSE = 0.05  # seconds between two looks at whether the process has ended
LONGEST = 1e6  # seconds


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What came of running something apart.

    Attributes
    ----------
    result : Result or None
        What it returned, if it did.
    printed : str
        What it wrote to stdout and stderr, a few thousand characters at most: a line stands for a middle that is cut.
    ended : str
        Empty if it returned, otherwise one sentence that says why it did not.
    stack : tuple of Frame
        Where it was when the time was up or a crash ended it, the innermost last; otherwise empty.
    """

    result: Result | None
    printed: str
    ended: str
    stack: tuple[Frame, ...] = ()


def run_apart(work: Callable[[], Result], seconds: float = 30.0, megabytes: int = 2048) -> Outcome[Result]:
    """Run work() in a forked process, and return what came of it.

    It gets this many seconds by the clock, and this many MB (of 2^20 bytes) of memory beside what is mapped already,
    where the system counts that in /proc. Its stdin is empty, and what it returns comes back pickled. It and the
    processes it started are gone afterwards. The limits are for mistakes: they are no defence against malice.

    Where a process cannot fork (Windows), work() runs in this one, without limits.

    Raises
    ------
    TypeError, ValueError
        If work cannot be called, or a limit is none.

    Examples
    --------
    >>> run_apart(lambda: 6 * 7).result
    42
    >>> run_apart(lambda: print("so far") or {}["key"])
    Outcome(result=None, printed='so far\\n', ended="it raised KeyError: 'key'", stack=())
    """
    if not callable(work):
        raise TypeError(f"work must be a function without arguments, but it is {describe(work)}")
    check_number("seconds", seconds, 0, LONGEST, open_low=True)
    check_count("megabytes", megabytes)
    if not hasattr(os, "fork"):
        return _run_here(work, megabytes)
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        _flush(stream)  # or both processes would write what is in the buffers
    pipes = [os.pipe() for _ in range(3)]
    readers = [reader for reader, _ in pipes]
    try:
        try:
            start = time.monotonic()
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
                process = os.fork()
            if process == 0:
                _run_in_child(work, [writer for _, writer in pipes], seconds, megabytes)
        finally:
            for _, writer in pipes:
                os.close(writer)
        heard, status = _follow(process, readers, start + seconds + GRACE)
        return _judge(heard, status, time.monotonic() >= start + seconds, seconds)
    finally:
        for reader in readers:
            os.close(reader)


def _run_here(work: Callable[[], Result], megabytes: int) -> Outcome[Result]:
    text, result, ended = io.StringIO(), None, ""
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        try:
            result = work()
        except (Exception, SystemExit) as error:
            ended = _ended_by(error, megabytes)
    printed = _Ends()
    printed.add(text.getvalue().encode("utf-8", "backslashreplace"))
    return Outcome(result, str(printed), ended)


def _ended_by(error: BaseException, megabytes: int) -> str:
    if isinstance(error, SystemExit):
        return f"it ended: {message_of(error)}"
    if isinstance(error, MemoryError):
        return f"it ran out of memory (limit {megabytes:,} MB)"
    return f"it raised {name_of(error)}: {message_of(error)}".removesuffix(": ")


def _run_in_child(work: Callable[[], Result], writers: list[int], seconds: float, megabytes: int) -> NoReturn:
    """Do the work and send (result, ended); os._exit then passes by what the parent wants done at its own end."""
    process, status = os.getpid(), 1
    try:
        result_pipe, printed_pipe, stack_pipe = writers
        os.setpgid(0, 0)
        _redirect(printed_pipe)
        _arm(stack_pipe, seconds)
        _limit(seconds, megabytes)
        message = _call(work, megabytes)
        if os.getpid() == process:  # and not one that the work forked
            with open(result_pipe, "wb") as file:
                file.write(message)
            status = 0
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            _flush(stream)
    finally:
        os._exit(status)


def _call(work: Callable[[], Result], megabytes: int) -> bytes:
    try:
        result = work()
    except BaseException as error:
        return pickle.dumps((None, _ended_by(error, megabytes)))
    try:
        return pickle.dumps((result, ""))
    except MemoryError as error:
        return pickle.dumps((None, _ended_by(error, megabytes)))
    except Exception as error:
        return pickle.dumps((None, f"it returned what cannot be pickled ({name_of(error)}: {message_of(error)})"))


def _flush(stream: TextIO | None) -> None:
    if stream is not None:
        with contextlib.suppress(OSError, ValueError):  # a broken pipe, a closed file
            stream.flush()


def _redirect(printed_pipe: int) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (printed_pipe, 1), (printed_pipe, 2)):
        os.dup2(source, target)
    sys.stdin = open(0, encoding="utf-8", closefd=False)
    sys.stdout, sys.stderr = (  # without a buffer, in which the last words before a crash would be lost
        io.TextIOWrapper(open(each, "wb", 0, closefd=False), "utf-8", "backslashreplace", write_through=True)
        for each in (1, 2)
    )


def _arm(stack_pipe: int, seconds: float) -> None:
    """Let an alarm end this process at the limit, with or without the parent, and the stack be told before.

    faulthandler.dump_traceback_later would wait for ever where the parent has one pending.
    """
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):  # what the parent does on it
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    faulthandler.enable(stack_pipe)
    faulthandler.register(signal.SIGALRM, stack_pipe, chain=True)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _limit(seconds: float, megabytes: int) -> None:
    import resource  # which Windows lacks

    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: math.ceil(seconds) * (os.cpu_count() or 1) + 5,  # BLAS has a thread for each
        resource.RLIMIT_FSIZE: megabytes * 2**20,
    }
    with contextlib.suppress(OSError):
        statistics = Path("/proc/self/statm")
        statistics.read_text(encoding="ascii")
        np.ones((128, 128)) @ np.ones((128, 128))  # starts BLAS, which never returns where its buffers find no memory
        mapped = int(statistics.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        limits[resource.RLIMIT_AS] = mapped + megabytes * 2**20
    for kind, most in limits.items():
        soft, hard = resource.getrlimit(kind)
        others = [each for each in (soft, hard) if each != resource.RLIM_INFINITY]
        resource.setrlimit(kind, (min([most, *others]), hard))


@dataclass
class _Ends:
    """The beginning and the end of all that is added."""

    head: bytes = b""
    tail: bytes = b""
    length: int = 0

    def add(self, data: bytes) -> None:
        self.length += len(data)
        room = ENDS - len(self.head)
        self.head, self.tail = self.head + data[:room], (self.tail + data[room:])[-ENDS:]

    def __str__(self) -> str:
        cut = self.length - len(self.head) - len(self.tail)
        middle = f"\n… {cut:,} bytes are not shown …\n" if cut else ""
        return (self.head + middle.encode() + self.tail).decode("utf-8", "replace")


@dataclass
class _Heard:
    """What came through the pipes."""

    message: bytearray = field(default_factory=bytearray)
    printed: _Ends = field(default_factory=_Ends)
    dump: bytearray = field(default_factory=bytearray)


def _follow(process: int, readers: list[int], until: float) -> tuple[_Heard, int]:
    """Read what the process writes until it ends, or overstays; then end it, and all that it started."""
    heard, status = _Heard(), None
    sinks = dict(zip(readers, (heard.message.extend, heard.printed.add, heard.dump.extend), strict=True))

    def read(reader: int) -> bool:
        with contextlib.suppress(BlockingIOError):
            data = os.read(reader, 2**20)
            sinks[reader](data)
            return bool(data)
        return True

    try:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.setpgid(process, process)  # as it does itself: whoever comes first
        with selectors.DefaultSelector() as selector:
            for reader in readers:
                os.set_blocking(reader, False)
                selector.register(reader, selectors.EVENT_READ)
            while status is None and time.monotonic() < until:
                for key, _ in selector.select(PAUSE if selector.get_map() else PAUSE / 50):
                    if not read(key.fd):
                        selector.unregister(key.fd)
                status = _reap(process, os.WNOHANG)
    finally:
        for end in (os.killpg, os.kill) if status is None else (os.killpg,):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                end(process, signal.SIGKILL)
        if status is None:
            status = _reap(process, 0)
    for reader in readers:
        read(reader)  # what it left in the pipe
    return heard, status or 0


def _reap(process: int, options: int) -> int | None:
    """Return the status of a process that has ended."""
    try:
        ended, status = os.waitpid(process, options)
    except ChildProcessError:  # where SIGCHLD is ignored, the system keeps none
        return 0
    return status if ended else None


def _judge(heard: _Heard, status: int, late: bool, seconds: float) -> Outcome[Result]:
    printed = str(heard.printed)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        name = signal.Signals(number).name if number in {int(each) for each in signal.Signals} else "no name"
        ended = f"it was killed by signal {number} ({name})"
        if late:
            ended = f"it was still running after {seconds:g} s"
        elif number == signal.SIGXCPU:
            ended = "it used more processor time than all processors have in its time"
        elif number == signal.SIGKILL:
            ended += ", as by a system that runs out of memory"
        return Outcome(None, printed, ended, _stack(heard.dump.decode("ascii", "replace")))
    if status or not heard.message:
        return Outcome(None, printed, f"it ended the process with exit status {os.waitstatus_to_exitcode(status)}")
    try:
        result, ended = pickle.loads(heard.message)
    except Exception as error:  # a class of the work's own making, say
        return Outcome(None, printed, f"what it returned cannot be read ({name_of(error)}: {message_of(error)})")
    return Outcome(result, printed, ended)


def _stack(dump: str) -> tuple[Frame, ...]:
    """Return the frames of the thread that a dump of faulthandler calls the current one, below those of this file."""
    threads = re.split(r"\n(?=Current thread|Thread 0x)", dump)
    current = next((each for each in threads if each.startswith("Current thread")), threads[-1])
    lines = re.findall(r'^  File "(.*)", line (\d+|\?\?\?) in (.*)$', current, re.MULTILINE)
    frames = [Frame(_unescape(file), int(line) if line.isdigit() else 0, _unescape(name)) for file, line, name in lines]
    frames.reverse()
    own = [depth for depth, each in enumerate(frames) if (each.file, each.function) == (__file__, "_call")]
    return tuple(frames[own[0] + 1 :] if own else frames)


def _unescape(name: str) -> str:
    code = r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U(000[0-9a-f]{5}|0010[0-9a-f]{4}))"
    return re.sub(code, lambda match: chr(int(match[1] or match[2] or match[3], 16)), name)
