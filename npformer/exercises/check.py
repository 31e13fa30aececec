"""The grader: a learner's code is run apart, judged, and what is wrong with it is found out."""

from __future__ import annotations

import difflib
import inspect
import os
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from npformer.component import Component
from npformer.exercises.apart import Outcome, run_apart
from npformer.exercises.diagnose import Lineup
from npformer.exercises.grade import BLANK, ERROR, SOLVED, WRONG, ArrayGrade, Grade
from npformer.exercises.judge import changed_forward, judge, misformed_backward
from npformer.exercises.learner import LearnerError, files_of, load_file, telling
from npformer.exercises.quoting import place_of
from npformer.exercises.suspects import learner
from npformer.exercises.task import BackwardTask, Task
from npformer.exercises.tasks import TASKS
from npformer.exercises.tiny import side_by_side, tiny_trials
from npformer.exercises.trial import BackwardTrial, Observation, Trial, trials
from npformer.exercises.whereabouts import whereabouts
from npformer.exercises.wrong_array import wrong_arrays
from npformer.gradcheck.verdict import FAIL, PASS
from npformer.shapes import check_count, describe

MOST_LINES = 8  # of whereabouts
MOST_MEGABYTES = 2**30
RAISED = "it raised "


def check(
    written: Any,
    task: str | Task | None = None,
    *,
    seed: int = 0,
    seconds: float = 30.0,
    megabytes: int = 2048,
) -> Grade:
    """Judge what a learner wrote for an exercise, and say which mistake it is if it is wrong.

    Right is what npformer.gradcheck proves right, in situations where mistakes show that ordinary sizes hide. A wrong
    gradient is then compared with those of the known mistakes, with the terms of its derivation, and with what slips of
    sign, factor and layout would make of the right one.

    The code runs in a process of its own, with these limits. They are for mistakes, and no defence against malice.

    Parameters
    ----------
    written : type, function, str or Path
        The class or function, or the file that it is in.
    task : str or Task, optional
        The exercise; found by the name of the file, class or function if not given.
    seed : int
        For the cases that it is tried on.
    seconds, megabytes : float, int
        The time that all of it may take, and the memory.

    Returns
    -------
    Grade
        Printed, it is a report; ``passed``, ``points`` and ``findings`` are for programs.

    Raises
    ------
    TypeError, ValueError
        If there is no such exercise or file. Whatever is wrong with the learner's code itself is in the Grade.

    Examples
    --------
    >>> import numpy as np
    >>> from npformer import Component
    >>> class MyLayerNorm(Component):
    ...     parameter_names = ("weight", "bias")
    ...     def forward(self, x):
    ...         centred = x - x.mean(-1, keepdims=True)
    ...         rstd = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + self.eps)
    ...         x_hat = centred * rstd
    ...         return self.weight * x_hat + self.bias, {"x_hat": x_hat, "rstd": rstd}
    ...     def backward(self, grad_output, cache):
    ...         x_hat, rows = cache["x_hat"], tuple(range(grad_output.ndim - 1))
    ...         g = grad_output * self.weight
    ...         grad_x = cache["rstd"] * (g - x_hat * (g * x_hat).mean(-1, keepdims=True))
    ...         return grad_x, {"weight": (grad_output * x_hat).sum(rows), "bias": grad_output.sum(rows)}
    >>> grade = check(MyLayerNorm)
    >>> grade.passed, grade.points, grade.right, grade.findings[0].name
    (False, 4.0, ('weight', 'bias'), 'LayerNorm.mean_term_missing')
    """
    check_count("seed", seed, least=0)
    if check_count("megabytes", megabytes) > MOST_MEGABYTES:
        raise ValueError(f"megabytes must be at most {MOST_MEGABYTES:,}, but it is {megabytes}")
    chosen = find_task(written, task)
    path = Path(written) if isinstance(written, str | Path) else None
    if path is not None and not path.is_file():
        raise ValueError(f"written must be a Python file, but {path} is {'a folder' if path.is_dir() else 'not there'}")
    files = {str(path)} if path else files_of(written)
    outcome = run_apart(lambda: _grade(chosen, path or written, files, seed), seconds, megabytes)
    grade = outcome.result or _ended(chosen, outcome, files)
    return replace(grade, printed=outcome.printed, title=chosen.title, out_of=chosen.points)


def find_task(written: Any, task: str | Task | None = None) -> Task:
    """Return the exercise of this name, or that which a file, class or function is called after.

    Raises
    ------
    TypeError, ValueError
        If there is none, or more than one.

    Examples
    --------
    >>> find_task("work/layer_norm.py").name
    'layer_norm'
    """
    if isinstance(task, Task):
        return task
    if task is not None and not isinstance(task, str):
        raise TypeError(f"task must be the name of an exercise or a Task, but it is {describe(task)}")
    if not isinstance(written, str | Path) and not inspect.isclass(written) and not inspect.isfunction(written):
        raise TypeError(f"written must be a class, a function or a file, but it is {describe(written)}")
    name = task or (Path(written).stem if isinstance(written, str | Path) else written.__name__)
    if name in TASKS:
        return TASKS[name]
    classes = [each for each in TASKS.values() if each.solution.__name__ == name.removeprefix("My")]
    if len(classes) == 1:
        return classes[0]
    if classes:
        names = " or ".join(each.name for each in classes)
        raise ValueError(f"task must be given where there are several for a {name}: {names}")
    near = difflib.get_close_matches(name, TASKS, 3, 0.4) or list(TASKS)
    raise ValueError(f"task must be the name of an exercise, but {name} is none; there are {', '.join(near)}")


