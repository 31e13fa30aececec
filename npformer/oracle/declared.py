"""What a file says that it holds, checked before anything is read or allocated: none of it is believed."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import Any

import numpy as np

from npformer.component import Array
from npformer.shapes import ARRAYS, check_tree, describe

PLAIN = tuple(
    np.dtype(kind)
    for kind in (
        *(np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
        *(np.float16, np.float32, np.float64),
    )
)
PLAIN_NAMES = "booleans, integers, float16, float32 or float64"
MOST_CONTENTS = 2**24  # bytes of a file's table of contents, which takes about 30 times as many once it is parsed
MOST_AXES = 64  # NumPy's own limit
MOST_BYTES = 2**63 - 1  # NumPy's own limit
MOST_NAME = 60_000  # bytes; a zip file has room for 65,535
REPR = reprlib.Repr()  # does not spell out what is large only to cut it off
REPR.maxstring = 100


class UnfitError(Exception):
    """Why a file is refused: a sentence without its subject, which is the path."""


@dataclass(frozen=True)
class Declared:
    """An array as a file declares it; the dtype is that which it will have in memory."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Return the bytes that it will take in memory."""
        return self.dtype.itemsize * math.prod(self.shape)


def declare(name: str, dtype: np.dtype[Any], shape: object) -> Declared:
    """Return what is declared, after checking that NumPy can have it."""
    if not isinstance(shape, list | tuple) or not all(type(size) is int and size >= 0 for size in shape):
        raise UnfitError(f"must give shapes as whole numbers, but that of {quoted(name)} is {quoted(shape)}")
    # NumPy leaves sizes of 0 out of its own count of bytes
    if len(shape) > MOST_AXES or dtype.itemsize * math.prod(max(size, 1) for size in shape) > MOST_BYTES:
        raise UnfitError(f"must hold arrays that NumPy can have, but the shape of {quoted(name)} is {quoted(shape)}")
    return Declared(name, dtype, tuple(shape))


def check_limit(arrays: Iterable[Declared], limit: int) -> None:
    """Check how much memory all arrays together will take."""
    total = sum(each.nbytes for each in arrays)
    if total > limit:
        raise UnfitError(f"must hold at most {limit} bytes of arrays, but it declares {shortened(total)}")


def check_booleans(name: str, array: Array) -> Array:
    """Return the array; if it is one of booleans, each of its bytes must be 0 or 1, or else NumPy miscounts."""
    if array.dtype == np.bool_ and array.view(np.uint8).max(initial=0) > 1:
        raise UnfitError(f"must hold booleans as bytes 0 and 1, but {quoted(name)} has others")
    return array


def check_arrays(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return the arrays in C order and little-endian, as files have them, after checking names and dtypes."""
    check_tree("arrays", arrays)
    ready: dict[str, Array] = {}
    for name, array in arrays.items():
        if flaw := flaw_of_name(name):
            raise ValueError(f"arrays must have names that a file can hold, but {quoted(name)} {flaw}")
        if type(array) not in ARRAYS:
            raise TypeError(f"arrays[{quoted(name)}] must be a NumPy array of numbers, but it is {describe(array)}")
        if array.dtype.newbyteorder("=") not in PLAIN:
            raise TypeError(f"arrays[{quoted(name)}] must be {PLAIN_NAMES}, but its dtype is {shortened(array.dtype)}")
        ready[name] = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    return ready


def flaw_of_name(name: str) -> str:
    """Return why no file should call an array so, or "" if it may.

    Examples
    --------
    >>> flaw_of_name("layers.0.weight"), flaw_of_name("")
    ('', 'is empty')
    """
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return "is not valid Unicode"
    if "\0" in name:
        return "holds a NUL"
    return "is empty" if not name else f"is longer than {MOST_NAME} bytes" if length > MOST_NAME else ""


def flaw_of_path(name: str) -> str:
    """Return why a path inside a folder or an archive must not be so, on any system, or "" if it may.

    Examples
    --------
    >>> flaw_of_path("case/output.npz"), flaw_of_path("../output.npz")
    ('', 'leads upwards')
    """
    if flaw := flaw_of_name(name):
        return flaw
    if "\\" in name:
        return "holds a backslash"
    if name.startswith("/") or PureWindowsPath(name).drive:
        return "is absolute"
    return "leads upwards" if ".." in name.split("/") else ""


def quoted(value: object) -> str:
    """Return what a file says as a sentence may quote it: on one line, and not longer than 60 characters.

    Examples
    --------
    >>> quoted("two\\nlines"), len(quoted("x" * 1000))
    ("'two\\\\nlines'", 60)
    """
    return shortened(REPR.repr(value))


def shortened(text: object) -> str:
    """Return a text, such as the message of an error, on one line and not longer than 60 characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= 60 else f"{line[:59]}…"
