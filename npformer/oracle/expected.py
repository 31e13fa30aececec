"""What an implementation should give: every array in float64, and how far each of its entries may be off."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from npformer.attention import ScaledDotProductAttention
from npformer.component import Array, Component, flatten
from npformer.gradcheck.subject import input_names, silence
from npformer.oracle.kernels import compared_entries
from npformer.oracle.rounding import Format, Rounding, find_format, relu_inputs
from npformer.oracle.trace import Arrays, Passage, Recording, Trace
from npformer.shapes import check_floats, check_part

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
        The same where entries before a ReLU that lie within rounding of 0 may fall to either side; None if there are
        none.
    """

    allowed: Array
    at_kinks: Array | None = None

    @property
    def limit(self) -> Array:
        """For each entry, with both sides of a kink allowed where it is apart."""
        return self.allowed if self.at_kinks is None else np.where(self.apart, self.at_kinks, self.allowed)

    @property
    def apart(self) -> npt.NDArray[np.bool_]:
        """Which entries depend on the side of a kink that rounding decides."""
        if self.at_kinks is None:
            return np.zeros(self.allowed.shape, bool)
        apart: npt.NDArray[np.bool_] = self.at_kinks > KINKED * self.allowed
        return apart


class Given(Passage):
    """Arrays that take the place of ours as soon as those are made; what they replace is kept.

    Parameters
    ----------
    given : dict
        The arrays, by name.
    compared : dict
        For some arrays, which of the entries are taken.
    rounding : Passage
        What happens to ours first.
    """

    def __init__(self, given: Mapping[str, Array], compared: Mapping[str, Array], rounding: Passage):
        self.given, self.compared, self.rounding = given, compared, rounding
        self.made: Arrays = {}

    def into(self, component: Component, arrays: Arrays, *, backward: bool) -> Arrays:
        """Leave a component's own arithmetic to the roundings."""
        return self.rounding.into(component, arrays, backward=backward)

    def out(self, component: Component, name: str, array: Array) -> Array:
        """Keep what was made, and hand on what was given."""
        self.made[name] = array = self.rounding.out(component, name, array)
        if name not in self.given:
            return array
        return np.where(self.compared.get(name, True), self.given[name], array)


@dataclass(frozen=True)
class Predicted:
    """What our operations make of arrays that were given.

    Attributes
    ----------
    made : dict
        What each operation made of what it was given, before that was replaced.
    run : Trace
        The arrays that went on.
    given : dict
        Those that were given.
    """

    made: Arrays
    run: Trace
    given: Mapping[str, Array]


