"""How an exception is put into words, and the line where it arose."""

from __future__ import annotations

import linecache
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from npformer.shapes import describe

LONGEST_MESSAGE = 300
LONGEST_LINE = 110


class Frame(NamedTuple):
    """A place in running code: the name of its file, the line, and the function ("" where there is none)."""

    file: str
    line: int
    function: str


def name_of(error: BaseException) -> str:
    """Return the name of an exception's class, or of the public class above it: MemoryError for _ArrayMemoryError."""
    return next(each.__name__ for each in type(error).__mro__ if not each.__name__.startswith("_"))


def message_of(error: BaseException) -> str:
    """Return an exception's message on one line of readable length, whatever the exception does."""
    if isinstance(error, RecursionError):
        return "it calls itself again and again, too deep for Python"
    try:
        if isinstance(error, SystemExit):
            return f"sys.exit({'' if error.code is None else shorten(repr(error.code))}) was called"
        message = shorten(str(error))
    except (Exception, SystemExit) as failure:
        return f"(its message cannot be shown: its __str__ raised {name_of(failure)})"
    return message or ("there is not enough memory for it" if isinstance(error, MemoryError) else "")


def kind_of(value: object) -> str:
    """Return what a value is, as a sentence names it, without its numbers.

    Examples
    --------
    >>> kind_of(np.ones(3)), kind_of([1, 2]), kind_of(None)
    ('a float64 array', 'a list of 2', 'None')
    """
    if isinstance(value, np.ndarray):
        return f"{'an' if value.dtype.name[0] in 'aeiou' else 'a'} {value.dtype.name} array"
    return f"{describe(value)} of {len(value)}" if isinstance(value, list | tuple) else describe(value)


def shorten(message: str) -> str:
    """Return the beginning of a message, on one line."""
    words = " ".join(message[: 10 * LONGEST_MESSAGE].split())
    return f"{words[:LONGEST_MESSAGE]}…" if len(words) > LONGEST_MESSAGE else words


def place_of(frame: Frame) -> str:
    """Return where a line is, for use in a sentence.

    Examples
    --------
    >>> place_of(Frame("work/layer_norm.py", 31, "backward"))
    'line 31 of layer_norm.py'
    """
    return f"line {frame.line} of {'the notebook cell' if _in_notebook(frame) else Path(frame.file).name}"


def _in_notebook(frame: Frame) -> bool:
    return re.search(r"ipykernel_\d+|<ipython-input", frame.file) is not None


def quote(frame: Frame, what: str = "", column: int = 0) -> str:
    """Return a place and what happened there as text: a headline, then the line between its two neighbours.

    column, from 1, puts a caret under the line; lines that cannot be found are left out.

    Examples
    --------
    >>> print(quote(Frame("/no/such/folder/norm.py", 31, "backward"), "it was still running after 30 s"))
    norm.py, line 31, in backward: it was still running after 30 s
    """
    headline = f"{'notebook cell' if _in_notebook(frame) else Path(frame.file).name}, line {frame.line}"
    headline += f", in {frame.function}" * (frame.function not in ("", "<module>")) + f": {what}" * bool(what)
    quoted = [headline]
    for number in range(max(frame.line - 1, 1), frame.line + 2):
        line = linecache.getline(frame.file, number).rstrip()
        shown = line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…"
        if line:
            quoted.append(f"{'>' if number == frame.line else ' '} {number:>3} | {shown}")
        if number == frame.line and 0 < column <= len(shown) + 1:
            margin = "".join(each if each == "\t" else " " for each in shown[: column - 1])
            quoted.append(f"      | {margin}^")
    return "\n".join(quoted).encode("utf-8", "backslashreplace").decode()  # half a surrogate pair cannot be printed
