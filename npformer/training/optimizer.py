"""What all optimizers have: checks before anything is written, and a memory that can be kept and taken up again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from npformer.component import Array, Tree, flatten
from npformer.shapes import check_count, check_number, check_same_arrays, check_tree
from npformer.training.gradients import check_finite, check_real, named_gradients

Arrays = Mapping[str, Array]  # by dotted names


class Optimizer(ABC):
    """A rule that turns gradients into new parameters; SGD, Adam and AdamW are its kinds.

    Attributes
    ----------
    learning_rate : float
        Anyone may set it before a step; a schedule does.
    steps : int
        How many were taken.
    memory : dict
        Of each kind of memory, such as "velocity", one array for each parameter, by dotted names.
    """

    memory_names: tuple[str, ...]
    never_negative: tuple[str, ...] = ()

    def __init__(self, learning_rate: float):
        self.learning_rate = check_number("learning_rate", learning_rate, 0)
        self.steps = 0
        self.memory: dict[str, dict[str, Array]] = {kind: {} for kind in self.memory_names}

    def step(self, parameters: Tree, grads: Tree) -> None:
        """Take one step: write into the live arrays of ``component.parameters()``.

        Raises
        ------
        TypeError, ValueError
            If names, shapes or dtypes differ, a gradient is not finite, a parameter is read-only, or these are not the
            parameters of the steps before. Nothing is written then.
        """
        check_number("learning_rate", self.learning_rate, 0)
        check_tree("parameters", parameters)
        named, (gradients, largest_entries) = flatten(parameters), named_gradients(grads)
        self._check(named, gradients, largest_entries)
        if self.steps == 0:
            self.memory = {kind: {name: np.zeros_like(p) for name, p in named.items()} for kind in self.memory_names}
        self.steps += 1
        with np.errstate(all="ignore"):  # small squares may vanish; what overflows shows in the next loss
            self._remember(gradients)  # before any is written: a gradient may be the very array of another parameter
            self._write(named)

    def state(self) -> Tree:
        """Return a copy of what the next step needs: the number of steps, and the memory."""
        copies = {kind: {name: array.copy() for name, array in kept.items()} for kind, kept in self.memory.items()}
        return {"steps": np.array(self.steps)} | copies

    def load_state(self, state: Tree) -> None:
        """Take up a copy of what `state` returned, given as that tree or under dotted names.

        Raises
        ------
        TypeError, ValueError
            If it is not the state of such an optimizer. Nothing is changed then.
        """
        check_tree("state", state)
        given = flatten(state)
        if "steps" not in given:
            raise ValueError(f"state must be that of {type(self).__name__}, but steps is missing")
        steps: Any = given.pop("steps")
        steps = steps[()] if isinstance(steps, np.ndarray) and steps.shape == () else steps
        memory: dict[str, dict[str, Array]] = {kind: {} for kind in self.memory_names}
        for name, array in given.items():
            kind, _, parameter = name.partition(".")
            if kind not in memory or not parameter:
                raise ValueError(f"state must be that of {type(self).__name__}, but {name} is unknown")
            check_finite(f"state.{name}", array)
            if kind in self.never_negative and array.min() < 0:
                raise ValueError(f"state.{name} must not be negative, but {array.min()} is among its entries")
            memory[kind][parameter] = array.copy()
        steps = check_count("state.steps", steps, least=1 if given else 0)
        if steps and not given and not all(kind in state for kind in memory):  # a model may have no parameters
            raise ValueError(f"state must have a memory of its {steps} steps, but {self.memory_names[0]} is missing")
        first = memory[self.memory_names[0]]
        for kind, kept in memory.items():
            check_same_arrays(f"state.{kind}", kept, first)
            _check_dtypes(f"state.{kind}", kept, first)
        self.steps = steps
        self.memory = memory

    def _check(self, parameters: Arrays, grads: Arrays, largest_entries: Mapping[str, float]) -> None:
        """Check all before anything is written; the largest entries are those of the gradients."""
        for name, parameter in parameters.items():
            check_real(name, parameter)
            if not parameter.flags.writeable:
                raise ValueError(f"{name} must be an array to write into, but it is read-only")
        check_same_arrays("grads", grads, parameters)
        _check_dtypes("grads", grads, parameters)
        if self.steps:
            remembered = self.memory[self.memory_names[0]]
            check_same_arrays("parameters", parameters, remembered)
            _check_dtypes("parameters", parameters, remembered)

    @abstractmethod
    def _remember(self, grads: Arrays) -> None:
        """Take the gradients into the memory."""

    @abstractmethod
    def _write(self, parameters: Arrays) -> None:
        """Move the parameters by what the memory says."""


def _check_dtypes(owner: str, arrays: Arrays, expected: Arrays) -> None:
    for name, array in arrays.items():
        if array.dtype != expected[name].dtype:
            raise TypeError(f"{owner}.{name} must be {expected[name].dtype}, but its dtype is {array.dtype}")
