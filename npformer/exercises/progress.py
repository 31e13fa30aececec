"""What a learner has reached in a folder, kept in a file there that is nobody's work."""

from __future__ import annotations

import json
import math
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from npformer.exercises.grade import BLANK, SOLVED, Grade
from npformer.exercises.workbook import file_of, fingerprint, write_whole

PROGRESS = ".npformer-exercises.json"
FORMAT = "npformer exercises 1"
LARGEST = 1_000_000  # bytes of a progress file
PATIENCE = 2.0  # seconds that a command waits for another that writes
NOT_STARTED, STARTED, WRONG, DONE, CHANGED = "not started", "started", "wrong", "solved", "changed since it was solved"


@dataclass(frozen=True)
class Record:
    """What is known of one exercise.

    Attributes
    ----------
    status : str
        Of the last grade; empty if it was not checked yet.
    points, out_of : float, int
        Of the last grade.
    sha256 : str
        Of the learner's file when it was checked.
    hints : int
        How many were shown.
    """

    status: str = ""
    points: float = 0.0
    out_of: int = 0
    sha256: str = ""
    hints: int = 0


class Progress:
    """What a learner has reached in a folder, kept in a file there.

    If that file is damaged or somebody else's, it is left alone and nothing is kept; `complaint` says so in one
    sentence, and is empty otherwise. No learner's work is in it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Progress(folder).state("layer_norm")
    'not started'
    """

    def __init__(self, folder: str | os.PathLike[str] = "."):
        self.folder = Path(folder)
        self.path = self.folder / PROGRESS
        self.records, self.complaint = self._read()

    def state(self, name: str) -> str:
        """Return one of "not started", "started", "wrong", "solved" and "changed since it was solved"."""
        path, record = file_of(name, self.folder), self.records.get(name, Record())
        if not path.is_file():
            return NOT_STARTED
        if record.status in ("", BLANK):
            return STARTED
        as_checked = fingerprint(path) == record.sha256
        if record.status == SOLVED:
            return DONE if as_checked else CHANGED
        return WRONG if as_checked else STARTED

    def points(self, name: str) -> float:
        """Return the points that the last check of an exercise gave, if its file is still as it was then."""
        return self.records.get(name, Record()).points if self.state(name) in (DONE, WRONG) else 0.0

    def hints(self, name: str) -> int:
        """Return how many hints were shown."""
        return self.records.get(name, Record()).hints

    def graded(self, grade: Grade, sha256: str) -> None:
        """Keep a grade of the file with this fingerprint."""
        about = {"status": grade.status, "points": float(grade.points), "out_of": grade.out_of, "sha256": sha256}
        self._keep(grade.task, about)

    def hinted(self, name: str, hints: int) -> None:
        """Keep how many hints were shown."""
        self._keep(name, {"hints": hints})

    def _read(self) -> tuple[dict[str, Record], str]:
        """Return what the file holds, and why that is nothing if the file is no good."""
        try:
            if stat.S_ISREG(self.path.stat().st_mode):  # opening a pipe would wait for ever
                with self.path.open("rb") as file:
                    return _records(file.read(LARGEST + 1)), ""
            flaw = "it is no file"
        except FileNotFoundError:
            return {}, ""
        except OSError as error:
            flaw = f"it cannot be read ({error.strerror or error})"
        except (ValueError, RecursionError):
            flaw = "it is damaged or not npformer's; without it a new one is begun"
        return {}, f"Progress is not kept in {self.path}: {flaw}."

    def _keep(self, name: str, about: Mapping[str, Any]) -> None:
        if self.complaint:
            return
        with _alone_in(self.folder):
            self._update(name, about)

    def _update(self, name: str, about: Mapping[str, Any]) -> None:
        self.records, self.complaint = self._read()  # another command may have written it meanwhile
        self.records[name] = replace(self.records.get(name, Record()), **about)
        if self.complaint:
            return
        document = {"format": FORMAT, "exercises": {each: asdict(record) for each, record in self.records.items()}}
        try:
            write_whole(self.path, json.dumps(document, indent=1, allow_nan=False) + "\n")
        except OSError as error:
            self.complaint = f"Progress is not kept in {self.path}: it cannot be written ({error.strerror or error})."


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Lock a folder against other commands, where the system has such locks; nobody waits long for it."""
    try:
        import fcntl  # which Windows lacks

        descriptor = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        end = time.monotonic() + PATIENCE
        with suppress(OSError):  # the file system has no locks
            while not _locked(fcntl.flock, descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB) and time.monotonic() < end:
                time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)  # and with it the lock


def _locked(lock: Callable[[int, int], None], descriptor: int, how: int) -> bool:
    try:
        lock(descriptor, how)
    except BlockingIOError:
        return False
    return True


def _records(data: bytes) -> dict[str, Record]:
    """Return what a progress file holds; ValueError if it is none."""
    document = json.loads(data) if len(data) <= LARGEST else None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError
    exercises = document.get("exercises")
    if not isinstance(exercises, dict):
        raise ValueError
    return {name: _record(about) for name, about in exercises.items()}


def _record(about: object) -> Record:
    default = asdict(Record())
    if not isinstance(about, dict) or about.keys() != default.keys():
        raise ValueError
    for name, value in about.items():
        fits = isinstance(value, str) if isinstance(default[name], str) else _is_count(value, name != "points")
        if not fits:
            raise ValueError
    return Record(**about)


def _is_count(value: object, whole: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        return False
    return math.isfinite(value) and value >= 0
