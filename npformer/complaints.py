"""How the commands refuse: one line on stderr, and an exit status."""

from __future__ import annotations

import sys
from contextlib import suppress

BAD_USAGE = 2


def complain(command: str, message: str) -> int:
    """Print a message as one line on stderr, if that can be written, and return the exit status of bad usage."""
    with suppress(OSError):
        print(f"npformer {command}: {' '.join(message.split())}", file=sys.stderr)
    return BAD_USAGE


def sentence_of(error: OSError) -> str:
    """Return what went wrong with a file, after its name if the error has one.

    Examples
    --------
    >>> sentence_of(FileNotFoundError(2, "No such file", "a.npz")), sentence_of(OSError(28, "No space left"))
    ('a.npz: No such file', 'No space left')
    """
    if error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
