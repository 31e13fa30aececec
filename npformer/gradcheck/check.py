"""The comparison of a backward with the complex-step derivative of its forward, and the verdict."""

from __future__ import annotations

import copy
import inspect
import math
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from npformer.component import Array, Component, flatten
from npformer.gradcheck.arguments import check_by_position, check_names, check_real
from npformer.gradcheck.cases import signed
from npformer.gradcheck.objective import Objective, decisions_in
from npformer.gradcheck.terms import named_gradients, term_sizes
from npformer.shapes import check_count, check_part

# The tolerances for float64; other dtypes have them in proportion to their rounding error. Correct backwards were
# measured at 8e-15 of the largest entry, and at 3e-16 of the size of the terms where these cancel.
OF_LARGEST = 1e-13
OF_TERMS = 1e-14
# The central difference may differ this much from the complex step, beyond its own measured uncertainty, before neither
# is believed.
OF_WITNESS = 1e-6


@dataclass(frozen=True)
class ArrayCheck:
    """What was measured for the gradient of one array.

    Attributes
    ----------
    name : str
        Name of an input, or dotted name of a parameter.
    entries : int
        Size of the array.
    yardstick : {"largest", "terms"}
        What the errors are relative to: the gradient's largest entry, or the size of the terms whose sum it is
        where these cancel (as they do for a key projection's bias, whose gradient is 0 in truth).
    error, tolerance : float
        Largest error against the complex step, and what it may be.
    witness : float
        Largest error against the central difference.
    verdict : {"proven", "wrong", "undecided"}
        "undecided" where the two derivatives of the forward contradict each other, or where a float32 decision (ReLU's
        x > 0) fell otherwise in float64.
    reason : str
        Empty if proven.
    seconds : float
        Time that the check took.
    """

    name: str
    entries: int
    yardstick: str
    error: float
    tolerance: float
    witness: float
    verdict: str
    reason: str = ""
    seconds: float = 0.0


def check_gradients(
    component: Component,
    *inputs: Array,
    directions: int | None = None,
    seed: int = 0,
    only: Collection[str] | None = None,
    **options: Any,
) -> list[ArrayCheck]:
    """Check the gradient of every floating input and every parameter of a component.

    The cotangent is random and signed. Truth is the complex-step derivative of forward, f(x + ihv).imag / h with
    h = 1e-200, which no subtraction spoils (Squire and Trapp 1998); a coarse central difference beside it would
    contradict it if the forward were not analytic. float32 components are compared with the truth in float64.

    Parameters
    ----------
    component : Component
    *inputs : arrays
        What forward is called with; integer arrays have no gradient.
    directions : int, optional
        Slopes along this many random directions of length 1 for each array; entry by entry if not given.
    seed : int
        For the cotangent and the directions.
    only : names, optional
        Check these arrays and no others.
    **options
        Handed to forward, such as mask and rng. Each forward gets a copy, so that all draw the same dropout masks.

    Returns
    -------
    list of ArrayCheck
        Inputs first, then parameters.

    Examples
    --------
    >>> from npformer import LayerNorm
    >>> [(check.name, check.verdict) for check in check_gradients(LayerNorm(3), np.array([[1.0, 2.0, 4.0]]))]
    [('x', 'proven'), ('weight', 'proven'), ('bias', 'proven')]
    """
    check_part("component", component, Component)
    random = np.random.default_rng(check_count("seed", seed, least=0))
    names = _input_names(component, len(inputs))
    arrays = dict(zip(names, inputs, strict=True)) | flatten(component.parameters())
    for name, array in arrays.items():
        check_real(name, array)
    if only is not None:
        check_names("only", only, arrays)
    output, cache = component.forward(*inputs, **copy.deepcopy(options))
    check_by_position(options)
    cotangent = signed(random, output.shape, 0.5, 1.5).astype(output.dtype)
    gradients = named_gradients(component, names, cotangent, cache)
    try:
        sizes = term_sizes(component, names, cotangent, cache)
    except Exception:  # a backward written elsewhere may use what cannot carry its terms: then they are unknown
        sizes = {}
    exact = Objective(component, names, inputs, options, cotangent, np.complex128)
    coarse = Objective(component, names, inputs, options, cotangent, np.float64)
    kinked = exact.decisions != decisions_in(cache)
    checks = []
    for name, array in exact.arrays.items():
        if only is not None and name not in only:
            continue
        start = time.perf_counter()
        if directions is None:
            along = _unit_vectors(array.shape)
        else:
            along = _random_vectors(random, array.shape, check_count("directions", directions))
        check = _check_array(name, gradients.get(name), sizes.get(name), along, exact, coarse)
        if kinked and check.verdict == "wrong":
            reason = "a decision, such as ReLU's x > 0, fell otherwise in float64: an input lies within rounding of it"
            check = replace(check, verdict="undecided", reason=reason)
        checks.append(replace(check, seconds=time.perf_counter() - start))
    return checks


