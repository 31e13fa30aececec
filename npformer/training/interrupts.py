"""Ctrl-C and kill, put off until a step is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def noted_interrupts() -> Iterator[list[signal.Signals]]:
    """Give a list to which SIGINT and SIGTERM are added, the first time, in place of what they else do.

    The second one acts at once. Signals that are ignored stay so, and outside the main thread nothing is changed.

    Examples
    --------
    >>> with noted_interrupts() as noted:
    ...     signal.raise_signal(signal.SIGINT)
    ...     print([each.name for each in noted])
    ['SIGINT']
    """
    noted: list[signal.Signals] = []
    in_main = threading.current_thread() is threading.main_thread()
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM) if in_main}
    taken = {each: handler for each, handler in before.items() if handler not in (None, signal.SIG_IGN)}

    def restore() -> None:
        for each, handler in taken.items():
            signal.signal(each, handler)

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(signal.Signals(number))
        restore()

    for each in taken:
        signal.signal(each, note)
    try:
        yield noted
    finally:
        restore()
