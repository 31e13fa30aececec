"""Arrays in a zip file of .npy files, as NumPy writes them, but never pickled and with nothing taken on trust."""

from __future__ import annotations

import errno
import io
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from npformer.component import Array
from npformer.oracle.declared import (
    MOST_CONTENTS,
    PLAIN,
    PLAIN_NAMES,
    Declared,
    UnfitError,
    check_booleans,
    check_limit,
    declare,
    flaw_of_path,
    quoted,
    shortened,
)

SUFFIX = ".npy"
CHUNK = 2**20
LONGEST_HEADER = 10_000  # NumPy's own limit for the text in an .npy file's header
MOST_INFLATION = 1032  # a byte of a deflated file stands for at most so many (zlib's technical notes)
LOCAL_HEADER = 30  # bytes before a member's name; the last four are the lengths of that name and of what follows it
END, LONG_END = b"PK\5\6", b"PK\6\6"  # signatures of the records at a zip file's end
MOST_END = 22 + 0xFFFF + 76  # bytes from there: a record, the archive's comment, and the longer record before it
ENCRYPTED = 1  # bit of a member's flags
UNIX = 3  # what made a file, for zip
EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time that zip knows
HEADERS = {  # the versions differ in the header's length and encoding, but that of plain dtypes is ASCII
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    (3, 0): np.lib.format.read_array_header_2_0,
}


class _Bounded(io.BufferedReader):
    """A file of which zipfile cannot read much at once, whatever the file says."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MOST_CONTENTS:
            raise UnfitError(f"must list its members in at most {MOST_CONTENTS} bytes, but its list has {size}")
        return super().read(size)


@dataclass(frozen=True)
class _Member:
    """An .npy file inside the archive: what it declares, where its data starts, and how they lie."""

    info: zipfile.ZipInfo
    array: Declared
    start: int
    swapped: bool
    fortran_order: bool


def read_npz(raw: io.FileIO, limit: int) -> dict[str, Array]:
    """Read an .npz file that is open; UnfitError if it is not one."""
    with _Bounded(raw) as file, _zip_errors(), zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        _check_count(len(infos), file)
        _check_infos(infos, file)
        members = [_read_header(archive, info) for info in infos]
        check_limit((member.array for member in members), limit)
        return {member.array.name: _read_array(archive, member) for member in members}


def write_npz(file: BinaryIO, arrays: dict[str, Array]) -> None:
    """Write an .npz file, uncompressed, whose bytes depend on nothing but the arrays and their order."""
    for name in arrays:
        if flaw := flaw_of_path(name):
            raise ValueError(f"arrays must have names that an .npz file can hold, but {quoted(name)} {flaw}")
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(name + SUFFIX, EPOCH)
            info.create_system = UNIX
            info.file_size = array.nbytes + LONGEST_HEADER  # tells zipfile beforehand whether sizes need 64 bits
            with archive.open(info, "w") as member:
                np.lib.format.write_array(member, array, (1, 0), allow_pickle=False)


@contextmanager
def _zip_errors() -> Iterator[None]:
    """Turn the many errors with which zipfile meets a damaged file into one."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, OverflowError, ValueError) as error:
        raise UnfitError(f"must be a whole .npz file, but unzipping it fails: {shortened(error)}") from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # which comes from seeking where the file says
            raise
        raise UnfitError("must be a whole .npz file, but it refers to a place outside of it") from None


def _check_count(found: int, file: io.BufferedReader) -> None:
    """Check the number of members: where one entry of the list swallows the next ones, zipfile sees no fault."""
    file.seek(-min(MOST_END, file.seek(0, io.SEEK_END)), io.SEEK_END)
    tail = file.read()
    place = tail.rfind(END)
    declared = int.from_bytes(tail[place + 10 : place + 12], "little")
    before = tail[max(place - 76, 0) : place]  # a record of 56 bytes with longer fields, and where it is, in 20
    if before.startswith(LONG_END):
        declared = int.from_bytes(before[32:40], "little")
    if found != declared:
        raise UnfitError(f"must be a whole .npz file, but it lists {found} members of the {declared} that it has")


