"""Blockwise attention in other forms.

Each has row maxima and sums of its own scores. Scores that are rounded otherwise differ by roundings of their size, and
exp makes that the relative error of a power: weights of such powers and of forward's row_sum do not sum to 1, which the
weights of any inputs do.
"""

import copy

import numpy as np

from npformer import BlockwiseAttention, GivenMasks
from npformer.attention import MASKED_SCORE
from npformer.component import Array, Tree
from rewrites.registry import backward_of

Gradients = tuple[tuple[Array, Array, Array], Tree]


def _weights_and_kept(core: BlockwiseAttention, cache: Tree) -> tuple[Array, Array]:
    """The softmax of the scores, and the factor that dropout multiplies each weight by, both as whole matrices."""
    query, key = cache["query"], cache["key"]
    scores = core._scale(query) * (query @ key.swapaxes(-1, -2))
    scores = np.where(cache.get("mask", 1), scores, MASKED_SCORE)
    kept: Array = np.ones(scores.shape, query.dtype)
    source = cache["dropout"]
    if source:
        rng = copy.deepcopy(source.get("rng"))
        kept *= source["mask"] if rng is None else rng.random(scores.shape) >= core.dropout.p
        kept /= 1 - core.dropout.p
    if core.zero_fully_masked and "mask" in cache:
        kept *= cache["mask"].any(-1, keepdims=True)
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True), kept


@backward_of(BlockwiseAttention)
def all_at_once(core: BlockwiseAttention, grad_output: Array, cache: Tree) -> Gradients:
    query, key, value = cache["query"], cache["key"], cache["value"]
    weights, kept = _weights_and_kept(core, cache)
    grad_weights = kept * (grad_output @ value.swapaxes(-1, -2))
    delta = (weights * grad_weights).sum(-1, keepdims=True)
    grad_scores = core._scale(query) * weights * (grad_weights - delta) * (cache.get("mask", 1) != 0)
    grad_value = (weights * kept).swapaxes(-1, -2) @ grad_output
    return (grad_scores @ key, grad_scores.swapaxes(-1, -2) @ query, grad_value), {"dropout": {}}


@backward_of(BlockwiseAttention)
def keys_outside_queries_inside(core: BlockwiseAttention, grad_output: Array, cache: Tree) -> Gradients:
    query, key, value = cache["query"], cache["key"], cache["value"]
    weights, kept = _weights_and_kept(core, cache)
    may_attend = np.broadcast_to(cache.get("mask", 1), weights.shape) != 0
    delta = (grad_output * ((weights * kept) @ value)).sum(-1, keepdims=True)
    grad_query, grad_key, grad_value = (np.zeros_like(array) for array in (query, key, value))
    for keys in (slice(start, start + 2) for start in range(0, key.shape[-2], 2)):
        grad_value[..., keys, :] = (weights[..., keys] * kept[..., keys]).swapaxes(-1, -2) @ grad_output
        grad_weights = kept[..., keys] * (grad_output @ value[..., keys, :].swapaxes(-1, -2))
        grad_scores = core._scale(query) * weights[..., keys] * (grad_weights - delta) * may_attend[..., keys]
        grad_query += grad_scores @ key[..., keys, :]
        grad_key[..., keys, :] = grad_scores.swapaxes(-1, -2) @ query
    return (grad_query, grad_key, grad_value), {"dropout": {}}


@backward_of(BlockwiseAttention)
def other_blocks(core: BlockwiseAttention, grad_output: Array, cache: Tree) -> Gradients:
    twin = copy.copy(core)
    twin.block_size = 3, 1
    source = cache["dropout"]
    rng = GivenMasks([source["mask"]]) if "mask" in source else copy.deepcopy(source.get("rng"))
    _, own = twin.forward(cache["query"], cache["key"], cache["value"], mask=cache.get("mask"), rng=rng)
    return BlockwiseAttention.backward(twin, grad_output, own)
