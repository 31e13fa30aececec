"""Where a gradient is wrong: the entries behind a slope that is, found by halving the array again and again."""

from __future__ import annotations

import numpy as np

from npformer.component import Array
from npformer.gradcheck.cases import signed
from npformer.gradcheck.judge import SHOWN
from npformer.gradcheck.objective import length
from npformer.gradcheck.truth import Truth
from npformer.gradcheck.verdict import WrongEntry

TRIES = 2  # random directions for each half: two errors hardly ever cancel in both


def locate(name: str, gradient: Array, truth: Truth, allowed: float, seed: int) -> tuple[WrongEntry, ...]:
    """Return some entries that are off by more than allowed, the farthest off first.

    Each half of the entries is tested along random directions that are zero elsewhere; a half without an error is left
    alone. So a single wrong entry among n costs some 4 log₂ n slopes.
    """
    random = np.random.default_rng(seed)
    found: list[tuple[float, WrongEntry]] = []
    pending = [(0, gradient.size)]
    while pending and len(found) < SHOWN:
        start, stop = pending.pop()
        if stop - start == 1:
            index = tuple(int(axis) for axis in np.unravel_index(start, gradient.shape))
            direction = np.zeros(gradient.shape)
            direction[index] = 1
            ours = float(gradient[index])
            slope = truth.along(name, direction, ours, allowed)
            if slope.error(ours) > allowed + slope.doubt:
                found.append((slope.error(ours), WrongEntry(index, ours, slope.nearest(ours))))
        elif any(_is_wrong(name, gradient, truth, allowed, start, stop, random) for _ in range(TRIES)):
            middle = (start + stop) // 2
            pending += [(middle, stop), (start, middle)]
    return tuple(entry for _, entry in sorted(found, key=lambda pair: -pair[0]))


def _is_wrong(
    name: str, gradient: Array, truth: Truth, allowed: float, start: int, stop: int, random: np.random.Generator
) -> bool:
    direction = np.zeros(gradient.shape)
    direction.flat[start:stop] = signed(random, (stop - start,), 1, 2)
    direction /= length(direction)
    ours = float((gradient * direction).sum())
    slope = truth.along(name, direction, ours, allowed)
    return bool(slope.error(ours) > allowed + slope.doubt)
