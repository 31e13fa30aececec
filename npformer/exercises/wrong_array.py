"""A wrong array over all trials: what was returned, what is right, and whether something explains the difference."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from npformer.component import Array
from npformer.exercises.trial import Observation, Trial

DIGITS = 1e-5  # of the error must agree for two errors to be one
ROUNDING = 1e-12  # of the largest right entry: what two right forms of one formula may differ by


def same_error(one: Array | None, other: Array | None, truth: Array, scale: float) -> bool:
    """Whether two arrays are wrong by the same amount everywhere; those of another shape must be equal.

    scale is that of all arrays of the case, since what should be 0 is off by roundings of others.

    Examples
    --------
    >>> same_error(np.array([1.0, 2.1]), np.array([1.0, 2.1 + 1e-8]), np.array([1.0, 2.0]), 2.0)
    True
    >>> same_error(np.array([1.0, 2.1]), np.array([1.0, 2.0]), np.array([1.0, 2.0]), 2.0)
    False
    """
    if one is None or other is None or one.shape != other.shape:
        return one is None and other is None
    right = truth if truth.shape == one.shape else np.zeros(())
    finite = np.isfinite(one)
    if not np.array_equal(finite, np.isfinite(other)):
        return False
    error, other_error = (np.where(finite, array - right, 0) for array in (one, other))
    allowed = DIGITS * np.abs(other_error).max(initial=0) + ROUNDING * scale
    return bool((np.abs(error - other_error) <= allowed).all())


@dataclass(frozen=True)
class Compared:
    """A wrong array in one trial, if it has the form of the right one."""

    trial: Trial
    yours: Array
    true: Array

    def is_like(self, made: Array) -> bool:
        """Whether another array is wrong by the same amount."""
        return same_error(self.yours, made, self.true, self.trial.scale)

    @property
    def error(self) -> Array:
        """What is too much in it."""
        error: Array = self.yours - self.true
        return error


@dataclass(frozen=True)
class WrongArray:
    """What a learner's code returned under one name in each trial."""

    name: str
    trials: Sequence[Trial]
    yours: Sequence[Array | None]

    @property
    def label(self) -> str:
        """What to call it after "your"."""
        return self.trials[0].label(self.name)

    @property
    def truth(self) -> list[Array | None]:
        """The right array of each trial; None where there should be none."""
        return [trial.truth.get(self.name) for trial in self.trials]

    @cached_property
    def compared(self) -> list[Compared]:
        """Yours and true of the trials where they differ; empty if in one of them they differ in shape, or by NaN."""
        found = []
        for trial, yours, true in zip(self.trials, self.yours, self.truth, strict=True):
            if true is None or yours is None or yours.shape != true.shape or not np.isfinite(yours).all():
                return []
            if not same_error(yours, true, true, trial.scale):
                found.append(Compared(trial, yours, true))
        return found

    def is_explained_by(self, made: Iterable[Array | None]) -> bool:
        """Whether arrays, one for each trial, are wrong as those of the learner's code are."""
        for trial, yours, true, array in zip(self.trials, self.yours, self.truth, made, strict=True):
            if array is None or not same_error(yours, array, np.zeros(()) if true is None else true, trial.scale):
                return False
        return True


def wrong_arrays(trials: Sequence[Trial], observed: Sequence[Observation]) -> list[WrongArray]:
    """Return what is wrong in at least one trial: first the arrays that should be there, then those that should not."""
    names = dict.fromkeys(name for trial in trials for name in trial.truth)
    names |= dict.fromkeys(name for observation in observed for name in observation.arrays)
    found = []
    for name in names:
        array = WrongArray(name, trials, [observation.arrays.get(name) for observation in observed])
        uncalled_for = any(
            name in seen.arrays and name not in trial.truth for trial, seen in zip(trials, observed, strict=True)
        )
        if uncalled_for or not array.is_explained_by(array.truth):
            found.append(array)
    return found
