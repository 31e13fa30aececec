"""Wrong backwards that the diagnosis does not know: of attention, encoder layers and blockwise attention."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from held_out_form import held_out_second as held_out

import npformer as nf
from npformer.attention import MASKED_SCORE
from npformer.component import Array, Tree


def _scale(component: Any, query: Array) -> float:
    return 1 / math.sqrt(query.shape[-1]) if component.scale is None else float(component.scale)


def _grad_weights(component: Any, grad_output: Array, cache: Tree) -> Array:
    grad_weights: Array = grad_output @ cache["value"].swapaxes(-1, -2)
    return np.asarray(component.dropout.backward(grad_weights, cache["dropout"])[0])


def _grad_scores(component: Any, grad_output: Array, cache: Tree) -> Array:
    """The right gradients of the scores, but for the mask."""
    return np.asarray(component.softmax.backward(_grad_weights(component, grad_output, cache), cache["softmax"])[0])


def _core(component: Any, grad_output: Array, cache: Tree, grad_scores: Array) -> tuple[list[Array], Tree]:
    """The right end of the core's backward, from the gradients of the scores on, which it masks."""
    query, scale = cache["query"], _scale(component, cache["query"])
    grad_scores = grad_scores * cache.get("mask", 1)
    grad_query, grad_key = scale * (grad_scores @ cache["key"]), scale * (grad_scores.swapaxes(-1, -2) @ query)
    return [grad_query, grad_key, cache["weights"].swapaxes(-1, -2) @ grad_output], {"softmax": {}, "dropout": {}}


