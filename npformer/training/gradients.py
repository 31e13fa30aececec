"""What training asks of arrays: float32 or float64, and finite."""

from __future__ import annotations

import math

import numpy as np

from npformer.component import Array, Tree, flatten
from npformer.shapes import check_floats, check_tree


def named_gradients(grads: Tree) -> dict[str, Array]:
    """Return the gradients under dotted names; TypeError or ValueError names one that is no array of finite numbers."""
    check_tree("grads", grads)
    named = {name: np.asarray(grad) if isinstance(grad, np.floating) else grad for name, grad in flatten(grads).items()}
    for name, grad in named.items():
        check_finite(f"grads.{name}", grad)
    return named


def check_finite(name: str, array: Array) -> None:
    """Check for a real array without infinities and NaN."""
    check_real(name, array)
    if not math.isfinite(largest_entry(array)):
        first = array[~np.isfinite(array)].ravel()[0]
        raise ValueError(f"{name} must be finite, but {first} is among its entries")


def check_real(name: str, array: Array) -> None:
    """Check for a NumPy array of float32 or float64: complex numbers are for derivatives, not for training."""
    check_floats(name, array, "...")
    if array.dtype.kind == "c":
        raise TypeError(f"{name} must be float32 or float64, but its dtype is {array.dtype}")


def largest_entry(array: Array) -> float:
    """Return the largest absolute value, or NaN if there is one; abs would make a copy."""
    return max(float(array.max()), -float(array.min()))
