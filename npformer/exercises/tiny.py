"""A case that is small enough to be read, on which a wrong array shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from npformer.component import Array, flatten
from npformer.exercises.grade import SideBySide
from npformer.exercises.suspects import learner
from npformer.exercises.task import TINY, BackwardTask, Task
from npformer.exercises.trial import BackwardTrial, Trial, trials
from npformer.exercises.wrong_array import same_error
from npformer.gradcheck.cases import signed

ROWS, COLUMNS = 4, 8  # what is given is shown up to this size
FEW = 2  # parameters
ENTRIES = 64  # a larger array is not tiny
SEEDS = range(3)


def side_by_side(task: Task, written: Any, wrong: list[str]) -> SideBySide | None:
    """Return the first of the wrong arrays that is wrong in a tiny case too, beside the right one."""
    for trial in tiny_trials(task):
        try:
            arrays = trial.arrays_of(learner(task, written))
        except Exception:  # it cannot be shown here; where it raises an error is told elsewhere
            continue
        for name in [*wrong, *trial.truth]:
            yours, true = arrays.get(name), trial.truth.get(name)
            if yours is None or true is None or not true.ndim or max(yours.size, true.size) > ENTRIES:
                continue
            if not same_error(yours, true, true, trial.scale):
                given = tuple((each, rows) for each, array in _given(trial).items() if (rows := _given_rows(array)))
                return SideBySide(trial.label(name), given, _rows(yours), _rows(true), true.shape)
    return None


def tiny_trials(task: Task) -> Iterator[Trial]:
    """Yield trials with numbers of one decimal, with which a learner can compute along."""
    if not isinstance(task, BackwardTask):
        yield from trials(task, 0)
        return
    for seed in SEEDS:
        for situation, case in task.cases(seed, TINY):
            rng = np.random.default_rng(seed)
            for array in flatten(case.component.parameters()).values():
                array[...] = array.round(1)
            for array in case.inputs:
                if array.dtype.kind == "f":
                    array[...] = signed(rng, array.shape, 0.2, 2.0).round(1)
            trial = BackwardTrial(task, situation, TINY[situation], case, rng)
            trial.grad_output = trial.grad_output.round(1)
            yield trial


def _given(trial: Trial) -> dict[str, Array]:
    """Return what a learner needs to compute along: the inputs, the parameters if they are few, and the cotangent."""
    parameters = flatten(trial.case.component.parameters()) if isinstance(trial, BackwardTrial) else {}
    return (parameters if len(parameters) <= FEW else {}) | trial.given


def _rows(array: Array) -> tuple[tuple[float, ...], ...]:
    matrix = np.asarray(array, np.float64).reshape(-1, array.shape[-1] if array.ndim else 1)
    return tuple(tuple(float(entry) for entry in row) for row in matrix)


def _given_rows(array: Array) -> tuple[tuple[float, ...], ...]:
    rows = _rows(array) if array.size and array.dtype.kind in "fiub" else ()
    return rows if len(rows) <= ROWS and all(len(row) <= COLUMNS for row in rows) else ()
