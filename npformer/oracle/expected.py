"""What an implementation should give: every array in float64, and how far each of its entries may be off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from npformer.attention import ScaledDotProductAttention
from npformer.component import Array, Component, flatten
from npformer.dropout import Dropout
from npformer.gradcheck.subject import input_names
from npformer.oracle.kernels import compared_entries
from npformer.oracle.recorder import Arrays, join
from npformer.oracle.rounding import Format, find_format
from npformer.oracle.tolerance import Predicted, Tolerance, predict, tolerances
from npformer.oracle.trace import Recording, Trace
from npformer.shapes import check_floats, check_part


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
        """Return what all is computed from: inputs, options, parameters, dropout masks and the output's gradient."""
        component, inputs = self.recording.component, self.recording.inputs
        names = [*input_names(component.forward, len(inputs)), *self.recording.options, "grad_output"]
        names += [join(path, "mask") for path, part in self.truth.parts.items() if isinstance(part, Dropout)]
        parameters: Arrays = flatten(component.parameters())
        return parameters | {name: self.truth[name] for name in names if name in self.truth}

    def predict(self, given: Mapping[str, Array]) -> Predicted:
        """Run with some arrays given, each in the place of ours, and return what each operation makes of them."""
        given = dict(given)
        stand_ins: dict[str, str] = {}
        for path, part in self.truth.parts.items():  # what backward goes on with is not masked yet
            masked, unmasked = join(path, "grad_scores"), join(path, "softmax.grad_x")
            unmasked = self.truth.aliases.get(unmasked, unmasked)
            if isinstance(part, ScaledDotProductAttention) and masked in given and unmasked not in given:
                given[unmasked] = given[masked]
                stand_ins[masked] = unmasked
        return predict(self.recording, given, self.compared, stand_ins)

    def tolerances_of(self, predicted: Predicted) -> dict[str, Tolerance]:
        """Return how far each entry of what was predicted may be off."""
        return tolerances(predicted, self.storage, self.accumulation)

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
    expected.tolerances = expected.tolerances_of(expected.predict({}))
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
