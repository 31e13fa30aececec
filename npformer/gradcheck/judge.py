"""The verdict on the gradient of one array, from its slopes and the true ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from npformer.component import Array
from npformer.gradcheck.arguments import gradient_fault
from npformer.gradcheck.conduct import Conduct
from npformer.gradcheck.objective import EPS, Directions, length
from npformer.gradcheck.truth import Slope, Truth
from npformer.gradcheck.verdict import FAIL, OF_LARGEST, PASS, UNDECIDED, ArrayCheck, WrongEntry

# The tolerances for float64; other dtypes have them in proportion to their rounding error. Each has a margin over what
# was measured on correct backwards: 8e-15 of the largest entry for ordinary sizes; 3e-16 of the size of the terms where
# these cancel; and, where forward is ill-conditioned, 22 times what its slopes change when all arrays change in their
# last bit. An error of a millionth is 2,000 times that or more.
OF_TERMS = 1e-14
OF_CONDITIONING = 100
# Where that is more than this of the largest gradient, a PASS would say nothing.
OF_MILLIONTH = 1e-6
# A backward may inflate its own terms. So they only excuse an error of this many times what rounding can do to forward.
OF_FORWARD = 1e4
# Differences prove a gradient to 3 times their doubt, and disprove it from 30 times on. They are of no use where the
# doubt is more than this times the root of the rounding error (1e-6 in float64, 0.03 in float32).
OF_DOUBT, BEYOND_DOUBT, OF_PRECISION = 3, 30, 70
# What one-sided slopes may differ by before entries on kinks are said to meet.
OF_JOINT = 1e-6
# Below this, products with the complex step of 1e-200 leave the range of float64.
TINY = 1e-100
TINY_SINGLE = 1e-32  # and below this, products of float32
SHOWN = 5  # wrong entries are reported up to this number


class _Slopes:
    """The slopes of a gradient along some directions, beside the true ones."""

    def __init__(
        self, name: str, gradient: Array, sizes: Array | None, directions: Directions, truth: Truth, overall: float
    ):
        self.shape = gradient.shape
        self.rounding = truth.precision
        self.factor = truth.precision / EPS  # from the tolerances for float64 to those for this dtype
        allowed = OF_LARGEST * self.factor * overall
        self.ours = np.array([float((gradient * direction).sum()) for direction in directions])
        pairs = zip(directions, self.ours, strict=True)
        self.true = [truth.along(name, direction, ours, allowed) for direction, ours in pairs]
        largest_true = max(abs(slope.nearest(0.0)) for slope in self.true)
        self.largest = float(np.abs(gradient).max()) or largest_true  # a gradient of zeros has no size of its own
        self.errors = np.array([slope.error(ours) for slope, ours in zip(self.true, self.ours, strict=True)])
        self.doubts = np.array([slope.doubt for slope in self.true])
        self.witness = np.array([slope.witness for slope in self.true])
        self.sizes = None if sizes is None else np.array([length(sizes * direction) for direction in directions])
        self.blame = next((slope.blame for slope in self.true if slope.blame), "")
        self.kinked = np.array([slope.kinks != 0 for slope in self.true])
        # on a kink, and not the slope of the side that forward itself takes there
        off_branch = [abs(ours - each.at_point) > allowed for ours, each in zip(self.ours, self.true, strict=True)]
        self.off_branch = self.kinked & np.array(off_branch)
        self.single = np.array([slope.kinks == 1 for slope in self.true])

    def wrong_entries(self, beyond: Array) -> tuple[WrongEntry, ...]:
        """Return the entries farthest beyond tolerance, where the directions are those of the entries."""
        worst = np.argsort(-beyond, kind="stable")[: min(SHOWN, np.count_nonzero(beyond))]
        return tuple(self._entry(int(entry)) for entry in worst)

    def _entry(self, entry: int) -> WrongEntry:
        index = tuple(int(axis) for axis in np.unravel_index(entry, self.shape))
        ours = float(self.ours[entry])
        return WrongEntry(index, ours, self.true[entry].nearest(ours))

    def shown(self, index: int) -> str:
        left, right = self.true[index].left, self.true[index].right
        return f"{left:.15g}" if left == right else f"{left:.15g} on one side and {right:.15g} on the other"


@dataclass(frozen=True)
class _Measure:
    """What errors are relative to, what they may be, and why they may be more than that, if they may."""

    yardstick: str
    scale: Array
    tolerance: float
    allowed: Array
    excuse: str = ""


def judge(
    name: str,
    conduct: Conduct,
    directions: Directions,
    truth: Truth,
) -> ArrayCheck:
    """Judge a well-formed gradient by its slopes."""
    gradient, sizes = np.asarray(conduct.gradients[name]), conduct.sizes.get(name)
    slopes = _Slopes(name, gradient, sizes, directions, truth, conduct.largest)
    measure = _by_differences(slopes) if slopes.blame else _by_complex_step(slopes, name, directions, truth, conduct)
    beyond = np.maximum(slopes.errors - measure.allowed, 0)
    excuse = measure.excuse
    if not (np.isfinite(slopes.errors).all() and np.isfinite(slopes.witness).all()):
        excuse = "forward or its slope is not finite near this point"
    elif (
        np.any(beyond > 0) and not slopes.blame and slopes.errors.max() < (TINY if slopes.factor == 1 else TINY_SINGLE)
    ):
        excuse = "the slopes are too small for a complex step of 1e-200, or for float32"
    elif directions.number is not None and slopes.off_branch.any() and not np.any(beyond > 0):
        excuse = "the point lies on kinks, such as 0 for ReLU, where a slope along many entries hides errors"
    elif np.any(beyond > 0) and np.all((slopes.kinked & ~slopes.single)[beyond > 0]):
        excuse = (
            "the point lies on kinks, such as 0 for ReLU, and one-sided slopes bound a subgradient only at a single one"
        )

    verdict, reasons = (UNDECIDED, [excuse]) if excuse else (PASS, [])
    if verdict == PASS and np.any(beyond > 0):
        worst = int(slopes.errors.argmax())
        verdict = FAIL
        reasons.append(f"a slope of forward is {slopes.shown(worst)}, and that of backward {slopes.ours[worst]:.15g}")
    elif verdict == PASS and slopes.kinked.any() and not _hold_jointly(slopes, name, gradient, directions, truth):
        verdict = UNDECIDED
        reasons.append("at a kink each entry is a subgradient by itself, but together they are not")
    elif verdict == PASS and slopes.kinked.any():
        shown = slopes.shown(int(slopes.kinked.argmax()))
        reasons.append(f"at a kink, where a slope is {shown}: any value between is a subgradient")
    wrong = slopes.wrong_entries(beyond) if verdict == FAIL and directions.number is None else ()
    return ArrayCheck(
        name,
        gradient.size,
        verdict,
        _ratio(slopes.errors, measure.scale),
        measure.tolerance,
        measure.yardstick,
        "differences" if slopes.blame else "one-sided slopes" if slopes.kinked.any() else "complex step",
        _ratio(np.abs(slopes.ours - slopes.witness), measure.scale),
        "; ".join([*reasons, slopes.blame] if slopes.blame else reasons),
        wrong,
        int(np.count_nonzero(beyond)) if wrong else None,
    )


def _hold_jointly(slopes: _Slopes, name: str, gradient: Array, directions: Directions, truth: Truth) -> bool:
    """Whether entries on kinks are a subgradient together: two tied entries of a maximum cannot both have the slope 1.

    Where the entries do not meet (ReLU), the slope along a vector is the sum of those along its entries, and what holds
    for each holds for all. Where they do, the slope of the gradient must lie between the one-sided slopes.
    """
    if directions.number is not None or np.count_nonzero(slopes.kinked) == 1:
        return True
    left, right = (np.array([getattr(slope, side) for slope in slopes.true]) for side in ("left", "right"))
    tolerance = OF_JOINT * float(np.abs([left, right]).sum())
    for vector in Directions(gradient.shape, 3, seed=0):
        v = np.where(slopes.kinked, vector.ravel(), 0.0)
        below, above = truth.sides(name, v.reshape(gradient.shape))
        apart = (v * np.where(v > 0, left, right)).sum(), (v * np.where(v > 0, right, left)).sum()
        doubt = tolerance + below.doubt + above.doubt
        meet = max(abs(below.slope - apart[0]), abs(above.slope - apart[1])) > doubt
        slope = Slope(below.slope, above.slope, 0.0, 0.0)
        if meet and slope.error(float((gradient.ravel() * v).sum())) > doubt:
            return False
    return True


def _by_differences(slopes: _Slopes) -> _Measure:
    """Differences tell to within their doubt, if that is small beside the gradient or beside its terms."""
    yardstick, scale = "largest", np.full_like(slopes.errors, slopes.largest)
    coarse = OF_PRECISION * math.sqrt(slopes.rounding)
    by_terms = slopes.sizes is not None and _ratio(slopes.doubts, slopes.sizes) <= coarse
    if slopes.sizes is not None and by_terms and not _ratio(slopes.doubts, scale) <= coarse:
        yardstick, scale = "terms", slopes.sizes
    precision = _ratio(slopes.doubts, scale)
    allowed = OF_LARGEST * slopes.factor * scale + OF_DOUBT * slopes.doubts
    excuse = ""
    if np.all(slopes.errors <= BEYOND_DOUBT * slopes.doubts + allowed) and (
        not precision <= coarse or np.any(slopes.errors > allowed)
    ):
        excuse = "differences of forward are too coarse here to tell"
    return _Measure(yardstick, scale, OF_LARGEST * slopes.factor + OF_DOUBT * precision, allowed, excuse)


def _by_complex_step(slopes: _Slopes, name: str, directions: Directions, truth: Truth, conduct: Conduct) -> _Measure:
    """A complex step is exact; the question is what rounding in backward and in forward may do to a right gradient."""
    errors, farthest, overall = slopes.errors, slopes.errors.max(), conduct.largest
    scale, tolerance = np.full_like(errors, slopes.largest), OF_LARGEST * slopes.factor
    if truth.exact is None or (slopes.largest > 0 and _ratio(errors, scale) <= tolerance):
        return _Measure("largest", scale, tolerance, tolerance * scale + slopes.doubts)

    sizes, of_terms = slopes.sizes, OF_TERMS * slopes.factor
    cancels = sizes is not None and _ratio(errors, sizes) <= of_terms
    overall = max(overall, truth.real.typical_slope(name))  # of a saturated softmax all gradients cancel
    if sizes is not None and cancels and farthest <= OF_FORWARD * slopes.rounding * overall:
        return _Measure("terms", sizes, of_terms, of_terms * sizes + slopes.doubts)
    spread = truth.exact.spread(name, directions, np.array([slope.left for slope in slopes.true]), slopes.rounding)
    spread = np.maximum(spread, min(float(spread.max()), slopes.rounding * overall))  # by chance one may stand still
    by_forward = OF_FORWARD * (spread.max() + slopes.rounding * overall)
    by_conditioning = (
        OF_CONDITIONING * spread * (not slopes.kinked.any())
    )  # at a kink slopes move by more than rounding
    if not cancels and np.all(errors <= by_conditioning):
        excuse = "forward is so ill-conditioned here that its rounding would hide errors of a millionth"
        excuse = excuse if by_conditioning.max() > OF_MILLIONTH * slopes.factor * overall else ""
        return _Measure("conditioning", spread, float(OF_CONDITIONING), by_conditioning + slopes.doubts, excuse)
    by_terms = np.zeros_like(errors) if sizes is None else np.minimum(of_terms * sizes, by_forward)
    allowed = np.maximum(tolerance * scale, np.maximum(by_terms, by_conditioning)) + slopes.doubts
    if np.all(errors <= allowed):
        return _Measure("terms", allowed / of_terms, of_terms, allowed)
    noise = _noise(slopes, [run.get(name) for run in conduct.shaken], directions)
    noise = np.maximum(noise, min(float(noise.max()), slopes.rounding * overall))
    if np.all(errors <= np.minimum(OF_CONDITIONING * noise, by_forward)):
        return _Measure("conditioning", noise, float(OF_CONDITIONING), OF_CONDITIONING * noise + slopes.doubts)
    excuse = ""
    if sizes is None and farthest <= by_forward:
        excuse = "the error is of the size of rounding, and the terms of the gradient are unknown"
    elif farthest <= OF_CONDITIONING * truth.forward_error * slopes.largest:
        excuse = f"forward itself is off by {truth.forward_error:.2g} of its largest output in its own dtype"
    return _Measure("largest", scale, tolerance, allowed, excuse)


def _noise(slopes: _Slopes, runs: list[Any], directions: Directions) -> Array:
    """How far each of our slopes moves when every array moves in its last bit."""
    well_formed = [np.asarray(run) for run in runs if not gradient_fault(run, slopes.shape)]
    moved = [[float((run * direction).sum()) for direction in directions] for run in well_formed]
    farthest: Array = np.abs(np.array([*moved, slopes.ours]) - slopes.ours).max(axis=0)
    return farthest


def _ratio(errors: Array, scales: Array) -> float:
    """The largest error / scale, where 0/0 is 0."""
    return float(np.divide(errors, scales, out=np.where(errors == 0, 0.0, math.inf), where=scales > 0).max())
