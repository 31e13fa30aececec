"""The comparison of a backward with the complex-step derivative of its forward, and the verdict."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from npformer.component import Array, Component, Tree, flatten
from npformer.gradcheck.arguments import (
    check_arrays,
    check_by_position,
    check_names,
    check_pair,
    gradient_fault,
    input_names,
)
from npformer.gradcheck.cases import signed
from npformer.gradcheck.objective import EPS, OF_WITNESS, Directions, Objective, decisions_in, fingerprints, length
from npformer.gradcheck.terms import named_gradients, term_sizes
from npformer.shapes import check_count, check_part

# The tolerances for float64; other dtypes have them in proportion to their rounding error. Each has a margin over what
# was measured on correct backwards: 8e-15 of the largest entry for ordinary sizes; 3e-16 of the size of the terms where
# these cancel; and, where forward is ill-conditioned, 22 times what its slopes change when all arrays change in their
# last bit. An error of a millionth is 2,000 times that or more.
OF_LARGEST = 1e-13
OF_TERMS = 1e-14
OF_CONDITIONING = 100
# A backward may inflate its own terms. So they only excuse an error of this many times what rounding can do to forward.
OF_FORWARD = 1e4
# Below this, products with the complex step of 1e-200 leave the range of float64.
TINY = 1e-100


@dataclass(frozen=True)
class ArrayCheck:
    """What was measured for the gradient of one array.

    Attributes
    ----------
    name : str
        Name of an input, or dotted name of a parameter.
    entries : int
        Size of the array.
    yardstick : {"largest", "terms", "conditioning"}
        What the errors are relative to: the gradient's largest entry; the size of the terms whose sum it is where these
        cancel (as they do for a key projection's bias, whose gradient is 0 in truth); or, where forward is
        ill-conditioned, how much its slopes change when all arrays change in their last bit.
    error, tolerance : float
        Largest error against the complex step, and what it may be.
    witness : float
        Largest error against the central difference.
    verdict : {"proven", "wrong", "undecided"}
        "undecided" where the truth could not be established; reason says why.
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
    contradict it if the forward were not analytic. float32 components are compared with the truth in float64. A
    backward that writes into what it is given, or does not repeat itself, is wrong whatever it returns.

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
        Inputs first, then parameters, then what backward returned beyond them.

    Raises
    ------
    TypeError, ValueError
        If this cannot be checked: an input that is no real and finite array, a parameter called like an input, a
        forward or backward that does not return a pair.

    Examples
    --------
    >>> from npformer import LayerNorm
    >>> [(check.name, check.verdict) for check in check_gradients(LayerNorm(3), np.array([[1.0, 2.0, 4.0]]))]
    [('x', 'proven'), ('weight', 'proven'), ('bias', 'proven')]
    """
    check_part("component", component, Component)
    random = np.random.default_rng(check_count("seed", seed, least=0))
    names = input_names(component, len(inputs))
    parameters = flatten(component.parameters())
    check_arrays(dict(zip(names, inputs, strict=True)), parameters)
    if only is not None:
        floating = [name for name, x in zip(names, inputs, strict=True) if x.dtype.kind == "f"]
        check_names("only", only, [*floating, *parameters])
    if directions is not None:
        check_count("directions", directions)

    cotangent, cache, gradients, fault = _run(component, names, inputs, options, random)
    sizes = {} if fault else _sizes(component, names, cotangent, cache)
    exact = Objective(component, names, inputs, options, cotangent, np.complex128)
    coarse = Objective(component, names, inputs, options, cotangent, np.float64)
    kinked = exact.decisions != decisions_in(cache)
    arrays = [grad for grad in gradients.values() if isinstance(grad, np.ndarray) and grad.size]
    overall = max((float(np.abs(grad).max()) for grad in arrays), default=0.0)
    checks = []
    for name, array in exact.arrays.items():
        if only is not None and name not in only:
            continue
        start = time.perf_counter()
        along = Directions(array.shape, directions, int(random.integers(2**32)))
        check = _check_array(name, gradients.get(name), sizes.get(name), along, exact, coarse, overall)
        if kinked and check.verdict == "wrong":
            reason = "a decision, such as ReLU's x > 0, fell otherwise in float64: an input lies within rounding of it"
            check = replace(check, verdict="undecided", reason=reason)
        if fault:
            check = replace(check, verdict="wrong", reason=fault)
        checks.append(replace(check, seconds=time.perf_counter() - start))
    beyond = gradients.keys() - exact.arrays.keys() if only is None else ()
    return checks + [_wrong(name, 0, "backward returned a gradient of what has none") for name in sorted(beyond)]


def _run(
    component: Component,
    names: list[str],
    inputs: tuple[Array, ...],
    options: dict[str, Any],
    random: np.random.Generator,
) -> tuple[Array, Tree, dict[str, Any], str]:
    """Return a random cotangent, the cache, the gradients, and what forward or backward did that none may do."""
    own = {name: x.copy() for name, x in zip(names, inputs, strict=True)}
    watched: Tree = {"an input": own, "a parameter": component.parameters()}
    before = fingerprints(watched)
    output, cache = check_pair("forward", component.forward(*own.values(), **copy.deepcopy(options)))
    check_by_position(options)
    cotangent = signed(random, output.shape, 0.5, 1.5).astype(output.dtype)
    handed_over: Tree = {"its cache": cache, "grad_output": cotangent.copy()}
    watched |= handed_over
    before |= fingerprints(handed_over)
    gradients = copy.deepcopy(named_gradients(component, names, handed_over["grad_output"], cache))
    written = [name.split(".")[0] for name, data in fingerprints(watched).items() if data != before.get(name)]
    if written:
        return cotangent, cache, gradients, f"forward or backward wrote into {written[0]}"
    again = named_gradients(component, names, cotangent.copy(), cache)
    repeated = fingerprints(again) == fingerprints(gradients)
    return cotangent, cache, gradients, "" if repeated else "backward did not repeat itself"


def _sizes(component: Component, names: list[str], cotangent: Array, cache: Tree) -> dict[str, Array]:
    try:
        return term_sizes(component, names, cotangent.copy(), cache)
    except Exception:  # a backward written elsewhere may use what cannot carry its terms: then they are unknown
        return {}


def _wrong(name: str, entries: int, reason: str) -> ArrayCheck:
    return ArrayCheck(name, entries, "largest", math.inf, OF_LARGEST, math.inf, "wrong", reason)


def _check_array(
    name: str,
    gradient: Any,
    sizes: Array | None,
    along: Directions,
    exact: Objective,
    coarse: Objective,
    overall: float,
) -> ArrayCheck:
    """Judge one gradient by its slopes along some directions; overall is the largest entry of all gradients."""
    shape, entries = exact.arrays[name].shape, exact.arrays[name].size
    malformed = gradient_fault(gradient, shape)
    if malformed:
        return _wrong(name, entries, malformed)

    slopes = []
    for direction in along:
        truth_along = exact.complex_step(name, direction)
        difference_along, doubt, smooth = coarse.central_difference(name, direction, truth_along)
        size = 0.0 if sizes is None else length(sizes * direction)
        slopes.append(((gradient * direction).sum(), truth_along, difference_along, doubt, size, smooth))
    ours, truth, difference, doubts, sizes_along, all_smooth = np.array(slopes, dtype=np.float64).T
    errors, largest = np.abs(ours - truth), float(np.abs(gradient).max())
    rounding = float(np.finfo(exact.precision).eps)

    established = True
    yardstick, scale, tolerance = "largest", np.full_like(errors, largest), OF_LARGEST * rounding / EPS
    if largest == 0 or not _ratio(errors, scale) <= tolerance:
        spread = exact.spread(name, along, truth, rounding)
        by_forward = OF_FORWARD * (spread + rounding * overall)
        if _ratio(errors, sizes_along) <= OF_TERMS * rounding / EPS and errors.max() <= by_forward:
            yardstick, scale, tolerance = "terms", sizes_along, OF_TERMS * rounding / EPS
        elif errors.max() <= OF_CONDITIONING * spread:
            yardstick, scale, tolerance = "conditioning", np.full_like(errors, spread), float(OF_CONDITIONING)
        elif sizes is None and errors.max() <= by_forward:
            established = False

    error, witness = _ratio(errors, scale), _ratio(np.abs(ours - difference), scale)
    worst = errors.argmax()
    if not (np.isfinite(truth).all() and np.isfinite(difference).all()):
        verdict, reason = "undecided", "forward or its slope is not finite"
    elif not all_smooth.all():
        verdict, reason = "undecided", "an input lies on a kink, such as 0 for ReLU, where forward has no slope"
    elif not np.all(np.abs(truth - difference) <= doubts + OF_WITNESS * np.abs([truth, difference]).max()):
        verdict, reason = "undecided", "a central difference contradicts the complex step: forward is not analytic"
    elif error <= tolerance:
        verdict, reason = "proven", ""
    elif not established:
        verdict, reason = "undecided", "the error is of the size of rounding, and the terms of the gradient are unknown"
    elif errors.max() < TINY:
        verdict, reason = "undecided", "the slopes are too small for a complex step of 1e-200"
    else:
        verdict, reason = "wrong", f"a slope of forward is {truth[worst]:.15g}, and that of backward {ours[worst]:.15g}"
    return ArrayCheck(name, entries, yardstick, error, tolerance, witness, verdict, reason)


def _ratio(errors: Array, scales: Array) -> float:
    """The largest error / scale, where 0/0 is 0."""
    return float(np.divide(errors, scales, out=np.where(errors == 0, 0.0, math.inf), where=scales > 0).max())
