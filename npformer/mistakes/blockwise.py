"""Mistakes in the backward of attention without a matrix of all scores."""

from __future__ import annotations

import copy

import numpy as np

from npformer.attention import MASKED_SCORE
from npformer.blockwise import BlockwiseAttention as Core
from npformer.component import Array, Tree
from npformer.mistakes.attention import with_scale
from npformer.mistakes.catalogue import Gradients, mistake_in


def _transposed(array: Array) -> Array:
    return array.swapaxes(-1, -2)


def _scores(core: Core, cache: Tree) -> Array:
    """All scores at once, as on these small cases one can."""
    query, key = cache["query"], cache["key"]
    return np.where(cache.get("mask", True), core._scale(query) * (query @ _transposed(key)), MASKED_SCORE)


def _weights_and_kept(core: Core, cache: Tree) -> tuple[Array, Array]:
    """All weights before dropout, and the factor that dropout multiplies each by."""
    scores = _scores(core, cache)
    weights = np.exp(scores - cache["row_max"][..., None]) / cache["row_sum"][..., None]
    kept = copy.deepcopy(cache["dropout"]["rng"]).random(scores.shape) >= core.dropout.p
    return weights, kept / (1 - core.dropout.p)


def _with_grad_scores(core: Core, grad_scores: Array, grad_output: Array, cache: Tree) -> Gradients:
    """The right gradients, but for those that come from other gradients of the scores."""
    (_, _, grad_value), grads = core.backward(grad_output, cache)
    grad_products = core._scale(cache["query"]) * grad_scores
    return (grad_products @ cache["key"], _transposed(grad_products) @ cache["query"], grad_value), grads


@mistake_in(Core, case="BlockwiseAttention")
def maximum_of_the_last_block(core: Core, grad_output: Array, cache: Tree) -> Gradients:
    """Row sums belong to the maximum of the whole row, but powers are made again with that of its last block."""
    _, keys = core.block_size
    last = _scores(core, cache)[..., (cache["key"].shape[-2] - 1) // keys * keys :]
    return core.backward(grad_output, cache | {"row_max": last.max(-1)})


@mistake_in(Core, case="BlockwiseAttention")
def row_sum_not_rescaled(core: Core, grad_output: Array, cache: Tree) -> Gradients:
    """The row's sum adds up what each block has under its own maximum, and does not shrink when that moves."""
    scores, (_, keys) = _scores(core, cache), core.block_size
    blocks = [scores[..., start : start + keys] for start in range(0, scores.shape[-1], keys)]
    sums = [np.exp(block - block.max(-1, keepdims=True)).sum(-1) for block in blocks]
    return core.backward(grad_output, cache | {"row_sum": np.sum(sums, axis=0)})


@mistake_in(Core, case="BlockwiseAttention")
def delta_missing(core: Core, grad_output: Array, cache: Tree) -> Gradients:
    """A power also divides its whole row, but delta, what that takes from its gradient, is not subtracted."""
    return core.backward(grad_output, cache | {"output": np.zeros_like(cache["output"])})


@mistake_in(Core, case="BlockwiseAttention")
def delta_of_the_total(core: Core, grad_output: Array, cache: Tree) -> Gradients:
    """Delta is taken from the total that forward adds up, before it is divided by the row's sum."""
    return core.backward(grad_output, cache | {"output": cache["output"] * cache["row_sum"][..., None]})


@mistake_in(Core, case="BlockwiseAttention")
def delta_before_dropout(core: Core, grad_output: Array, cache: Tree) -> Gradients:
    """Delta belongs to the softmax, but it is subtracted before the gradient goes back through dropout."""
    weights, kept = _weights_and_kept(core, cache)
    delta = (grad_output * cache["output"]).sum(-1, keepdims=True)
    grad_scores = cache["mask"] * weights * kept * (grad_output @ _transposed(cache["value"]) - delta)
    return _with_grad_scores(core, grad_scores, grad_output, cache)


@mistake_in(Core, case="BlockwiseAttention")
def scale_missing_when_scores_are_made_again(core: Core, grad_output: Array, cache: Tree) -> Gradients:
    """The scores that backward makes again are not divided by √d_k, though their gradient is."""
    (grad_query, grad_key, grad_value), grads = with_scale(core, 1.0).backward(grad_output, cache)
    scale = core._scale(cache["query"])
    return (scale * grad_query, scale * grad_key, grad_value), grads


@mistake_in(Core, case="BlockwiseAttention")
def dropout_missing_when_weights_are_made_again(core: Core, grad_output: Array, cache: Tree) -> Gradients:
    """The weights that backward makes again are those before dropout."""
    return core.backward(grad_output, cache | {"dropout": {}})


@mistake_in(Core, case="BlockwiseAttention")
def dropout_drawn_on(core: Core, grad_output: Array, cache: Tree) -> Gradients:
    """Backward draws its dropout mask from where forward left the generator, so that it is another one."""
    after = copy.deepcopy(cache["dropout"]["rng"])
    after.random(_scores(core, cache).shape)
    return core.backward(grad_output, cache | {"dropout": {"rng": after}})


@mistake_in(Core, case="BlockwiseAttention")
def last_keys_left_out(core: Core, grad_output: Array, cache: Tree) -> Gradients:
    """The loop is over whole blocks alone: the keys and values that are left over get no gradient."""
    (grad_query, grad_key, grad_value), grads = core.backward(grad_output, cache)
    _, keys = core.block_size
    whole = np.arange(grad_key.shape[-2])[:, None] < grad_key.shape[-2] // keys * keys
    return (grad_query, grad_key * whole, grad_value * whole), grads


@mistake_in(Core, case="BlockwiseAttention")
def keys_of_the_last_queries(core: Core, grad_output: Array, cache: Tree) -> Gradients:
    """Each block of queries assigns the gradients of keys and values instead of adding to them."""
    (grad_query, _, _), grads = core.backward(grad_output, cache)
    T_q, (queries, _) = grad_output.shape[-2], core.block_size
    is_last = np.arange(T_q)[:, None] >= (T_q - 1) // queries * queries
    (_, grad_key, grad_value), _ = core.backward(grad_output * is_last, cache)
    return (grad_query, grad_key, grad_value), grads


@mistake_in(Core, case="BlockwiseAttention")
def mask_missing(core: Core, grad_output: Array, cache: Tree) -> Gradients:
    """A fully masked row has weights, but its scores were replaced: their gradient is not set to 0."""
    weights, kept = _weights_and_kept(core, cache)
    delta = (grad_output * cache["output"]).sum(-1, keepdims=True)
    grad_scores = weights * (kept * (grad_output @ _transposed(cache["value"])) - delta)
    return _with_grad_scores(core, grad_scores, grad_output, cache)


@mistake_in(Core, case="BlockwiseAttention, zero")
def mean_of_values_on_zeroed_rows(core: Core, grad_output: Array, cache: Tree) -> Gradients:
    """Forward set the output of fully masked rows to 0, but their weights are made again as uniform ones."""
    uniform = copy.copy(core)
    vars(uniform)["zero_fully_masked"] = False
    return uniform.backward(grad_output, cache)
