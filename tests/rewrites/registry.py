"""What a rewrite is, which cases it belongs to, and how it takes a component's place."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cache as remembered
from typing import Any

import numpy as np

from npformer.component import Component
from npformer.gradcheck import CASES, Sizes, make_case

Method = Callable[..., Any]


@dataclass(frozen=True)
class Rewrite:
    """A forward or backward of a component in other algebra or summation order; it is correct and backward stable.

    Attributes
    ----------
    part : type
        The component that it belongs to.
    method : {"forward", "backward"}
    function : function
        Called like the method, with the component first.
    only : str, optional
        The one case in which it is correct; if not given, every case that holds such a part.
    """

    part: type[Component]
    method: str
    function: Method
    only: str | None = None

    @property
    def cases(self) -> list[str]:
        """The keys of CASES that it belongs to."""
        return [self.only] if self.only else [case for case, parts in parts_by_case().items() if self.part in parts]


REWRITES: dict[str, Rewrite] = {}


def backward_of(part: type[Component], only: str | None = None) -> Callable[[Method], Method]:
    """Register a function (component, grad_output, cache) -> (grad_inputs, grads) as a backward of this part."""
    return _registering(part, "backward", only)


def forward_of(part: type[Component], only: str | None = None) -> Callable[[Method], Method]:
    """Register a function (component, *inputs, **options) -> (output, cache) as a forward of this part."""
    return _registering(part, "forward", only)


def _registering(part: type[Component], method: str, only: str | None) -> Callable[[Method], Method]:
    def register(function: Method) -> Method:
        REWRITES[f"{part.__name__}.{method} {function.__name__}"] = Rewrite(part, method, function, only)
        return function

    return register


def plant(component: Component, names: Collection[str]) -> Component:
    """Return a copy in which every part that one of these rewrites belongs to computes by it."""
    twin = copy.deepcopy(component)
    for part in list(parts_of(twin)):
        kind = type(part)
        rewrites = (REWRITES[name] for name in names)
        methods = {rewrite.method: rewrite.function for rewrite in rewrites if rewrite.part is kind}
        if methods:
            part.__class__ = type(kind.__name__, (kind,), methods)
    return twin


def parts_of(component: Component) -> Iterator[Component]:
    """The component and all below it."""
    yield component
    for value in vars(component).values():
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, Component):
                yield from parts_of(part)


@remembered
def parts_by_case() -> dict[str, set[type[Component]]]:
    """The kinds of part that each case holds."""
    components = {name: make_case(name, Sizes(), np.random.default_rng(0)).component for name in CASES}
    return {name: {type(part) for part in parts_of(component)} for name, component in components.items()}
