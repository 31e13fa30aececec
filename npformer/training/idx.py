"""Files in the IDX format, in which MNIST and its successors come: read without trust."""

from __future__ import annotations

import gzip
import io
import math
import os
import zlib
from pathlib import Path

import numpy as np

from npformer.component import Array
from npformer.shapes import describe

DTYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}  # by the third byte of a file
MAX_AXES = 8
LIMIT = 4 * 2**30  # bytes: a compressed file can declare, and unpack to, a thousand times its size
CHUNK = 2**20


def read_idx(path: str | os.PathLike[str]) -> Array:
    """Return the array of an IDX file, writable and of native byte order.

    The format: two zero bytes, one for the dtype, one for the number of axes; the length of each axis in four bytes;
    then the entries. All numbers have their highest byte first.

    Parameters
    ----------
    path : str or path
        If it ends with .gz, the file is compressed by gzip.

    Raises
    ------
    ValueError
        If the file cannot be read, or is not what it should be; one sentence that starts with the path.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "labels-idx1-ubyte")
    ...     written = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]))
    ...     read_idx(path)
    array([7, 8, 9], dtype=uint8)
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a path, but it is {describe(path)}")
    path = Path(path)
    if "\0" in str(path):
        raise ValueError("path must be a path, but it holds a NUL")
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            raise ValueError(f"{path} must be a file, but it is a folder, a device or a pipe")
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _read(file)
    except _UnfitError as unfit:
        raise ValueError(f"{path} {unfit}") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} must be a complete gzip file, but it is not: {error}") from error
    except OSError as error:
        raise ValueError(f"{path} must be a readable file, but it is not: {error.strerror}") from error


class _UnfitError(Exception):
    """What is wrong with a file, as the rest of a sentence that starts with its path."""


def _read(file: io.BufferedIOBase) -> Array:
    first = file.read(4)
    if len(first) < 4 or first[:2] != b"\0\0" or first[2] not in DTYPES or not 1 <= first[3] <= MAX_AXES:
        known = ", ".join(f"{code:02x}" for code in DTYPES)
        expected = f"start with the bytes 00 00, one of {known}, and 1 to {MAX_AXES} for the axes"
        raise _UnfitError(f"must be an IDX file and {expected}, but it starts with {first.hex(' ') or 'nothing'}")
    dtype, num_axes = np.dtype(DTYPES[first[2]]), first[3]
    header = file.read(4 * num_axes)
    if len(header) < 4 * num_axes:
        raise _UnfitError(f"must have the lengths of {num_axes} axes, but it ends before them")
    shape = tuple(np.frombuffer(header, ">u4").tolist())
    size = math.prod(shape) * dtype.itemsize
    if not 1 <= size <= LIMIT:
        raise _UnfitError(f"must hold 1 to {LIMIT:,} bytes, but it declares the shape {shape}, which is {size:,}")
    data = bytearray()
    while len(data) <= size and (chunk := file.read(CHUNK)):
        data += chunk
    if len(data) != size:
        came = f"only {len(data):,}" if len(data) < size else "more"
        raise _UnfitError(f"must hold {size:,} bytes for the shape {shape} that it declares, but it holds {came}")
    array: Array = np.frombuffer(data, dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)
