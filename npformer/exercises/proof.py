"""The proof that a teacher's task is right: an error in it would be told to every learner as one of theirs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np

from npformer.component import Array, Component
from npformer.exercises.learner import LearnerError, telling
from npformer.exercises.quoting import message_of, name_of
from npformer.exercises.suspects import Suspect, learner, suspects
from npformer.exercises.task import TINY, BackwardTask, ForwardTask, Task
from npformer.exercises.trial import BackwardTrial, Trial, trials
from npformer.gradcheck import SITUATIONS, Case, check_gradients
from npformer.gradcheck.subject import silence
from npformer.gradcheck.verdict import PASS
from npformer.shapes import describe

MANY, DIRECTIONS = 100, 3  # above so many entries, slopes along directions: every command waits for this
ROUNDING = 1e-10  # of the largest number of a sum: formulas that are written differently differ by roundings


def prove(task: Task, file: Path, seed: int = 0) -> None:
    """Raise a ValueError of one sentence if a task that was written in a file is not right.

    Its solution must do what its component does and have right gradients in every situation, its terms must add up to
    them, and its mistakes must run, be explained, and show.

    Examples
    --------
    >>> from npformer.exercises.tasks import TASKS
    >>> prove(TASKS["softmax"], Path("softmax.py"))
    """
    label = f"TASK of {file.name}"
    _check_parts(task, label)
    tried = _tried(task, file, label, seed)
    for trial in tried:
        where = f"in the situation {trial.situation!r}"
        with _errors_of("component" if isinstance(trial, BackwardTrial) else "solution or look", label, file, where):
            truth = trial.truth
        wrong = [name for name, array in truth.items() if not np.isfinite(array).all()]
        if wrong or not truth:
            what = f"has NaN or infinities in {wrong[0]}" if wrong else "gives no array"
            raise ValueError(f"{label} must have finite right answers, but its solution {what} {where}")
        if isinstance(trial, BackwardTrial) and isinstance(task, BackwardTask):
            _prove_solution(task, trial, label, file, where)
            _prove_terms(trial, label, file, where)
    if isinstance(task, BackwardTask | ForwardTask):
        for suspect, function in zip(suspects(task), task.wrong, strict=False):  # its own come first
            _prove_mistake(suspect, function, tried, label, file)


def _check_parts(task: Task, label: str) -> None:
    if not isinstance(task, BackwardTask | ForwardTask):
        raise TypeError(f"{label} must be a BackwardTask or a ForwardTask, but it is {describe(task)}")
    for kind, what in (
        (("component", task.component), ("solution", task.solution)) if isinstance(task, BackwardTask) else ()
    ):
        if not isinstance(what, type) or not issubclass(what, Component):
            raise TypeError(
                f"{kind} of the {label} must be a class that derives from Component, but it is {describe(what)}"
            )
    if not isinstance(task.wrong, tuple) or not all(isinstance(wrong, FunctionType) for wrong in task.wrong):
        raise TypeError(f"wrong of the {label} must be a tuple of functions, but it is {describe(task.wrong)}")


def _tried(task: Task, file: Path, label: str, seed: int) -> list[Trial]:
    """Return all trials of a task; what has the form of none is refused."""
    if isinstance(task, BackwardTask):
        tried: list[Trial] = []
        for sizes in (SITUATIONS, TINY):
            with _errors_of("make", label, file):
                cases = list(task.cases(seed, sizes))
            for _, case in cases:
                if not isinstance(case, Case) or not isinstance(case.component, task.component):
                    came = describe(case.component) if isinstance(case, Case) else describe(case)
                    name = task.component.__name__
                    raise ValueError(f"make of the {label} must return a Case of a {name}, but it is {came}")
            with _errors_of("component", label, file):
                tried += trials(task, seed, sizes)
        return tried
    with _errors_of("calls", label, file):
        tried = list(trials(task, seed))
    if not tried:
        raise ValueError(f"calls of the {label} must yield at least one call, but there is none")
    return tried


def _prove_solution(task: BackwardTask, trial: BackwardTrial, label: str, file: Path, where: str) -> None:
    case = trial.case
    with _errors_of("solution", label, file, where), silence():
        solution = learner(task, task.solution)(case.component)
        output, _ = solution.forward(*case.inputs, **copy.deepcopy(case.options))
        gradients = trial.arrays_of(learner(task, task.solution))
        entries = sum(array.size for array in trial.truth.values())
        directions = None if entries <= MANY else DIRECTIONS
        report = check_gradients(
            solution,
            *case.inputs,
            seed=0,
            directions=directions,
            **copy.deepcopy(case.options),
        )
    kind = task.component.__name__
    if _differ({"output": np.asarray(output)}, {"output": trial.output}):
        raise ValueError(f"solution of the {label} must have the output of {kind}, but it has another {where}")
    for array in report.checks:
        if array.verdict != PASS:
            raise ValueError(
                f"solution of the {label} must be right, but its gradient of {array.name} is {array.verdict} {where}"
            )
    if name := _differ(gradients, trial.truth):
        raise ValueError(f"component of the {label} must be right, but its gradient of {name} is not {where}")


def _prove_terms(trial: BackwardTrial, label: str, file: Path, where: str) -> None:
    with _errors_of("terms", label, file, where), silence():
        sums = {
            name: sum((term.coefficient * np.asarray(term.values) for term in terms), np.zeros(()))
            for name, terms in trial.terms.items()
        }
        sizes = {
            name: max((float(np.abs(term.coefficient * term.values).max(initial=0)) for term in terms), default=0.0)
            for name, terms in trial.terms.items()
        }
    for name, total in sums.items():
        if name not in trial.truth:
            known = ", ".join(trial.truth)
            raise ValueError(f"terms of the {label} must be those of gradients ({known}), but there is {name!r:.60}")
        if _differ({name: total}, {name: trial.truth[name]}, sizes[name]):
            raise ValueError(
                f"terms of the {label} must add up to the gradient of {name}, but they make something else {where}"
            )


def _prove_mistake(suspect: Suspect, function: Callable[..., Any], tried: list[Trial], label: str, file: Path) -> None:
    name = function.__name__
    explanation = str(function.__doc__ or "").strip()
    if not explanation or "\n" in explanation:
        came = "has several" if explanation else "has none"
        raise ValueError(f"wrong of the {label} must have docstrings of one line, but {name} {came}")
    error: Exception | None = None
    ran = False
    for trial in tried:
        try:
            with telling({str(file)}):
                if _differ(trial.arrays_of(suspect.implementation), trial.truth):
                    return
                ran = True
                if trial.observe(suspect.implementation).conduct:
                    return
        except Exception as each:  # one situation in which a mistake shows is enough
            error = each
    if error is not None and not ran:
        raise ValueError(f"wrong of the {label} must run, but {name} raises an error: {_put(error)}")
    raise ValueError(
        f"wrong of the {label} must give wrong results, but {name} gives the right ones in every situation"
    )


def _differ(arrays: dict[str, Array | None] | dict[str, Array], right: dict[str, Array], size: float = 0.0) -> str:
    """Return the name of an array that differs from the right one by more than roundings, or ""."""
    for name in [*right, *(name for name in arrays if name not in right)]:
        array, expected = arrays.get(name), right.get(name)
        if array is None or expected is None or array.shape != expected.shape:
            return name
        largest = max(size, float(np.abs(expected).max(initial=0)))
        if not np.abs(array - expected).max(initial=0) <= ROUNDING * largest:
            return name
    return ""


@contextmanager
def _errors_of(part: str, label: str, file: Path, where: str = "") -> Iterator[None]:
    """Say of which part of a task an error is."""
    try:
        with telling({str(file)}):
            yield
    except Exception as error:  # a teacher's code may raise anything
        raise ValueError(
            f"{part} of the {label} must run, but it raises an error{f' {where}' if where else ''}: {_put(error)}"
        ) from None


def _put(error: Exception) -> str:
    """Return an error in one line."""
    return str(error).splitlines()[0] if isinstance(error, LearnerError) else f"{name_of(error)}: {message_of(error)}"
