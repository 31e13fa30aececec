"""Arrays come back to the bit, and a write or a folder is there whole or not at all."""

import errno
import resource
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from npformer.component import Array
from npformer.oracle.files import read_arrays, write_arrays

SUFFIXES = (".npz", ".safetensors")
RNG = np.random.default_rng(0)
DTYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]
ARRAYS: dict[str, Array] = {
    # signalling and quiet NaN with payloads, the least subnormal, -0.0, -inf
    "f8": np.array([0x7FF0000000000001, 0xFFF8000000001234, 1, 1 << 63, 0xFFF << 52], np.uint64).view(np.float64),
    "f4": np.array([0x7F800001, 0xFFC01234, 1, 1 << 31, 0xFF800000], np.uint32).view(np.float32),
    "f2": np.array([0x7C01, 0xFE12, 1, 1 << 15, 0xFC00], np.uint16).view(np.float16),
    "no axes": np.array(2.5),
    "no entries": np.zeros((0, 3), np.float32),
    "layers.0.self_attn/ключ": np.arange(24).reshape(2, 3, 4),
    "bytes": np.arange(256, dtype=np.uint8),
    "booleans": np.array([[True, False, True]]),
}


def same(got: dict[str, Array], expected: dict[str, Array]) -> bool:
    """Whether names, shapes, dtypes and bits are equal, whatever the memory layout and byte order."""
    return got.keys() == expected.keys() and all(
        (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype.newbyteorder("="))
        and mine.tobytes() == theirs.astype(mine.dtype).tobytes()
        for mine, theirs in ((got[name], expected[name]) for name in expected)
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_arrays_come_back_to_the_bit(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"arrays{suffix}"
    write_arrays(path, ARRAYS)
    back = read_arrays(str(path))
    assert same(back, ARRAYS)
    check_memory(back)


def check_memory(arrays: dict[str, Array]) -> None:
    """Check what is promised of every array."""
    for array in arrays.values():
        assert type(array) is np.ndarray
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert array.flags.aligned
        assert array.dtype.isnative


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("code", DTYPES)
def test_every_layout_and_byte_order_is_written_right(tmp_path: Path, suffix: str, code: str) -> None:
    values = RNG.integers(0, 2, (4, 6, 5)).astype(code) if code == "?" else RNG.integers(0, 100, (4, 6, 5)).astype(code)
    layouts = {
        "c": values,
        "fortran": np.asfortranarray(values),
        "transposed": values.transpose(2, 0, 1),
        "strided": values[::2, 1::3, ::-1],
        "broadcast": np.broadcast_to(values[0, 0], (3, 5)),
        "swapped": values.astype(np.dtype(code).newbyteorder(">")),
        "swapped and transposed": values.astype(np.dtype(code).newbyteorder(">")).T,
    }
    path = tmp_path / f"layouts{suffix}"
    write_arrays(path, layouts)
    back = read_arrays(path)
    assert back.keys() == layouts.keys()
    for name, array in layouts.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == np.dtype(code)


def test_numpy_and_the_package_read_what_is_written(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a.npz", ARRAYS)
    write_arrays(tmp_path / "a.safetensors", ARRAYS)
    with np.load(tmp_path / "a.npz") as loaded:
        assert list(loaded) == list(ARRAYS)  # the order is kept
        assert same(dict(loaded), ARRAYS)
    assert same(load_file(tmp_path / "a.safetensors"), ARRAYS)


def test_what_numpy_and_the_package_write_is_read(tmp_path: Path) -> None:
    fortran = {"fortran": np.asfortranarray(RNG.standard_normal((3, 5, 2))), "swapped": np.arange(9, dtype=">i4")}
    given: dict[str, Any] = ARRAYS | fortran
    np.savez_compressed(tmp_path / "a.npz", **given)
    back = read_arrays(tmp_path / "a.npz")
    assert same(back, given)
    check_memory(back)
    save_file(ARRAYS, tmp_path / "a.safetensors", metadata={"format": "np"})
    assert same(read_arrays(tmp_path / "a.safetensors"), ARRAYS)
    np.savez(tmp_path / "empty.npz")
    save_file({}, tmp_path / "empty.safetensors")
    assert read_arrays(tmp_path / "empty.npz") == read_arrays(tmp_path / "empty.safetensors") == {}


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_npy_is_read(tmp_path: Path, version: tuple[int, int]) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive, archive.open("x.npy", "w") as member:
        np.lib.format.write_array(member, ARRAYS["f8"], version)
    assert same(read_arrays(tmp_path / "a.npz"), {"x": ARRAYS["f8"]})


def test_bfloat16_comes_as_float32_with_the_same_bits(tmp_path: Path) -> None:
    halves = np.arange(2**16, dtype="<u2").reshape(256, 256)
    header = b'{"x":{"dtype":"BF16","shape":[256,256],"data_offsets":[0,131072]}}'
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + halves.tobytes())
    wide = read_arrays(tmp_path / "a.safetensors")["x"]
    assert wide.dtype == np.float32
    assert wide[0x3F, 0x80] == 1
    np.testing.assert_array_equal(wide.view(np.uint32), halves.astype(np.uint32) << 16)
    assert wide.flags.writeable


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_arrays_give_the_same_bytes(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    write_arrays(first, ARRAYS)
    monkeypatch.setattr("time.time", lambda: 2e9)
    other_layouts = {
        name: np.asfortranarray(array.astype(array.dtype.newbyteorder(">"))) for name, array in ARRAYS.items()
    }
    write_arrays(second, other_layouts | {"no axes": ARRAYS["no axes"]})
    assert first.read_bytes() == second.read_bytes()


def test_members_are_stored_without_time_and_place(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a.npz", ARRAYS)
    for info in zipfile.ZipFile(tmp_path / "a.npz").infolist():
        assert (info.date_time, info.create_system, info.compress_type) == ((1980, 1, 1, 0, 0, 0), 3, 0)


def fail(*arguments: object, **options: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupt(*arguments: object, **options: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("breaks", [fail, interrupt])
@pytest.mark.parametrize(
    ("suffix", "place"),
    [
        (".npz", "os.fsync"),
        (".npz", "pathlib.Path.replace"),
        (".npz", "numpy.lib.format.write_array"),
        (".safetensors", "os.fsync"),
        (".safetensors", "pathlib.Path.replace"),
        (".safetensors", "safetensors.numpy.save"),
    ],
)
@pytest.mark.parametrize("exists", [True, False])
def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, suffix: str, place: str, breaks: object, exists: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a{suffix}"
    if exists:
        path.write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr(place, breaks)
        with pytest.raises((OSError, KeyboardInterrupt)):
            write_arrays(path, ARRAYS)
    assert [each.name for each in tmp_path.iterdir()] == [path.name] * exists
    assert not exists or path.read_bytes() == b"old"
    write_arrays(path, ARRAYS)
    assert same(read_arrays(path), ARRAYS)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_disk_that_is_full_anywhere_leaves_what_was_there(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"old")
    arrays = {"first": np.zeros(3000), "second": np.ones((40, 60)).T}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for most in range(0, 43_000, 1009):
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                write_arrays(path, arrays)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert [each.name for each in tmp_path.iterdir()] == [path.name]
        assert path.read_bytes() == b"old"


BAD_CALLS: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "int path": (3, ARRAYS, TypeError, "path must be a path, but it is an int"),
    "suffix": (
        "a.bin",
        ARRAYS,
        ValueError,
        "a.bin must have the suffix .npz or .safetensors, but its suffix is '.bin'",
    ),
    "list": ("a.npz", [], TypeError, "arrays must be a dict, but it is a list"),
    "int name": ("a.npz", {1: np.ones(2)}, TypeError, "arrays must have names as keys, but one of them is an int"),
    "empty name": ("a.npz", {"": np.ones(2)}, ValueError, "names that a file can hold, but '' is empty"),
    "NUL": ("a.safetensors", {"a\0": np.ones(2)}, ValueError, "but 'a\\x00' holds a NUL"),
    "surrogate": ("a.npz", {"\ud800": np.ones(2)}, ValueError, "but '\\ud800' is not valid Unicode"),
    "long name": ("a.npz", {"n" * 65_000: np.ones(2)}, ValueError, "is longer than 60000 bytes"),
    "upwards": ("a.npz", {"a/../../b": np.ones(2)}, ValueError, "but 'a/../../b' leads upwards"),
    "absolute": ("a.npz", {"/b": np.ones(2)}, ValueError, "but '/b' is absolute"),
    "drive": ("a.npz", {"c:b": np.ones(2)}, ValueError, "but 'c:b' is absolute"),
    "backslash": ("a.npz", {"a\\b": np.ones(2)}, ValueError, "holds a backslash"),
    "metadata": ("a.safetensors", {"__metadata__": np.ones(2)}, ValueError, "but '__metadata__' means another thing"),
    "float": ("a.npz", {"x": 1.0}, TypeError, "arrays['x'] must be a NumPy array of numbers, but it is a float"),
    "masked": ("a.npz", {"x": np.ma.ones(2)}, TypeError, "arrays['x'] must be a NumPy array"),
    "complex": ("a.safetensors", {"x": np.ones(2, complex)}, TypeError, "arrays['x'] must be booleans, integers, "),
    "objects": ("a.npz", {"x": np.array([None])}, TypeError, "but its dtype is object"),
    "texts": ("a.npz", {"x": np.array(["t"])}, TypeError, "but its dtype is <U1"),
    "structured": ("a.safetensors", {"x": np.zeros(2, "i4,f8")}, TypeError, "arrays['x'] must be booleans"),
    "long double": ("a.npz", {"x": np.zeros(2, np.longdouble)}, TypeError, "but its dtype is float128"),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_what_cannot_be_written_gets_a_sentence(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path, arrays, kind, part = BAD_CALLS[case]
    with pytest.raises(kind) as caught:
        write_arrays(path, arrays)
    assert part in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 300
    assert list(tmp_path.iterdir()) == []


def test_without_the_package_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    write_arrays(path, ARRAYS)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for action in (lambda: read_arrays(path), lambda: write_arrays(path, ARRAYS)):
        with pytest.raises(ImportError, match=r"needs the package safetensors: pip install 'npformer\[oracle\]'$"):
            action()
    write_arrays(tmp_path / "a.npz", ARRAYS)
    assert same(read_arrays(tmp_path / "a.npz"), ARRAYS)
    assert len(list(tmp_path.iterdir())) == 2
