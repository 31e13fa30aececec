"""The exercises of a learner in order, with those that a teacher added, and what is reached of them."""

from __future__ import annotations

import difflib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from npformer.exercises.progress import CHANGED, DONE, NOT_STARTED, STARTED, WRONG, Progress
from npformer.exercises.report import WIDTH, points_of
from npformer.exercises.task import Task
from npformer.exercises.tasks import TASKS
from npformer.exercises.teacher import load_task

MARKS = {NOT_STARTED: " ", STARTED: ".", WRONG: "!", DONE: "x", CHANGED: "~"}
ASCII = str.maketrans({"→": "->", "←": "<-", "·": "*", "×": "x", "−": "-", "…": "..."})


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
            self.added[task.name] = f"--task-file {shlex.quote(file)}"
        self.progress = Progress(folder)

    def find(self, name: str) -> Task:
        """Return the exercise of this name."""
        if name in self.tasks:
            return self.tasks[name]
        near = difflib.get_close_matches(name.lower(), self.tasks, cutoff=0.4)
        remedy = f"did you mean {' or '.join(near)}?" if near else "npformer exercise list shows them"
        raise UsageError(f"NAME must be an exercise, but {name!r:.60} is none; {remedy}")

    def called(self, task: Task) -> str:
        """Return what the commands are to be called with for an exercise: its name, and the options that find it."""
        return " ".join([task.name, *self.options_for(task)])

    def options_for(self, task: Task) -> list[str]:
        """Return the options that the commands need to find an exercise and its file."""
        return [*self.options, *([self.added[task.name]] if task.name in self.added else [])]

    def table(self) -> str:
        """Return a numbered table of all exercises, with what is reached."""
        wide = max(map(len, self.tasks))
        states = {name: self.progress.state(name) for name in self.tasks}
        reached = {name: self.progress.points(name) for name in self.tasks}
        room = WIDTH - wide - 10 - len("  10 of 12 points")
        lines = []
        for number, (name, task) in enumerate(self.tasks.items(), start=1):
            title = task.title if len(task.title) <= room else f"{task.title[: room - 3]}..."
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
    """Print lines without the empty ones at the end; what the terminal cannot show is replaced."""
    text = "\n".join(lines).rstrip("\n")
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(ASCII).encode(encoding, "replace").decode(encoding)
    print(text)
