"""The file of a picture that a command draws at its end."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from npformer.replacement import remove_leftovers, replacement

FORMATS = (".png", ".svg")


@contextmanager
def picture_file(option: str, path: str | None, extra: str) -> Iterator[BinaryIO | None]:
    """Open a hidden file that becomes the picture if the block ends well, so that no work is done in vain.

    Raises
    ------
    ValueError
        If the suffix is none of a picture, or the path is a folder; the sentence begins with the option's name.
    ImportError
        If matplotlib, of the extra that is named, is missing.
    OSError
        If the file cannot be written.
    """
    if path is None:
        yield None
        return
    target = Path(path)
    if target.suffix.lower() not in FORMATS:
        raise ValueError(f"{option} must have the suffix {' or '.join(FORMATS)}, but it is {path}")
    if target.is_dir():
        raise ValueError(f"{option} must be the path of a file, but {path} is a folder")
    try:
        importlib.import_module("matplotlib.figure")
    except ImportError:
        raise ImportError(f"a picture needs the package matplotlib: pip install 'npformer[{extra}]'") from None
    remove_leftovers(target)
    with replacement(target) as file:
        yield file
