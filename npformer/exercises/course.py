"""The exercises of a learner in order, with those that a teacher added, and what is reached of them."""

from __future__ import annotations

import difflib
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from npformer.exercises.progress import CHANGED, DONE, NOT_STARTED, STARTED, WRONG, Progress
from npformer.exercises.report import LEAST_TITLE, WIDTH, clipped, points_of
from npformer.exercises.spelling import spelled
from npformer.exercises.task import Task
from npformer.exercises.tasks import TASKS
from npformer.exercises.teacher import load_task
from npformer.exercises.workbook import file_of

MARKS = {NOT_STARTED: " ", STARTED: ".", WRONG: "!", DONE: "x", CHANGED: "~"}


class UsageError(ValueError):
    """Bad usage of the command, as one sentence."""


class Course:
    """The exercises by name, in order.

    Parameters
    ----------
    folder : str
        With the learner's files.
    task_files : list of str
        Of tasks that a teacher added.

    Raises
    ------
    UsageError
        If the folder is none, or a file has no task.
    """

    def __init__(self, folder: str, task_files: Sequence[str] = ()):
        if not Path(folder).is_dir():
            raise UsageError(f"--dir must be a folder that exists, but {folder} is none")
        self.folder = folder
        self.options = [] if folder == "." else [f"--dir {shlex.quote(folder)}"]
        self.tasks: dict[str, Task] = dict(TASKS)
        self.added: dict[str, str] = {}
        for file in task_files:
            try:
                task = load_task(file, self.tasks)
            except (TypeError, ValueError) as error:
                raise UsageError(str(error)) from None
            self.tasks[task.name] = task
            self.added[task.name] = file
        self.task_files = [Path(file).resolve() for file in task_files]
        for name in self.tasks:
            path = file_of(name, folder)
            if path.resolve() in self.task_files:
                raise UsageError(f"--task-file must not be a learner's file, but {path} is where {name} is written")
        self.progress = Progress(folder)

    def find(self, name: str) -> Task:
        """Return the exercise of this name."""
        if name in self.tasks:
            return self.tasks[name]
        raise UsageError(f"NAME must be an exercise, but {name!r:.60} is none; {self._remedy(name)}")

    def find_for(self, path: Path) -> Task:
        """Return the exercise that a file is called after."""
        if path.stem in self.tasks:
            return self.tasks[path.stem]
        example = f"{next(iter(self.tasks))}.py"
        raise UsageError(
            f"FILE must be called after its exercise, such as {example}, but {path.name!r:.60} is not; "
            f"{self._remedy(path.stem)}"
        )

    def _remedy(self, name: str) -> str:
        near = difflib.get_close_matches(name.lower(), self.tasks, cutoff=0.4)
        return f"did you mean {' or '.join(near)}?" if near else "npformer exercise list shows them"

    def called(self, task: Task) -> str:
        """Return what the commands are to be called with for an exercise: its name, and the options that find it."""
        return " ".join([task.name, *self.options_for(task)])

    def options_for(self, task: Task) -> list[str]:
        """Return the options that the commands need to find an exercise and its file."""
        added = self.added.get(task.name)
        return [*self.options, *([] if added is None else [f"--task-file {shlex.quote(added)}"])]

    def options_inside(self, task: Task) -> str:
        """Return the options that the commands need where they are called in the learner's folder."""
        if task.name not in self.added:
            return ""
        file = self.added[task.name]
        with suppress(ValueError):  # it is on another drive
            file = file if Path(file).is_absolute() else os.path.relpath(file, self.folder)
        return f"--task-file {shlex.quote(file)}"

    def table(self) -> str:
        """Return a numbered table of all exercises, with what is reached."""
        wide = max(map(len, self.tasks))
        states = {name: self.progress.state(name) for name in self.tasks}
        reached = {name: self.progress.points(name) for name in self.tasks}
        room = WIDTH - wide - 10 - len("  10 of 12 points")
        lines = []
        for number, (name, task) in enumerate(self.tasks.items(), start=1):
            title = clipped(task.title, max(room, LEAST_TITLE))
            points = points_of(reached[name], task.points)
            lines.append(f"{number:>3} [{MARKS[states[name]]}] {name:<{wide}}  {title:<{room}}  {points}")
        total = points_of(sum(reached.values()), sum(task.points for task in self.tasks.values()))
        solved = sum(state == DONE for state in states.values())
        legend = [f"[{MARKS[state]}] {state}" for state in MARKS if state in states.values() and state != NOT_STARTED]
        summary = f"{solved} of {len(self.tasks)} solved, {total}"
        return "\n".join([*lines, "", "   ".join([summary, *legend])])

    def next_step(self, after: str | None = None) -> str:
        """Return which command comes next, in one line: that of the next exercise which is not solved."""
        names = list(self.tasks)
        turn = 0 if after is None else names.index(after) + 1
        for name in names[turn:] + names[:turn]:
            state = self.progress.state(name)
            if state != DONE:
                action = "start" if state == NOT_STARTED else "check"
                return f"Next: npformer exercise {action} {self.called(self.tasks[name])}"
        return "All exercises are solved."


def say(*lines: str) -> None:
    """Print lines without the empty ones at the end; what the terminal cannot show is spelled otherwise."""
    text = "\n".join(lines).rstrip("\n")
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(spelled(text, encoding))
