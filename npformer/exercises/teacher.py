"""Tasks that a teacher adds, a file each."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from npformer.exercises.learner import LearnerError, load_file, telling
from npformer.exercises.proof import prove
from npformer.exercises.source import blank_file
from npformer.exercises.task import Task
from npformer.shapes import check_count, describe


def load_task(path: str | os.PathLike[str], taken: Collection[str] | None = None) -> Task:
    """Run a teacher's file, and return the task that it calls TASK.

    Parameters
    ----------
    path : str or path
        A Python file. It is run in this process.
    taken : names, optional
        What other exercises are called; without it, those of npformer.

    Raises
    ------
    TypeError, ValueError
        If the file cannot be run, or has no TASK that an exercise can be made from, or what the TASK says is right is
        not: it is proven before any learner meets it. One sentence.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "empty.py")
    ...     _ = path.write_text("tasks = []")
    ...     load_task(path)
    Traceback (most recent call last):
    ValueError: empty.py must define TASK, a BackwardTask or a ForwardTask, but it does not
    """
    from npformer.exercises.tasks import TASKS

    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a path, but it is {describe(path)}")
    file = Path(path).absolute()  # inspect looks for sources from another folder if that changes
    try:
        with telling({str(file)}):
            module = load_file(file)
    except LearnerError as error:
        raise ValueError(f"{file.name} must be Python that runs, but {str(error).splitlines()[0]}") from None
    if not hasattr(module, "TASK"):
        raise ValueError(f"{file.name} must define TASK, a BackwardTask or a ForwardTask, but it does not")
    task = module.TASK
    if not isinstance(task, Task):
        raise TypeError(f"TASK of {file.name} must be a BackwardTask or a ForwardTask, but it is {describe(task)}")
    _check(task, file.name, TASKS if taken is None else taken)
    prove(task, file)
    return task


def _check(task: Task, file: str, taken: Collection[str]) -> None:
    """Check what the commands rely on."""
    for attribute in ("name", "title", "statement", "derivation"):
        text = getattr(task, attribute)
        if not isinstance(text, str) or not text.strip():
            raise TypeError(f"{attribute} of the TASK of {file} must be a text, but it is {text!r:.40}")
    if not (task.name.isidentifier() and task.name.isascii()):  # the learner's file is called so
        raise ValueError(f"name of the TASK of {file} must be letters, digits and _, but it is {task.name!r:.40}")
    if task.name in taken:
        raise ValueError(f"name of the TASK of {file} must be a new one, but there is an exercise {task.name}")
    if not isinstance(task.hints, tuple) or not all(isinstance(hint, str) for hint in task.hints):
        raise TypeError(f"hints of the TASK of {file} must be a tuple of texts, but it is {describe(task.hints)}")
    check_count(f"points of the TASK of {file}", task.points)
    try:
        compile(blank_file(task), f"{task.name}.py", "exec")
    except (OSError, SyntaxError, TypeError) as error:
        raise ValueError(
            f"solution of the TASK of {file} must be a class or function written in that file, but no file for "
            f"learners can be made from it ({error})"
        ) from None
