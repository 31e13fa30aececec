"""Correct implementations of a component that compute otherwise: in another type, order or algebra."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from reorderings import reorder
from rewrites import plant
from rewrites.registry import parts_of

from npformer import PositionwiseFeedForward, ReLU
from npformer.attention import MASKED_SCORE
from npformer.component import Array, Component, flatten
from npformer.dropout import RandomSource
from npformer.gradcheck import Sizes, make_case
from npformer.gradcheck.subject import input_names, named_gradients
from npformer.oracle import Comparison, Expected, compare, expect
from npformer.oracle.recorder import Arrays, Passage
from npformer.oracle.rounding import FORMATS, Format
from npformer.oracle.trace import Recording

ORDINARY = Sizes()
PARAMETER_GRADIENTS = {"grad_weight", "grad_bias"}  # have no batch


@dataclass(frozen=True)
class Trial:
    """One correct implementation; its repr makes it again.

    Attributes
    ----------
    case : str
        A key of CASES.
    sizes, seed
        As for make_case.
    storage : str
        A key of FORMATS.
    order : str
        A key of ORDERS, for every sum; "" for the order of the component.
    rewrites : tuple of str
        Keys of REWRITES, planted in every part that they belong to.
    permuted : bool
        Whether theirs has the batch in another order.
    relu : bool
        Whether feed-forward networks have ReLU in place of their activation.
    scale : float
        What the floating inputs are multiplied by.
    dropout : bool
        Whether forward gets its rng.
    """

    case: str
    sizes: Sizes = ORDINARY
    seed: int = 0
    storage: str = "float32"
    order: str = ""
    rewrites: tuple[str, ...] = ()
    permuted: bool = False
    relu: bool = False
    scale: float = 1.0
    dropout: bool = True

    def expected(self) -> Expected:
        """Return what it should give."""
        rng = np.random.default_rng(self.seed)
        case = make_case(self.case, self.sizes, rng)
        component = with_relu(case.component) if self.relu else case.component
        inputs = tuple(self.scale * x if x.dtype.kind == "f" else x for x in case.inputs)
        options = {name: value for name, value in case.options.items() if self.dropout or name != "rng"}
        output = component(*inputs, **copy.deepcopy(options))
        return expect(
            component, *inputs, grad_output=rng.standard_normal(output.shape), storage=self.storage, **options
        )

    def theirs(self, expected: Expected) -> Arrays:
        """Return what it gives, by every name that an array has."""
        recording, storage = expected.recording, FORMATS[self.storage]
        component = plant(recording.component, self.rewrites)
        component = reorder(component, self.order) if self.order else component
        dtype = np.float64 if self.storage == "float64" else np.float32
        inputs = tuple(x.astype(dtype) if x.dtype.kind == "f" else x for x in recording.inputs)
        assert recording.grad_output is not None
        grad_output, options = recording.grad_output.astype(dtype), recording.options
        batch = len(inputs[0])
        permutation = np.random.default_rng(self.seed).permutation(batch) if self.permuted else np.arange(batch)
        if self.permuted:
            inputs = tuple(x[permutation] for x in inputs)
            grad_output = grad_output[permutation] if grad_output.ndim else grad_output  # that of a loss has no batch
            options = {name: _permuted(value, permutation) for name, value in options.items()}
        if self.rewrites:  # they use their parts as they like: output and gradients alone have their names
            component = component.astype(dtype)
            output, cache = component.forward(*inputs, **copy.deepcopy(options))
            names = input_names(type(recording.component).forward, len(inputs) + 1)[1:]
            gradients = flatten(named_gradients(component, names, grad_output, cache))
            made = {"output": output} | {_grad_name(name): gradient for name, gradient in gradients.items()}
            arrays = {name: Stored(storage).out(component, name, array) for name, array in made.items()}
        else:
            run = Recording(component.astype(dtype), inputs, options, grad_output).rerun(Stored(storage))
            arrays = {name: run[name] for name in [*run, *run.aliases]}
        back = np.argsort(permutation)
        return {
            name: array[back]
            if array.shape[:1] == (batch,) and name.rpartition(".")[2] not in PARAMETER_GRADIENTS
            else array
            for name, array in arrays.items()
        }

    def comparison(self) -> Comparison:
        """Return the comparison, which should pass."""
        expected = self.expected()
        return compare(self.theirs(expected), expected)


class Stored(Passage):
    """Arrays that are rounded to a storage type wherever they pass a boundary."""

    def __init__(self, storage: Format):
        self.storage = storage

    def out(self, component: Component, name: str, array: Array) -> Array:
        """Round, but for the score that stands for a masked one."""
        if array.dtype.kind != "f":
            return array
        stored: Array = self.storage.round(np.where(array == MASKED_SCORE, 0, array)).astype(array.dtype)
        return np.where(array == MASKED_SCORE, array, stored)


class PermutedSource:
    """A random source that draws for a batch in another order."""

    def __init__(self, rng: RandomSource, permutation: Array):
        self.rng, self.permutation = rng, permutation

    def random(self, shape: tuple[int, ...], /) -> Array:
        """Return what the source draws, in the order of the batch."""
        return self.rng.random(shape)[self.permutation]


def _grad_name(name: str) -> str:
    path, dot, leaf = name.rpartition(".")
    return f"{path}{dot}grad_{leaf}"


def _permuted(value: Any, permutation: Array) -> Any:
    """Return an option for a permuted batch: a mask, or the source of dropout masks."""
    if isinstance(value, np.ndarray):
        return value[permutation] if len(value) == len(permutation) else value
    return PermutedSource(value, permutation)


def with_relu(component: Component) -> Component:
    """Return a copy whose feed-forward networks have ReLU."""
    twin = copy.deepcopy(component)
    for part in parts_of(twin):
        if isinstance(part, PositionwiseFeedForward):
            part.activation = ReLU()
    return twin
