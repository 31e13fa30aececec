"""The checks at the entrance of the checker, beside those of npformer.shapes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from npformer.shapes import FLOATS, describe


def check_real(name: str, array: npt.NDArray[Any]) -> None:
    """Check that complex step can differentiate by an array; forward says if anything else is wrong with it."""
    if not isinstance(array, np.ndarray) or array.dtype not in FLOATS:
        return
    if array.dtype.kind == "c":
        raise TypeError(f"{name} must be real, since complex step checks it, but its dtype is {array.dtype}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, but {array[~np.isfinite(array)].flat[0]} is among its entries")


def check_names(name: str, names: Collection[str], known: Mapping[str, Any]) -> None:
    """Check a choice of arrays by name."""
    if isinstance(names, str) or not isinstance(names, Collection):
        raise TypeError(f"{name} must be a list of names, but it is {describe(names)}")
    if not names:
        raise ValueError(f"{name} must have at least one name, but it is empty")
    for each in names:
        if each not in known:
            raise ValueError(f"{name} must name inputs or parameters, such as {next(iter(known))}, but it has {each!r}")


def check_by_position(options: Mapping[str, Any]) -> None:
    """Check that no input with a gradient is among the options."""
    for name, value in options.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "fc":
            raise ValueError(f"{name} must be given by position, since its gradient is checked, but it came by name")
