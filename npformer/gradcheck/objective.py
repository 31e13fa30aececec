"""What is differentiated: the forward of a component as a function of one of its arrays, and its slopes."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from npformer.component import Array, Component, Tree, flatten
from npformer.gradcheck.cases import signed

STEP = 1e-200
REACH, LEAST_REACH = 1e-5, 1e-10  # the first step of the central difference, and the last
# The central difference may differ this much from the complex step, beyond its own measured uncertainty, before neither
# is believed.
OF_WITNESS = 1e-6
EPS = float(np.finfo(np.float64).eps)


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


class Objective:
    """f = Σ cotangent * forward as a function of each of its arrays, which are private copies of a dtype."""

    def __init__(
        self,
        component: Component,
        names: list[str],
        inputs: tuple[Array, ...],
        options: dict[str, Any],
        cotangent: Array,
        dtype: npt.DTypeLike,
    ):
        self.component = component.astype(dtype)
        self.inputs = [x.astype(dtype) if x.dtype.kind in "fc" else x for x in inputs]
        self.options = options
        self.cotangent = cotangent
        self.precision = cotangent.dtype
        floating = {name: x for name, x in zip(names, self.inputs, strict=True) if x.dtype.kind in "fc"}
        self.arrays: dict[str, Array] = floating | flatten(self.component.parameters())
        output, self.decisions = self._forward()
        self.terms = float(np.abs(cotangent * output).sum())

    def complex_step(self, name: str, direction: Array) -> float:
        """The slope f'(v) = f(a + ihv).imag / h."""
        return float(self._nudged(name, 1j * STEP * direction)[0].imag / STEP)

    def spread(self, name: str, along: Directions, slopes: Array, rounding: float) -> float:
        """How far the slopes move when every array moves in its last bit: what cannot be known of them."""
        random = np.random.default_rng(0)
        kept = {each: array.copy() for each, array in self.arrays.items()}
        farthest = 0.0
        for _ in range(3):
            for array in self.arrays.values():
                array *= 1 + rounding * random.choice([-1.0, 1.0], array.shape)
            if self._forward()[1] == self.decisions:  # what happens across a kink is no rounding
                moved = [self.complex_step(name, direction) for direction in along]
                farthest = max(farthest, float(np.abs(moved - slopes).max()))
            for each, array in kept.items():
                self.arrays[each][...] = array
        return farthest

    def central_difference(self, name: str, direction: Array, expected: float) -> tuple[float, float, bool]:
        """The slope (f(a + hv) - f(a - hv)) / 2h, how far it may be off, and whether it is one of a smooth function.

        h shrinks until no decision (ReLU's x > 0) changes and the slope is what is expected, or to its least. The
        rounding error is judged by the terms of f, the truncation error by the slope before.
        """
        h, before = REACH, math.nan
        while True:
            above, decisions_above = self._nudged(name, h * direction)
            below, decisions_below = self._nudged(name, -h * direction)
            smooth = decisions_above == self.decisions == decisions_below
            slope = float(above - below) / (2 * h)
            doubt = 10 * EPS * self.terms / h + (0.0 if math.isnan(before) else abs(slope - before))
            if h <= LEAST_REACH or (smooth and abs(slope - expected) <= doubt + OF_WITNESS * abs(expected)):
                return slope, doubt, smooth
            h, before = h / 10, slope if smooth else math.nan

    def _nudged(self, name: str, nudge: Array) -> tuple[Any, dict[str, bytes]]:
        array = self.arrays[name]
        kept = array.copy()
        array += nudge
        try:
            output, decisions = self._forward()
            return (self.cotangent * output).sum(), decisions
        finally:
            array[...] = kept

    def _forward(self) -> tuple[Any, dict[str, bytes]]:
        with warnings.catch_warnings():
            # a forward that casts to real loses the complex step, which the central difference will tell
            warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
            output, cache = self.component.forward(*self.inputs, **copy.deepcopy(self.options))
        return output, decisions_in(cache)


def decisions_in(cache: Tree) -> dict[str, bytes]:
    """The boolean arrays in a cache: masks, and which side of a kink each entry is on."""
    return {
        name: leaf.tobytes()
        for name, leaf in flatten(cache).items()
        if isinstance(leaf, np.ndarray) and leaf.dtype == bool
    }


def fingerprints(tree: Tree) -> dict[str, bytes]:
    """The bytes of every array in a tree, so that a change to one shows."""
    return {name: leaf.tobytes() for name, leaf in flatten(tree).items() if isinstance(leaf, np.ndarray)}
