"""A learner's folder: work is never overwritten, and damaged progress stops nothing."""

import errno
import fcntl
import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from made_grades import BLANK, ERROR, SOLVED, WRONG

from npformer.exercises import progress as progress_module
from npformer.exercises import workbook
from npformer.exercises.progress import FORMAT, PROGRESS, Progress
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


def test_the_states_of_an_exercise(tmp_path: Path) -> None:
    def state() -> tuple[str, float]:
        progress = Progress(tmp_path)
        return progress.state(NAME), progress.points(NAME)

    assert state() == ("not started", 0)
    path = start(TASK, tmp_path)
    assert state() == ("started", 0)
    for grade, expected in ((BLANK, "started"), (ERROR, "wrong"), (WRONG, "wrong"), (SOLVED, "solved")):
        Progress(tmp_path).graded(grade, fingerprint(path))
        assert state() == (expected, grade.points)
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert state() == ("changed since it was solved", 0)
    path.unlink()
    assert state() == ("not started", 0)


def test_a_file_that_is_not_as_it_was_checked_has_no_points(tmp_path: Path) -> None:
    path = start(TASK, tmp_path)
    Progress(tmp_path).graded(WRONG, fingerprint(path))
    path.write_text("# another attempt", encoding="utf-8")
    assert (Progress(tmp_path).state(NAME), Progress(tmp_path).points(NAME)) == ("started", 0)
    path.unlink()
    start(TASK, tmp_path)
    assert (Progress(tmp_path).state(NAME), Progress(tmp_path).points(NAME)) == ("wrong", 4)  # it is what was checked


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


def test_no_update_is_lost_where_commands_run_at_once(tmp_path: Path) -> None:
    names, rounds = [f"exercise_{number}" for number in range(8)], 5

    def update(name: str) -> None:
        for hints in range(1, rounds + 1):
            Progress(tmp_path).hinted(name, hints)

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(update, names))
    assert [Progress(tmp_path).hints(name) for name in names] == [rounds] * len(names)
    assert names_in(tmp_path) == [PROGRESS]


def test_a_lock_that_is_never_released_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "PATIENCE", 0.1)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    Progress(tmp_path).hinted(NAME, 2)
    assert Progress(tmp_path).hints(NAME) == 2
    os.close(descriptor)


def test_hints_and_grades_are_kept_beside_each_other(tmp_path: Path) -> None:
    first, second = Progress(tmp_path), Progress(tmp_path)  # two commands at once
    first.hinted(NAME, 2)
    second.graded(WRONG, "")
    second.hinted("softmax", 1)
    first.graded(SOLVED, "")
    assert (Progress(tmp_path).hints(NAME), Progress(tmp_path).hints("softmax")) == (2, 1)
    assert names_in(tmp_path) == [PROGRESS]


GOOD = {"status": "solved", "points": 6.0, "out_of": 6, "sha256": "", "hints": 1}
DAMAGED = {
    "empty": b"",
    "cut": b'{"format": "npformer ex',
    "not text": b"\xff\xfe\x00",
    "somebody else's": b'{"version": 3}',
    "a list": b"[1]",
    "deep": b"[" * 100_000,
    "of another version": json.dumps({"format": FORMAT + "0", "exercises": {}}).encode(),
    "too large": json.dumps({"format": FORMAT, "exercises": {}, "more": "x" * 1_000_001}).encode(),
    **{
        f"{key} {value!r}": json.dumps({"format": FORMAT, "exercises": {NAME: GOOD | {key: value}}}).encode()
        for key, value in (("hints", -1), ("hints", True), ("hints", "1"), ("points", float("nan")), ("more", 1))
    },
    "no exercises": json.dumps({"format": FORMAT, "exercises": [GOOD]}).encode(),
}


def test_a_good_file_is_read(tmp_path: Path) -> None:
    (tmp_path / PROGRESS).write_text(json.dumps({"format": FORMAT, "exercises": {NAME: GOOD}}), encoding="utf-8")
    progress = Progress(tmp_path)
    assert (progress.complaint, progress.hints(NAME)) == ("", 1)


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_progress_is_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / PROGRESS
    path.write_bytes(DAMAGED[kind])
    progress = Progress(tmp_path)
    assert progress.complaint == (
        f"Progress is not kept in {path}: it is damaged or not npformer's; without it a new one is begun."
    )
    progress.graded(SOLVED, "")
    progress.hinted(NAME, 1)
    assert path.read_bytes() == DAMAGED[kind]
    assert progress.state(NAME) == "not started"
    path.unlink()
    assert Progress(tmp_path).complaint == ""


def test_progress_that_is_damaged_meanwhile_is_left_alone(tmp_path: Path) -> None:
    progress = Progress(tmp_path)
    (tmp_path / PROGRESS).write_bytes(b"mine")
    progress.hinted(NAME, 1)
    assert "damaged" in progress.complaint
    assert progress.hints(NAME) == 1
    assert (tmp_path / PROGRESS).read_bytes() == b"mine"


def test_what_is_no_file_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / PROGRESS)
    assert Progress(tmp_path).complaint == f"Progress is not kept in {tmp_path / PROGRESS}: it is no file."


def test_progress_that_cannot_be_written_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    progress = Progress(tmp_path)
    monkeypatch.setattr(os, "fsync", raise_full)
    progress.graded(SOLVED, "")
    path = tmp_path / PROGRESS
    assert progress.complaint == f"Progress is not kept in {path}: it cannot be written (No space left on device)."
    assert names_in(tmp_path) == []
