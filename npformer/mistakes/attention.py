"""Mistakes in the backward of the attention core."""

from __future__ import annotations

import copy

import numpy as np

from npformer.attention import MASKED_SCORE
from npformer.attention import ScaledDotProductAttention as Core
from npformer.component import Array, Component, Tree
from npformer.mistakes.catalogue import Gradients, mistake_in


def _transposed(array: Array) -> Array:
    return array.swapaxes(-1, -2)


def with_scale(core: Component, scale: float) -> Component:
    """The same core, but for its scale."""
    twin = copy.copy(core)
    vars(twin)["scale"] = scale
    return twin


def _from_scores(core: Core, grad_scores: Array, grad_output: Array, cache: Tree) -> Gradients:
    """The rest of a backward that has come as far as the scores."""
    query, key, weights = cache["query"], cache["key"], cache["weights"]
    grad_products = core._scale(query) * grad_scores
    grad_value = _transposed(weights) @ grad_output
    return (grad_products @ key, _transposed(grad_products) @ query, grad_value), {"softmax": {}, "dropout": {}}


@mistake_in(Core, case="ScaledDotProductAttention")
def scale_missing(core: Core, grad_output: Array, cache: Tree) -> Gradients:
    """The scores were divided by √d_k, but their gradient is not."""
    return with_scale(core, 1.0).backward(grad_output, cache)


@mistake_in(Core, case="ScaledDotProductAttention")
def d_k_for_its_root(core: Core, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient is divided by d_k instead of its root."""
    return with_scale(core, 1 / cache["query"].shape[-1]).backward(grad_output, cache)


@mistake_in(Core, case="ScaledDotProductAttention")
def softmax_missing(core: Core, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient of the weights is taken for that of the scores: the softmax between them is left out."""
    grad_weights = grad_output @ _transposed(cache["value"])
    grad_scores, _ = core.dropout.backward(grad_weights, cache["dropout"])
    return _from_scores(core, grad_scores * cache.get("mask", True), grad_output, cache)


@mistake_in(Core, case="ScaledDotProductAttention")
def softmax_of_the_dropped_weights(core: Core, grad_output: Array, cache: Tree) -> Gradients:
    """The softmax's Jacobian is taken at the weights after dropout instead of at its own output."""
    return core.backward(grad_output, cache | {"softmax": {"output": cache["weights"]}})


@mistake_in(Core, case="ScaledDotProductAttention")
def dropout_missing(core: Core, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient of the weights is not taken back through their dropout."""
    return core.backward(grad_output, cache | {"dropout": {}})


@mistake_in(Core, case="ScaledDotProductAttention")
def dropout_after_softmax(core: Core, grad_output: Array, cache: Tree) -> Gradients:
    """Softmax is undone before dropout, in the order of forward instead of the reverse."""
    grad_weights = grad_output @ _transposed(cache["value"])
    grad_scores, _ = core.softmax.backward(grad_weights, cache["softmax"])
    grad_scores, _ = core.dropout.backward(grad_scores, cache["dropout"])
    return _from_scores(core, grad_scores * cache.get("mask", True), grad_output, cache)


@mistake_in(Core, case="ScaledDotProductAttention")
def value_weighted_before_dropout(core: Core, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient of the value has the weights before dropout, which are not those that the output was made with."""
    (grad_query, grad_key, _), grads = core.backward(grad_output, cache)
    weights = cache["softmax"]["output"]
    if core.zero_fully_masked and "mask" in cache:
        weights = weights * cache["mask"].any(-1, keepdims=True)
    return (grad_query, grad_key, _transposed(weights) @ grad_output), grads


@mistake_in(Core, case="ScaledDotProductAttention")
def mask_missing(core: Core, grad_output: Array, cache: Tree) -> Gradients:
    """The mask is forgotten, which shows only on fully masked rows: elsewhere a masked weight is 0 by itself."""
    return core.backward(grad_output, {name: value for name, value in cache.items() if name != "mask"})


@mistake_in(Core, case="ScaledDotProductAttention")
def mask_inverted(core: Core, grad_output: Array, cache: Tree) -> Gradients:
    """The mask says who may attend, but it is read as who may not."""
    return core.backward(grad_output, cache | {"mask": ~cache["mask"]})


@mistake_in(Core, case="ScaledDotProductAttention")
def mask_filled_in_as_in_forward(core: Core, grad_output: Array, cache: Tree) -> Gradients:
    """Forward's line is copied, so that masked entries of the gradient are -1e9 instead of 0."""
    grad_weights, _ = core.dropout.backward(grad_output @ _transposed(cache["value"]), cache["dropout"])
    grad_scores, _ = core.softmax.backward(grad_weights, cache["softmax"])
    return _from_scores(core, np.where(cache["mask"], grad_scores, MASKED_SCORE), grad_output, cache)


@mistake_in(Core, case="ScaledDotProductAttention")
def value_without_fully_masked_rows(core: Core, grad_output: Array, cache: Tree) -> Gradients:
    """A fully masked row attends to all values equally, but they get no gradient from it."""
    (grad_query, grad_key, _), grads = core.backward(grad_output, cache)
    return (grad_query, grad_key, _transposed(cache["weights"] * cache["mask"]) @ grad_output), grads


@mistake_in(Core, case="ScaledDotProductAttention, zero")
def mask_missing_on_zeroed_rows(core: Core, grad_output: Array, cache: Tree) -> Gradients:
    """The weights of fully masked rows were set to 0, but their scores get the gradient of uniform ones."""
    if not core.zero_fully_masked:
        return core.backward(grad_output, cache)
    grad_weights, _ = core.dropout.backward(grad_output @ _transposed(cache["value"]), cache["dropout"])
    grad_scores, _ = core.softmax.backward(grad_weights, cache["softmax"])
    return _from_scores(core, grad_scores, grad_output, cache)


@mistake_in(Core, case="ScaledDotProductAttention, zero")
def mean_of_values_on_zeroed_rows(core: Core, grad_output: Array, cache: Tree) -> Gradients:
    """The weights of fully masked rows were set to 0, but the values get the gradient of a mean from them."""
    (grad_query, grad_key, _), grads = core.backward(grad_output, cache)
    weights, _ = core.dropout.backward(cache["softmax"]["output"], cache["dropout"])
    return (grad_query, grad_key, _transposed(weights) @ grad_output), grads
