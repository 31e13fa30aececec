"""The checks at the entrances: bad input gets one sentence that names it, what was expected and what came."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

FLOATS = tuple(np.dtype(kind) for kind in (np.float32, np.float64, np.complex128))
FLOAT_NAMES = "float32, float64 or complex128"
ARRAYS = (np.ndarray, np.memmap)  # other kinds, such as masked arrays and matrices, compute otherwise
Choice = TypeVar("Choice")


def check_floats(name: str, array: npt.NDArray[Any], axes: str) -> None:
    """Check type, dtype and rank; axes is such as "batch, T, d_model" or "..., d_model"."""
    _check_array(name, array, FLOAT_NAMES)
    _check_dtype(name, array)
    _check_axes(name, array, axes)


def check_shape(name: str, array: npt.NDArray[Any], shape: tuple[int, ...]) -> None:
    """Check a parameter, which anyone may assign, against the sizes that it goes with."""
    check_floats(name, array, "...")
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, but its shape is {array.shape}")


def check_tokens(name: str, tokens: npt.NDArray[Any], axes: str) -> None:
    """Check that tokens is an array of whole numbers with these axes."""
    _check_array(name, tokens, "integers")
    if tokens.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, but its dtype is {tokens.dtype}")
    _check_axes(name, tokens, axes)


def _check_array(name: str, array: object, kinds: str) -> None:
    if type(array) not in ARRAYS:
        raise TypeError(f"{name} must be a NumPy array of {kinds}, but it is {describe(array)}")


def _check_dtype(name: str, array: npt.NDArray[Any]) -> None:
    if array.dtype not in FLOATS:  # a foreign byte order is not
        raise TypeError(f"{name} must be {FLOAT_NAMES}, but its dtype is {array.dtype}")


def _check_axes(name: str, array: npt.NDArray[Any], axes: str) -> None:
    named = axes.count(",") + 1
    enough = array.ndim >= named - 1 if axes.startswith("...") else array.ndim == named
    if not enough:
        raise ValueError(f"{name} must have the axes ({axes}), but its shape is {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name} must have at least one entry, but its shape is {array.shape}")


def check_range(name: str, tokens: npt.NDArray[Any], low: int, high: int) -> None:
    """Check that every token lies in low..high."""
    for token in (int(tokens.min(initial=low)), int(tokens.max(initial=low))):
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
    if not hasattr(grad_output, "dtype"):  # the checker's Terms have one, and are welcome
        raise TypeError(f"grad_output must be a NumPy array of {FLOAT_NAMES}, but it is {describe(grad_output)}")
    _check_dtype("grad_output", grad_output)
    if grad_output.shape != shape:
        raise ValueError(f"grad_output must have the output's shape {shape}, but its shape is {grad_output.shape}")


def check_mask(mask: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return the mask as booleans (True = may attend) after checking it against the shape of the scores."""
    check_mask_fits(mask, shape)
    nonzero: npt.NDArray[np.bool_] = mask != 0
    return nonzero


def check_mask_fits(mask: npt.NDArray[Any], shape: tuple[int, ...]) -> None:
    """Check a mask against the shape of the scores, without a copy of it."""
    _check_array("mask", mask, "integers or booleans")
    if mask.dtype.kind not in "iub":
        raise TypeError(
            f"mask must be integers or booleans (nonzero = may attend), but its dtype is {mask.dtype}; "
            "write mask > threshold for a float mask"
        )
    try:
        fits = np.broadcast_shapes(mask.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        axes = "(batch, heads, T_q, T_k)" if len(shape) == 4 else "the scores' shape"
        lacks_heads = len(shape) == 4 and mask.shape == (shape[0], *shape[2:])
        got = f"{mask.shape} lacks the heads; write mask[:, None]" if lacks_heads else f"is {mask.shape}"
        raise ValueError(f"mask must broadcast to {axes} = {shape}, but its shape {got}")


def check_count(name: str, value: int, least: float = 1) -> int:
    """Check for a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be a whole number, but it is {describe(value)}")
    _check_size(name, value)
    if value < least:
        raise ValueError(f"{name} must be at least {least}, but it is {value}")
    return int(value)


def check_pair(name: str, values: tuple[int, ...], what: str) -> tuple[int, int]:
    """Check for two whole numbers of at least 1."""
    if not isinstance(values, tuple):
        raise TypeError(f"{name} must be a tuple ({what}), but it is {describe(values)}")
    if len(values) != 2:
        raise ValueError(f"{name} must be a tuple ({what}), but it has length {len(values)}")
    return check_count(f"{name}[0]", values[0]), check_count(f"{name}[1]", values[1])


def check_number(name: str, value: float, low: float, high: float = math.inf, *, open_low: bool = False) -> float:
    """Check for a finite real number in [low, high), or in (low, high)."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} must be a number, but it is {describe(value)}")
    _check_size(name, value)
    if not (low < value < high or (value == low and not open_low)):
        interval = f"{'(' if open_low else '['}{low:g}, {high:g})"
        raise ValueError(f"{name} must lie in {interval}, but it is {value}")
    return float(value)


