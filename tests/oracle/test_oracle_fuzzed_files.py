"""Files with random damage: each gives exactly what its bytes say, or one sentence."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load

from npformer.component import Array
from npformer.oracle.files import read_arrays, write_arrays

ARRAYS: dict[str, Array] = {
    "weight": np.random.default_rng(0).standard_normal((3, 5)),
    "bias": np.arange(4, dtype=np.float32),
    "mask": np.array([True, False]),
    "step": np.array(7),
    "none": np.zeros((0, 2), np.float16),
}
DAMAGE = st.lists(st.tuples(st.integers(0, 2**16), st.integers(1, 255)), min_size=1, max_size=4)
# the ends of a file are where a zip has its directory, and safetensors its header
CUTS = st.none() | st.integers(0, 2**16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzzed")


def packed(suffix: str, folder: Path) -> bytes:
    """Return the bytes of a valid file."""
    if suffix == "deflated.npz":
        stream = io.BytesIO()
        arrays: dict[str, Any] = dict(ARRAYS)
        np.savez_compressed(stream, **arrays)
        return stream.getvalue()
    write_arrays(folder / f"valid{suffix}", ARRAYS)
    return (folder / f"valid{suffix}").read_bytes()


def read_or_refuse(path: Path) -> dict[str, Array] | None:
    """Return the arrays, or None after checking the sentence of the refusal."""
    try:
        return read_arrays(path, 2**20)
    except ValueError as error:
        refusal = error
    sentence = str(refusal)
    assert type(refusal) is ValueError
    assert sentence.startswith(f"{path} must ")
    assert ", but " in sentence
    assert len(sentence.splitlines()) == 1
    assert len(sentence) < 300
    return None


def bits(arrays: dict[str, Array]) -> dict[str, tuple[tuple[int, ...], str, bytes]]:
    return {name: (array.shape, array.dtype.str, array.tobytes()) for name, array in arrays.items()}


@pytest.mark.parametrize("suffix", [".npz", "deflated.npz", ".safetensors"])
@settings(max_examples=400)
@given(changes=DAMAGE, cut=CUTS, near_end=st.booleans())
def test_a_damaged_file_is_read_exactly_or_refused(
    folder: Path, suffix: str, changes: list[tuple[int, int]], cut: int | None, near_end: bool
) -> None:
    content = bytearray(packed(suffix, folder))
    for place, mask in changes:
        content[-1 - place % min(len(content), 500) if near_end else place % len(content)] ^= mask
    if cut is not None and not near_end:
        del content[cut % len(content) :]
    path = folder / f"damaged{suffix}"
    path.write_bytes(content)
    got = read_or_refuse(path)
    if got is not None and suffix == ".safetensors":  # which has no checksum: a value may be another one
        assert bits(got) == bits(load(bytes(content)))
    elif got is not None:
        assert bits(got) == bits(ARRAYS)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_file_cut_anywhere_is_refused(folder: Path, suffix: str) -> None:
    content = packed(suffix, folder)
    path = folder / f"cut{suffix}"
    path.write_bytes(content)
    assert read_or_refuse(path) is not None
    for size in reversed(range(len(content))):
        os.truncate(path, size)
        assert read_or_refuse(path) is None


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@settings(max_examples=100)
@given(content=st.binary(max_size=200))
def test_random_bytes_are_refused(folder: Path, suffix: str, content: bytes) -> None:
    path = folder / f"random{suffix}"
    path.write_bytes(content)
    assert read_or_refuse(path) is None
