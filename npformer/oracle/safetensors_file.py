"""Arrays in a .safetensors file: the format is the package's business; what a header claims is checked here first."""

from __future__ import annotations

import io
import json
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from npformer.component import Array
from npformer.oracle.declared import (
    MOST_CONTENTS,
    Declared,
    UnfitError,
    check_booleans,
    check_limit,
    declare,
    flaw_of_name,
    quoted,
    shortened,
)

LENGTH = 8  # bytes that give the header's length
METADATA = "__metadata__"
FIELDS = {"dtype", "shape", "data_offsets"}
DTYPES = {
    "BOOL": np.dtype(np.bool_),
    **{f"I{8 * size}": np.dtype(f"i{size}") for size in (1, 2, 4, 8)},
    **{f"U{8 * size}": np.dtype(f"u{size}") for size in (1, 2, 4, 8)},
    **{f"F{8 * size}": np.dtype(f"f{size}") for size in (2, 4, 8)},
    "BF16": np.dtype(np.float32),  # NumPy has no bfloat16
}


class _Entry(NamedTuple):
    """An array of the header, and where its bytes lie, counted from the header's end."""

    array: Declared
    begin: int
    end: int
    bfloat16: bool


def read_safetensors(raw: io.FileIO, path: Path, limit: int) -> dict[str, Array]:
    """Read a .safetensors file that is open; UnfitError if it is not one."""
    package = _import_safetensors()
    with io.BufferedReader(raw) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        header = _read_header(file, size)
        data = file.tell()
        entries = [_entry(name, fields) for name, fields in header.items()]
        _check_places(entries, size - data)
        check_limit((entry.array for entry in entries), limit)
        try:
            with package.safe_open(path, framework="np") as opened:
                arrays = {
                    entry.array.name: _read_bfloat16(file, data, entry)
                    if entry.bfloat16
                    else np.require(opened.get_tensor(entry.array.name), None, ["C", "W"])
                    for entry in entries
                }
        except package.SafetensorError as error:
            raise UnfitError(f"must be a safetensors file, but reading it fails: {shortened(error)}") from None
    return {name: check_booleans(name, array) for name, array in arrays.items()}


def write_safetensors(file: BinaryIO, arrays: dict[str, Array]) -> None:
    """Write a .safetensors file, whose bytes depend on nothing but the arrays: the package sorts them."""
    if METADATA in arrays:
        raise ValueError(
            f"arrays must have names that a safetensors file can hold, but {METADATA!r} means another thing"
        )
    _import_safetensors()
    file.write(import_module("safetensors.numpy").save(arrays))


def _import_safetensors() -> ModuleType:
    try:
        return import_module("safetensors")
    except ImportError:
        raise ImportError(
            "reading and writing safetensors needs the package safetensors: pip install 'npformer[oracle]'"
        ) from None


def _read_header(file: BinaryIO, size: int) -> dict[str, Any]:
    """Return the entries of the header, which is JSON, without its metadata."""
    length = int.from_bytes(file.read(LENGTH), "little")
    if size < LENGTH or length > size - LENGTH:
        says = f"its header says {length} bytes" if size >= LENGTH else "its header has no length"
        raise UnfitError(f"must be a safetensors file, but {says} and the file has {size}")
    if length > MOST_CONTENTS:
        raise UnfitError(f"must have a header of at most {MOST_CONTENTS} bytes, but its header says {length}")
    text = file.read(length)
    if not text.startswith(b"{"):
        raise UnfitError("must be a safetensors file, but its header does not begin with {")
    try:
        header: dict[str, Any] = json.loads(text.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise UnfitError(f"must be a safetensors file, but its header is not JSON: {shortened(error)}") from None
    metadata = header.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise UnfitError(f"must have texts as metadata, but its {METADATA} is {quoted(metadata)}")
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a JSON object, of which Python would take the last of two equal names."""
    made: dict[str, Any] = {}
    for name, value in pairs:
        if name in made:
            raise UnfitError(f"must have every name once, but its header has {quoted(name)} twice")
        made[name] = value
    return made


def _entry(name: str, fields: object) -> _Entry:
    """Check what the header says of one array."""
    if flaw := flaw_of_name(name):
        raise UnfitError(f"must have names for its arrays, but {quoted(name)} {flaw}")
    if not isinstance(fields, dict) or fields.keys() != FIELDS:
        raise UnfitError(f"must give dtype, shape and data_offsets of {quoted(name)}, but gives {quoted(fields)}")
    dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise UnfitError(f"must hold arrays of {', '.join(DTYPES)}, but {quoted(name)} has dtype {quoted(dtype)}")
    array = declare(name, DTYPES[dtype], shape)
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(offset) is int for offset in offsets):
        raise UnfitError(f"must give two whole numbers as data_offsets of {quoted(name)}, but gives {quoted(offsets)}")
    begin, end = offsets
    bfloat16 = dtype == "BF16"
    needed = array.nbytes // 2 if bfloat16 else array.nbytes
    if end - begin != needed:
        raise UnfitError(
            f"must be a safetensors file, but {quoted(name)} needs {needed} bytes by its shape, "
            f"and its data_offsets are {quoted(offsets)}"
        )
    return _Entry(array, begin, end, bfloat16)


def _check_places(entries: list[_Entry], size: int) -> None:
    """Check that the arrays lie one behind the other, and fill the file."""
    expected = 0
    for entry in sorted(entries, key=lambda entry: (entry.begin, entry.end)):
        if entry.begin != expected:
            flaw = "overlaps another array" if 0 <= entry.begin < expected else "does not follow upon another array"
            raise UnfitError(f"must be a safetensors file, but {quoted(entry.array.name)} {flaw}")
        expected = entry.end
    if expected != size:
        raise UnfitError(
            f"must be a safetensors file, but its arrays take {shortened(expected)} bytes and {size} follow its header"
        )


def _read_bfloat16(file: BinaryIO, data: int, entry: _Entry) -> Array:
    """Return bfloat16 as float32: they are the upper halves of the same numbers."""
    file.seek(data + entry.begin)
    halves = np.frombuffer(file.read(entry.end - entry.begin), "<u2")
    if 2 * halves.size != entry.end - entry.begin:
        raise UnfitError("must stay as it is while it is read, but it has become shorter")
    wide = halves.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32).reshape(entry.array.shape)