def _check_infos(infos: list[zipfile.ZipInfo], file: io.BufferedReader) -> None:
    """Check names and places of the members."""
    seen = set()
    for info in infos:
        name = info.orig_filename  # zipfile cuts the other one at a NUL
        if name in seen:
            raise UnfitError(f"must have every name once, but {quoted(name)} is in it twice")
        seen.add(name)
        if flaw := flaw_of_path(name.removesuffix(SUFFIX)):
            raise UnfitError(f"must have names that stay inside an archive, but {quoted(name)} {flaw}")
        if not name.endswith(SUFFIX):
            raise UnfitError(f"must hold nothing but {SUFFIX} files, but {quoted(name)} is in it")
        if info.flag_bits & ENCRYPTED:
            raise UnfitError(f"must not be encrypted, but {quoted(name)} is")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UnfitError(
                f"must be stored or deflated, but {quoted(name)} is compressed by method {info.compress_type}"
            )
        inflation = MOST_INFLATION if info.compress_type == zipfile.ZIP_DEFLATED else 1
        if info.file_size > inflation * info.compress_size:
            raise UnfitError(
                f"must be a whole .npz file, but {quoted(name)} declares {info.file_size} bytes, "
                f"more than its {info.compress_size} can stand for"
            )
    _check_places(infos, file)


def _check_places(infos: list[zipfile.ZipInfo], file: io.BufferedReader) -> None:
    """Check that no two members share bytes, through which a small file could stand for a large one."""
    size, end = file.seek(0, io.SEEK_END), 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if not end <= info.header_offset <= size - LOCAL_HEADER:
            where = "overlaps another member" if info.header_offset < end else "lies outside of it"
            raise UnfitError(f"must be a whole .npz file, but {quoted(info.orig_filename)} {where}")
        file.seek(info.header_offset + LOCAL_HEADER - 4)
        end = info.header_offset + LOCAL_HEADER + sum(struct.unpack("<HH", file.read(4))) + info.compress_size
    if end > size:
        raise UnfitError("must be a whole .npz file, but its last member ends beyond it")


def _read_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    """Read what a member declares, and check it against the member's size."""
    name = info.orig_filename.removesuffix(SUFFIX)
    with archive.open(info) as member:
        head = io.BytesIO(member.read(LONGEST_HEADER))
    try:
        with warnings.catch_warnings(action="ignore"):  # Python and NumPy warn of odd literals
            version = np.lib.format.read_magic(head)
            shape, fortran_order, dtype = HEADERS[version](head)
    except Exception as error:  # NumPy parses Python literals, which fails in many ways
        raise UnfitError(
            f"must hold .npy files, but the header of {quoted(name)} is not one: {shortened(error)}"
        ) from None
    native = dtype.newbyteorder("=")
    if native not in PLAIN:
        raise UnfitError(f"must hold {PLAIN_NAMES}, but {quoted(name)} has dtype {shortened(dtype)}")
    array = declare(name, native, shape)
    if head.tell() + array.nbytes != info.file_size:
        raise UnfitError(
            f"must be a whole .npz file, but {quoted(name)} needs {head.tell() + array.nbytes} bytes "
            f"by its shape, and has {info.file_size}"
        )
    return _Member(info, array, head.tell(), dtype != native, fortran_order)


def _read_array(archive: zipfile.ZipFile, member: _Member) -> Array:
    """Read an array in pieces; it is as large as its bytes in the file can be, and not larger."""
    declared = member.array
    array: Array = np.empty(declared.nbytes // declared.dtype.itemsize, declared.dtype)
    rest = array.view(np.uint8).data
    with archive.open(member.info) as stream:
        stream.read(member.start)
        while rest:
            chunk = stream.read(min(CHUNK, len(rest)))
            if not chunk:
                raise UnfitError(f"must be a whole .npz file, but {quoted(declared.name)} lacks {len(rest)} bytes")
            rest[: len(chunk)] = chunk
            rest = rest[len(chunk) :]
    if member.swapped:
        array.byteswap(inplace=True)
    check_booleans(declared.name, array)
    if member.fortran_order:
        return np.asarray(array.reshape(declared.shape[::-1]).T, order="C")
    return array.reshape(declared.shape)
