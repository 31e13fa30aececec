"""No .npz file, however damaged or malicious, gives wrong arrays, much memory or more than one sentence."""

import io
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npformer.component import Array
from npformer.oracle.files import read_arrays, write_arrays

X = np.arange(12.0).reshape(3, 4)
# where the fields of an entry of the central directory lie, and how many bytes each has (APPNOTE 4.3.12)
FLAGS, METHOD, CRC, PACKED, SIZE, PLACE = (8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (42, 4)


def refusal(path: Path, limit: int = 2**20) -> str:
    """Return the sentence with which a file is refused, without its subject; bounded memory is part of the deal."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r".") as caught:
            read_arrays(path, limit)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    sentence = str(caught.value)
    assert type(caught.value) is ValueError
    assert sentence.startswith(f"{path} must ")
    assert ", but " in sentence
    assert len(sentence.splitlines()) == 1
    assert len(sentence) < 300
    assert peak < 2**22, peak  # Python's parser takes 1.4 MB for 5,000 brackets; the bombs stand for 32 MiB and more
    return sentence.removeprefix(f"{path} ")


def npy(array: Array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def headed(text: str, data: bytes = b"", version: tuple[int, int] = (1, 0), length: int | None = None) -> bytes:
    """Return an .npy file with any text as its header."""
    layout = "<H" if version == (1, 0) else "<I"
    header = text.encode("latin1")
    prefix = np.lib.format.magic(*version) + struct.pack(layout, len(header) if length is None else length)
    return prefix + header + data


def zipped(path: Path, *members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return path


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


HEADERS = {
    "objects": (npy(np.zeros(2, "i4,f8")), "'x' has dtype [('f0', '<i4'), ('f1', '<f8')]"),
    "structured": (headed("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"c"), "'x' has dtype object"),
    "texts": (npy(np.array(["text"])), "'x' has dtype <U4"),
    "bytes": (npy(np.array([b"text"])), "'x' has dtype |S4"),
    "complex": (npy(np.ones(2, complex)), "'x' has dtype complex128"),
    "time": (npy(np.zeros(2, "M8[s]")), "'x' has dtype datetime64[s]"),
    "long double": (npy(np.zeros(2, np.longdouble)), "'x' has dtype float128"),
    "subarray": (headed("{'descr': ('<f8', (2,)), 'fortran_order': False, 'shape': (1,)}", bytes(16)), "has dtype ("),
    "negative": (headed("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -1)}", bytes(8)), "'x' is (-1, -1)"),
    "true": (headed("{'descr': '<f8', 'fortran_order': False, 'shape': (True,)}", bytes(8)), "'x' is (True,)"),
    "fraction": (headed("{'descr': '<f8', 'fortran_order': False, 'shape': (1.0,)}", bytes(8)), "is not one"),
    "huge": (headed(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({10**12},)}}"), "needs 8000000000"),
    "beyond 64 bits": (headed(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({10**30},)}}"), "NumPy can have"),
    "huge and empty": (headed(f"{{'descr': '<f8', 'fortran_order': False, 'shape': (0, {2**62})}}"), "NumPy can have"),
    "65 axes": (headed(f"{{'descr': '<f8', 'fortran_order': False, 'shape': {(1,) * 65}}}", bytes(8)), "NumPy can ha"),
    "short": (npy(X)[:-1], "'x' needs 224 bytes by its shape, and has 223"),
    "long": (npy(X) + b"\0", "'x' needs 224 bytes by its shape, and has 225"),
    "no magic": (b"nothing of the kind", "the header of 'x' is not one"),
    "nothing": (b"", "the header of 'x' is not one"),
    "version 9": (headed("{}", version=(9, 0)), "the header of 'x' is not one"),
    "long header": (headed("{" + " " * 20_000 + "}"), "the header of 'x' is not one"),
    "endless header": (headed("{", version=(2, 0), length=2**32 - 1), "the header of 'x' is not one"),
    "code": (headed("__import__('os').abort()"), "the header of 'x' is not one"),
    "nested": (headed("(" * 5000), "the header of 'x' is not one"),
    "signs": (headed("-" * 9000 + "1"), "the header of 'x' is not one"),
    "odd escape": (headed(r"'\d'"), "the header of 'x' is not one"),
    "booleans": (headed("{'descr': '|b1', 'fortran_order': False, 'shape': (2,)}", b"\1\2"), "'x' has others"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_an_array_that_is_not_plain_is_refused(tmp_path: Path, case: str) -> None:
    content, part = HEADERS[case]
    assert part in refusal(zipped(tmp_path / "a.npz", ("x.npy", content)))


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
    assert (
        refusal(patched(path, swallowing)) == "must be a whole .npz file, but it lists 2 members of the 3 that it has"
    )
    monkeypatch.setattr("zipfile.ZIP_FILECOUNT_LIMIT", 1)
    assert list(read_arrays(zipped(path, *members))) == ["x", "y", "z"]
    assert b"PK\6\6" in path.read_bytes()  # the number stands in a longer record too
    path.write_bytes(path.read_bytes()[:-12] + b"\xff\xff" + path.read_bytes()[-10:])
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
