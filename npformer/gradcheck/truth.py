"""The true slopes of forward: by complex step if it is analytic, else by differences; on both sides of a kink."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from npformer.component import Array
from npformer.gradcheck.objective import EPS, Difference, Objective
from npformer.gradcheck.subject import Subject

# The central difference may differ this much from the complex step, beyond its own measured uncertainty, before neither
# is believed.
OF_WITNESS = 1e-6
# What the complex steps beside a point may differ from that at the point, where it is no kink.
OF_SIDES = 1e-9
# A kink nearer than this times the rounding error of the array's entries counts as hit.
OF_KINK = 1e3
SUSPECTS = (
    "the usual suspects in it are np.abs, np.linalg.norm, .var(), .std(), np.vecdot, np.conj, .real, float(), "
    "and writing into an array of real numbers; differences took its place"
)


class Slope(NamedTuple):
    """What is known of a slope of f.

    Attributes
    ----------
    left, right : float
        The slopes on the two sides: equal where f is smooth.
    doubt : float
        How far these may be off, beyond the rounding of a complex step.
    witness : float
        The central difference.
    kinks : int or None
        How many decisions of forward (ReLU's x > 0) change between the two sides; None for a kink that no decision in
        the cache tells of.
    blame : str
        Why a complex step could not be believed.
    """

    left: float
    right: float
    doubt: float
    witness: float
    kinks: int | None = 0
    blame: str = ""
    at_point: float = math.nan

    def error(self, ours: float) -> float:
        """How far a slope is from all that are right: the two and what lies between."""
        finite = np.isfinite([self.left, self.right]).all()
        return abs(ours - self.nearest(ours)) if finite else math.nan

    def nearest(self, ours: float) -> float:
        """The right slope that is nearest to ours."""
        return min(max(ours, min(self.left, self.right)), max(self.left, self.right))


class Truth:
    """The slopes of a subject's forward, for one cotangent.

    Attributes
    ----------
    exact : Objective or None
        In complex128; None if forward does not take complex arrays.
    real : Objective
        In float64, or in the subject's own dtype if that is all it takes.
    precision : float
        The rounding error of the subject's dtype.
    forward_error : float
        How far forward in its own dtype is from that in complex128, relative to the largest output.
    """

    def __init__(self, subject: Subject, cotangent: Array, output: Array):
        self.precision = max(float(np.finfo(cotangent.dtype).eps), EPS)
        self.exact, self.refusal = _in_complex(subject, cotangent)
        self.real = Objective(subject, cotangent, np.float64 if self.exact else None)
        off = 0.0 if self.exact is None else float(np.abs(self.exact.output.real - output).max())
        self.forward_error = off and off / float(np.abs(output).max() or 1)

    def along(self, name: str, direction: Array, ours: float, allowed: float) -> Slope:
        """Establish the slope along a direction; what is allowed of ours saves looking at both sides of every point."""
        if self.exact is None:
            return self._by_differences(name, direction, ours, self.refusal)
        truth = self.exact.complex_step({name: direction})
        witness, bend = self.real.central_difference({name: direction}, truth, OF_WITNESS)
        agreed, error = agree(truth, witness), abs(ours - truth)
        if agreed and math.isfinite(bend) and (error <= allowed or error > 2 * bend):  # no kink could excuse that
            return Slope(truth, truth, 0.0, witness.slope)
        left, right = self.sides(name, direction)
        if agreed and agree(truth, left, OF_SIDES) and agree(truth, right, OF_SIDES):
            return Slope(truth, truth, 0.0, witness.slope)
        if agreed or agree((left.slope + right.slope) / 2, witness):
            kinks = self._decisions_between(name, direction, self.exact)
            doubt = left.doubt + right.doubt
            return Slope(left.slope, right.slope, doubt, witness.slope, kinks, at_point=truth)
        blame = f"complex step gives {truth:.6g}, a central difference {witness.slope:.6g}: forward is not analytic"
        return self._by_differences(name, direction, ours, f"{blame}; {SUSPECTS}")

    def sides(self, name: str, direction: Array) -> tuple[Difference, Difference]:
        """The slopes on the left and on the right: complex steps just beside the point, or one-sided differences."""
        if self.exact is None:
            return self._one_sided_differences(name, direction)
        h = self._beside(name, direction)
        sides = []
        for side in (-h, h):
            once, twice, farther = (self.exact.complex_step({name: direction}, times * side) for times in (1, 2, 4))
            at_point = 2 * once - twice
            doubt = 10 * abs(at_point - (2 * twice - farther)) + 10 * EPS * self.exact.terms
            sides.append(Difference(at_point, doubt))
        return sides[0], sides[1]

    def _beside(self, name: str, direction: Array) -> float:
        """A step so small that what it reaches counts as the point itself."""
        array = np.abs(self.real.arrays[name])
        scale = float(array[direction != 0].max()) or float(array.max()) or 1.0
        return OF_KINK * self.precision * scale / float(np.abs(direction).max())

    def _decisions_between(self, name: str, direction: Array, exact: Objective) -> int | None:
        h = self._beside(name, direction)
        below, above = (exact.value({name: direction}, side)[1] for side in (-h, h))
        flips = [np.frombuffer(below[key], bool) != np.frombuffer(above[key], bool) for key in below]
        return sum(int(each.sum()) for each in flips) or None

    def _one_sided_differences(self, name: str, direction: Array) -> tuple[Difference, Difference]:
        left, right = (self.real.extrapolated(name, direction, sides) for sides in ((0, -1), (1, 0)))
        return left, right

    def _by_differences(self, name: str, direction: Array, ours: float, blame: str) -> Slope:
        central = self.real.extrapolated(name, direction)
        smooth = Slope(central.slope, central.slope, central.doubt, central.slope, blame=blame)
        if smooth.error(ours) <= 3 * central.doubt:
            return smooth
        left, right = self._one_sided_differences(name, direction)
        if agree(left.slope, right, 1e-5) or not np.isfinite([left.doubt, right.doubt]).all():
            return smooth
        return Slope(left.slope, right.slope, left.doubt + right.doubt, central.slope, None, blame)


def _in_complex(subject: Subject, cotangent: Array) -> tuple[Objective | None, str]:
    """Return the objective in complex128, or why there is none."""
    try:
        exact = Objective(subject, cotangent, np.complex128)
    except Exception as error:  # code written elsewhere may refuse in any way
        return None, f"forward does not take complex arrays ({type(error).__name__}): differences took their place"
    if exact.output.dtype.kind != "c" or exact.output.shape != cotangent.shape:
        return None, f"forward returns {exact.output.dtype} for complex arrays: it casts to real; {SUSPECTS}"
    return exact, ""


def agree(slope: float, witness: Difference, share: float = OF_WITNESS) -> bool:
    return abs(slope - witness.slope) <= witness.doubt + share * max(abs(slope), abs(witness.slope))
