"""IDX files: what is written comes back, and whatever is wrong with a file is one sentence that names it."""

import gzip
import os
import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npformer.component import Array
from npformer.training import load_fashion_mnist, read_idx

CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def packed(array: Array) -> bytes:
    """Return an array as the bytes of an IDX file."""
    header = struct.pack(f">HBB{array.ndim}I", 0, CODES[array.dtype.str[1:]], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


IMAGES = np.random.default_rng(0).integers(0, 256, (20, 4, 3), np.uint8)
LABELS = np.repeat(np.arange(10, dtype=np.uint8), 2)
RIGHT = packed(IMAGES)
NAMES = {"train-images-idx3-ubyte": IMAGES, "train-labels-idx1-ubyte": LABELS}
NAMES |= {"t10k-images-idx3-ubyte": IMAGES[:10], "t10k-labels-idx1-ubyte": LABELS[:10]}


def sentence(path: Path, call: Callable[[Path], object]) -> str:
    """Return what a call says against a file or folder, without its path."""
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        call(path)
    said = str(caught.value)
    assert "\n" not in said
    return said.replace(str(path), "PATH")


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("dtype", CODES)
def test_every_dtype_comes_back_as_it_was(tmp_path: Path, dtype: str, suffix: str) -> None:
    array = (100 * np.random.default_rng(1).standard_normal((3, 4, 5))).astype(dtype)
    path = tmp_path / f"array{suffix}"
    path.write_bytes(gzip.compress(packed(array)) if suffix else packed(array))
    read = read_idx(path)
    assert (read.dtype, read.dtype.isnative, read.flags.writeable) == (array.dtype, True, True)
    assert np.array_equal(read, array)
    assert np.array_equal(read_idx(str(path)), array)


HEADER = (
    "PATH must be an IDX file and start with the bytes 00 00, one of 08, 09, 0b, 0c, 0d, 0e, and 1 to 8 for the axes"
)
SHAPE = "PATH must hold 240 bytes for the shape (20, 4, 3) that it declares, but it holds"
MALFORMED = {
    "nothing": (b"", f"{HEADER}, but it starts with nothing"),
    "half a magic number": (RIGHT[:3], f"{HEADER}, but it starts with 00 00 08"),
    "another magic number": (b"\x01" + RIGHT[1:], f"{HEADER}, but it starts with 01 00 08 03"),
    "a dtype that there is not": (b"\0\0\x0a" + RIGHT[3:], f"{HEADER}, but it starts with 00 00 0a 03"),
    "no axes": (b"\0\0\x08\0" + RIGHT[4:], f"{HEADER}, but it starts with 00 00 08 00"),
    "many axes": (b"\0\0\x08\xff" + RIGHT[4:], f"{HEADER}, but it starts with 00 00 08 ff"),
    "text": (b"<html>", f"{HEADER}, but it starts with 3c 68 74 6d"),
    "half a header": (RIGHT[:11], "PATH must have the lengths of 3 axes, but it ends before them"),
    "a header alone": (RIGHT[:16], f"{SHAPE} only 0"),
    "too short": (RIGHT[:-1], f"{SHAPE} only 239"),
    "too long": (RIGHT + b"\0", f"{SHAPE} more"),
    "much too long": (RIGHT + bytes(2**21), f"{SHAPE} more"),
    "empty": (
        packed(IMAGES[:0]),
        "PATH must hold 1 to 4,294,967,296 bytes, but it declares the shape (0, 4, 3), which is 0",
    ),
    "larger than any memory": (
        RIGHT[:4] + b"\xff" * 12,
        "PATH must hold 1 to 4,294,967,296 bytes, but it declares the shape (4294967295, 4294967295, 4294967295), "
        "which is 79,228,162,458,924,105,385,300,197,375",
    ),
}


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("what", MALFORMED)
def test_what_is_no_idx_file_is_one_sentence(tmp_path: Path, what: str, suffix: str) -> None:
    content, expected = MALFORMED[what]
    path = tmp_path / f"array{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    assert sentence(path, read_idx) == expected


COMPRESSED = gzip.compress(RIGHT, mtime=0)
NO_GZIP = "PATH must be a complete gzip file, but it is not: "
BAD_GZIP = {
    "not gzip": (RIGHT, f"{NO_GZIP}Not a gzipped file (b'\\x00\\x00')"),
    "cut off": (COMPRESSED[:100], f"{NO_GZIP}Compressed file ended before the end-of-stream marker was reached"),
    "without its checksum": (
        COMPRESSED[:-8],
        f"{NO_GZIP}Compressed file ended before the end-of-stream marker was reached",
    ),
    "one bit of the checksum": (COMPRESSED[:-8] + bytes([COMPRESSED[-8] ^ 1]) + COMPRESSED[-7:], f"{NO_GZIP}CRC check"),
    "damaged": (COMPRESSED[:10] + b"\xff" * 20 + COMPRESSED[30:], f"{NO_GZIP}Error -3 while decompressing data"),
}


@pytest.mark.parametrize("what", BAD_GZIP)
def test_what_is_no_gzip_file_is_one_sentence(tmp_path: Path, what: str) -> None:
    content, expected = BAD_GZIP[what]
    path = tmp_path / "array.gz"
    path.write_bytes(content)
    assert sentence(path, read_idx).startswith(expected)


def complaint(path: Path) -> str:
    try:
        read_idx(path)
    except ValueError as error:
        return str(error)
    return ""


@given(content=st.binary(max_size=40), place=st.integers(0, 60))
def test_no_bytes_are_more_than_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, place: int
) -> None:
    for name, whole in (("array", RIGHT), ("array.gz", COMPRESSED)):
        path = tmp_path_factory.getbasetemp() / name
        path.write_bytes(whole[:place] + content + whole[place + len(content) :])
        said = complaint(path)
        assert not said or (said.startswith(f"{path} must ") and "\n" not in said)


