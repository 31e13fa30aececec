"""What a learner's code returned, which may be anything, as numbers that can be compared."""

from __future__ import annotations

from typing import Any

import numpy as np

from npformer.component import Array

SAME = 1e-9  # of the largest entry: runs of one backward differ by roundings, if their sums are in another order


def as_real(array: Any) -> Array | None:
    """Return an array of real numbers, or one number, as an array of floats; None for what is neither."""
    is_real = isinstance(array, np.ndarray | np.generic | bool | int | float) and np.asarray(array).dtype.kind in "biuf"
    return np.array(array, np.float64) if is_real else None


def same_arrays(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two backwards returned the same gradients, but for rounding."""
    pairs = [(_numbers(array), _numbers(other[name])) for name, array in one.items() if name in other]
    return one.keys() == other.keys() and all(
        left.shape == right.shape
        and bool(np.allclose(left, right, SAME, SAME * np.abs(right).max(initial=0), equal_nan=True))
        for left, right in pairs
    )


def times(factor: float, gradients: dict[str, Any]) -> dict[str, Any]:
    """Return multiples of gradients."""
    return {name: factor * _numbers(array) for name, array in gradients.items()}


def minus(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return the differences of the gradients that both have in one shape."""
    pairs = {name: (_numbers(array), _numbers(other[name])) for name, array in one.items() if name in other}
    return {name: left - right for name, (left, right) in pairs.items() if left.shape == right.shape}


def _numbers(array: Any) -> Array:
    numbers = as_real(array)
    return np.full((), np.nan) if numbers is None else numbers
