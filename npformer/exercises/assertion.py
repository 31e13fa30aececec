"""The form of a check that test suites use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from npformer.exercises.check import check
from npformer.exercises.grade import Grade
from npformer.exercises.task import Task


def assert_solved(
    learner: type | Callable[..., Any] | str | Path,
    task: str | Task | None = None,
    *,
    seed: int = 0,
    seconds: float = 30.0,
    megabytes: int = 2048,
) -> Grade:
    """Raise AssertionError unless an exercise is solved; for test suites.

    Parameters, what is returned and what else is raised are those of check.

    Raises
    ------
    AssertionError
        It holds what a learner reads: a small case, what was found, and where it is wrong.

    Examples
    --------
    >>> from npformer.exercises.tasks import TASKS
    >>> assert_solved(TASKS["layer_norm"].solution, "layer_norm").status
    'solved'
    """
    __tracebackhide__ = True  # pytest shows the line of the test, not this one
    grade = check(learner, task, seed=seed, seconds=seconds, megabytes=megabytes)
    if not grade.passed:
        raise AssertionError(f"the exercise is not solved\n{grade}")
    return grade
