"""One case of a task, on which implementations are tried: the right one, a learner's, and those of known mistakes."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from npformer.component import Array, Component, Tree, flatten
from npformer.exercises.returned import as_real, minus, same_arrays, times
from npformer.exercises.task import BackwardTask, Call, ForwardTask, Task, Term
from npformer.gradcheck.cases import Case, signed
from npformer.gradcheck.conduct import fingerprints
from npformer.gradcheck.sizes import SITUATIONS, Sizes
from npformer.gradcheck.subject import Subject, input_names, named_gradients, silence

SEVERAL = 8.0  # times a cotangent with entries near 1, so that clipping shows


@dataclass(frozen=True)
class Observation:
    """What came out of a try.

    Attributes
    ----------
    arrays : dict
        The gradients of a backward, or what a function returned. None where something was returned that is no array.
    conduct : frozenset of str
        What a backward did that none may do, whatever its gradients are.
    """

    arrays: dict[str, Array | None]
    conduct: frozenset[str] = frozenset()


class Trial(ABC):
    """What implementations are run on, and what is right.

    Attributes
    ----------
    situation : str
        What is special about the case.
    sizes : dict
        The sizes that it was made with, by name; empty for a function.
    """

    situation: str
    sizes: Mapping[str, int]
    right: Callable[..., Any]

    @abstractmethod
    def arrays_of(self, implementation: Callable[..., Any]) -> dict[str, Array | None]:
        """Run an implementation on copies of everything, and return what it returns; what it raises is not caught."""

    def observe(self, implementation: Callable[..., Any]) -> Observation:
        """Run an implementation on copies of everything, and watch it; what it raises is not caught."""
        return Observation(self.arrays_of(implementation))

    def label(self, name: str) -> str:
        """Return what to call an array."""
        return name

    @cached_property
    def truth(self) -> dict[str, Array]:
        """The right arrays by name."""
        return {name: np.asarray(array) for name, array in self.arrays_of(self.right).items()}

    @cached_property
    def scale(self) -> float:
        """The largest entry of the right arrays."""
        return max((float(np.abs(array).max(initial=0)) for array in self.truth.values()), default=0.0)

    @cached_property
    def given(self) -> dict[str, Array]:
        """What the learner's code was given, by name."""
        return {}

    @cached_property
    def known(self) -> dict[str, Array]:
        """Arrays that a wrong one may be made of, by name."""
        return {}

    @cached_property
    def terms(self) -> Mapping[str, tuple[Term, ...]]:
        """The terms of some of the arrays."""
        return {}

    @cached_property
    def regions(self) -> Mapping[str, Mapping[str, Array]]:
        """For some of the arrays the kinds of entries that a mistake may live in."""
        return {}


