"""Series of numbers, one for each step or layer: their check, and running means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npformer.component import Array
from npformer.shapes import describe


def check_series(name: str, values: object) -> Array:
    """Return a list of finite numbers as a float64 array (n,)."""
    if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray):
        raise TypeError(f"{name} must be a list of numbers, but it is {describe(values)}")
    try:
        column = np.asarray(values)
    except ValueError:  # lists of different lengths within it
        raise TypeError(f"{name} must be a list of numbers, but some of its entries are lists") from None
    if column.size == 0:
        raise ValueError(f"{name} must have at least one entry, but it is empty")
    if column.dtype.kind not in "iuf":
        raise TypeError(f"{name} must be a list of numbers, but its dtype is {column.dtype}")
    if column.ndim != 1:
        raise ValueError(f"{name} must be a list of numbers, but its shape is {column.shape}")
    for step in np.flatnonzero(~np.isfinite(column)):
        raise ValueError(f"{name} must be finite, but entry {step} is {column[step]}")
    return column.astype(np.float64)


def window_of(steps: int) -> int:
    """Return how many steps a running mean is over: about one in fifty, and an odd number."""
    return 2 * (steps // 100) + 1


def running_mean(column: Array) -> Array:
    """Return the mean of each entry and its neighbours to both sides, of which there are fewer at the ends."""
    window = np.ones(window_of(len(column)))
    means: Array = np.convolve(column, window, "same") / np.convolve(np.ones(len(column)), window, "same")
    return means
