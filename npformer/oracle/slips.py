"""The usual slips of layout and scale: a wrong array that is a right one otherwise written down."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from npformer.attention import MultiHeadedAttention
from npformer.component import Array
from npformer.oracle.expected import Expected
from npformer.oracle.trace import trace

LOOSE = 4.0  # times the largest tolerance: what was moved about has the tolerance of another entry
ENOUGH = 1e-3  # of the entries' root mean square: a match that the tolerance alone would allow says nothing


def recognise(name: str, theirs: Array, ours: Array, allowed: Array, which: Array, expected: Expected) -> str:
    """Return which slip makes theirs of ours, in words; empty if none is known.

    Parameters
    ----------
    name : str
        Of the array.
    theirs, ours : array
        Theirs, and what our operation makes of the arrays upstream of it.
    allowed, which : array
        The tolerance of each entry of ours, and which entries are compared.
    expected : Expected
        What the two belong to.
    """
    compared = which if theirs.shape == ours.shape else np.ones(theirs.shape, bool)
    if not theirs.size or not np.isfinite(theirs[compared]).all():
        return _not_finite(theirs, compared)
    if theirs.shape == ours.shape:
        if not theirs[which].any():
            return "all its entries are 0"
        if factor := _constant_factor(theirs[which], ours[which], allowed[which], expected):
            return factor
    slack = LOOSE * float(allowed.max())
    if slack > ENOUGH * math.sqrt(float(np.mean(ours[which] ** 2))):
        return ""
    for words, candidate in _rearranged(name, theirs, ours, expected):
        if candidate.shape == ours.shape and bool((np.abs(candidate - ours) <= slack)[which].all()):
            continue  # such as one head that is merged: it changes nothing
        if candidate.shape == theirs.shape and bool((np.abs(theirs - candidate) <= slack)[compared].all()):
            return words
    return ""


def _not_finite(theirs: Array, compared: Array) -> str:
    if not theirs.size:
        return "it has no entries"
    entries = theirs[compared]
    return f"{np.isnan(entries).sum():,} of its entries are NaN and {np.isinf(entries).sum():,} infinite"


def _constant_factor(theirs: Array, ours: Array, allowed: Array, expected: Expected) -> str:
    square = float(ours @ ours)
    if not square:
        return ""
    factor = float(ours @ theirs) / square
    slack = LOOSE * max(1.0, abs(factor)) * allowed
    if not bool((np.abs(theirs - factor * ours) <= slack).all()):
        return ""
    if not bool((np.abs(ours) * min(abs(factor - 1), abs(factor)) > slack).any()):
        return ""  # the factors 1 and 0 would fit as well
    shown = f"{factor:.4g}" if f"{factor:.4g}" != "1" else f"{factor:.8g}"
    return f"off by the constant factor {shown}{_meaning(factor, expected)}"


def _meaning(factor: float, expected: Expected) -> str:
    """Return what a factor may come from: a size, its root, or one divided by these."""
    if abs(factor + 1) < 1e-3:
        return ", the wrong sign"
    sizes = {size for array in expected.truth.values() for size in array.shape if size > 1}
    for size in sorted(sizes | {2}):
        forms = {f"{size}": size, f"1/{size}": 1 / size, f"√{size}": math.sqrt(size), f"1/√{size}": 1 / math.sqrt(size)}
        for words, value in forms.items():
            if abs(factor / value - 1) < 1e-3:
                return f" = {words}" if words != f"{factor:.4g}" else ""
    return ""


def _rearranged(name: str, theirs: Array, ours: Array, expected: Expected) -> Iterator[tuple[str, Array]]:
    """Yield the arrays that a slip of layout makes of ours, with what to call the slip."""
    yield from layout_slips(theirs, ours, _num_heads(name, expected))
    yield from _of_one_item(name, expected)
    for other, array in expected.truth.items():
        if array.dtype.kind == "f" and other != name:
            yield f"it is {other}", array


def layout_slips(theirs: Array, ours: Array, num_heads: int = 1) -> Iterator[tuple[str, Array]]:
    """Yield what becomes of ours when its entries are put in the wrong places, with what to call the slip.

    Examples
    --------
    >>> next(layout_slips(np.zeros((3, 2)), np.arange(6.0).reshape(2, 3)))[0]
    'transposed'
    """
    if ours.ndim >= 2:
        yield ("transposed" if ours.ndim == 2 else "its last two axes are exchanged"), ours.swapaxes(-1, -2)
    yield from _heads(ours, num_heads)
    if theirs.ndim > ours.ndim:
        axes = tuple(range(theirs.ndim - ours.ndim))
        if theirs.shape[len(axes) :] == ours.shape:  # right if nothing is left to add
            words = "not summed over the batch" if len(axes) == 1 else f"not summed over its first {len(axes)} axes"
            yield words, theirs + (ours - theirs.sum(axes))
    if ours.ndim and theirs.shape == ours.shape:
        for axis in range(ours.ndim):
            yield f"reversed along axis {axis}", np.flip(ours, axis)
            for step in (1, -1):
                yield f"shifted by {step} along axis {axis}", np.roll(ours, step, axis)
    if theirs.size == ours.size:
        yield "the right entries in their order, in another shape", ours.reshape(theirs.shape)


def _heads(ours: Array, num_heads: int) -> Iterator[tuple[str, Array]]:
    """Yield what forgetting to cut or merge the heads makes of ours."""
    if ours.ndim == 3 and ours.shape[-1] % num_heads == 0:
        B, T, d_model = ours.shape
        cut = ours.reshape(B, T, num_heads, d_model // num_heads)
        yield "the heads are not merged: (batch, heads, T, d_head)", cut.swapaxes(1, 2)
        yield "the heads are not merged: (batch, T, heads, d_head)", cut
        yield "the heads are merged without exchanging heads and T", cut.swapaxes(1, 2).reshape(B, T, d_model)
    if ours.ndim == 4:
        B, H, T, d_head = ours.shape
        yield "heads and T are exchanged: (batch, T, heads, d_head)", ours.swapaxes(1, 2)
        yield "the heads are merged: (batch, T, d_model)", ours.swapaxes(1, 2).reshape(B, T, H * d_head)
        yield "the heads are cut without exchanging heads and T", ours.swapaxes(1, 2).reshape(B, H, T, d_head)


def _num_heads(name: str, expected: Expected) -> int:
    parts = [part for path, part in expected.truth.parts.items() if name.startswith(path)]
    return next((part.num_heads for part in reversed(parts) if isinstance(part, MultiHeadedAttention)), 1)


def _of_one_item(name: str, expected: Expected) -> Iterator[tuple[str, Array]]:
    """Yield the gradient that each item of the batch makes alone: backward is linear in the gradient of the output."""
    recording = expected.recording
    grad_output = recording.grad_output
    if grad_output is None or grad_output.ndim < 2 or "grad_" not in name:
        return
    for item in sorted({0, len(grad_output) - 1}):
        alone = np.zeros_like(grad_output)
        alone[item] = grad_output[item]
        run = trace(recording.component, *recording.inputs, grad_output=alone, **recording.options)
        yield f"not summed over the batch: it is the gradient of item {item} alone", run[name]