class BackwardTrial(Trial):
    """A case of a component, with a random cotangent; implementations are functions from a component to a wrong one."""

    def __init__(self, task: BackwardTask, situation: str, sizes: Sizes, case: Case, rng: np.random.Generator):
        self.task = task
        self.situation = situation
        self.sizes = asdict(sizes) | {"d_model": sizes.d_model}
        self.case = case
        self.right: Callable[[Component], Any] = lambda component: component
        self.output, self.cache = case.component.forward(*case.inputs, **copy.deepcopy(case.options))
        self.grad_output = signed(rng, self.output.shape, 0.5, 1.5)

    @silence()
    def arrays_of(self, implementation: Callable[[Component], Any]) -> dict[str, Array | None]:
        subject = Subject(implementation(self.case.component), self.case.inputs, self.case.options).cast(None)
        _, cache = subject.forward()
        return {name: as_real(grad) for name, grad in subject.backward(self.grad_output.copy(), cache).items()}

    def label(self, name: str) -> str:
        return f"gradient of {name}"

    @silence()
    def observe(self, implementation: Callable[[Component], Any]) -> Observation:
        subject = Subject(implementation(self.case.component), self.case.inputs, self.case.options).cast(None)
        arrays: Tree = {"an input": subject.inputs, "a parameter": subject.parameters()}
        before = fingerprints(arrays)
        _, cache = subject.forward()
        handed_over: Tree = {"the cache": cache, "grad_output": self.grad_output.copy()}
        before |= fingerprints(handed_over)
        gradients = copy.deepcopy(subject.backward(handed_over["grad_output"], cache))
        after = fingerprints(arrays | handed_over)
        conduct = {f"writes into {name.split('.')[0]}" for name, data in after.items() if data != before.get(name)}
        if not conduct:
            conduct = set(self._unsteady(subject, cache, gradients))
        return Observation({name: as_real(grad) for name, grad in gradients.items()}, frozenset(conduct))

    def _unsteady(self, subject: Subject, cache: Tree, gradients: dict[str, Any]) -> Iterator[str]:
        """Run backward again, on other cotangents and after another forward."""
        again = subject.backward(self.grad_output.copy(), cache)
        if not same_arrays(again, gradients):
            third = subject.backward(self.grad_output.copy(), cache)
            adds_up = same_arrays(minus(third, again), minus(again, gradients))
            yield "adds up from call to call" if adds_up else "does not repeat itself"
            return  # what follows would tell nothing
        of_zero = subject.backward(np.zeros_like(self.grad_output), cache)
        of_more = subject.backward(SEVERAL * self.grad_output, cache)
        if not (same_arrays(of_zero, times(0, gradients)) and same_arrays(of_more, times(SEVERAL, gradients))):
            yield "is not linear in grad_output"
        other = copy.copy(subject)
        other.inputs = {name: x * 0.75 if x.dtype.kind == "f" else x[::-1].copy() for name, x in subject.inputs.items()}
        other.options = copy.deepcopy(subject.options)
        if "rng" in other.options:
            other.options["rng"].random()
        other.forward()
        if not same_arrays(subject.backward(self.grad_output.copy(), cache), gradients):
            yield "uses what another forward left behind"

    def gradients(self, component: Component, cache: Tree, grad_output: Array) -> dict[str, Any]:
        """Return the gradients by name that a component makes of a cache and a cotangent."""
        return named_gradients(component, list(self.given)[:-1], grad_output, cache)

    def alone(self, item: int) -> dict[str, Array]:
        """Return the gradients that one item of the batch makes, for backward is linear."""
        of_one = np.zeros_like(self.grad_output)
        of_one[item] = self.grad_output[item]
        subject = Subject(self.case.component, self.case.inputs, self.case.options)
        return {name: np.asarray(grad) for name, grad in subject.backward(of_one, self.cache).items()}

    @cached_property
    def given(self) -> dict[str, Array]:
        return Subject(self.case.component, self.case.inputs, self.case.options).inputs | {
            "grad_output": self.grad_output
        }

    @cached_property
    def known(self) -> dict[str, Array]:
        cached = {name: leaf for name, leaf in flatten(self.cache).items() if _is_float(leaf)}
        return self.given | flatten(self.case.component.parameters()) | {"output": self.output} | cached

    @cached_property
    def terms(self) -> Mapping[str, tuple[Term, ...]]:
        if self.task.terms is None:
            return {}
        terms = self.task.terms(self.case, self.cache, self.grad_output)
        return {name: tuple(each) for name, each in terms.items()}

    @cached_property
    def regions(self) -> Mapping[str, Mapping[str, Array]]:
        return self.task.regions(self.case, self.cache) if self.task.regions else {}


class ForwardTrial(Trial):
    """A call of a function."""

    def __init__(self, task: ForwardTask, situation: str, call: Call):
        self.task = task
        self.situation = situation
        self.sizes = {}
        self.call = call
        self.right = task.solution

    @silence()
    def arrays_of(self, implementation: Callable[..., Any]) -> dict[str, Array | None]:
        arguments, options = copy.deepcopy((self.call.arguments, self.call.options))
        before = fingerprints({"arguments": list(arguments), "options": options})
        returned = implementation(*arguments, **options)
        if fingerprints({"arguments": list(arguments), "options": options}) != before:
            raise ValueError(f"{self.task.blank} must not write into what it is given, but it changes an array of it")
        looked = self.task.look(returned, *self.call.arguments, **self.call.options)
        return {name: as_real(value) for name, value in looked.items()}

    @cached_property
    def given(self) -> dict[str, Array]:
        names = input_names(self.task.solution, len(self.call.arguments))
        named = dict(zip(names, self.call.arguments, strict=True)) | self.call.options
        return {name: np.asarray(value) for name, value in named.items() if isinstance(value, int | np.ndarray)}

    @cached_property
    def known(self) -> dict[str, Array]:
        return {name: array for name, array in self.given.items() if _is_float(array)}


def trials(task: Task, seed: int, all_sizes: Mapping[str, Sizes] = SITUATIONS) -> Iterator[Trial]:
    """Yield the trials of a task; of a function, its calls, whatever the sizes."""
    if isinstance(task, BackwardTask):
        for index, (situation, case) in enumerate(task.cases(seed, all_sizes)):
            yield BackwardTrial(task, situation, all_sizes[situation], case, np.random.default_rng([seed, index]))
    elif isinstance(task, ForwardTask):
        for situation, call in task.calls(seed):
            yield ForwardTrial(task, situation, call)


def _is_float(array: Any) -> bool:
    return isinstance(array, np.ndarray) and array.dtype.kind == "f" and array.size > 0
