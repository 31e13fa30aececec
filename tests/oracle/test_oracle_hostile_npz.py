"""No .npz file, however damaged or malicious, gives wrong arrays, much memory or more than one sentence."""

import errno
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile import headed, npy, refusal, zipped

from npformer.oracle.files import read_arrays, write_arrays

X = np.arange(12.0).reshape(3, 4)
# where the fields of an entry of the central directory lie, and how many bytes each has (APPNOTE 4.3.12)
FLAGS, METHOD, CRC, PACKED, SIZE, PLACE = (8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (42, 4)


def patched(path: Path, *changes: tuple[tuple[int, int], int], entry: int = 0) -> Path:
    """Change fields of an entry of the central directory."""
    content = bytearray(path.read_bytes())
    start = -1
    for _ in range(entry + 1):
        start = content.index(b"PK\x01\x02", start + 1)
    for (place, width), value in changes:
        content[start + place : start + place + width] = value.to_bytes(width, "little")
    path.write_bytes(content)
    return path


NAMES = {
    "../x.npy": "'../x.npy' leads upwards",
    "a/../../x.npy": "leads upwards",
    "/etc/x.npy": "is absolute",
    "C:/x.npy": "is absolute",
    "a\\..\\x.npy": "holds a backslash",
    ".npy": "is empty",
    "x.txt": "must hold nothing but .npy files, but 'x.txt' is in it",
    "folder/": "must hold nothing but .npy files",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_member_that_leaves_the_archive_is_refused(tmp_path: Path, name: str) -> None:
    path = zipped(tmp_path / "a.npz", ("good.npy", npy(X)), (name, npy(X)))
    assert NAMES[name] in refusal(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_with_a_nul_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.npz", ("a_b.npy", npy(X)))
    path.write_bytes(path.read_bytes().replace(b"a_b.npy", b"a\0b.npy"))
    assert "'a\\x00b.npy' holds a NUL" in refusal(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")  # from zipfile, while the test makes the file
def test_a_duplicate_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.npz", ("x.npy", npy(X)), ("x.npy", npy(X + 1)))
    assert refusal(path) == "must have every name once, but 'x.npy' is in it twice"


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "encrypted": (lambda path: patched(path, (FLAGS, 1)), "must not be encrypted, but 'x.npy' is"),
    "bzip2": (lambda path: patched(path, (METHOD, 12)), "is compressed by method 12"),
    "wrong checksum": (lambda path: patched(path, (CRC, 7)), "Bad CRC-32"),
    "declares more": (lambda path: patched(path, (SIZE, 225)), "declares 225 bytes, more than its 224 can stand for"),
    "declares less": (lambda path: patched(path, (SIZE, 223), (PACKED, 223)), "Bad CRC-32"),
    "ends beyond": (lambda path: patched(path, (SIZE, 10**9), (PACKED, 10**9), entry=1), "its last member ends beyond"),
    "starts beyond": (lambda path: patched(path, (PLACE, 10**9)), "'x.npy' lies outside of it"),
    "overlaps": (lambda path: patched(path, (PLACE, 40), entry=1), "'y.npy' overlaps another member"),
    "is another": (lambda path: patched(path, (PLACE, 0), entry=1), "'y.npy' overlaps another member"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-30]), "File is not a zip file"),
    "half": (lambda path: path.write_bytes(path.read_bytes()[:300]), "File is not a zip file"),
    "nothing": (lambda path: path.write_bytes(b""), "File is not a zip file"),
    "a pickle": (lambda path: path.write_bytes(b"\x80\x04N."), "File is not a zip file"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_archive_is_refused(tmp_path: Path, case: str) -> None:
    damage, part = DAMAGE[case]
    path = zipped(tmp_path / "a.npz", ("x.npy", npy(X)), ("y.npy", npy(X)))
    assert list(read_arrays(path)) == ["x", "y"]
    damage(path)
    assert part in refusal(path)


def test_a_list_that_leaves_out_members_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = [(name, npy(X)) for name in ("x.npy", "y.npy", "z.npy")]
    path = zipped(tmp_path / "a.npz", *members)
    swallowing = ((32, 2), 46 + len("y.npy"))  # the comment of the first entry is the second entry
    assert refusal(patched(path, swallowing)).endswith(", but it lists 2 members of the 3 that it has")
    monkeypatch.setattr("zipfile.ZIP_FILECOUNT_LIMIT", 1)
    assert list(read_arrays(zipped(path, *members))) == ["x", "y", "z"]
    assert b"PK\6\6" in path.read_bytes()  # the number stands in a longer record too
    path.write_bytes(path.read_bytes()[:-12] + b"\xff\xff" + path.read_bytes()[-10:])
    assert list(read_arrays(path)) == ["x", "y", "z"]
    path.write_bytes(path.read_bytes()[:-2] + b"\xff\xff" + b"c" * 65_535)  # the longest comment
    assert list(read_arrays(path)) == ["x", "y", "z"]
    assert "lists 2 members of the 3" in refusal(patched(path, swallowing))


def test_comments_and_bytes_around_an_archive_do_no_harm(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.npz", ("x.npy", npy(X)))
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"c" * 65_535
    assert list(read_arrays(path)) == ["x"]
    path.write_bytes(b"before" + path.read_bytes())
    assert list(read_arrays(path)) == ["x"]


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    zeros = npy(np.zeros(4 * 2**20))  # 32 MiB in 32 kB
    path = zipped(tmp_path / "a.npz", ("x.npy", zeros), method=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 40_000
    assert refusal(path) == f"must hold at most {2**20} bytes of arrays, but it declares {2**25}"
    small = headed("{'descr': '<f8', 'fortran_order': False, 'shape': (2,)}", bytes(2**25))  # it says 16 bytes
    zipped(path, ("x.npy", small), method=zipfile.ZIP_DEFLATED)
    assert "needs 81 bytes by its shape, and has 33554497" in refusal(path)
    assert "Bad CRC-32" in refusal(patched(path, (SIZE, 81)))
    large = headed(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({10**9},)}}", b"1")
    zipped(path, ("x.npy", large), method=zipfile.ZIP_DEFLATED)
    assert "more than its" in refusal(patched(path, (SIZE, len(large) - 1 + 10**9)), 2**40)


def test_a_deflated_member_that_ends_early_is_refused(tmp_path: Path) -> None:
    content = npy(np.random.default_rng(0).standard_normal(3000))
    path = zipped(tmp_path / "a.npz", ("x.npy", content), method=zipfile.ZIP_DEFLATED)
    info = zipfile.ZipFile(path).infolist()[0]
    start, packed = len(info.FileHeader()), info.compress_size - 5000
    assert "Bad CRC-32" in refusal(patched(path, (PACKED, packed)))
    left = zlib.decompressobj(-15).decompress(path.read_bytes()[start : start + packed])
    assert "'x' lacks" in refusal(patched(path, (CRC, zlib.crc32(left))))


@pytest.mark.parametrize(
    "error",
    [
        *(zipfile.BadZipFile("bad"), zlib.error("bad"), struct.error("bad"), EOFError("bad"), RuntimeError("bad")),
        *(NotImplementedError("bad"), OverflowError("bad"), UnicodeDecodeError("utf-8", b"", 0, 1, "bad")),
        OSError(errno.EINVAL, "Invalid argument"),
    ],
    ids=repr,
)
def test_whatever_unzipping_raises_becomes_a_sentence(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(archive: zipfile.ZipFile) -> None:
        raise error

    path = zipped(tmp_path / "a.npz", ("x.npy", npy(X)))
    monkeypatch.setattr("zipfile.ZipFile.infolist", fail)
    assert refusal(path).startswith("must be a whole .npz file, but ")
    error = OSError(errno.EIO, "Input/output error")
    with pytest.raises(OSError, match="Input/output error"):
        read_arrays(path)


def test_the_limit_is_exact_and_counts_all_arrays(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a.npz", {"x": X, "y": X.astype(np.float32)})
    assert len(read_arrays(tmp_path / "a.npz", 144)) == 2
    assert refusal(tmp_path / "a.npz", 143) == "must hold at most 143 bytes of arrays, but it declares 144"


def test_a_table_of_contents_without_end_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with path.open("wb") as file:
        file.truncate(2**30)  # a sparse file
        file.seek(2**30)
        file.write(struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 9, 9, 2**29, 2**29, 0))
    assert f"at most {2**24} bytes, but its list has {2**29}" in refusal(path)
