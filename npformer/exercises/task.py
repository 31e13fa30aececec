"""What an exercise is: the right code, of which the learner writes one function, and what a grader must know about it.

A BackwardTask is a component whose backward is to be written; a ForwardTask is a function. Both are tried on cases,
and what comes out is an observation: arrays by name.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npformer.component import Array, Component, Tree
from npformer.gradcheck.cases import Case, make_case
from npformer.gradcheck.sizes import SITUATIONS, Sizes
from npformer.mistakes import MISTAKES, Mistake

Observation = dict[str, Array]
Implementation = Callable[..., Any]  # a component's class, or a function

# Two rows of three entries: small enough to be read. What one of them hides, such as heads in each other's place, the
# next one shows.
TINY = {
    "tiny": Sizes(batch=1, T_q=2, T_k=2, num_heads=1, d_head=3, d_ff=3, vocab_size=3),
    "tiny, three heads": Sizes(batch=1, T_q=2, T_k=2, num_heads=3, d_head=1, d_ff=2, vocab_size=3),
    "tiny, batch of two": Sizes(batch=2, T_q=2, T_k=3, num_heads=3, d_head=1, d_ff=2, vocab_size=3),
}


@dataclass(frozen=True)
class Term:
    """One of the terms that a gradient is the sum of.

    Attributes
    ----------
    name : str
        The term in symbols, such as "rstd * x_hat * mean(g * x_hat)". It is a part of the solution.
    path : str
        The path of the computation graph that it comes from, such as "x → var → rstd → x_hat → output". It is shown
        to whoever forgot it.
    coefficient : float
        What the term is multiplied by in the right gradient; 0 for one that people put there and that does not belong.
    values : array
        The term, in the shape of the gradient.
    """

    name: str
    path: str
    coefficient: float
    values: Array


@dataclass(frozen=True, kw_only=True)
class Task:
    """What all exercises have.

    Attributes
    ----------
    name : str
        What the commands call it, and its file.
    title : str
        One line.
    statement : str
        The formula of forward, what is asked, and the shapes: the head of the learner's file.
    solution : type or function
        The right code. The learner's file is made from its source.
    blank : str
        The method or function of the solution whose body the learner writes.
    hints : tuple of str
        The first points at where to look, the last nearly gives it away.
    derivation : str
        How the answer is derived, shown with the solution.
    points : int
        What it is worth.
    partial_credit : bool
        Whether each array, or each call, that is right has its share; or all counts as one.
    """

    name: str
    title: str
    statement: str
    solution: Implementation
    blank: str
    hints: tuple[str, ...]
    derivation: str
    points: int
    partial_credit: bool = True


@dataclass(frozen=True, kw_only=True)
class BackwardTask(Task):
    """An exercise in which the learner writes the backward of a component.

    The solution is a class with the attributes of `component`, whose forward may be a simpler one. Instances are made
    with the attributes of a component that a case comes with, so that a learner's class needs no __init__.

    Attributes
    ----------
    component : type
        The component that the solution stands for. Its mistakes in the catalogue are those of the task.
    make : str or function
        The key of npformer.gradcheck.CASES that makes cases, or ``make(sizes, rng)``, which returns a Case with random
        parameters.
    terms : function, optional
        ``terms(case, cache, grad_output)`` returns the terms of some of the gradients, by name of the array; cache is
        that of `component`. Terms of coefficient 0 are what people put there instead.
    paths : dict
        For each array the path that its gradient takes, such as "output → x_hat → x".
    regions : function, optional
        ``regions(case, cache)`` returns for some arrays the kinds of entries that a mistake may live in, such as
        {"value": {"keys of fully masked rows": mask}}, with masks of booleans in the shape of the array.
    in_encoder : bool
        Whether the solution can take the place of `component` in an encoder, where a learner's class is tried at last.
    wrong : functions
        Mistakes beyond the catalogue: ``backward(component, grad_output, cache)`` with a docstring of one line that
        explains it; component and cache are those of `component`.
    """

    blank: str = "backward"
    component: type[Component]
    make: str | Callable[[Sizes, np.random.Generator], Case]
    terms: Callable[[Case, Tree, Array], Mapping[str, Iterable[Term]]] | None = None
    paths: Mapping[str, str] = field(default_factory=dict)
    regions: Callable[[Case, Tree], Mapping[str, Mapping[str, Array]]] | None = None
    in_encoder: bool = True
    wrong: tuple[Callable[..., Any], ...] = ()

    def cases(self, seed: int, all_sizes: Mapping[str, Sizes] = SITUATIONS) -> Iterator[tuple[str, Case]]:
        """Yield a case in each situation where mistakes show that ordinary sizes hide."""
        for situation, sizes in all_sizes.items():
            rng = np.random.default_rng(seed)
            yield situation, make_case(self.make, sizes, rng) if isinstance(self.make, str) else self.make(sizes, rng)

    def mistakes(self) -> Iterator[Mistake]:
        """Yield the wrong backwards that have a name: the component's own, then those that can happen anywhere."""
        for wrong in self.wrong:
            name = f"{self.component.__name__}.{wrong.__name__}"
            yield Mistake(name, self.component, self.name, wrong.__doc__ or "", wrong)
        known = [mistake for mistake in MISTAKES.values() if issubclass(self.component, mistake.component)]
        yield from (mistake for mistake in known if mistake.component is not Component)
        yield from (mistake for mistake in known if mistake.component is Component)


@dataclass(frozen=True)
class Call:
    """What a function is called with; the arguments are copied for each call."""

    arguments: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ForwardTask(Task):
    """An exercise in which the learner writes a function.

    Attributes
    ----------
    calls : function
        ``calls(seed)`` yields pairs of what is special about a call, and the Call. The first are tiny.
    look : function
        ``look(result, *arguments, **options)`` returns what is compared, by name: arrays, or numbers and booleans. It
        raises a TypeError or ValueError of one sentence about a result of the wrong kind.
    wrong : functions
        Mistakes: functions that are called as the solution is, with a docstring of one line that explains it.
    """

    calls: Callable[[int], Iterator[tuple[str, Call]]]
    look: Callable[..., Mapping[str, Any]]
    wrong: tuple[Callable[..., Any], ...]


def instance_of(kind: type[Any], component: Component) -> Any:
    """Return an instance of a learner's class with copies of a component's attributes; its __init__ is not run."""
    instance: Any = object.__new__(kind)
    vars(instance).update(copy.deepcopy(vars(component)))
    return instance
