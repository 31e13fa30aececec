"""What the tests of hostile files share: making them, and how they must be refused."""

import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from npformer.component import Array
from npformer.oracle.files import read_arrays


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
    # Python's parser takes 1.4 MB for 5,000 brackets, and every bomb stands for 2**25 bytes or more
    assert peak < 2**22, peak
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
