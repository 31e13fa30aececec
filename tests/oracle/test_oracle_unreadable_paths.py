"""What cannot be opened stays the system's error, and bad arguments of read_arrays get a sentence."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npformer.oracle.files import read_arrays, write_arrays


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_the_system_says_why_a_file_cannot_be_opened(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    with pytest.raises(FileNotFoundError) as missing:
        read_arrays(path)
    assert missing.value.strerror == "No such file or directory"
    with pytest.raises(FileNotFoundError):
        write_arrays(tmp_path / "absent" / path.name, {"x": np.ones(2)})
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        read_arrays(path)
    with pytest.raises(IsADirectoryError):
        write_arrays(path, {"x": np.ones(2)})
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    os.mkfifo(path)
    with pytest.raises(ValueError, match=r"must be a file, but it is a device, a pipe or a socket$"):
        read_arrays(path)


def test_bad_arguments_get_a_sentence(tmp_path: Path) -> None:
    path: Any
    limit: Any
    for path, limit, kind, sentence in [
        (None, 1, TypeError, r"path must be a path, but it is None"),
        (b"a.npz", 1, TypeError, r"path must be a path, but it is a bytes"),
        ("a.pickle", 1, ValueError, r"a.pickle must have the suffix .npz or .safetensors, but its suffix is '.pickle'"),
        ("a\0.npz", 1, ValueError, r"path must be a path, but it holds a NUL"),
        ("a.npz", 1.5, TypeError, r"limit must be a whole number, but it is a float"),
        ("a.npz", -1, ValueError, r"limit must be at least 0, but it is -1"),
    ]:
        with pytest.raises(kind) as caught:
            read_arrays(path, limit)
        assert str(caught.value) == sentence


def test_the_case_of_a_suffix_does_not_matter(tmp_path: Path) -> None:
    write_arrays(tmp_path / "A.NPZ", {"x": np.ones(2)})
    assert read_arrays(tmp_path / "A.NPZ")["x"].sum() == 2
