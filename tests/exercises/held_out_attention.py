"""Held-out mistakes in the attention core, and in its blockwise form."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import numpy as np
from held_out_form import held_out

from npformer import BlockwiseAttention, ScaledDotProductAttention
from npformer.attention import MASKED_SCORE
from npformer.component import Array, Tree

Triple = tuple[Array, Array, Array]


def _scale(component: ScaledDotProductAttention | BlockwiseAttention, array: Array) -> float:
    return 1 / math.sqrt(array.shape[-1]) if component.scale is None else component.scale


def _grad_weights(component: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Array:
    """The gradient of the weights before dropout."""
    return component.dropout.backward(grad_output @ cache["value"].swapaxes(-1, -2), cache["dropout"])[0]


def _grad_scores(component: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Array:
    return component.softmax.backward(_grad_weights(component, grad_output, cache), cache["softmax"])[0]


def _from_scores(
    component: ScaledDotProductAttention, grad_output: Array, cache: Tree, grad_scores: Array
) -> tuple[Triple, Tree]:
    """Go on rightly from the gradient of the scores, whatever it is."""
    scale = _scale(component, cache["query"])
    grad_query = scale * (grad_scores @ cache["key"])
    grad_key = scale * (grad_scores.swapaxes(-1, -2) @ cache["query"])
    grad_value = cache["weights"].swapaxes(-1, -2) @ grad_output
    return (grad_query, grad_key, grad_value), {"softmax": {}, "dropout": {}}


@held_out(
    ScaledDotProductAttention,
    ("query", "key"),
    r"dropout|dropped",
    r"own output|softmax('s)? output|output of (the )?softmax|weights? (before|after|without)|"
    r"dropped (weights|probab)|wrong weights",
)
def core_softmax_at_dropped_weights(
    component: ScaledDotProductAttention, grad_output: Array, cache: Tree
) -> tuple[Triple, Tree]:
    """The softmax's backward uses the weights after dropout in place of the softmax's own output."""
    y, grad_weights = cache["weights"], _grad_weights(component, grad_output, cache)
    grad_scores = y * (grad_weights - (grad_weights * y).sum(-1, keepdims=True)) * cache.get("mask", 1)
    return _from_scores(component, grad_output, cache, grad_scores)


@held_out(
    ScaledDotProductAttention,
    ("query", "key"),
    r"mask",
    r"1e\+?0?9|10\^9|10⁹|huge|enormous|\bfill|(should|must) be (0|zero)|no gradient|gradient.{0,30}\b(0|zero)\b|"
    r"replac",
)
def core_masked_gradient_is_minus_1e9(
    component: ScaledDotProductAttention, grad_output: Array, cache: Tree
) -> tuple[Triple, Tree]:
    """Forward's line is copied: the gradient of a masked score is set to -1e9, where it is 0."""
    grad_scores = _grad_scores(component, grad_output, cache)
    if "mask" in cache:
        grad_scores = np.where(cache["mask"], grad_scores, MASKED_SCORE)
    return _from_scores(component, grad_output, cache, grad_scores)


@held_out(
    ScaledDotProductAttention,
    ("value",),
    r"value",
    r"fully.masked|all.masked|masked.{0,12}rows?|uniform",
    r"uniform|still|attend|contribut|nothing|lost|left out|missing|mask.{0,30}(twice|again)|multipl|equal",
)
def core_no_value_gradient_from_masked_rows(
    component: ScaledDotProductAttention, grad_output: Array, cache: Tree
) -> tuple[Triple, Tree]:
    """The weights are masked again for grad_value: a fully masked row, which attends uniformly, gives value nothing."""
    (grad_query, grad_key, _), grads = component.backward(grad_output, cache)
    weights = cache["weights"] * cache.get("mask", 1)
    return (grad_query, grad_key, weights.swapaxes(-1, -2) @ grad_output), grads


