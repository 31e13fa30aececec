"""The checks at the entrances: bad input gets one sentence that names it, what was expected and what came."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

FLOATS = (np.float32, np.float64, np.complex128)
FLOAT_NAMES = "float32, float64 or complex128"
T = TypeVar("T")


def check_floats(name: str, array: npt.NDArray[Any], axes: str) -> None:
    """Check type, dtype and rank; axes is such as "batch, T, d_model" or "..., d_model"."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array of {FLOAT_NAMES}, but it is {_a(array)}")
    if array.dtype not in FLOATS:  # a foreign byte order is not
        raise TypeError(f"{name} must be {FLOAT_NAMES}, but its dtype is {array.dtype}")
    _check_axes(name, array, axes)


def check_tokens(name: str, tokens: npt.NDArray[Any], axes: str) -> None:
    """Check that tokens is an array of whole numbers with these axes."""
    if not isinstance(tokens, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array of integers, but it is {_a(tokens)}")
    if tokens.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, but its dtype is {tokens.dtype}")
    _check_axes(name, tokens, axes)


def _check_axes(name: str, array: npt.NDArray[Any], axes: str) -> None:
    wanted = axes.split(", ")
    enough = array.ndim >= len(wanted) - 1 if wanted[0] == "..." else array.ndim == len(wanted)
    if not enough:
        raise ValueError(f"{name} must have the axes ({axes}), but its shape is {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name} must have at least one entry, but its shape is {array.shape}")


def check_range(name: str, tokens: npt.NDArray[Any], low: int, high: int) -> None:
    """Check that every token lies in low..high."""
    for token in (int(tokens.min()), int(tokens.max())):
        if not low <= token <= high:
            raise ValueError(f"{name} must lie in {low}..{high}, but {token} is among them")


def check_width(name: str, array: npt.NDArray[Any], axis: str, width: int, owner: object) -> None:
    """Check the last axis against the size that a component was built with."""
    if array.shape[-1] != width:
        raise ValueError(
            f"{name} has {axis}={array.shape[-1]}, but this {type(owner).__name__} was built with {axis}={width}"
        )


def check_equal(name: str, what: str, got: object, other: str, expected: object) -> None:
    """Check that two arrays agree in something, such as their batch."""
    if got != expected:
        raise ValueError(f"{name} has {what} {got}, but {other} has {what} {expected}")


def check_grad(grad_output: npt.NDArray[Any], shape: tuple[int, ...]) -> None:
    """Check that the incoming gradient has the shape of the output that it belongs to."""
    if getattr(grad_output, "shape", None) != shape:
        got = f"its shape is {grad_output.shape}" if hasattr(grad_output, "shape") else f"it is {_a(grad_output)}"
        raise ValueError(f"grad_output must have the output's shape {shape}, but {got}")


def check_mask(mask: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return the mask as booleans (True = may attend) after checking it against the shape of the scores."""
    if not isinstance(mask, np.ndarray):
        raise TypeError(f"mask must be a NumPy array of integers or booleans, but it is {_a(mask)}")
    if mask.dtype.kind not in "iub":
        raise TypeError(
            f"mask must be integers or booleans (nonzero = may attend), but its dtype is {mask.dtype}; "
            "write mask > threshold for a float mask"
        )
    if len(shape) == 4 and mask.shape != shape[1:] and mask.shape == (shape[0], *shape[2:]):
        raise ValueError(
            f"mask must broadcast to (batch, heads, T_q, T_k) = {shape}, but its shape {mask.shape} "
            "lacks the heads; write mask[:, None]"
        )
    try:
        fits = np.broadcast_shapes(mask.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        axes = "(batch, heads, T_q, T_k)" if len(shape) == 4 else "the scores' shape"
        raise ValueError(f"mask must broadcast to {axes} = {shape}, but its shape is {mask.shape}")
    nonzero: npt.NDArray[np.bool_] = mask != 0
    return nonzero


def check_count(name: str, value: int, least: int = 1) -> int:
    """Check for a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be a whole number, but it is {_a(value)}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, but it is {value}")
    return int(value)


def check_number(name: str, value: float, low: float, high: float = math.inf, *, open_low: bool = False) -> float:
    """Check for a finite real number in [low, high), or in (low, high)."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} must be a number, but it is {_a(value)}")
    if not (low < value < high or (value == low and not open_low)):
        interval = f"{'(' if open_low else '['}{low:g}, {high:g})"
        raise ValueError(f"{name} must lie in {interval}, but it is {value}")
    return float(value)


def check_choice(name: str, value: str, choices: Mapping[str, T]) -> T:
    """Return choices[value] after checking that it is one."""
    if not isinstance(value, str) or value not in choices:
        known = " or ".join(f'"{choice}"' for choice in choices)
        raise ValueError(f"{name} must be {known}, but it is {value!r}")
    return choices[value]


def check_part(name: str, value: object, kind: type) -> None:
    """Check that an injected part is of its kind."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, but it is {_a(value)}")


def check_same_arrays(name: str, given: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Check that flat trees have the same names and shapes; the one sentence lists every difference."""
    wrong = [f"{key} is missing" for key in expected.keys() - given.keys()]
    wrong += [f"{key} is unknown" for key in given.keys() - expected.keys()]
    for key in given.keys() & expected.keys():
        came, wanted = (getattr(tree[key], "shape", None) for tree in (given, expected))  # a list has none
        if came != wanted:
            wrong.append(f"{key} has shape {came}, expected {wanted}")
    if wrong:
        raise ValueError(f"{name} does not fit: {'; '.join(sorted(wrong))}")


def check_parts(name: str, values: Sequence[object], kind: type) -> None:
    """Check a non-empty list of injected parts."""
    if not isinstance(values, list | tuple) or not values:
        raise TypeError(f"{name} must be a list of at least one {kind.__name__}, but it is {values!r:.60}")
    for index, value in enumerate(values):
        check_part(f"{name}[{index}]", value, kind)


def make_generator(rng: np.random.Generator | int | None) -> np.random.Generator:
    """Return the generator itself, or one from a seed, or one with fresh entropy."""
    if isinstance(rng, np.random.Generator):
        return rng
    return np.random.default_rng(None if rng is None else check_count("rng", rng, least=0))


def _a(value: object) -> str:
    kind = "None" if value is None else type(value).__name__
    return kind if value is None else f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