def _check_size(name: str, value: float) -> None:
    """Check that a whole number, which has no limit in Python, is one that can be computed with."""
    try:
        float(value)
    except OverflowError:
        largest = sys.float_info.max
        raise ValueError(f"{name} must lie within {-largest:.1e} and {largest:.1e}, but it is beyond that") from None


def check_flag(name: str, value: bool) -> bool:
    """Check for True or False, so that a misplaced argument is not taken for True."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, but it is {describe(value)}")
    return bool(value)


def check_choice(name: str, value: str, choices: Mapping[str, Choice]) -> Choice:
    """Return choices[value] after checking that it is one."""
    if not isinstance(value, str) or value not in choices:
        known = " or ".join(f'"{choice}"' for choice in choices)
        raise ValueError(f"{name} must be {known}, but it is {_shown(value)}")
    return choices[value]


def check_part(name: str, value: object, kind: type) -> None:
    """Check that an injected part is of its kind."""
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIO" else "a"
        raise TypeError(f"{name} must be {article} {kind.__name__}, but it is {describe(value)}")


def check_same_arrays(name: str, given: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Check that flat trees have the same names and shapes; the one sentence lists every difference."""
    wrong = [f"{key} is missing" for key in expected.keys() - given.keys()]
    wrong += [f"{key} is unknown" for key in given.keys() - expected.keys()]
    for key in given.keys() & expected.keys():
        array, wanted = given[key], getattr(expected[key], "shape", None)  # a list has none
        if not hasattr(array, "dtype"):
            wrong.append(f"{key} is {describe(array)}, expected an array")
        elif array.dtype not in FLOATS:
            wrong.append(f"{key} has dtype {array.dtype}, expected {FLOAT_NAMES}")
        elif array.shape != wanted:
            wrong.append(f"{key} has shape {array.shape}, expected {wanted}")
    if wrong:
        raise ValueError(f"{name} does not fit: {'; '.join(sorted(wrong))}")


def check_parts(name: str, values: Sequence[object], kind: type) -> None:
    """Check a non-empty list of injected parts."""
    if not isinstance(values, list | tuple):
        raise TypeError(f"{name} must be a list of at least one {kind.__name__}, but it is {describe(values)}")
    if not values:
        raise ValueError(f"{name} must be a list of at least one {kind.__name__}, but it is empty")
    for index, value in enumerate(values):
        check_part(f"{name}[{index}]", value, kind)


def make_generator(rng: np.random.Generator | int | None) -> np.random.Generator:
    """Return the generator itself, or one from a seed, or one with fresh entropy."""
    if isinstance(rng, np.random.Generator):
        return rng
    if isinstance(rng, bool) or not isinstance(rng, int | np.integer | None):
        raise TypeError(f"rng must be a numpy.random.Generator, a seed or None, but it is {describe(rng)}")
    return np.random.default_rng(None if rng is None else check_count("rng", rng, least=0))


def check_dropout_masks(masks: object) -> list[npt.NDArray[Any]]:
    """Return as a list the masks that a caller gives in place of random ones."""
    if isinstance(masks, str) or not isinstance(masks, Iterable):
        raise TypeError(f"masks must be a list of arrays, but it is {describe(masks)}")
    arrays = list(masks)
    for index, mask in enumerate(arrays):
        _check_array(f"masks[{index}]", mask, "numbers or booleans")
        if mask.dtype.kind not in "biuf":
            raise TypeError(f"masks[{index}] must be numbers or booleans, but its dtype is {mask.dtype}")
    return arrays


def check_tree(name: str, tree: Mapping[str, Any]) -> None:
    """Check for a dict with names as keys."""
    if not isinstance(tree, Mapping):
        raise TypeError(f"{name} must be a dict, but it is {describe(tree)}")
    for key in tree:
        if not isinstance(key, str):
            raise TypeError(f"{name} must have names as keys, but one of them is {describe(key)}")


def check_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return a dtype that components can have."""
    try:
        target = np.dtype(dtype)
        came = "None" if dtype is None else str(target)  # NumPy takes None for float64
    except (TypeError, ValueError):
        came = _shown(dtype)
    if came not in {str(each) for each in FLOATS}:
        raise TypeError(f"dtype must be {FLOAT_NAMES}, but it is {came}")
    return target


def describe(value: object) -> str:
    """Return what a value is, as a sentence names it: a list, None, the class ReLU."""
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    kind = type(value).__name__
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, str) else describe(value)
