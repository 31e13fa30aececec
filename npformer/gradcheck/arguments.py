"""The checks at the entrance of the checker, beside those of npformer.shapes."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from npformer.component import Component, Tree
from npformer.shapes import FLOATS, describe


def input_names(component: Component, count: int) -> list[str]:
    """Return what forward calls its first inputs."""
    names: list[str] = []
    for name, parameter in inspect.signature(component.forward).parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{name}[{index}]" for index in range(count - len(names))]
        names.append(name)
    return names[:count]


def check_arrays(inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    """Check that complex step can differentiate by the inputs and parameters, and that their names differ."""
    for name, array in (*inputs.items(), *parameters.items()):
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{name} must be a NumPy array, but it is {describe(array)}")
        if array.size == 0:
            raise ValueError(f"{name} must have at least one entry, but its shape is {array.shape}")
        if array.dtype.kind == "c":
            raise TypeError(f"{name} must be real, since complex step checks it, but its dtype is {array.dtype}")
        if array.dtype in FLOATS and not np.isfinite(array).all():
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
    if what == "forward" and not isinstance(result[0], np.ndarray):
        raise TypeError(f"the output of forward must be a NumPy array, but it is {describe(result[0])}")
    return result


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
