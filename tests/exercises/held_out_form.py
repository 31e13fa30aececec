"""The form of a held-out mistake, and the list that the files beside this one fill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from npformer.component import Array, Component, Tree

Backward = Callable[[Any, Array, Tree], tuple[Any, Tree]]


@dataclass(frozen=True)
class HeldOut:
    """A wrong backward, and what a good diagnosis of it would say.

    Attributes
    ----------
    name : str
        Of the function.
    component : type of Component
        Whose backward it is.
    truth : str
        One line for a human judge: what is wrong.
    arrays : tuple of str
        Names of the gradients that are wrong; those of all others are right.
    says : tuple of str
        Regular expressions, case-insensitive, all of which the text of a good diagnosis matches somewhere.
    backward : callable
        Takes a right component, grad_output and cache.
    """

    name: str
    component: type[Component]
    truth: str
    arrays: tuple[str, ...]
    says: tuple[str, ...]
    backward: Backward


HELD_OUT: list[HeldOut] = []
HELD_OUT_SECOND: list[HeldOut] = []


def held_out(component: type[Component], arrays: tuple[str, ...], *says: str) -> Callable[[Backward], Backward]:
    """Put the decorated backward on the list; its docstring is the truth."""
    return _decorator(HELD_OUT, component, arrays, says)


def held_out_second(component: type[Component], arrays: tuple[str, ...], *says: str) -> Callable[[Backward], Backward]:
    """Put the decorated backward on the second list, of those written when the first had been looked at."""
    return _decorator(HELD_OUT_SECOND, component, arrays, says)


def _decorator(
    found: list[HeldOut], component: type[Component], arrays: tuple[str, ...], says: tuple[str, ...]
) -> Callable[[Backward], Backward]:
    def decorate(backward: Backward) -> Backward:
        name = getattr(backward, "__name__", "")
        found.append(HeldOut(name, component, backward.__doc__ or "", arrays, says, backward))
        return backward

    return decorate
