"""Mistakes that can happen in the backward of any component: each is shown on one, but its function takes any."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from npformer.component import Array, Component, Tree, add_trees, flatten
from npformer.mistakes.catalogue import Gradients, mistake_in


def _each(change: Callable[[Array], Any], gradients: Gradients) -> Gradients:
    """Change every gradient."""

    def changed(part: Any) -> Any:
        if isinstance(part, tuple):
            return tuple(map(changed, part))
        if isinstance(part, dict):
            return {name: changed(each) for name, each in part.items()}
        return None if part is None else change(part)

    grad_inputs, grads = gradients
    return changed(grad_inputs), changed(grads)


def _first(change: Callable[[Array], Any], gradients: Gradients) -> Gradients:
    """Change the first gradient alone, be it an input's or a parameter's."""
    once = [change]
    return _each(lambda grad: once.pop()(grad) if once else grad, gradients)


def _last_entry_times(factor: float, grad: Array) -> Array:
    # always the same entry, so that backward stays linear in grad_output
    wrong = grad.copy()
    wrong.flat[-1] *= factor
    return wrong


@mistake_in(Component, case="Softmax")
def sign_flipped(component: Component, grad_output: Array, cache: Tree) -> Gradients:
    """Every gradient has the sign of a descent step."""
    return component.backward(-grad_output, cache)


@mistake_in(Component, case="ReLU")
def doubled(component: Component, grad_output: Array, cache: Tree) -> Gradients:
    """Every gradient is twice too large, like that of a squared error without its 1/2."""
    return component.backward(2 * grad_output, cache)


@mistake_in(Component, case="Linear")
def clipped(component: Component, grad_output: Array, cache: Tree) -> Gradients:
    """grad_output is clipped to [-1, 1], so that backward is no longer linear in it."""
    return component.backward(np.clip(grad_output, -1, 1), cache)


@mistake_in(Component, case="LayerNorm")
def grad_output_ignored(component: Component, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient is that of the sum of the outputs, whatever grad_output is."""
    return component.backward(np.ones_like(grad_output), cache)


@mistake_in(Component, case="SiLU")
def constant_added(component: Component, grad_output: Array, cache: Tree) -> Gradients:
    """1e-8 is added against a division by 0, so that the gradient of nothing is something."""
    return _each(lambda grad: grad + 1e-8, component.backward(grad_output, cache))


@mistake_in(Component, case="GELU, tanh")
def rounded_to_float32(component: Component, grad_output: Array, cache: Tree) -> Gradients:
    """The gradients pass through float32, which leaves 7 of the 16 digits."""
    return _each(lambda grad: grad.astype(np.float32).astype(grad.dtype), component.backward(grad_output, cache))


@mistake_in(Component, case="Linear")
def one_entry_off_by_one_percent(component: Component, grad_output: Array, cache: Tree) -> Gradients:
    """One entry of one gradient is off by 1 %."""
    return _first(lambda grad: _last_entry_times(1.01, grad), component.backward(grad_output, cache))


@mistake_in(Component, case="Linear")
def one_entry_off_by_a_millionth(component: Component, grad_output: Array, cache: Tree) -> Gradients:
    """One entry of one gradient is off by one part in a million."""
    return _first(lambda grad: _last_entry_times(1 + 1e-6, grad), component.backward(grad_output, cache))


@mistake_in(Component, case="Softmax")
def two_entries_swapped(component: Component, grad_output: Array, cache: Tree) -> Gradients:
    """The first two entries of one gradient are in each other's place."""

    def swap(grad: Array) -> Array:
        order = np.arange(grad.size)
        order[:2] = 1, 0
        return grad.reshape(-1)[order].reshape(grad.shape)

    return _first(swap, component.backward(grad_output, cache))


@mistake_in(Component, case="GELU")
def last_row_missing(component: Component, grad_output: Array, cache: Tree) -> Gradients:
    """A loop ends one row too early, so that the last row of each gradient is 0."""
    return _each(lambda grad: np.concatenate([grad[:-1], 0 * grad[-1:]]), component.backward(grad_output, cache))


@mistake_in(Component, case="Softmax")
def not_a_number(component: Component, grad_output: Array, cache: Tree) -> Gradients:
    """A 0/0 leaves NaN in one entry."""
    return _first(lambda grad: _last_entry_times(np.nan, grad), component.backward(grad_output, cache))


@mistake_in(Component, case="ReLU")
def written_into_grad_output(component: Component, grad_output: Array, cache: Tree) -> Gradients:
    """The incoming gradient, which others may still need, is overwritten in place."""
    gradients = copy.deepcopy(component.backward(grad_output, cache))
    grad_output[...] = 0
    return gradients


@mistake_in(Component, case="LayerNorm")
def written_into_the_cache(component: Component, grad_output: Array, cache: Tree) -> Gradients:
    """The arrays of the cache, among them the caller's inputs, are used as scratch space."""
    gradients = copy.deepcopy(component.backward(grad_output, cache))
    for leaf in flatten(cache).values():
        if isinstance(leaf, np.ndarray):
            leaf[...] = 0
    return gradients


@mistake_in(Component, case="Linear")
def trained_in_backward(component: Component, grad_output: Array, cache: Tree) -> Gradients:
    """backward takes the step of gradient descent itself, which the caller did not ask for."""
    grad_inputs, grads = component.backward(grad_output, cache)
    for name, array in flatten(component.parameters()).items():
        array -= 0.1 * flatten(grads)[name]
    return grad_inputs, grads


@mistake_in(Component, case="Linear")
def gradients_kept_on_the_component(component: Component, grad_output: Array, cache: Tree) -> Gradients:
    """Gradients are added up on the component, so that a second backward returns those of the first as well."""
    grad_inputs, grads = component.backward(grad_output, cache)
    kept = vars(component)
    kept["total"] = add_trees(kept["total"], grads) if "total" in kept else grads
    return grad_inputs, kept["total"]


def _forward_that_keeps_its_cache(component: Component, *inputs: Any, **options: Any) -> tuple[Array, Tree]:
    output, cache = component.forward(*inputs, **options)
    vars(component)["last_cache"] = cache
    return output, cache


@mistake_in(Component, case="Linear", forward=_forward_that_keeps_its_cache)
def cache_kept_on_the_component(component: Component, grad_output: Array, cache: Tree) -> Gradients:
    """The cache is kept on the component, so that a second forward before backward leaves a stale one."""
    return component.backward(grad_output, vars(component)["last_cache"])
