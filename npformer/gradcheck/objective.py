"""What is differentiated: the forward of a component as a function of one of its arrays, and its slopes."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt

from npformer.component import Array, Component, Tree, flatten

STEP = 1e-200
REACH = 1e-5  # the step of the central difference


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
        output, cache = self.component.forward(*self.inputs, **copy.deepcopy(options))
        self.decisions = decisions_in(cache)
        self.terms = float(np.abs(cotangent * output).sum())

    def complex_step(self, name: str, direction: Array) -> float:
        """The slope f'(v) = f(a + ihv).imag / h."""
        return float(self._nudged(name, 1j * STEP * direction)[0].imag / STEP)

    def central_difference(self, name: str, direction: Array) -> tuple[float, float]:
        """The slope (f(a + hv) - f(a - hv)) / 2h, and how far it may be off.

        The direction has length 1, and h is so small that no decision (ReLU's x > 0) changes. The truncation error is
        judged by the slope at h/10, the rounding error by the size of the terms of f.
        """
        h = REACH
        slope, decided = self._difference(name, h * direction)
        while not decided and h > 1e-10:
            h /= 10
            slope, decided = self._difference(name, h * direction)
        finer, _ = self._difference(name, h / 10 * direction)
        rounding = 10 * np.finfo(np.float64).eps * self.terms
        return slope / (2 * h), abs(slope - 10 * finer) / (2 * h) + rounding / h

    def _difference(self, name: str, nudge: Array) -> tuple[float, bool]:
        above, decisions_above = self._nudged(name, nudge)
        below, decisions_below = self._nudged(name, -nudge)
        return float(above - below), decisions_above == self.decisions == decisions_below

    def _nudged(self, name: str, nudge: Array) -> tuple[Any, dict[str, bytes]]:
        array = self.arrays[name]
        kept = array.copy()
        array += nudge
        try:
            return self._evaluate()
        finally:
            array[...] = kept

    def _evaluate(self) -> tuple[Any, dict[str, bytes]]:
        output, cache = self.component.forward(*self.inputs, **copy.deepcopy(self.options))
        return (self.cotangent * output).sum(), decisions_in(cache)


def decisions_in(cache: Tree) -> dict[str, bytes]:
    """The boolean arrays in a cache: masks, and which side of a kink each entry is on."""
    return {
        name: leaf.tobytes()
        for name, leaf in flatten(cache).items()
        if isinstance(leaf, np.ndarray) and leaf.dtype == bool
    }
