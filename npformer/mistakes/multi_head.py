"""Mistakes in the backward of multi-head attention."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable

import numpy as np

from npformer.attention import MultiHeadedAttention
from npformer.component import Array, Tree
from npformer.mistakes.attention import with_scale
from npformer.mistakes.catalogue import Gradients, mistake_in

SELF, CROSS = "MultiHeadedAttention, self", "MultiHeadedAttention, cross"


def _back_to_heads(attention: MultiHeadedAttention, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The first step of backward: the gradient of the heads, and the gradients of out_proj."""
    grad_merged, grads = attention.out_proj.backward(grad_output, cache["out_proj"])
    return attention._split(grad_merged), {"out_proj": grads}


def _back_through_projections(
    attention: MultiHeadedAttention, merged: Iterable[Array], cache: Tree, grads: Tree
) -> Gradients:
    """The last step of backward, from the merged gradients of q, k and v in self-attention."""
    grad_q, grad_k, grad_v = merged
    grad_query, grads["q_proj"] = attention.q_proj.backward(grad_q, cache["q_proj"])
    grad_key, grads["k_proj"] = attention.k_proj.backward(grad_k, cache["k_proj"])
    grad_value, grads["v_proj"] = attention.v_proj.backward(grad_v, cache["v_proj"])
    return grad_query + grad_key + grad_value, grads


@mistake_in(MultiHeadedAttention, case=SELF)
def split_without_transpose(attention: MultiHeadedAttention, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient is cut into heads by a reshape alone, which hands each head the entries of other tokens."""
    grad_heads, grads = _back_to_heads(attention, grad_output, cache)
    reshaped = attention._merge(grad_heads).reshape(grad_heads.shape)
    by_head, grads["attention"] = attention.attention.backward(reshaped, cache["attention"])
    return _back_through_projections(attention, map(attention._merge, by_head), cache, grads)


@mistake_in(MultiHeadedAttention, case=SELF)
def merge_without_transpose(attention: MultiHeadedAttention, grad_output: Array, cache: Tree) -> Gradients:
    """The heads' gradients are put side by side by a reshape alone, which mixes up tokens and heads."""
    grad_heads, grads = _back_to_heads(attention, grad_output, cache)
    by_head, grads["attention"] = attention.attention.backward(grad_heads, cache["attention"])
    reshaped = (grad.reshape(grad_output.shape) for grad in by_head)
    return _back_through_projections(attention, reshaped, cache, grads)


@mistake_in(MultiHeadedAttention, case=SELF)
def split_and_merge_swapped(attention: MultiHeadedAttention, grad_output: Array, cache: Tree) -> Gradients:
    """The transposes of split and merge are exchanged: d_model is cut as (d_head, heads), so the heads interleave."""
    grad_heads, grads = _back_to_heads(attention, grad_output, cache)
    B, H, T, d_head = grad_heads.shape
    interleaved = attention._merge(grad_heads).reshape(B, T, d_head, H).transpose(0, 3, 1, 2)
    by_head, grads["attention"] = attention.attention.backward(interleaved, cache["attention"])
    merged = (grad.transpose(0, 2, 3, 1).reshape(B, T, d_head * H) for grad in by_head)
    return _back_through_projections(attention, merged, cache, grads)


@mistake_in(MultiHeadedAttention, case=SELF)
def key_gradient_not_transposed(attention: MultiHeadedAttention, grad_output: Array, cache: Tree) -> Gradients:
    """The query is multiplied by grad_scores instead of its transpose; in self-attention the shapes fit."""
    core, core_cache = attention.attention, cache["attention"]
    grad_heads, grads = _back_to_heads(attention, grad_output, cache)
    (grad_q, _, grad_v), grads["attention"] = core.backward(grad_heads, core_cache)
    # with the identity for its key, the gradient of the query is that of the scores, scaled
    (grad_products, _, _), _ = core.backward(grad_heads, core_cache | {"key": np.eye(grad_heads.shape[2])})
    by_head = (grad_q, grad_products @ core_cache["query"], grad_v)
    return _back_through_projections(attention, map(attention._merge, by_head), cache, grads)


@mistake_in(MultiHeadedAttention, case=SELF)
def scale_from_d_model(attention: MultiHeadedAttention, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient of the scores is divided by √d_model, but each head is only d_model / num_heads wide."""
    twin = copy.copy(attention)
    twin.attention = with_scale(attention.attention, 1 / math.sqrt(attention.d_model))
    return twin.backward(grad_output, cache)


@mistake_in(MultiHeadedAttention, case=SELF)
def out_proj_not_transposed(attention: MultiHeadedAttention, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient goes through out_proj as forward does, by its weight transposed, and a square weight lets it."""
    twin = copy.copy(attention)
    twin.out_proj = attention.out_proj.with_parameters(
        {"weight": attention.out_proj.weight.T, "bias": attention.out_proj.bias}
    )
    return twin.backward(grad_output, cache)


@mistake_in(MultiHeadedAttention, case=SELF)
def through_the_query_alone(attention: MultiHeadedAttention, grad_output: Array, cache: Tree) -> Gradients:
    """x is query, key and value at once, but only the gradient of the query is returned for it."""
    (grad_query, _, _), grads = attention.backward(grad_output, cache | {"is_self_attention": False})
    return grad_query, grads


@mistake_in(MultiHeadedAttention, case=SELF)
def projections_swapped(attention: MultiHeadedAttention, grad_output: Array, cache: Tree) -> Gradients:
    """The gradients of the query's and the key's projection are returned under each other's names."""
    grad_x, grads = attention.backward(grad_output, cache)
    return grad_x, grads | {"q_proj": grads["k_proj"], "k_proj": grads["q_proj"]}


@mistake_in(MultiHeadedAttention, case=SELF)
def key_bias_like_the_others(attention: MultiHeadedAttention, grad_output: Array, cache: Tree) -> Gradients:
    """The key's bias moves all scores of a row alike, so its gradient is 0, but it gets that of the query's."""
    grad_x, grads = attention.backward(grad_output, cache)
    return grad_x, grads | {"k_proj": grads["k_proj"] | {"bias": grads["q_proj"]["bias"]}}


@mistake_in(MultiHeadedAttention, case=CROSS)
def key_and_value_swapped(attention: MultiHeadedAttention, grad_output: Array, cache: Tree) -> Gradients:
    """The gradients of key and value are returned in each other's place."""
    (grad_query, grad_key, grad_value), grads = attention.backward(grad_output, cache)
    return (grad_query, grad_value, grad_key), grads
