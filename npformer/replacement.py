"""A file that is written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacement(path: Path) -> Iterator[BinaryIO]:
    """Open a hidden file, which takes the place of the one at path if the block ends well, and else is removed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacement(Path(folder, "new.txt")) as file:
    ...         _ = file.write(b"all of it")
    ...     [(each.name, each.read_text()) for each in Path(folder).iterdir()]
    [('new.txt', 'all of it')]
    """
    target = path.resolve()  # where path is a link, the file that it leads to
    hidden = target.parent / f"{_prefix(target)}{secrets.token_hex(4)}.tmp"
    with naming(path):
        file = hidden.open("xb")
    try:
        try:
            yield file
            with naming(path):
                file.flush()
                os.fsync(file.fileno())
        finally:
            with naming(path):  # writes what is left, if the block failed
                file.close()
        with naming(path):
            hidden.replace(target)
    finally:
        hidden.unlink(missing_ok=True)


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Give errors of a file the name that its user knows; those of writing have none, others that of a hidden file."""
    try:
        yield
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None


def remove_leftovers(path: Path) -> None:
    """Remove the hidden files that were to become the one at path, from processes that were killed while writing."""
    path = path.resolve()
    for leftover in path.parent.glob(f"{_prefix(path)}*.tmp"):
        leftover.unlink(missing_ok=True)


def _prefix(path: Path) -> str:
    return f".npformer-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]}"  # the name itself may be too long