@held_out(
    ScaledDotProductAttention,
    ("query", "key"),
    r"mask",
    r"part(ly|ial)|(whole|entire) rows?|rows? (with|that have|where) any|too (many|much)|"
    r"(unmasked|allowed|open|visible|attended) (keys?|entries|positions|scores)|any masked",
)
def core_partly_masked_rows_get_nothing(
    component: ScaledDotProductAttention, grad_output: Array, cache: Tree
) -> tuple[Triple, Tree]:
    """A row with any masked key gets no gradient at all; only the masked entries should get none."""
    grad_scores = _grad_scores(component, grad_output, cache)
    if "mask" in cache:
        grad_scores = grad_scores * np.all(cache["mask"], axis=-1, keepdims=True)
    return _from_scores(component, grad_output, cache, grad_scores)


@held_out(
    ScaledDotProductAttention,
    ("key",),
    r"scale|√|sqrt|factor",
    r"twice|squared\b|\bagain\b|double|two times|1/d_k|1/d\b|scale(²|\^2|\*\*2)|extra|once too",
)
def core_key_scaled_twice(component: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> tuple[Triple, Tree]:
    """grad_key is scaled twice: the query in it was scaled already."""
    (grad_query, grad_key, grad_value), grads = component.backward(grad_output, cache)
    return (grad_query, _scale(component, cache["query"]) * grad_key, grad_value), grads


@held_out(
    ScaledDotProductAttention,
    ("query", "key"),
    r"scale|√|sqrt|factor|coefficient",
    r"d_v|value('s)? (last|width|size|dimension)|wrong (size|width|axis|dimension|scale)|"
    r"(scale|factor).{0,40}(wrong|instead|should)",
)
def core_scale_of_the_value(
    component: ScaledDotProductAttention, grad_output: Array, cache: Tree
) -> tuple[Triple, Tree]:
    """The scale is 1/√d_v, of value's last axis, and not 1/√d_k, of query's."""
    (grad_query, grad_key, grad_value), grads = component.backward(grad_output, cache)
    ratio = _scale(component, cache["value"]) / _scale(component, cache["query"])
    return (ratio * grad_query, ratio * grad_key, grad_value), grads


@held_out(
    ScaledDotProductAttention,
    ("query", "key"),
    r"dropout|dropped",
    r"order|before.{0,30}softmax|softmax.{0,20}(before|first|after)|after.{0,30}softmax|swap|wrong (place|side)",
)
def core_dropout_after_softmax(
    component: ScaledDotProductAttention, grad_output: Array, cache: Tree
) -> tuple[Triple, Tree]:
    """Wrong order: the softmax is undone before the dropout, though forward drops last."""
    grad_weights = grad_output @ cache["value"].swapaxes(-1, -2)
    grad_softmax, _ = component.softmax.backward(grad_weights, cache["softmax"])
    grad_scores = component.dropout.backward(grad_softmax, cache["dropout"])[0] * cache.get("mask", 1)
    return _from_scores(component, grad_output, cache, grad_scores)


@held_out(
    ScaledDotProductAttention,
    ("query", "key"),
    r"softmax|sum|Σ|dot",
    r"wrong ax|ax[ie]s ?-?\d|over (the )?(quer|rows|column|keys)|across (the )?quer|columns|"
    r"other (axis|dimension)|(must|should|not|instead).{0,30}last axis",
)
def core_softmax_over_queries(
    component: ScaledDotProductAttention, grad_output: Array, cache: Tree
) -> tuple[Triple, Tree]:
    """The sum in the softmax's backward runs over the queries (axis -2) in place of the keys."""
    y, grad_weights = cache["softmax"]["output"], _grad_weights(component, grad_output, cache)
    grad_scores = y * (grad_weights - (grad_weights * y).sum(-2, keepdims=True)) * cache.get("mask", 1)
    return _from_scores(component, grad_output, cache, grad_scores)


def _kept(component: BlockwiseAttention, cache: Tree, shape: tuple[int, ...]) -> Array:
    source = cache["dropout"]
    if "mask" in source:
        return np.asarray(source["mask"])
    if "rng" in source:
        return np.asarray(copy.deepcopy(source["rng"]).random(shape) >= component.dropout.p)
    return np.ones(shape, bool)


def _blocks(component: BlockwiseAttention, grad_output: Array, cache: Tree) -> Iterator[tuple[slice, Array, Array]]:
    """Yield some columns at a time: which, the masked powers, and the gradient of the powers."""
    query, key, value = cache["query"], cache["key"], cache["value"]
    shape = (*query.shape[:-1], key.shape[-2])
    mask = np.broadcast_to(cache.get("mask", np.ones(1)), shape) != 0
    kept = _kept(component, cache, shape)
    grad_total = grad_output / cache["row_sum"][..., None] / (1 - component.dropout.p if cache["dropout"] else 1)
    if component.zero_fully_masked:
        grad_total = grad_total * mask.any(-1, keepdims=True)
    step = component.block_size[1]
    for start in range(0, shape[-1], step):
        columns = slice(start, start + step)
        scores = _scale(component, query) * query @ key[..., columns, :].swapaxes(-1, -2)
        powers = np.exp(np.where(mask[..., columns], scores, MASKED_SCORE) - cache["row_max"][..., None])
        grad_powers = kept[..., columns] * (grad_total @ value[..., columns, :].swapaxes(-1, -2))
        yield columns, powers * mask[..., columns], grad_powers


def _delta(grad_output: Array, cache: Tree) -> Array:
    delta: Array = (grad_output * cache["output"]).sum(-1, keepdims=True) / cache["row_sum"][..., None]
    return delta


@held_out(BlockwiseAttention, ("query", "key"), r"delta|row.?sum|dot", r"row.?sum|normali[sz]|divid|scale|factor")
def blockwise_delta_not_divided(component: BlockwiseAttention, grad_output: Array, cache: Tree) -> tuple[Triple, Tree]:
    """delta is grad_output·output, without the division by row_sum."""
    (_, _, grad_value), grads = component.backward(grad_output, cache)
    grad_query, grad_key = np.zeros_like(cache["query"]), np.zeros_like(cache["key"])
    scale, delta = _scale(component, cache["query"]), (grad_output * cache["output"]).sum(-1, keepdims=True)
    for columns, powers, grad_powers in _blocks(component, grad_output, cache):
        grad_scores = scale * powers * (grad_powers - delta)
        grad_query += grad_scores @ cache["key"][..., columns, :]
        grad_key[..., columns, :] = grad_scores.swapaxes(-1, -2) @ cache["query"]
    return (grad_query, grad_key, grad_value), grads


@held_out(
    BlockwiseAttention,
    ("query",),
    r"block",
    r"add(s|ed)? up|accumul|overwr|\+=|last block|only the last|(other|earlier) blocks|sum (over|of) .{0,20}blocks",
)
def blockwise_query_of_the_last_block(
    component: BlockwiseAttention, grad_output: Array, cache: Tree
) -> tuple[Triple, Tree]:
    """grad_query is overwritten by each block of keys (= for +=), so that only the last block is left."""
    (grad_query, grad_key, grad_value), grads = component.backward(grad_output, cache)
    scale, delta = _scale(component, cache["query"]), _delta(grad_output, cache)
    for columns, powers, grad_powers in _blocks(component, grad_output, cache):
        grad_query = scale * (powers * (grad_powers - delta)) @ cache["key"][..., columns, :]
    return (grad_query, grad_key, grad_value), grads


@held_out(
    BlockwiseAttention, ("query", "key"), r"delta|dot|sum", r"block", r"whole|all|every|entire|full|own|each|across"
)
def blockwise_delta_of_each_block(
    component: BlockwiseAttention, grad_output: Array, cache: Tree
) -> tuple[Triple, Tree]:
    """delta is summed over the keys of each block alone, where it needs those of the whole row."""
    (_, _, grad_value), grads = component.backward(grad_output, cache)
    grad_query, grad_key = np.zeros_like(cache["query"]), np.zeros_like(cache["key"])
    scale = _scale(component, cache["query"])
    for columns, powers, grad_powers in _blocks(component, grad_output, cache):
        delta = (powers * grad_powers).sum(-1, keepdims=True) / cache["row_sum"][..., None]
        grad_scores = scale * powers * (grad_powers - delta)
        grad_query += grad_scores @ cache["key"][..., columns, :]
        grad_key[..., columns, :] = grad_scores.swapaxes(-1, -2) @ cache["query"]
    return (grad_query, grad_key, grad_value), grads
