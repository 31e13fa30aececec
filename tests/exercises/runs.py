"""What an implementation of an exercise gives: a backward on a case, or a function on its calls."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np

from npformer.component import Array, Tree
from npformer.exercises.task import TINY, BackwardTask, ForwardTask
from npformer.exercises.tasks import TASKS
from npformer.gradcheck import SITUATIONS, Case
from npformer.gradcheck.cases import signed
from npformer.gradcheck.conduct import fingerprints
from npformer.gradcheck.subject import Subject, silence

BACKWARDS = {name: task for name, task in TASKS.items() if isinstance(task, BackwardTask)}
FORWARDS = {name: task for name, task in TASKS.items() if isinstance(task, ForwardTask)}
SIZES = SITUATIONS | TINY
ROUNDING = 1e-13  # of the largest entry: two right forms of one formula differ by some 1e-15 of its terms
TELLS = 1e-11  # of the largest entry: above rounding, below 1e-8 of a hundred, the smallest mistake of the catalogue
SEVERAL = 8.0  # times a cotangent with entries near 1, so that clipping shows


class Run:
    """A backward run on private copies of what a case has.

    Attributes
    ----------
    output, cache, grad_output, gradients
        As the names say.
    """

    def __init__(self, target: Any, case: Case):
        self.subject = Subject(target, case.inputs, case.options).cast(None)
        self.output, self.cache = self.subject.forward()
        self.grad_output = signed(np.random.default_rng(0), self.output.shape, 0.5, 1.5)
        before = self._given()
        self.gradients = copy.deepcopy(self.subject.backward(self.grad_output, self.cache))
        self.wrote = self._given() != before

    def _given(self) -> dict[str, bytes]:
        given: Tree = {"parameters": self.subject.parameters(), "cache": self.cache, "grad_output": self.grad_output}
        return fingerprints(given)

    @cached_property
    def misbehaved(self) -> bool:
        """Whether it wrote into what it was given, is not linear, or returns something else after another forward."""
        if self.wrote:
            return True
        again = self.subject.backward(self.grad_output, self.cache)
        of_more = self.subject.backward(SEVERAL * self.grad_output, self.cache)
        other = copy.copy(self.subject)
        other.inputs = {name: x * 0.5 if x.dtype.kind == "f" else x[::-1].copy() for name, x in other.inputs.items()}
        other.options = copy.deepcopy(other.options)
        if "rng" in other.options:
            other.options["rng"].random()
        other.forward()
        after_another = self.subject.backward(self.grad_output, self.cache)
        more = {name: SEVERAL * np.asarray(array) for name, array in self.gradients.items()}
        return differ(again, self.gradients) or differ(after_another, self.gradients) or differ(of_more, more)


@silence()
def differ(some: dict[str, Any], right: dict[str, Any], tolerance: float = TELLS) -> bool:
    """Whether arrays are missing, of other shapes or types, or not equal within a tolerance times the largest entry."""
    allowed = tolerance * max(np.abs(array).max(initial=0) for array in right.values())
    return some.keys() != right.keys() or any(
        np.shape(some[name]) != np.shape(array)
        or not np.abs(np.subtract(some[name], array, dtype=float)).max(initial=0) <= allowed
        for name, array in right.items()
    )


def runs(task: BackwardTask, seed: int = 0) -> list[tuple[str, Case, Run]]:
    """Return the right run of each case: that of the component, which other tests check."""
    if (task.name, seed) not in RIGHT:
        RIGHT[task.name, seed] = [(name, case, Run(case.component, case)) for name, case in task.cases(seed, SIZES)]
    return RIGHT[task.name, seed]


RIGHT: dict[tuple[str, int], list[tuple[str, Case, Run]]] = {}


def seen(task: ForwardTask, function: Callable[..., Any], seed: int = 0) -> Iterator[tuple[str, dict[str, Array]]]:
    """Yield what a function returns for each call, as it is compared; nothing where it cannot be."""
    for title, call in task.calls(seed):
        arguments, options = copy.deepcopy((call.arguments, call.options))
        result = function(*arguments, **options)
        looked = task.look(result, *call.arguments, **call.options)
        yield title, {name: np.asarray(value) for name, value in looked.items()}
