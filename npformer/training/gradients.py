"""What training asks of arrays: float32 or float64, and finite."""

from __future__ import annotations

import math

import numpy as np

from npformer.component import Array, Tree, flatten
from npformer.shapes import check_floats, check_tree


class NotFiniteError(ValueError):
    """Numbers have left the finite ones: training has diverged, and nothing else is wrong with its arguments."""


def named_gradients(grads: Tree) -> tuple[dict[str, Array], dict[str, float]]:
    """Return the gradients under dotted names, and the largest absolute entry of each.

    TypeError or ValueError names one that is no array of finite numbers.
    """
    check_tree("grads", grads)
    named = {name: np.asarray(grad) if isinstance(grad, np.floating) else grad for name, grad in flatten(grads).items()}
    return named, {name: check_finite(f"grads.{name}", grad) for name, grad in named.items()}


def check_finite(name: str, array: Array) -> float:
    """Return the largest absolute entry of a real array, after checking that none is infinite or NaN."""
    check_real(name, array)
    largest = max(float(array.max()), -float(array.min()))  # NaN if one is; abs would make a copy
    if not math.isfinite(largest):
        first = array[~np.isfinite(array)].ravel()[0]
        raise NotFiniteError(f"{name} must be finite, but {first} is among its entries")
    return largest


def check_real(name: str, array: Array) -> None:
    """Check for a NumPy array of float32 or float64: complex numbers are for derivatives, not for training."""
    check_floats(name, array, "...")
    if array.dtype.kind == "c":
        raise TypeError(f"{name} must be float32 or float64, but its dtype is {array.dtype}")
