"""The pytest fixtures of npformer, in a module outside the package: pytest loads it at every start, without NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from npformer.exercises.grade import Grade
    from npformer.exercises.task import Task
    from npformer.gradcheck import Report


@pytest.fixture(scope="session")
def gradcheck() -> Callable[..., Report]:
    """Return npformer.gradcheck.assert_gradient: it fails the test unless every gradient is a PASS."""
    from npformer.gradcheck import assert_gradient

    return assert_gradient


@pytest.fixture
def exercise(request: pytest.FixtureRequest) -> Callable[..., Grade]:
    """Return npformer.exercises.assert_solved, for which a file beside the test can be named without its folder."""
    from npformer.exercises.assertion import assert_solved

    def solved(
        learner: type | Callable[..., Any] | str | Path,
        task: str | Task | None = None,
        *,
        seed: int = 0,
        seconds: float = 30.0,
        megabytes: int = 2048,
    ) -> Grade:
        __tracebackhide__ = True
        if isinstance(learner, str | Path) and (request.path.parent / learner).exists():
            learner = request.path.parent / learner
        return assert_solved(learner, task, seed=seed, seconds=seconds, megabytes=megabytes)

    return solved
