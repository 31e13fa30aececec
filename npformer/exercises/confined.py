"""What a process does that runs somebody's code: it limits itself, does the work, and sends what came of it."""

from __future__ import annotations

import builtins
import contextlib
import faulthandler
import inspect
import io
import math
import os
import pickle
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np

from npformer.exercises.quoting import message_of, name_of


def run_confined(work: Callable[[], object], writers: list[int], seconds: float, megabytes: int) -> NoReturn:
    """Do the work and send (result, ended); os._exit then passes by what the parent wants done at its own end."""
    process, status = os.getpid(), 1
    try:
        result_pipe, printed_pipe, stack_pipe = writers
        os.setpgid(0, 0)
        _redirect(printed_pipe)
        _leave_notebook()
        _arm(stack_pipe, seconds)
        _limit(seconds, megabytes)
        message = _call(work, megabytes)
        if os.getpid() == process:  # and not one that the work forked
            with os.fdopen(result_pipe, "wb") as file:
                file.write(message)
            status = 0
        flush_streams()
    finally:
        os._exit(status)


def _call(work: Callable[[], object], megabytes: int) -> bytes:
    try:
        result = work()
    except BaseException as error:
        _lift_memory_limit()  # what filled it is still held by the error's frames
        return pickle.dumps((None, ended_by(error, megabytes)))
    try:
        return pickle.dumps((result, ""))
    except MemoryError as error:
        _lift_memory_limit()
        return pickle.dumps((None, ended_by(error, megabytes)))
    except Exception as error:  # pickling runs the methods of whatever was returned
        return pickle.dumps((None, f"it returned what cannot be pickled ({name_of(error)}: {message_of(error)})"))


def _redirect(printed_pipe: int) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (printed_pipe, 1), (printed_pipe, 2)):
        os.dup2(source, target)
    held = sys.stdout, sys.stderr
    sys.stdin = io.TextIOWrapper(io.FileIO(0, "r", closefd=False), "utf-8")
    sys.stdout, sys.stderr = (  # without a buffer, in which the last words before a crash would be lost
        io.TextIOWrapper(io.FileIO(each, "w", closefd=False), "utf-8", "backslashreplace", write_through=True)
        for each in (1, 2)
    )
    for old, new in zip(held, (sys.stdout, sys.stderr), strict=True):
        with contextlib.suppress(TypeError):  # None, or an object without attributes of its own
            # A logging handler may hold it, and that of Jupyter would send the text to the notebook.
            vars(old).update(write=new.write, flush=new.flush)


def _leave_notebook() -> None:
    """Let display() print and input() find nobody: those of Jupyter's kernel send messages, which a fork cannot."""
    if "IPython.core.interactiveshell" in sys.modules:
        sys.modules["IPython.core.interactiveshell"].InteractiveShell.clear_instance()
    if not inspect.isbuiltin(builtins.input):
        vars(builtins)["input"] = _ask_nobody


def _ask_nobody(prompt: object = "", /) -> NoReturn:
    raise EOFError(f"nobody is there to answer {str(prompt)!r}")


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


def _lift_memory_limit() -> None:
    import resource

    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def ended_by(error: BaseException, megabytes: int) -> str:
    """Return the sentence about work that ended by an exception."""
    if isinstance(error, SystemExit):
        return f"it ended because {message_of(error)}"
    if isinstance(error, MemoryError):
        return f"it ran out of memory (limit {megabytes:,} MB)"
    return f"it raised {name_of(error)}: {message_of(error)}".removesuffix(": ")


def flush_streams() -> None:
    """Write out what Python's standard streams hold back."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(OSError, ValueError):  # a broken pipe, a closed file
            if stream is not None:
                stream.flush()
