"""What is differentiated: f = Σ cotangent * forward as a function of each array of the subject, and its raw slopes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from npformer.component import Array, Tree, flatten
from npformer.gradcheck.cases import signed
from npformer.gradcheck.subject import Subject

STEP = 1e-200
# The first step of the central difference; the last, for arrays and slopes of ordinary size; the last for any.
REACH, LEAST_REACH, TINIEST = 1e-5, 1e-10, 1e-300
SHAKES = 10  # how often arrays are moved in their last bits
WIDEST, HALVINGS, ORDERS = 0.1, 24, 4  # the first step of the extrapolated one, how often it is halved, columns
EPS = float(np.finfo(np.float64).eps)


Direction = dict[str, Array]  # how arrays move, by name; those that are not in it stand still


class Directions:
    """Vectors of length 1: the unit vectors, or some random ones whose entries are all of one order.

    No wrong entry of a gradient can hide from such a random vector. They are made anew each time: all unit vectors of a
    large array would not fit into memory.
    """

    def __init__(self, shape: tuple[int, ...], number: int | None, seed: int):
        self.shape, self.number, self.seed = shape, number, seed

    def __iter__(self) -> Iterator[Array]:
        if self.number is None:
            for index in np.ndindex(self.shape):
                vector = np.zeros(self.shape)
                vector[index] = 1
                yield vector
            return
        random = np.random.default_rng(self.seed)
        for _ in range(self.number):
            vector = signed(random, self.shape, 1, 2)
            yield vector / length(vector)


def length(vector: Array) -> float:
    """The root of the sum of the squares."""
    return math.sqrt(np.square(vector).sum())


class Difference(NamedTuple):
    """A slope from differences of f, and how far it may be off."""

    slope: float
    doubt: float

    def betters(self, other: Difference) -> bool:
        """Whether this one, of a smaller step, is more precise than the other or contradicts it."""
        return self.doubt < other.doubt or abs(self.slope - other.slope) > 3 * (self.doubt + other.doubt)


class Objective:
    """f as a function of the arrays of a private copy of the subject, in a dtype of its own."""

    def __init__(self, subject: Subject, cotangent: Array, dtype: npt.DTypeLike | None = None):
        self.subject = subject.cast(dtype)
        self.cotangent = cotangent.astype(np.float64)
        self.arrays = self.subject.arrays()
        self.output, cache = self.subject.forward()
        self.decisions = decisions_in(cache)
        self.at_point = float((self.cotangent * self.output).sum().real)
        self.terms = float(np.abs(self.cotangent * self.output).sum())

    def value(self, direction: Direction, step: complex) -> tuple[Any, dict[str, bytes]]:
        """Return f one step along a direction, and the decisions that forward took there."""
        kept = {name: self.arrays[name].copy() for name in direction}
        for name, vector in direction.items():
            self.arrays[name] += step * vector
        try:
            output, cache = self.subject.forward()
            return (self.cotangent * output).sum(), decisions_in(cache)
        finally:
            for name, array in kept.items():
                self.arrays[name][...] = array

    def complex_step(self, direction: Direction, beside: float = 0.0) -> float:
        """The slope f'(a; v) = f(a + ihv).imag / h, or that at a + beside * v."""
        return float(self.value(direction, beside + 1j * STEP)[0].imag / STEP)

    def spread(self, name: str, directions: Directions, slopes: Array, rounding: float) -> Array:
        """How far each slope moves when every array moves in its last bit: what cannot be known of it."""
        random = np.random.default_rng(0)
        kept = {each: array.copy() for each, array in self.arrays.items()}
        farthest = np.zeros(len(slopes))
        for _ in range(SHAKES):
            for array in self.arrays.values():
                array *= 1 + rounding * random.choice([-1.0, 1.0], array.shape)
            if decisions_in(self.subject.forward()[1]) == self.decisions:  # what happens across a kink is no rounding
                moved = [self.complex_step({name: direction}) for direction in directions]
                farthest = np.maximum(farthest, np.abs(moved - slopes))
            for each, array in kept.items():
                self.arrays[each][...] = array
        return farthest

    def typical_slope(self, name: str) -> float:
        """How steep f is if it changes by all its terms while an array changes by all of itself."""
        array = self.arrays[name]
        return self.terms / (float(np.ptp(array)) or float(np.abs(array).max()) or 1.0)

    def central_difference(self, direction: Direction, expected: float, share: float) -> tuple[Difference, float]:
        """The slope (f(a + hv) - f(a - hv)) / 2h, and how far the slopes on the two sides can differ at most.

        That is (f(a + hv) - 2 f(a) + f(a - hv)) / h and its rounding error, or infinite where a decision changes.

        h shrinks until no decision (ReLU's x > 0) changes and the slope is what is expected, but for a share of it, or
        to its least. The rounding error is judged by the terms of f, the truncation error by the slope before.
        """
        scale = max(float(np.abs(self.arrays[name]).max()) for name in direction) or 1.0
        # A step must not be longer than what f takes to change by all of itself.
        least = min(LEAST_REACH * min(scale, 1.0), 1e-3 * self.terms / abs(expected) if expected else math.inf)
        h, before, best = REACH, math.nan, Difference(math.nan, math.inf)
        while True:
            above, decisions_above = self.value(direction, h)
            below, decisions_below = self.value(direction, -h)
            smooth = decisions_above == self.decisions == decisions_below
            slope = float(above - below) / (2 * h)
            of_rounding = 10 * EPS * (self.terms + scale * max(abs(slope), abs(expected))) / h
            newest = Difference(slope, of_rounding + (0.0 if math.isnan(before) else abs(slope - before)))
            # A smaller step has more rounding, and agrees with anything in the end: it counts where it contradicts.
            if not math.isnan(before) and newest.betters(best):
                best = newest
            so_far = best if best.doubt < math.inf else newest
            agreed = abs(so_far.slope - expected) <= so_far.doubt + share * abs(expected)
            if h <= max(least, TINIEST) or (smooth and agreed):
                bend = abs(float(above + below) - 2 * self.at_point) / h + 20 * EPS * self.terms / h
                return so_far, bend if smooth else math.inf
            h, before = h / 10, slope if smooth else math.nan

    def extrapolated(self, name: str, direction: Array, sides: tuple[int, int] = (1, -1)) -> Difference:
        """The slope from differences with steps h, h/2, h/4, … extrapolated to h = 0 (Richardson 1911; Ridders 1982).

        The doubt is the least that the table offers: what neighbours differ by, and what the noise of f makes of it.
        Sides (1, -1) give the central difference; (1, 0) and (0, -1) the one-sided ones.
        """
        array = self.arrays[name]
        most = float(array.std()) or float(np.abs(array).max()) or 1.0
        moving = float(np.abs(array[direction != 0]).max()) or most  # may be a small entry beside large ones
        scale, local = (each / float(np.abs(direction).max()) for each in (most, moving))
        noise = self._noise(name, local * direction, sides)
        ratio = 4 if sides == (1, -1) else 2  # the error is a series in h² for the central difference, in h for others
        h = WIDEST * scale
        best, last = Difference(math.nan, math.inf), list[float]()
        for _ in range(HALVINGS + max(0, math.ceil(math.log2(most / moving)))):
            (above, upper), (below, lower) = (self._reached(name, side * h, direction) for side in sides)
            row = [(above - below) / (upper - lower) if upper > lower else math.nan]
            newest = Difference(math.nan, math.inf)
            for order in range(1, min(len(last) + 1, ORDERS)):
                row.append(row[-1] + (row[-1] - last[order - 1]) / (ratio**order - 1))
                doubt = max(abs(row[order] - row[order - 1]), abs(row[order] - last[order - 1])) + 3 * noise / h
                if doubt < newest.doubt:
                    newest = Difference(row[order], doubt)
            # Neighbours that agree by chance, as over whole periods of a sine, are contradicted by smaller steps.
            if newest.betters(best):
                best = newest
            h, last = h / 2, row
        return best

    def _reached(self, name: str, step: float, direction: Array) -> tuple[float, float]:
        """Return f after a step, and how far the array has really moved along the direction in its dtype."""
        array = self.arrays[name]
        moved = (array + (step * direction).astype(array.dtype)).astype(np.float64) - array
        return float(self.value({name: direction}, step)[0]), float(
            (moved * direction).sum() / np.square(direction).sum()
        )

    def _noise(self, name: str, reach: Array, sides: tuple[int, int]) -> float:
        """How much f varies at random: its third differences over steps so small that f is a straight line."""
        step = max(1e-6, 1e3 * float(np.finfo(self.arrays[name].dtype).eps))

        def values(offsets: Any) -> Array:
            return np.array([float(self.value({name: reach}, offset)[0]) for offset in offsets])

        near = values(step * np.linspace(4 * sum(sides) - 4, 4 * sum(sides) + 4, 9))
        of_output = float(np.finfo(self.output.dtype).eps) * self.terms
        noise = max(of_output, float(np.abs(np.diff(near, 3)).max()) / math.sqrt(20))
        if np.ptp(near) == 0:  # flat here; if it is flat everywhere and yet varies, it is a staircase
            far = np.linspace(-WIDEST, WIDEST, 9)
            treads, risen = values(far), values(far + step)
            if np.array_equal(treads, risen):
                noise += float(np.ptp(treads))
        return noise


def decisions_in(cache: Tree) -> dict[str, bytes]:
    """The boolean arrays in a cache: masks, and which side of a kink each entry is on."""
    return {
        name: leaf.tobytes()
        for name, leaf in flatten(cache).items()
        if isinstance(leaf, np.ndarray) and leaf.dtype == bool
    }