def _input_names(component: Component, count: int) -> list[str]:
    """Return what forward calls its first inputs."""
    names: list[str] = []
    for name, parameter in inspect.signature(component.forward).parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{name}[{index}]" for index in range(count - len(names))]
        names.append(name)
    return names[:count]


def _check_array(
    name: str,
    gradient: Array | None,
    sizes: Array | None,
    along: Iterable[Array],
    exact: Objective,
    coarse: Objective,
) -> ArrayCheck:
    """Judge one gradient by its slopes along some directions."""
    shape = exact.arrays[name].shape
    entries = exact.arrays[name].size
    if gradient is None or gradient.shape != shape:
        got = "none" if gradient is None else f"one of shape {gradient.shape}"
        reason = f"backward must return a gradient of shape {shape}, but it returned {got}"
        return ArrayCheck(name, entries, "largest", math.inf, OF_LARGEST, math.inf, "wrong", reason)
    if not np.isfinite(gradient).all():
        reason = f"the gradient is not finite at {_first(~np.isfinite(gradient))}"
        return ArrayCheck(name, entries, "largest", math.inf, OF_LARGEST, math.inf, "wrong", reason)

    slopes = []
    for direction in along:
        size = 0.0 if sizes is None else _length(sizes * direction)
        coarse_slope, doubt = coarse.central_difference(name, direction)
        slopes.append(((gradient * direction).sum(), exact.complex_step(name, direction), coarse_slope, doubt, size))
    ours, truth, difference, doubts, sizes_along = np.array(slopes, dtype=np.float64).T

    rounding = float(np.finfo(exact.precision).eps / np.finfo(np.float64).eps)
    errors, largest = np.abs(ours - truth), np.abs(gradient).max()
    yardstick, scale, tolerance = "largest", np.full_like(errors, largest), OF_LARGEST * rounding
    cancels = largest == 0 or _ratio(errors, scale) > tolerance
    if cancels and _ratio(errors, sizes_along) <= OF_TERMS * rounding:
        yardstick, scale, tolerance = "terms", sizes_along, OF_TERMS * rounding
    error, witness = _ratio(errors, scale), _ratio(np.abs(ours - difference), scale)
    doubts += OF_WITNESS * max(np.abs(truth).max(), np.abs(difference).max())
    verdict, reason = "proven", ""
    if np.any(np.abs(truth - difference) > doubts):
        verdict, reason = "undecided", "a central difference contradicts the complex step: the forward is not analytic"
    elif error > tolerance:
        worst = errors.argmax()
        verdict, reason = "wrong", f"a slope of the forward is {truth[worst]:.15g}, of the backward {ours[worst]:.15g}"
    return ArrayCheck(name, entries, yardstick, error, tolerance, witness, verdict, reason)


def _unit_vectors(shape: tuple[int, ...]) -> Iterator[Array]:
    for index in np.ndindex(shape):
        vector = np.zeros(shape)
        vector[index] = 1
        yield vector


def _random_vectors(random: np.random.Generator, shape: tuple[int, ...], number: int) -> Iterator[Array]:
    """Vectors of length 1 whose entries are all of one order, so that no wrong entry of a gradient can hide."""
    for _ in range(number):
        vector = signed(random, shape, 1, 2)
        yield vector / _length(vector)


def _length(vector: Array) -> float:
    return math.sqrt(np.square(vector).sum())


def _ratio(errors: Array, scales: Array) -> float:
    """The largest error / scale, where 0/0 is 0."""
    return float(np.divide(errors, scales, out=np.where(errors > 0, math.inf, 0.0), where=scales > 0).max())


def _first(where: Array) -> tuple[int, ...]:
    return tuple(int(index) for index in np.argwhere(where)[0])
