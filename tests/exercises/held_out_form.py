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


def held_out(component: type[Component], arrays: tuple[str, ...], *says: str) -> Callable[[Backward], Backward]:
    """Put the decorated backward on the list; its docstring is the truth."""

    def decorate(backward: Backward) -> Backward:
        name = getattr(backward, "__name__", "")
        HELD_OUT.append(HeldOut(name, component, backward.__doc__ or "", arrays, says, backward))
        return backward

    return decorate
