"""The size of a whole gradient, and its limit."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from npformer.component import Array, Tree
from npformer.shapes import check_number
from npformer.training.gradients import NotFiniteError, named_gradients


def global_norm(grads: Tree) -> float:
    """Return the Euclidean norm of all gradients as one long vector, ``√(Σ g²)``, in float64.

    Entries are divided by the largest before they are squared, so that no square overflows or vanishes.

    Raises
    ------
    TypeError, ValueError
        If a gradient is no array of finite real numbers, or the norm is beyond float64.

    Examples
    --------
    >>> global_norm({"weight": np.array([3.0, 0.0]), "bias": np.array([-4.0])})
    5.0
    """
    return _largest_and_norm(grads)[1]


def clip_by_global_norm(grads: Tree, max_norm: float) -> tuple[Tree, float]:
    """Return the gradients, shortened to max_norm if longer, and the norm before (Pascanu et al. 2013, algorithm 1).

        g ← g · max_norm / norm        if norm > max_norm, for all gradients together: the direction stays

    Where nothing is to be clipped, the tree itself is returned; no array is ever written into.

    Raises
    ------
    TypeError, ValueError
        As `global_norm`, or if max_norm is no number above 0.

    Examples
    --------
    >>> clip_by_global_norm({"weight": np.array([3.0, 0.0]), "bias": np.array([-4.0])}, 2.5)
    ({'weight': array([1.5, 0. ]), 'bias': array([-2.])}, 5.0)
    """
    check_number("max_norm", max_norm, 0, open_low=True)
    largest, norm = _largest_and_norm(grads)
    if norm <= max_norm:
        return grads, norm
    # g · (max_norm / norm) in two steps: the factor alone may be too small for a float, these two are not
    return _scaled(grads, largest, max_norm * (largest / norm)), norm


def _largest_and_norm(grads: Tree) -> tuple[float, float]:
    arrays, largest_entries = named_gradients(grads)
    largest = max(largest_entries.values(), default=0.0)
    if largest == 0:
        return 0.0, 0.0
    norm = largest * math.sqrt(sum(_sum_of_squares(grad, largest) for grad in arrays.values()))
    if norm == math.inf:
        raise NotFiniteError(f"grads must have a norm below {np.finfo(np.float64).max:.1e}, but it is beyond that")
    return largest, norm


def _sum_of_squares(grad: Array, unit: float) -> float:
    relative = np.divide(grad, unit, dtype=np.float64)
    return float(np.square(relative).sum())  # a dot product would depend on the number of threads


def _scaled(tree: Mapping[str, Array | Tree], divisor: float, factor: float) -> Tree:
    return {
        name: _scaled(value, divisor, factor) if isinstance(value, Mapping) else _scaled_array(value, divisor, factor)
        for name, value in tree.items()
    }


def _scaled_array(grad: Array, divisor: float, factor: float) -> Array:
    # in float64, since the largest entry may be that of a float64 array and beyond this one's dtype
    scaled: Array = np.divide(grad, divisor, dtype=np.float64) * factor
    return scaled.astype(grad.dtype)
