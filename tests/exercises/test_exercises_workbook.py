"""A learner's folder: work is never overwritten."""

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from npformer.exercises import workbook
from npformer.exercises.progress import Progress
from npformer.exercises.source import blank_file
from npformer.exercises.tasks import TASKS
from npformer.exercises.workbook import fingerprint, no_file, start, write_whole

NAME = "layer_norm"
TASK = TASKS[NAME]
THERE = r"^layer_norm\.py is there already and is yours; it is not overwritten$"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_start_writes_the_blank_file(tmp_path: Path) -> None:
    path = start(TASK, tmp_path)
    assert path == tmp_path / "layer_norm.py"
    assert path.read_text(encoding="utf-8") == blank_file(TASK)
    assert names_in(tmp_path) == ["layer_norm.py"]


def test_start_never_overwrites(tmp_path: Path) -> None:
    path = start(TASK, tmp_path)
    path.write_text("my work", encoding="utf-8")
    with pytest.raises(FileExistsError, match=THERE):
        start(TASK, tmp_path)
    assert path.read_text(encoding="utf-8") == "my work"


def test_start_takes_a_link_that_leads_nowhere_for_the_learner_s(tmp_path: Path) -> None:
    (tmp_path / "layer_norm.py").symlink_to(tmp_path / "elsewhere.py")
    with pytest.raises(FileExistsError, match="is there already and is a link to a file that is not there; it is not"):
        start(TASK, tmp_path)
    assert names_in(tmp_path) == ["layer_norm.py"]


@pytest.mark.parametrize("links", [True, False])
def test_of_many_that_start_at_once_one_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    many = 8
    monkeypatch.setattr(os.path, "lexists", lambda path: False)  # all look before any has written
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    together = threading.Barrier(many)

    def attempt(_: int) -> bool:
        together.wait()
        try:
            start(TASK, tmp_path)
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(many) as pool:
        assert sum(pool.map(attempt, range(many))) == 1
    assert names_in(tmp_path) == ["layer_norm.py"]
    assert (tmp_path / "layer_norm.py").read_text(encoding="utf-8") == blank_file(TASK)


def test_work_that_appears_while_start_writes_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "layer_norm.py"

    def meanwhile(task: Any, options: str) -> str:
        path.write_text("my work", encoding="utf-8")
        return blank_file(task)

    monkeypatch.setattr(workbook, "blank_file", meanwhile)
    with pytest.raises(FileExistsError, match=THERE):
        start(TASK, tmp_path)
    assert path.read_text(encoding="utf-8") == "my work"
    assert names_in(tmp_path) == ["layer_norm.py"]


@pytest.mark.parametrize("links", [True, False])
def test_a_start_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    calls = []

    def full_disk(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == (1 if links else 2):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(OSError, match="No space left"):
        start(TASK, tmp_path)
    assert names_in(tmp_path) == []


def no_links(source: object, target: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


def test_start_refuses_what_is_no_folder_or_no_task(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match=r"folder must be a folder that exists, but .*nowhere is none"):
        start(TASK, tmp_path / "nowhere")
    wrong: list[Any] = [("layer_norm", tmp_path), (TASK, 3)]
    for task, folder in wrong:
        with pytest.raises(TypeError, match=r"^(task|folder) must be a "):
            start(task, folder)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.xml"
    write_whole(path, "first")
    monkeypatch.setattr(os, "fsync", raise_full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "second")
    assert path.read_text(encoding="utf-8") == "first"
    assert names_in(tmp_path) == ["results.xml"]


def raise_full(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_link_and_a_device_stay_what_they_are(tmp_path: Path) -> None:
    target, link = tmp_path / "target.xml", tmp_path / "link.xml"
    target.write_text("old", encoding="utf-8")
    link.symlink_to(target)
    write_whole(link, "new")
    assert link.is_symlink()
    assert target.read_text(encoding="utf-8") == "new"
    write_whole(os.devnull, "new")
    assert Path(os.devnull).is_char_device()
    reader, writer = os.pipe()
    write_whole(f"/dev/fd/{writer}", "new")
    assert os.read(reader, 10) == b"new"
    os.close(reader)
    os.close(writer)


def test_what_is_no_file_is_nobody_s_work(tmp_path: Path) -> None:
    path, progress = tmp_path / "layer_norm.py", Progress(tmp_path)
    makes: dict[str, Callable[[], None]] = {
        "a folder": lambda: path.mkdir(),
        "a device, a pipe or a socket": lambda: os.mkfifo(path),
        "a link to a file that is not there": lambda: path.symlink_to("nowhere"),
    }
    for what, make in makes.items():
        make()
        assert progress.state(NAME) == "not started"
        assert (fingerprint(path), no_file(path)) == ("", what)
        with pytest.raises(FileExistsError, match=rf"^layer_norm\.py is there already and is {what}; it is not overwr"):
            start(TASK, tmp_path)
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()


def test_an_error_is_about_the_file_that_was_to_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(path: Path, *arguments: Any, **options: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", read_only)
    for path, write in (
        (tmp_path / "layer_norm.py", lambda: start(TASK, tmp_path)),
        (tmp_path / "results.xml", lambda: write_whole(tmp_path / "results.xml", "")),
    ):
        with pytest.raises(PermissionError) as refused:
            write()
        assert refused.value.filename == str(path)
