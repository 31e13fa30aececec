"""The checks at the entrance of the checker, beside those of npformer.shapes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from npformer.component import Array, Tree
from npformer.shapes import FLOATS, describe


def check_arrays(inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    """Check that complex step can differentiate by the inputs and parameters, and that their names differ."""
    for name, array in (*inputs.items(), *parameters.items()):
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{name} must be a NumPy array, but it is {describe(array)}")
        if array.size == 0:
            raise ValueError(f"{name} must have at least one entry, but its shape is {array.shape}")
        if array.dtype.kind == "c":
            raise TypeError(f"{name} must be real, since complex step checks it, but its dtype is {array.dtype}")
        if array.dtype.kind not in "fiub" or (array.dtype.kind == "f" and array.dtype not in FLOATS):
            raise TypeError(f"{name} must be float64, float32 or integers, but its dtype is {array.dtype}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite, but {array[~np.isfinite(array)].flat[0]} is among its entries")
    for name in inputs.keys() & parameters.keys():
        raise ValueError(f"parameters must have names of their own, but {name} is an input too")


def check_pair(what: str, result: Any) -> tuple[Any, Tree]:
    """Check that forward returned (output, cache), or backward (gradients of the inputs, those of the parameters)."""
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], Mapping):
        parts = {
            "forward": "the output and a dict, the cache",
            "backward": "input gradients and a dict of parameter gradients",
        }
        raise TypeError(f"{what} must return a pair, {parts[what]}, but it returned {describe(result)}")
    if what == "backward":
        return result
    output = np.asarray(result[0]) if isinstance(result[0], np.generic | float) else result[0]
    if not isinstance(output, np.ndarray):
        raise TypeError(f"the output of forward must be a NumPy array, but it is {describe(output)}")
    if output.dtype not in FLOATS or output.size == 0:
        came = f"{output.dtype} of shape {output.shape}"
        raise TypeError(f"the output of forward must be at least one float64 or float32 number, but it is {came}")
    return output, dict(result[1])


def check_cotangent(grad_output: Any, output: Array) -> Array:
    """Check the caller's cotangent, and return a copy."""
    if not isinstance(grad_output, np.ndarray):
        raise TypeError(f"grad_output must be a NumPy array, but it is {describe(grad_output)}")
    if grad_output.shape != output.shape or grad_output.dtype != output.dtype:
        expected, came = (f"{array.dtype} of shape {array.shape}" for array in (output, grad_output))
        raise ValueError(f"grad_output must be like the output, {expected}, but it is {came}")
    if not np.isfinite(grad_output).all():
        raise ValueError("grad_output must be finite, but it is not")
    return grad_output.copy()


def gradient_fault(gradient: Any, shape: tuple[int, ...]) -> str:
    """Return what is wrong with the form of a gradient, or nothing."""
    if not isinstance(gradient, np.ndarray | np.generic):
        return f"backward must return a gradient of shape {shape}, but it returned {describe(gradient)}"
    if gradient.dtype.kind != "f":
        return f"backward must return a real gradient, but its dtype is {gradient.dtype}"
    if gradient.shape != shape:
        return f"backward must return a gradient of shape {shape}, but it returned one of shape {gradient.shape}"
    if not np.isfinite(gradient).all():
        return f"the gradient is not finite at {tuple(int(index) for index in np.argwhere(~np.isfinite(gradient))[0])}"
    return ""


def check_names(name: str, names: Collection[str], known: list[str]) -> None:
    """Check a choice of arrays by name."""
    if isinstance(names, str) or not isinstance(names, Collection):
        raise TypeError(f"{name} must be a list of names, but it is {describe(names)}")
    if not names:
        raise ValueError(f"{name} must have at least one name, but it is empty")
    for each in names:
        if each not in known:
            raise ValueError(f"{name} must name inputs or parameters, such as {known[0]}, but it has {each!r}")


def check_by_position(options: Mapping[str, Any]) -> None:
    """Check that no input with a gradient is among the options."""
    for name, value in options.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "fc":
            raise ValueError(f"{name} must be given by position, since its gradient is checked, but it came by name")


def check_along(along: Mapping[str, Any], arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return the vectors along which arrays move, as float64."""
    if not isinstance(along, Mapping):
        raise TypeError(f"along must be a dict of arrays by name, but it is {describe(along)}")
    check_names("along", list(along), list(arrays))
    for name, vector in along.items():
        if not isinstance(vector, np.ndarray) or vector.dtype.kind not in "fiu":
            raise TypeError(f"along must hold real arrays, but {name} in it is {describe(vector)}")
        if vector.shape != arrays[name].shape:
            raise ValueError(
                f"along must hold arrays of the shapes of what moves, {arrays[name].shape} for {name}, but its shape "
                f"is {vector.shape}"
            )
        if not np.isfinite(vector).all():
            raise ValueError(f"along must hold finite arrays, but {name} in it is not")
    return {name: np.asarray(vector, np.float64) for name, vector in along.items()}