@held_out(nf.ScaledDotProductAttention, ("query", "key"), r"dropout|dropped|softmax's (own )?output")
def attention_jacobian_of_dropped_weights(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Takes the weights after dropout, not the softmax's own output, in the softmax's Jacobian."""
    grad_weights, weights = _grad_weights(component, grad_output, cache), cache["weights"]
    grad_scores = weights * (grad_weights - (grad_weights * weights).sum(-1, keepdims=True))
    inputs, grads = _core(component, grad_output, cache, grad_scores)
    return tuple(inputs), grads


@held_out(nf.ScaledDotProductAttention, ("key",), r"\bscale|√\s?d|sqrt|factor|twice|0\.7")
def attention_key_scaled_twice(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Multiplies the key's gradient by the scale twice: once with the query, and once again."""
    grad_scores = _grad_scores(component, grad_output, cache)
    (grad_query, grad_key, grad_value), grads = _core(component, grad_output, cache, grad_scores)
    return (grad_query, _scale(component, cache["query"]) * grad_key, grad_value), grads


SOFTMAX_SUM = r"\baxis|over the (quer|key|row|column|wrong)|Σ|\bsum\b|Jacobian|softmax's"


@held_out(nf.ScaledDotProductAttention, ("query", "key"), SOFTMAX_SUM)
def attention_softmax_over_queries(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Sums over the queries instead of the keys in the softmax's backward."""
    grad_weights, y = _grad_weights(component, grad_output, cache), cache["softmax"]["output"]
    grad_scores = y * (grad_weights - (grad_weights * y).sum(-2, keepdims=True))
    inputs, grads = _core(component, grad_output, cache, grad_scores)
    return tuple(inputs), grads


@held_out(nf.ScaledDotProductAttention, ("value",), r"\bmask", r"fully|whole row|uniform|\bvalue|\battend")
def attention_value_masked_again(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Masks the weights once more for the value: it gets no gradient from fully masked rows, which attend to all."""
    (grad_query, grad_key, _), grads = _core(component, grad_output, cache, _grad_scores(component, grad_output, cache))
    masked_weights = cache["weights"] * cache.get("mask", 1)
    return (grad_query, grad_key, masked_weights.swapaxes(-1, -2) @ grad_output), grads


@held_out(nf.ScaledDotProductAttention, ("query", "key"), r"\bmask", r"\brows?\b|part|\bany\b|\ball\b|open|unmasked")
def attention_all_for_any(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Means to stop the scores of fully masked rows, but writes all for any: stops every row with a masked key."""
    grad_scores = _grad_scores(component, grad_output, cache)
    if "mask" in cache:
        grad_scores = grad_scores * cache["mask"].all(-1, keepdims=True)
    inputs, grads = _core(component, grad_output, cache, grad_scores)
    return tuple(inputs), grads


def _into_heads(component: Any, merged: Array) -> Array:
    B, T, d_model = merged.shape
    return merged.reshape(B, T, component.num_heads, d_model // component.num_heads).swapaxes(1, 2)


def _side_by_side(heads: Array) -> Array:
    B, H, T, d_head = heads.shape
    return heads.swapaxes(1, 2).reshape(B, T, H * d_head)


def _projections(component: Any, grad_output: Array, cache: Tree, merge_query: Any) -> tuple[list[Array], Tree]:
    """The right way back through the four projections, but for how the query's heads are put together."""
    grads: Tree = {}
    grad_merged, grads["out_proj"] = component.out_proj.backward(grad_output, cache["out_proj"])
    grad_heads, grads["attention"] = component.attention.backward(
        _into_heads(component, grad_merged), cache["attention"]
    )
    inputs = []
    for name, merge, heads in zip("qkv", (merge_query, _side_by_side, _side_by_side), grad_heads, strict=True):
        proj = f"{name}_proj"
        grad_input, grads[proj] = getattr(component, proj).backward(merge(heads), cache[proj])
        inputs.append(grad_input)
    return inputs, grads


QUERY = ("query", "q_proj.weight", "q_proj.bias")


@held_out(nf.MultiHeadedAttention, QUERY, r"transpos|reshap|\bheads?\b|merg|swap|\baxes")
def multi_head_query_not_transposed(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Reshapes the heads of the query's gradient to (batch, T, d_model) without transposing them first."""
    inputs, grads = _projections(
        component, grad_output, cache, lambda heads: heads.reshape(len(heads), heads.shape[2], -1)
    )
    return (sum(inputs) if cache["is_self_attention"] else tuple(inputs)), grads


@held_out(nf.MultiHeadedAttention, ("query",), r"value|v_proj|query|q_proj", r"missing|forg[eo]t|twice|doubl|\b[02]\b")
def multi_head_query_for_value(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Adds grad_query + grad_key + grad_query in self-attention: the query's path twice, the value's never."""
    (grad_query, grad_key, grad_value), grads = _projections(component, grad_output, cache, _side_by_side)
    if cache["is_self_attention"]:
        return grad_query + grad_key + grad_query, grads
    return (grad_query, grad_key, grad_value), grads


@held_out(nf.MultiHeadedAttention, ("v_proj.weight",), r"\binput|projected|wrong (variable|array|operand)|before")
def multi_head_weight_of_projected_value(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Computes the gradient of v_proj's weight with the projected value instead of v_proj's input."""
    inputs, grads = _projections(component, grad_output, cache, _side_by_side)
    grad_merged, _ = component.out_proj.backward(grad_output, cache["out_proj"])
    grad_heads = cache["attention"]["weights"].swapaxes(-1, -2) @ _into_heads(component, grad_merged)
    projected = _side_by_side(cache["attention"]["value"])
    grads["v_proj"]["weight"] = np.einsum("bto,bti->oi", _side_by_side(grad_heads), projected)
    return (sum(inputs) if cache["is_self_attention"] else tuple(inputs)), grads


def _layer(component: Any, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The right backward of an encoder layer."""
    grads: Tree = {}
    grad_attended, grads["feed_forward"] = component.feed_forward.backward(grad_output, cache["feed_forward"])
    grad_x, grads["self_attn"] = component.self_attn.backward(grad_attended, cache["self_attn"])
    return grad_x, grads


@held_out(nf.EncoderLayer, ("x",), r"residual|\bskip|identity|grad_(y|output)|x → (y|output)|extra|too m(any|uch)")
def encoder_layer_residual_of_its_own(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Adds grad_y at the end for a residual path around the whole layer, which has none but its connections'."""
    grad_x, grads = _layer(component, grad_output, cache)
    return grad_x + grad_output, grads


NORMS = tuple(f"{part}.norm.{array}" for part in ("self_attn", "feed_forward") for array in ("weight", "bias"))
ATTENTION, FEED_FORWARD = "self_attn.sublayer", "feed_forward.sublayer"
PROJECTIONS = tuple(f"{ATTENTION}.{name}_proj" for name in ("q", "v", "out"))
LINEARS = (*PROJECTIONS, f"{FEED_FORWARD}.linear1", f"{FEED_FORWARD}.linear2")
MAPS = tuple(f"{linear}.{array}" for linear in LINEARS for array in ("weight", "bias"))
# k_proj.bias is not among them: its gradient is always 0
SHARED = tuple(f"layer.{name}" for name in (*NORMS, f"{ATTENTION}.k_proj.weight", *MAPS))


@held_out(nf.EncoderLayer, NORMS, r"swap|exchang|interchang|mixed up|each other|the other|belong|wrong (name|key)")
def encoder_layer_norms_exchanged(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Returns the gradients of the two norms under each other's names."""
    grad_x, grads = _layer(component, grad_output, cache)
    first, second = grads["self_attn"], grads["feed_forward"]
    first["norm"], second["norm"] = second["norm"], first["norm"]
    return grad_x, grads


def _shared(component: Any, grad_output: Array, cache: Tree, uses: Iterable[int], share: float) -> tuple[Any, Tree]:
    """The backward of a shared encoder, which goes through these uses and adds this share of their gradients."""
    grads: Tree = {}
    if component.norm is not None:
        grad_output, grads["norm"] = component.norm.backward(grad_output, cache["norm"])
    for use in uses:
        grad_output, use_grads = component.layer.backward(grad_output, cache["layer"][str(use)])
        shared = _times(share, use_grads)
        grads["layer"] = nf.add_trees(grads["layer"], shared) if "layer" in grads else shared
    return grad_output, grads


def _times(share: float, tree: Tree) -> Tree:
    return {name: _times(share, value) if isinstance(value, dict) else share * value for name, value in tree.items()}


@held_out(nf.SharedEncoder, ("x", *SHARED), r"\border\b|revers|last first|first use|backwards|cache of|wrong cache")
def shared_encoder_first_use_first(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Goes through the uses in the order of forward instead of the last first."""
    return _shared(component, grad_output, cache, range(component.N), 1)


@held_out(nf.SharedEncoder, SHARED, r"\bmean\b|averag|divided|1/N|1/2|0\.5|half|number of uses")
def shared_encoder_uses_averaged(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Takes the mean over the uses of the layer as its parameters' gradients, where the sum is right."""
    return _shared(component, grad_output, cache, reversed(range(component.N)), 1 / component.N)


def _blockwise(component: Any, grad_output: Array, cache: Tree, delta: Array) -> tuple[Array, Array, float]:
    """The right gradients of scores and value, if delta is right; and the scale."""
    scale, drawn, rate = _scale(component, cache["query"]), cache["dropout"], component.dropout.p
    scores = scale * cache["query"] @ cache["key"].swapaxes(-1, -2)
    mask = np.broadcast_to(cache.get("mask", True), scores.shape) != 0
    powers = np.exp(np.where(mask, scores, MASKED_SCORE) - cache["row_max"][..., None])
    kept, normaliser = np.ones(scores.shape, bool), 1 / cache["row_sum"][..., None]
    if drawn:
        kept = drawn["mask"] if "mask" in drawn else copy.deepcopy(drawn["rng"]).random(scores.shape) >= rate
        normaliser = normaliser / (1 - rate)
    if component.zero_fully_masked:
        normaliser = normaliser * mask.any(-1, keepdims=True)
    grad_total = grad_output * normaliser
    grad_scores = mask * powers * (kept * (grad_total @ cache["value"].swapaxes(-1, -2)) - delta)
    return grad_scores, (kept * powers).swapaxes(-1, -2) @ grad_total, scale


@held_out(nf.BlockwiseAttention, ("query",), r"accumulat|\+=|overwrit|not summed|missing sum|added up|\bblocks?\b")
def blockwise_query_of_last_block(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Writes = for += in the loop over the blocks of keys: the query's gradient is that of the last block."""
    key, width = cache["key"], component.block_size[1]
    delta = (grad_output * cache["output"]).sum(-1, keepdims=True) / cache["row_sum"][..., None]
    grad_scores, grad_value, scale = _blockwise(component, grad_output, cache, delta)
    for start in range(0, key.shape[-2], width):
        keys = slice(start, start + width)
        grad_query = scale * grad_scores[..., keys] @ key[..., keys, :]
    return (grad_query, scale * grad_scores.swapaxes(-1, -2) @ cache["query"], grad_value), {"dropout": {}}


@held_out(nf.BlockwiseAttention, ("query", "key"), r"delta|δ|row_?\s?sum|sum term|normali[sz]|denominator|Σ")
def blockwise_delta_of_normalised_weights(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Takes delta = grad_output · output, which goes with the softmax's weights; with powers, it lacks / row_sum."""
    delta = (grad_output * cache["output"]).sum(-1, keepdims=True)
    grad_scores, grad_value, scale = _blockwise(component, grad_output, cache, delta)
    grad_query = scale * grad_scores @ cache["key"]
    return (grad_query, scale * grad_scores.swapaxes(-1, -2) @ cache["query"], grad_value), {"dropout": {}}
