"""A case that is small enough to be read, on which a wrong array shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from npformer.component import Array, flatten
from npformer.exercises.grade import SideBySide
from npformer.exercises.task import TINY, BackwardTask, Task
from npformer.exercises.trial import BackwardTrial, Trial, learner, trials
from npformer.exercises.wrong_array import same_error

ROWS, COLUMNS = 4, 8  # what is given is shown up to this size
ENTRIES = 64  # a larger array is not tiny
SEEDS = range(3)


def side_by_side(task: Task, written: Any, wrong: list[str]) -> SideBySide | None:
    """Return the first of the wrong arrays that is wrong in a tiny case too, beside the right one."""
    for trial in _tiny_trials(task):
        arrays = trial.arrays_of(learner(task, written))
        for name in [*wrong, *trial.truth]:
            yours, true = arrays.get(name), trial.truth.get(name)
            if yours is None or true is None or max(yours.size, true.size) > ENTRIES:
                continue
            if not same_error(yours, true, true, trial.scale):
                given = tuple((each, rows) for each, array in trial.given.items() if (rows := _given_rows(array)))
                return SideBySide(trial.label(name), given, _rows(yours), _rows(true), true.shape)
    return None


def _tiny_trials(task: Task) -> Iterator[Trial]:
    if not isinstance(task, BackwardTask):
        yield from trials(task, 0)
        return
    for seed in SEEDS:
        for situation, case in task.cases(seed, TINY):
            arrays = [*case.inputs, *flatten(case.component.parameters()).values()]
            for array in arrays:
                if array.dtype.kind == "f":
                    array[...] = _short(array)
            rng = np.random.default_rng(seed)
            trial = BackwardTrial(task, situation, TINY[situation], case, rng)
            trial.grad_output = _short(trial.grad_output)
            yield trial


def _short(array: Array) -> Array:
    """Round to two digits, so that a learner can compute along."""
    size = 10.0 ** (1 - np.floor(np.log10(np.abs(array) + (array == 0))))
    short: Array = np.round(array * size) / size
    return short


def _rows(array: Array) -> tuple[tuple[float, ...], ...]:
    matrix = np.asarray(array, np.float64).reshape(-1, array.shape[-1] if array.ndim else 1)
    return tuple(tuple(float(entry) for entry in row) for row in matrix)


def _given_rows(array: Array) -> tuple[tuple[float, ...], ...]:
    rows = _rows(array) if array.size and array.dtype.kind in "fiub" else ()
    return rows if len(rows) <= ROWS and all(len(row) <= COLUMNS for row in rows) else ()
