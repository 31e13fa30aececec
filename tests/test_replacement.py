"""A file is written whole or not at all, where the user said, and errors are told under the name that he knows."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from npformer.replacement import naming, remove_leftovers, replacement


def test_a_link_is_followed_and_the_file_that_it_leads_to_replaced(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link, target = tmp_path / "link.txt", tmp_path / "disk" / "target.txt"
    link.symlink_to(target)
    for text in (b"first", b"second"):  # at first the link leads nowhere
        with replacement(link) as file:
            file.write(text)
        assert link.is_symlink()
        assert target.read_bytes() == text
    leftover = target.parent / next(iter(_hidden(link)))
    leftover.write_bytes(b"half")
    remove_leftovers(link)
    assert [each.name for each in target.parent.iterdir()] == ["target.txt"]


def _hidden(path: Path) -> set[str]:
    """The names of hidden files while a file is being written."""
    with replacement(path):
        return {each.name for each in path.resolve().parent.iterdir()} - {"target.txt"}


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_errors_after_the_block_have_the_name_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr({"fsync": os, "replace": Path}[step], step, fails)
    path = tmp_path / "new.txt"
    with pytest.raises(OSError, match="No space left") as caught, replacement(path) as file:
        file.write(b"all of it")
    assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_is_told_under_the_name_of_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    path = folder / "new.txt"
    with pytest.raises(FileNotFoundError) as caught, replacement(path):
        shutil.rmtree(folder)
    assert caught.value.filename == str(path)


def test_errors_of_the_block_that_are_not_of_the_file_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(BrokenPipeError) as caught, replacement(tmp_path / "new.txt"):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")
    assert caught.value.filename is None


def test_naming_keeps_the_kind_of_an_error() -> None:
    with pytest.raises(PermissionError) as caught, naming("a.txt"):
        raise PermissionError(errno.EACCES, "Permission denied", "hidden")
    assert (caught.value.filename, caught.value.errno) == ("a.txt", errno.EACCES)
