"""What a learner has reached: it counts for the file that was checked, and damage stops nothing."""

import errno
import fcntl
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from made_grades import BLANK, ERROR, SOLVED, WRONG

from npformer.exercises import progress as progress_module
from npformer.exercises.progress import FORMAT, PROGRESS, Progress
from npformer.exercises.tasks import TASKS
from npformer.exercises.workbook import fingerprint, start

NAME = "layer_norm"
TASK = TASKS[NAME]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def raise_full(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


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
