"""Running somebody's code apart, with limits: in a forked process, which may hang, grow, print or crash as it likes."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import re
import selectors
import signal
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from npformer.exercises import confined
from npformer.exercises.confined import ended_by, flush_streams, run_confined
from npformer.exercises.quoting import Frame, message_of, name_of
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
    flush_streams()  # or both processes would write what is in the buffers
    pipes = [os.pipe() for _ in range(3)]
    readers = [reader for reader, _ in pipes]
    try:
        try:
            start = time.monotonic()
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
                process = os.fork()
            if process == 0:
                run_confined(work, [writer for _, writer in pipes], seconds, megabytes)
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
            ended = ended_by(error, megabytes)
    printed = _Ends()
    printed.add(text.getvalue().encode("utf-8", "backslashreplace"))
    return Outcome(result, str(printed), ended)


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
        name = {int(each): f" ({each.name})" for each in signal.Signals}.get(number, "")
        ended = f"it was still running after {seconds:g} s" if late else f"it was killed by signal {number}{name}"
        if number == signal.SIGKILL and not late:
            ended += ", as by a system that runs out of memory"
        return Outcome(None, printed, ended, _stack(heard.dump.decode("ascii", "replace")))
    if not heard.message:
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
    own = [depth for depth, each in enumerate(frames) if (each.file, each.function) == (confined.__file__, "_call")]
    return tuple(frames[own[0] + 1 :] if own else frames)


def _unescape(name: str) -> str:
    code = r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U(000[0-9a-f]{5}|0010[0-9a-f]{4}))"
    return re.sub(code, lambda match: chr(int(match[1] or match[2] or match[3], 16)), name)
