"""What training asks of gradients: an array of finite real numbers under each name."""

from __future__ import annotations

import numpy as np

from npformer.component import Array, Tree, flatten
from npformer.shapes import check_floats, check_tree


def named_gradients(grads: Tree) -> dict[str, Array]:
    """Return the gradients under dotted names; TypeError or ValueError names one that is no finite real array."""
    check_tree("grads", grads)
    named = {name: np.asarray(grad) if isinstance(grad, np.floating) else grad for name, grad in flatten(grads).items()}
    for name, grad in named.items():
        check_real(f"grads.{name}", grad)
        if not np.isfinite(largest_entry(grad)):
            raise ValueError(f"grads.{name} must be finite, but {grad[~np.isfinite(grad)][0]} is among its entries")
    return named


def check_real(name: str, array: Array) -> None:
    """Check for a NumPy array of float32 or float64: complex numbers are for derivatives, not for training."""
    check_floats(name, array, "...")
    if array.dtype.kind == "c":
        raise TypeError(f"{name} must be float32 or float64, but its dtype is {array.dtype}")


def largest_entry(array: Array) -> float:
    """Return the largest absolute value, or NaN if there is one; two passes without a copy."""
    return max(float(array.max()), -float(array.min()))
