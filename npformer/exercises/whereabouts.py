"""Where the wrong entries of an array are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from npformer.component import Array
from npformer.exercises.trial import Trial
from npformer.exercises.wrong_array import ROUNDING, Compared, WrongArray

AXES = {1: ("row",), 2: ("row", "column"), 3: ("item of the batch", "row", "column")}
VISIBLE = 1e-9  # of the largest right entry


def whereabouts(wrong: WrongArray) -> list[str]:
    """Return what can be said of where an array is wrong, one sentence each."""
    if not wrong.compared:
        return list(_of_shapes(wrong))
    telling = [(each.trial, _wrong_entries(each)) for each in wrong.compared]
    lines = []
    if len(telling) < len(wrong.trials):
        cases = "; ".join(trial.situation for trial, _ in telling)
        lines.append(f"Your {wrong.label} is wrong in {len(telling)} of {len(wrong.trials)} cases: {cases}.")
    wrong_count = sum(int(entries.sum()) for _, entries in telling)
    all_entries = sum(entries.size for _, entries in telling)
    every = "every entry" if wrong_count == all_entries else f"{wrong_count:,} of {all_entries:,} entries"
    lines.append(f"Your {wrong.label}: {every} {'is' if wrong_count in (1, all_entries) else 'are'} wrong.")
    regions = [_regions(trial, wrong.name, entries) for trial, entries in telling]
    for name in regions[0]:
        pairs = [(entries, each[name]) for (_, entries), each in zip(telling, regions, strict=True) if name in each]
        if all(np.array_equal(entries, region) for entries, region in pairs):
            lines.append(f"Your {wrong.label} is wrong exactly in {name}.")
        elif all(bool((entries <= region).all()) for entries, region in pairs):
            lines.append(f"Your {wrong.label} is wrong in {name} alone.")
        elif all(not (entries & region).any() for entries, region in pairs) and any(
            region.any() for _, region in pairs
        ):
            lines.append(f"Your {wrong.label} is right in {name}.")
    return lines


def _wrong_entries(compared: Compared) -> Array:
    error = np.abs(compared.error)
    wrong: Array = error > VISIBLE * compared.trial.scale
    return wrong if wrong.any() else error > ROUNDING * compared.trial.scale


def _regions(trial: Trial, name: str, entries: Array) -> Mapping[str, Array]:
    """Return kinds of entries that a mistake may live in: those of the task, then those along each axis."""
    regions = {
        region: np.asarray(mask, bool)
        for region, mask in trial.regions.get(name, {}).items()
        if np.shape(mask) == entries.shape
    }
    return regions | dict(_along_axes(entries))


def _along_axes(entries: Array) -> Iterator[tuple[str, Array]]:
    axes = AXES.get(entries.ndim, tuple(f"index of axis {axis}" for axis in range(entries.ndim)))
    for axis, what in enumerate(axes):
        size = entries.shape[axis]
        if size < 2:
            continue
        along = np.arange(size).reshape([-1 if each == axis else 1 for each in range(entries.ndim)])
        yield f"the first {what}", np.broadcast_to(along == 0, entries.shape)
        yield f"the last {what}", np.broadcast_to(along == size - 1, entries.shape)


def _of_shapes(wrong: WrongArray) -> Iterator[str]:
    for trial, yours in zip(wrong.trials, wrong.yours, strict=True):
        true = trial.truth.get(wrong.name)
        if yours is None or true is None:
            return
        if yours.shape != true.shape:
            yield f"Your {wrong.label} has the shape {yours.shape}, but it must be {true.shape} ({trial.situation})."
            return
        if not np.isfinite(yours).all():
            bad = ~np.isfinite(yours)
            yield f"Your {wrong.label} is not finite in {int(bad.sum()):,} of {bad.size:,} entries ({trial.situation})."
            return