@dataclass
class Expected:
    """The arrays that an implementation should give, with their tolerances.

    Attributes
    ----------
    recording : Recording
        The component, in float64 with parameters that are exact in the storage type, and what it is run on.
    storage, accumulation : Format
        What the implementation stores arrays in, and computes sums in.
    tolerances : dict
        For each array that is compared.
    compared : dict
        For some arrays, which entries are compared; of the others all are.
    """

    recording: Recording
    storage: Format
    accumulation: Format
    tolerances: dict[str, Tolerance] = field(default_factory=dict)
    compared: dict[str, npt.NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def truth(self) -> Trace:
        """All arrays in float64, by name and in order."""
        return self.recording.trace

    def sources(self) -> Arrays:
        """Return what everything is computed from: inputs, options, parameters and the gradient of the output."""
        component, inputs = self.recording.component, self.recording.inputs
        names = [*input_names(component.forward, len(inputs)), *self.recording.options, "grad_output"]
        parameters: Arrays = flatten(component.parameters())
        return parameters | {name: self.truth[name] for name in names if name in self.truth}

    def predict(self, given: Mapping[str, Array]) -> Predicted:
        """Run with some arrays given, each in the place of ours, and return what each operation makes of them."""
        return _predict(self, given, Passage())

    def results(self) -> list[str]:
        """Return the names of the output and of the gradients of inputs and parameters."""
        wanted = {"output"}
        if self.recording.grad_output is not None:
            component = self.recording.component
            wanted |= {f"grad_{name}" for name in input_names(component.forward, 9)}
            for name in flatten(component.parameters()):
                path, dot, leaf = name.rpartition(".")
                wanted.add(f"{path}{dot}grad_{leaf}")
        wanted = {self.truth.aliases.get(name, name) for name in wanted}
        return [name for name in self.truth if name in wanted]


def expect(
    component: Component,
    *inputs: Array,
    grad_output: Array | None = None,
    storage: str = "float32",
    accumulation: str | None = None,
    **options: Any,
) -> Expected:
    """Return what an implementation of a component should give, and how far it may be off.

    Inputs, parameters and grad_output are rounded to the storage type first; everything is then computed in float64.
    The tolerance of each entry is SPREADS standard deviations of what it becomes in RUNS runs with roundings at random
    (npformer.oracle.rounding says which, and where that comes from), or FLOOR units of the array's root mean square.

    Parameters
    ----------
    component : Component
        Any.
    *inputs, **options
        What its forward is called with.
    grad_output : array, optional
        Gradient of the output; without it there is no backward.
    storage, accumulation : {"float64", "float32", "float16", "bfloat16"}
        What the implementation stores its arrays in, and computes its sums in; the latter float32 if not given, and
        float64 for float64.

    Examples
    --------
    >>> from npformer import LayerNorm
    >>> x = np.random.default_rng(0).standard_normal((2, 8))
    >>> expected = expect(LayerNorm(8), x, grad_output=x[::-1])
    >>> expected.results()
    ['output', 'grad_weight', 'grad_bias', 'grad_x']
    >>> bool(expected.tolerances["output"].allowed.max() < 1e-5)
    True
    """
    check_part("component", component, Component)
    stored = find_format("storage", storage)
    summed = find_format("accumulation", accumulation or ("float64" if storage == "float64" else "float32"))
    component = component.astype(np.float64)
    parameters = {name: _stored(name, array, stored) for name, array in flatten(component.parameters()).items()}
    component = component.with_parameters(parameters)
    inputs = tuple(
        _stored(f"input {index}", x, stored) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x
        for index, x in enumerate(inputs)
    )
    if grad_output is not None:
        grad_output = _stored("grad_output", grad_output, stored)
    expected = record(Recording(component, inputs, options, grad_output), stored, summed)
    expected.tolerances = tolerances(expected, expected.predict({}))
    return expected


def record(recording: Recording, storage: Format, accumulation: Format) -> Expected:
    """Return what is expected, but for the tolerances; what is recorded must be exact in the storage type."""
    expected = Expected(recording, storage, accumulation)
    for path, part in expected.truth.parts.items():
        if isinstance(part, ScaledDotProductAttention):
            expected.compared |= _compared_of_core(expected.truth, f"{path}." if path else "")
    return expected


def _stored(name: str, array: Array, storage: Format) -> Array:
    check_floats(name, array, "...")
    if not np.isfinite(array).all() or np.abs(array).max() > storage.largest:
        raise ValueError(
            f"{name} must have finite entries of at most {storage.largest:.6g} for {storage.name}, but it does not"
        )
    return storage.round(array).astype(np.float64)


def tolerances(expected: Expected, predicted: Predicted) -> dict[str, Tolerance]:
    """Return the tolerance of every array that floating-point operations made, of what was predicted."""
    allowed = _spread(expected, predicted, {})
    kinks = {
        name: np.where(np.abs(predicted.run[name]) <= allowed[name], allowed[name], 0.0)
        for name in relu_inputs(predicted.run)
        if name not in predicted.given and name in allowed
    }
    if not any(width.any() for width in kinks.values()):
        return {name: Tolerance(array) for name, array in allowed.items()}
    at_kinks = _spread(expected, predicted, kinks)
    return {name: Tolerance(array, np.maximum(array, at_kinks[name])) for name, array in allowed.items()}


def _spread(expected: Expected, predicted: Predicted, kinks: Arrays) -> Arrays:
    """Return how far each entry may be off, from RUNS runs with roundings at random."""
    floats = {name: array for name, array in predicted.made.items() if array.dtype.kind == "f"}
    norms = {name: np.zeros(array.shape) for name, array in floats.items()}
    for run in range(RUNS):
        rng = np.random.default_rng(run)
        rounding = Rounding(expected.storage, expected.accumulation, predicted.run, rng, kinks)
        noisy = _predict(expected, predicted.given, rounding).made
        for name, array in floats.items():
            with silence():
                norms[name] = np.hypot(norms[name], noisy[name] - array)  # the squares of tiny numbers are 0
    floor = FLOOR * max(expected.storage.unit, expected.accumulation.unit)
    allowed: Arrays = {}
    for name, array in floats.items():
        which = expected.compared.get(name, ...)
        deviation = norms[name] / math.sqrt(RUNS)
        shared = SHARED * _root_mean_square(deviation[which])
        allowed[name] = SPREADS * (deviation + shared) + floor * _root_mean_square(array[which]) + expected.storage.tiny
    return allowed


def _root_mean_square(array: Array) -> float:
    """Return that of the finite entries."""
    finite = array[np.isfinite(array)]
    largest = float(np.abs(finite).max(initial=0.0))
    return largest * math.sqrt(float(np.mean((finite / largest) ** 2))) if largest else 0.0


def _predict(expected: Expected, given: Mapping[str, Array], rounding: Passage) -> Predicted:
    passage = Given(given, expected.compared, rounding)
    with silence():  # what was given may be NaN or infinite
        run = expected.recording.rerun(passage)
    return Predicted(passage.made, run, given)


def _compared_of_core(truth: Trace, prefix: str) -> dict[str, npt.NDArray[np.bool_]]:
    """Return which entries of the arrays of an attention core are compared."""
    mask = truth.get(f"{prefix}mask")
    if mask is None:
        return {}
    entries = {
        name: compared_entries(name.removeprefix(prefix), mask != 0, array.shape)
        for name, array in truth.items()
        if name.startswith(prefix)
    }
    return {name: which for name, which in entries.items() if which is not None}
