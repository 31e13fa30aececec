"""Mistakes in how a component puts its parts together on the way back, made from its parts: they need no catalogue."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from itertools import permutations
from typing import Any

from npformer.component import Array, Component, Tree, flatten
from npformer.exercises.suspects import Suspect
from npformer.mistakes.catalogue import Gradients, with_backward

Change = Callable[[Component, Array, Tree], Gradients]
DEEPEST = 2  # parts of parts


def structural(component: Component) -> list[Suspect]:
    """Return the mistakes of leaving a part out on the way back, going through it twice, or through another one.

    Examples
    --------
    >>> from npformer import PositionwiseFeedForward
    >>> structural(PositionwiseFeedForward(4, 8))[0].name
    'linear1 left out'
    """
    paths = list(_paths(component, DEEPEST))
    changes: tuple[tuple[str, str, Change], ...] = (
        ("{} left out", "On the way back {} is left out: what comes in goes on as it is.", _left_out),
        ("{} undone twice", "On the way back the gradient goes through {} twice.", _twice),
        ("path through {} lost", "Nothing comes back through {}.", _lost),
    )
    found = [
        Suspect(name.format(path), sentence.format(path), _changing(path, change))
        for path in paths
        for name, sentence, change in changes
    ]
    for name, child in vars(component).items():
        if isinstance(child, Component):
            sentence = f"At the end the gradient of the input goes back through {name} once more."
            found.append(Suspect(f"{name} undone again at the end", sentence, _again(name)))
    for path, other in permutations(paths, 2):
        if _shapes(_part(component, path)) == _shapes(_part(component, other)) != {}:
            sentence = f"On the way back the gradient goes through {other} where {path} belongs."
            found.append(Suspect(f"{other} in place of {path}", sentence, _exchanging(path, other)))
    return found


def _paths(component: Component, depth: int) -> Iterator[str]:
    for name, child in vars(component).items():
        if isinstance(child, Component):
            yield name
            if depth > 1:
                yield from (f"{name}.{path}" for path in _paths(child, depth - 1))


def _part(component: Component, path: str) -> Component:
    for name in path.split("."):
        component = vars(component)[name]
    return component


def _with_part(component: Component, path: str, part: Component) -> Component:
    """Return a copy in which another part has the place of one; all others are shared."""
    name, _, rest = path.partition(".")
    twin = copy.copy(component)
    vars(twin)[name] = _with_part(vars(component)[name], rest, part) if rest else part
    return twin


def _shapes(part: Component) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in flatten(part.parameters()).items()}


def _changing(path: str, change: Change) -> Callable[[Component], Component]:
    def backward(component: Component, grad_output: Array, cache: Tree) -> Gradients:
        return _with_part(component, path, with_backward(_part(component, path), change)).backward(grad_output, cache)

    return lambda component: with_backward(component, backward)


def _again(name: str) -> Callable[[Component], Component]:
    def backward(component: Component, grad_output: Array, cache: Tree) -> Gradients:
        grad_input, grads = component.backward(grad_output, cache)
        return vars(component)[name].backward(grad_input, cache[name])[0], grads

    return lambda component: with_backward(component, backward)


def _exchanging(path: str, other: str) -> Callable[[Component], Component]:
    def backward(component: Component, grad_output: Array, cache: Tree) -> Gradients:
        return _with_part(component, path, _part(component, other)).backward(grad_output, cache)

    return lambda component: with_backward(component, backward)


def _left_out(part: Component, grad_output: Array, cache: Tree) -> Gradients:
    _check_one_shape(part, grad_output, cache)
    return grad_output, part.backward(grad_output, cache)[1]


def _twice(part: Component, grad_output: Array, cache: Tree) -> Gradients:
    grad_input, grads = part.backward(grad_output, cache)
    return part.backward(grad_input, cache)[0], grads


def _lost(part: Component, grad_output: Array, cache: Tree) -> Gradients:
    grad_inputs, grads = part.backward(grad_output, cache)
    return _zeros(grad_inputs), grads


def _zeros(grad_inputs: Any) -> Any:
    if isinstance(grad_inputs, tuple):
        return tuple(_zeros(grad) for grad in grad_inputs)
    return None if grad_inputs is None else 0 * grad_inputs


def _check_one_shape(part: Component, grad_output: Array, cache: Tree) -> None:
    grad_input = part.backward(grad_output, cache)[0]
    if not hasattr(grad_input, "shape") or grad_input.shape != grad_output.shape:
        raise ValueError("a part can be left out only where its input and its output have one shape")