def test_what_cannot_be_opened_is_one_sentence(tmp_path: Path) -> None:
    for name in ("nowhere", "nowhere.gz"):
        expected = "PATH must be a readable file, but it is not: No such file or directory"
        assert sentence(tmp_path / name, read_idx) == expected
    assert sentence(tmp_path, read_idx) == "PATH must be a file, but it is a folder, a device or a pipe"
    os.mkfifo(tmp_path / "pipe")
    assert sentence(tmp_path / "pipe", read_idx) == "PATH must be a file, but it is a folder, a device or a pipe"
    wrong: Any = 3
    with pytest.raises(TypeError, match=r"^path must be a path, but it is an int$"):
        read_idx(wrong)
    with pytest.raises(ValueError, match=r"^path must be a path, but it holds a NUL$"):
        read_idx("a\0b")


def make_folder(folder: Path, suffix: str = "", changes: Mapping[str, bytes] = MappingProxyType({})) -> Path:
    """Write the four files of Fashion-MNIST, or others in the place of those that are named by their first letters."""
    folder.mkdir(exist_ok=True)
    for name, array in NAMES.items():
        content = changes.get("_".join(name.split("-")[:2]), packed(array))
        (folder / f"{name}{suffix}").write_bytes(gzip.compress(content) if suffix else content)
    return folder


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_the_four_files_become_data(tmp_path: Path, suffix: str) -> None:
    data = load_fashion_mnist(make_folder(tmp_path, suffix))
    assert np.array_equal(data.train_images * 255, IMAGES)
    assert np.array_equal(data.train_labels, LABELS)
    assert np.array_equal(data.test_images, data.train_images[:10])
    assert np.array_equal(data.test_labels, LABELS[:10])
    assert [data.train_images.dtype, data.train_labels.dtype] == [np.dtype(np.float64), np.dtype(np.int64)]
    assert (data.name, data.class_names[0], data.class_names[9]) == ("Fashion-MNIST", "T-shirt/top", "ankle boot")


IN_FOLDER = {
    "fewer labels": (
        {"train_labels": packed(LABELS[1:])},
        "PATH/train-labels-idx1-ubyte must hold a label for each of the 20 images of PATH/train-images-idx3-ubyte, "
        "but it holds 19",
    ),
    "a class that there is not": (
        {"t10k_labels": packed(LABELS[:10] + np.uint8(9))},
        "PATH/t10k-labels-idx1-ubyte must hold labels in 0..9, but 13 is among them",
    ),
    "labels for images": (
        {"train_images": packed(LABELS)},
        "PATH/train-images-idx3-ubyte must hold images: bytes (count, height, width), but it holds uint8 (20,)",
    ),
    "images for labels": (
        {"t10k_labels": RIGHT},
        "PATH/t10k-labels-idx1-ubyte must hold labels: bytes (count,), but it holds uint8 (20, 4, 3)",
    ),
    "floats for images": (
        {"t10k_images": packed(IMAGES.astype(np.float32))},
        "PATH/t10k-images-idx3-ubyte must hold images: bytes (count, height, width), but it holds float32 (20, 4, 3)",
    ),
    "images of another size": (
        {"t10k_images": packed(IMAGES[:10, 1:])},
        "PATH/t10k-images-idx3-ubyte must have images of (4, 3) pixels as PATH/train-images-idx3-ubyte has, "
        "but they are of (3, 3)",
    ),
    "a broken file": (
        {"train_images": RIGHT[:-1]},
        "PATH/train-images-idx3-ubyte must hold 240 bytes for the shape (20, 4, 3) that it declares, "
        "but it holds only 239",
    ),
}


@pytest.mark.parametrize("what", IN_FOLDER)
def test_files_that_do_not_fit_are_one_sentence(tmp_path: Path, what: str) -> None:
    changes, expected = IN_FOLDER[what]
    assert sentence(make_folder(tmp_path, changes=changes), load_fashion_mnist) == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (make_folder(tmp_path) / name).unlink()
    expected = f"PATH must hold the file {name} or {name}.gz of Fashion-MNIST, but it holds neither"
    assert sentence(tmp_path, load_fashion_mnist) == expected


def test_a_missing_folder_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = (
        "folder must be one with the files of Fashion-MNIST, such as that of Debian's package dataset-fashion-mnist, "
        "but there is no folder PATH"
    )
    assert sentence(tmp_path / "nowhere", load_fashion_mnist) == expected
    monkeypatch.setattr("npformer.training.fashion_mnist.FOLDER", tmp_path / "not installed")
    assert sentence(tmp_path / "not installed", lambda _: load_fashion_mnist()) == expected
    wrong: Any = 3
    with pytest.raises(TypeError, match=r"^folder must be a path, but it is an int$"):
        load_fashion_mnist(wrong)
