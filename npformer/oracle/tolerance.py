"""How far each entry of an array may be off: what it becomes where every operation rounds at random."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from npformer.component import Array, Component
from npformer.gradcheck.subject import silence
from npformer.oracle.recorder import Arrays, Passage
from npformer.oracle.rounding import Format, Rounding, relu_inputs
from npformer.oracle.trace import Recording, Trace

RUNS = 16
SPREADS = 8.0  # standard deviations that an entry may be off; 16 runs know a deviation to within a fifth
SHARED = 0.25  # of an array's typical deviation that each entry may be off too: by chance 16 runs miss what it has
FLOOR = 8.0  # units of an array's root mean square: what is smaller is of no interest
KINKED = 4.0  # an entry is apart if a kink lets it be off by this many times its tolerance


@dataclass(frozen=True)
class Tolerance:
    """How far the entries of one array may be off.

    Attributes
    ----------
    allowed : array
        For each entry; from roundings alone.
    at_kinks : array or None
        The same where entries before a ReLU that lie within rounding of 0, or that such a kink may move across 0, may
        fall to either side; None if there are none.
    """

    allowed: Array
    at_kinks: Array | None = None

    @property
    def limit(self) -> Array:
        """For each entry, with both sides of a kink allowed."""
        return self.allowed if self.at_kinks is None else self.at_kinks

    @property
    def apart(self) -> npt.NDArray[np.bool_]:
        """Which entries depend on the side of a kink that rounding decides."""
        if self.at_kinks is None:
            return np.zeros(self.allowed.shape, bool)
        apart: npt.NDArray[np.bool_] = self.at_kinks > KINKED * self.allowed
        return apart


class _Given(Passage):
    """Arrays that take the place of ours as soon as those are made; what they replace is kept.

    Parameters
    ----------
    given : dict
        The arrays, by name.
    compared : dict
        For some arrays, which of the entries are taken.
    stand_ins : dict
        For some arrays that nothing is computed from, the one that was replaced because they were given.
    rounding : Passage
        What happens to ours first.
    """

    def __init__(
        self,
        given: Mapping[str, Array],
        compared: Mapping[str, Array],
        stand_ins: Mapping[str, str],
        rounding: Passage,
    ):
        self.given, self.compared, self.stand_ins, self.rounding = given, compared, stand_ins, rounding
        self.made: Arrays = {}

    def into(self, component: Component, arrays: Arrays, *, backward: bool) -> Arrays:
        """Leave a component's own arithmetic to the roundings."""
        return self.rounding.into(component, arrays, backward=backward)

    def out(self, component: Component, name: str, array: Array) -> Array:
        """Keep what was made, and hand on what was given."""
        array = self.rounding.out(component, name, array)
        if name in self.stand_ins:  # it was made of what was given, which would always be right
            replaced = self.stand_ins[name]
            array = np.where(self.compared.get(replaced, True), self.made[replaced], 0.0)
        self.made[name] = array
        if name not in self.given:
            return array
        return np.where(self.compared.get(name, True), self.given[name], array)


@dataclass(frozen=True)
class Predicted:
    """What our operations make of arrays that were given.

    Attributes
    ----------
    recording : Recording
        What was run.
    given, compared : dict
        The arrays that were given, each in the place of ours, and of some which entries were taken.
    stand_ins : dict
        For some arrays that nothing is computed from, the one that was replaced because they were given.
    made : dict
        What each operation made of what it was given, before that was replaced.
    run : Trace
        The arrays that went on.
    """

    recording: Recording
    given: Mapping[str, Array]
    compared: Mapping[str, Array]
    stand_ins: Mapping[str, str]
    made: Arrays
    run: Trace

    def rounded(self, rounding: Passage) -> Predicted:
        """Run once more, with roundings."""
        return predict(self.recording, self.given, self.compared, self.stand_ins, rounding)


def predict(
    recording: Recording,
    given: Mapping[str, Array],
    compared: Mapping[str, Array],
    stand_ins: Mapping[str, str],
    rounding: Passage | None = None,
) -> Predicted:
    """Run with some arrays given, each in the place of ours, and return what each operation makes of them."""
    passage = _Given(given, compared, stand_ins, rounding or Passage())
    with silence():  # what was given may be NaN or infinite
        run = recording.rerun(passage)
    return Predicted(recording, given, compared, stand_ins, passage.made, run)


def tolerances(predicted: Predicted, storage: Format, accumulation: Format) -> dict[str, Tolerance]:
    """Return the tolerance of every array that floating-point operations made, of what was predicted."""
    allowed = reach = _spread(predicted, storage, accumulation, {})
    inputs = [name for name in relu_inputs(predicted.run) if name not in predicted.given and name in allowed]
    opened = 0
    while True:  # a kink moves what comes after it, maybe across another one
        kinks = {name: np.where(np.abs(predicted.run[name]) <= reach[name], reach[name], 0.0) for name in inputs}
        count = sum(int(np.count_nonzero(width)) for width in kinks.values())
        if count == opened:
            break
        opened = count
        at_kinks = _spread(predicted, storage, accumulation, kinks)
        reach = {name: np.maximum(array, at_kinks[name]) for name, array in reach.items()}
    if not opened:
        return {name: Tolerance(array) for name, array in allowed.items()}
    return {name: Tolerance(array, reach[name]) for name, array in allowed.items()}


def _spread(predicted: Predicted, storage: Format, accumulation: Format, kinks: Arrays) -> Arrays:
    """Return how far each entry may be off, from RUNS runs with roundings at random."""
    floats = {name: array for name, array in predicted.made.items() if array.dtype.kind == "f"}
    norms = {name: np.zeros(array.shape) for name, array in floats.items()}
    for run in range(RUNS):
        rounding = Rounding(storage, accumulation, predicted.run, np.random.default_rng(run), kinks)
        noisy = predicted.rounded(rounding).made
        for name, array in floats.items():
            with silence():
                norms[name] = np.hypot(norms[name], noisy[name] - array)  # the squares of tiny numbers are 0
    floor = FLOOR * max(storage.unit, accumulation.unit)
    allowed: Arrays = {}
    for name, array in floats.items():
        which = predicted.compared.get(name, ...)
        deviation = norms[name] / math.sqrt(RUNS)
        shared = SHARED * _root_mean_square(deviation[which])
        allowed[name] = SPREADS * (deviation + shared) + floor * _root_mean_square(array[which]) + storage.tiny
    return allowed


def _root_mean_square(array: Array) -> float:
    """Return that of the finite entries."""
    finite = array[np.isfinite(array)]
    largest = float(np.abs(finite).max(initial=0.0))
    return largest * math.sqrt(float(np.mean((finite / largest) ** 2))) if largest else 0.0
