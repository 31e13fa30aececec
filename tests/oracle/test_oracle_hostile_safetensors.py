"""No .safetensors file, however damaged or malicious, gives wrong arrays, much memory or more than one sentence."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile import refusal

from npformer.oracle.declared import MOST_CONTENTS
from npformer.oracle.files import read_arrays, write_arrays


def made(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    """Write a file with any header, which is made JSON unless it is bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def entry(dtype: object = "F64", shape: object = (1,), data_offsets: object = (0, 8), **more: object) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": data_offsets, **more}


EIGHT = bytes(8)
X = json.dumps(entry()).encode()
HEADERS: dict[str, tuple[object, bytes, str]] = {
    "not JSON": (b"{nothing}", b"", "its header is not JSON: Expecting property name"),
    "not UTF-8": (b'{"\xff":1}', b"", "its header is not JSON: 'utf-8' codec"),
    "UTF-16": ('{"x":1}'.encode("utf-16"), b"", "its header does not begin with {"),
    "nothing": (b"", b"", "its header does not begin with {"),
    "a list": ([], b"", "its header does not begin with {"),
    "nested": (b'{"x":' + b"[" * 50_000, b"", "its header is not JSON: maximum recursion"),
    "digits": (b'{"x":' + b"9" * 5000 + b"}", b"", "its header is not JSON: Exceeds the limit"),
    "twice": (b'{"x":' + X + b',"x":' + X + b"}", EIGHT, "must have every name once, but its header has 'x' twice"),
    "field twice": (b'{"x":{"dtype":"F64",' + X[1:] + b"}", EIGHT, "its header has 'dtype' twice"),
    "metadata twice": (b'{"__metadata__":{},"__metadata__":{}}', b"", "its header has '__metadata__' twice"),
    "metadata": ({"__metadata__": {"a": 1}}, b"", "must have texts as metadata, but its __metadata__ is {'a': 1}"),
    "a text": ({"x": "F64"}, EIGHT, "must give dtype, shape and data_offsets of 'x', but gives 'F64'"),
    "no offsets": ({"x": {"dtype": "F64", "shape": [1]}}, EIGHT, "must give dtype, shape and data_offsets of 'x'"),
    "more fields": (
        {"x": entry(strides=[8])},
        EIGHT,
        "must give dtype, shape and data_offsets of 'x', but gives {'dat",
    ),
    "empty name": ({"": entry()}, EIGHT, "must have names for its arrays, but '' is empty"),
    "NUL": ({"a\0b": entry()}, EIGHT, "'a\\x00b' holds a NUL"),
    "surrogate": ({"\ud800": entry()}, EIGHT, "'\\ud800' is not valid Unicode"),
    "lines": ({"a\nb\u2028c" * 99: entry("F8")}, EIGHT, "has dtype 'F8'"),
    "float8": ({"x": entry("F8_E4M3", (8,))}, EIGHT, "but 'x' has dtype 'F8_E4M3'"),
    "complex": ({"x": entry("C64")}, EIGHT, "but 'x' has dtype 'C64'"),
    "no dtype": ({"x": entry(["F64"])}, EIGHT, "but 'x' has dtype ['F64']"),
    "long dtype": ({"x": entry("F" * 10_000)}, EIGHT, "but 'x' has dtype 'FFFF"),
    "shape": ({"x": entry(shape=1)}, EIGHT, "must give shapes as whole numbers, but that of 'x' is 1"),
    "negative": ({"x": entry(shape=[-1, -1])}, EIGHT, "that of 'x' is [-1, -1]"),
    "fraction": ({"x": entry(shape=[1.0])}, EIGHT, "that of 'x' is [1.0]"),
    "true": ({"x": entry(shape=[True])}, EIGHT, "that of 'x' is [True]"),
    "NaN": (b'{"x":' + X.replace(b"[1]", b"[NaN]") + b"}", EIGHT, "that of 'x' is [nan]"),
    "overflow to 1": ({"x": entry(shape=[2**32 + 1, 2**64 - 2**32 + 1])}, EIGHT, "that NumPy can have"),  # mod 2**64
    "huge and empty": ({"x": entry(shape=[0, 2**62, 2**62], data_offsets=[0, 0])}, b"", "that NumPy can have"),
    "65 axes": ({"x": entry(shape=[1] * 65)}, EIGHT, "that NumPy can have"),
    "too large": ({"x": entry(shape=[2])}, EIGHT, "'x' needs 16 bytes by its shape, and its data_offsets are [0, 8]"),
    "too small": ({"x": entry("F32")}, EIGHT, "'x' needs 4 bytes by its shape, and its data_offsets are [0, 8]"),
    "bfloat16": ({"x": entry("BF16", [2])}, EIGHT, "'x' needs 4 bytes by its shape"),
    "offsets": ({"x": entry(data_offsets=[0, 8, 8])}, EIGHT, "must give two whole numbers as data_offsets of 'x'"),
    "half offset": ({"x": entry(data_offsets=[0, 8.0])}, EIGHT, "must give two whole numbers as data_offsets of 'x'"),
    "true offset": ({"x": entry("U8", data_offsets=[0, True])}, b"1", "must give two whole numbers as data_offsets"),
    "backwards": ({"x": entry(data_offsets=[8, 0])}, EIGHT, "'x' needs 8 bytes"),
    "before": ({"x": entry(data_offsets=[-8, 0])}, EIGHT, "'x' does not follow upon another array"),
    "hole before": ({"x": entry(data_offsets=[8, 16])}, bytes(16), "'x' does not follow upon another array"),
    "hole": ({"x": entry(), "y": entry(data_offsets=[9, 17])}, bytes(17), "'y' does not follow upon another array"),
    "overlap": ({"x": entry(), "y": entry(data_offsets=[7, 15])}, bytes(15), "'y' overlaps another array"),
    "same place": ({"x": entry(), "y": entry()}, EIGHT, "'y' overlaps another array"),
    "trailing": ({"x": entry()}, bytes(9), "its arrays take 8 bytes and 9 follow its header"),
    "truncated": ({"x": entry()}, bytes(7), "its arrays take 8 bytes and 7 follow its header"),
    "far away": ({"x": entry(shape=[10**12], data_offsets=[0, 8 * 10**12])}, EIGHT, "its arrays take 8000000000000 b"),
    "booleans": ({"x": entry("BOOL", [8])}, b"\0\1\0\1\0\1\0\2", "'x' has others"),
    "space first": (b' {"x":' + X + b"}", EIGHT, "its header does not begin with {"),
    "minus 0": (b'{"x":{"dtype":"U8","shape":[-0],"data_offsets":[0,0]}}', b"", "reading it fails: Error while"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_that_lies_is_refused(tmp_path: Path, case: str) -> None:
    header, data, part = HEADERS[case]
    assert part in refusal(made(tmp_path / "a.safetensors", header, data), 2**50)


def test_the_true_headers_beside_them_are_read(tmp_path: Path) -> None:
    path = made(tmp_path / "a.safetensors", {"y": entry("BF16", [2, 2], [8, 16]), "x": entry()}, EIGHT + b"\x80?" * 4)
    assert {name: array.tolist() for name, array in read_arrays(path).items()} == {"y": [[1, 1], [1, 1]], "x": [0]}
    path = made(tmp_path / "a.safetensors", b'{"x":' + X + b"}   ", EIGHT)
    assert list(read_arrays(path)) == ["x"]


@pytest.mark.parametrize("length", [62, 2**32, 10**12, 2**64 - 1])
def test_a_header_longer_than_the_file_is_refused(tmp_path: Path, length: int) -> None:
    path = made(tmp_path / "a.safetensors", {"x": entry()}, b"", length)
    size = path.stat().st_size
    sentence = f"must be a safetensors file, but its header says {length} bytes and the file has {size}"
    assert refusal(path) == sentence


@pytest.mark.parametrize("size", [0, 7])
def test_a_file_without_a_length_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(bytes(size))
    assert refusal(path) == f"must be a safetensors file, but its header has no length and the file has {size}"


def test_a_header_without_end_is_not_read(tmp_path: Path) -> None:
    path = made(tmp_path / "a.safetensors", b"{", length=2**30)
    os.truncate(path, 2**31)  # a sparse file
    assert refusal(path) == f"must have a header of at most {MOST_CONTENTS} bytes, but its header says {2**30}"


def test_the_limit_is_exact_and_counts_what_is_returned(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_arrays(path, {"x": np.ones((3, 4)), "y": np.ones((3, 4), np.float32)})
    assert len(read_arrays(path, 144)) == 2
    assert refusal(path, 143) == "must hold at most 143 bytes of arrays, but it declares 144"
    made(path, {"x": entry("BF16", [4])}, EIGHT)
    assert read_arrays(path, 16)["x"].nbytes == 16
    assert refusal(path, 15) == "must hold at most 15 bytes of arrays, but it declares 16"


def test_a_large_sparse_file_takes_no_memory(tmp_path: Path) -> None:
    path = made(tmp_path / "a.safetensors", {"x": entry("U8", [2**40], [0, 2**40])})
    os.truncate(path, path.stat().st_size + 2**40)
    assert refusal(path) == f"must hold at most {2**20} bytes of arrays, but it declares {2**40}"