def _grade(task: Task, written: Any, files: set[str], seed: int) -> Grade:
    """Grade in this process; whatever the learner's code does wrong becomes a Grade."""
    try:
        with telling(files):
            thing = _load(task, written) if isinstance(written, Path) else written
            _check_kind(task, thing)
            with suppress(Exception):  # what goes wrong is told of the cases below
                next(tiny_trials(task)).arrays_of(learner(task, thing))  # what it prints here is shown
            with Path(os.devnull).open("w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
                return _judged(task, thing, files, seed)
    except LearnerError as error:
        if error.is_blank and error.frame is not None:
            message = f"Nothing is written yet: fill in `{task.blank}` at {place_of(error.frame)}."
            return Grade(task.name, "", BLANK, message)
        return Grade(task.name, "", ERROR, str(error))
    except (TypeError, ValueError, AttributeError) as error:  # what it returned has not the form of an answer
        return Grade(task.name, "", ERROR, f"{error}.")


def _load(task: Task, path: Path) -> Any:
    module = load_file(path)
    name = task.solution.__name__
    if name not in vars(module):
        raise ValueError(f"{path.name} must have a {name}, but there is none in it")
    return vars(module)[name]


def _check_kind(task: Task, thing: Any) -> None:
    name = task.solution.__name__
    if isinstance(task, BackwardTask):
        if not (isinstance(thing, type) and issubclass(thing, Component)):
            raise TypeError(f"{name} must be a class that derives from npformer.Component, but it is {describe(thing)}")
    elif isinstance(thing, type) or not callable(thing):
        raise TypeError(f"{name} must be a function, but it is {describe(thing)}")


def _judged(task: Task, thing: Any, files: set[str], seed: int) -> Grade:
    observed: list[tuple[Trial, Observation]] = []
    errors: list[tuple[Trial, LearnerError]] = []
    for trial in trials(task, seed):
        try:
            with telling(files):
                if isinstance(trial, BackwardTrial) and (flaw := changed_forward(trial, thing)):
                    return Grade(task.name, "", ERROR, f"{flaw} ({trial.situation}).")
                if isinstance(trial, BackwardTrial) and (flaw := misformed_backward(trial, thing)):
                    return Grade(task.name, "", ERROR, f"{flaw}.")
                observed.append((trial, trial.observe(learner(task, thing))))
        except LearnerError as error:
            errors.append((trial, error))
    if errors and not observed:
        raise errors[0][1]
    lineup = Lineup(task, [trial for trial, _ in observed])
    arrays = judge(lineup.trials, thing, seed)
    if errors:
        failed = f"an error is raised ({errors[0][0].situation})"
        if isinstance(task, BackwardTask):  # a gradient is right if it is right in every case
            arrays = tuple(ArrayGrade(array.name, FAIL, array.reason or failed) for array in arrays)
        else:
            arrays += tuple(ArrayGrade(trial.situation, FAIL, failed) for trial, _ in errors)
    names = {name for trial in lineup.trials for name in trial.truth}
    asked = [array for array in arrays if array.name in names] or arrays  # of a function, its calls
    right, total = sum(array.verdict == PASS for array in asked), len(asked)
    is_solved = all(array.verdict == PASS for array in arrays)
    points = round(task.points * right / total, 2) if task.partial_credit or is_solved else 0.0
    if is_solved:
        return Grade(task.name, "", SOLVED, "Everything is right.", arrays, points)
    noun = "gradient" if isinstance(task, BackwardTask) else "call"
    message = f"{right} of {total} {noun} is right." if total == 1 else f"{right} of {total} {noun}s are right."
    message += "".join(
        f" Not right: {array.name}: {array.reason}." for array in arrays if array not in asked and array.verdict != PASS
    )
    if errors:
        cases = ", ".join(trial.situation for trial, _ in errors)
        message += (
            f" An error is raised in {len(errors)} of {len(errors) + len(observed)} cases ({cases}):\n{errors[0][1]}"
        )
    seen = [observation for _, observation in observed]
    findings = lineup.diagnose(seen)
    wrong = wrong_arrays(lineup.trials, seen)
    explained = {name for finding in findings for name in finding.arrays}
    lines = [line for array in wrong if array.name not in explained for line in whereabouts(array)]
    tiny = side_by_side(task, thing, [array.name for array in wrong])
    return Grade(task.name, "", WRONG, message, arrays, points, 0, tiny, findings, tuple(lines[:MOST_LINES]))


def _ended(task: Task, outcome: Outcome[Grade], files: set[str]) -> Grade:
    """Return the grade of code that did not come to its end."""
    own = [frame for frame in outcome.stack if frame.file in files]
    where = f"\nIt was in {own[-1].function}, at {place_of(own[-1])}." if own else ""
    if outcome.ended.startswith(RAISED):  # what the learner's code raises is a grade of its own
        return Grade(task.name, "", ERROR, f"The exercise failed, and not your code: {outcome.ended}.")
    return Grade(task.name, "", ERROR, f"Your code did not come to its end: {outcome.ended}.{where}")
