"""Other ways to write the forward of attention."""

import math

import numpy as np

import npformer
from npformer.component import Array
from solutions.registry import solves

Pair = tuple[Array, Array]


@solves("attention")
def einsum_throughout(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    scores = np.einsum("...qd,...kd->...qk", query, key) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = np.where(mask != 0, scores, -1e9)
    scores -= scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores)
    weights /= np.einsum("...k->...", weights)[..., None]
    return np.einsum("...qk,...kv->...qv", weights, value), weights


@solves("attention")
def written_into_masked_places(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    scores = np.matmul(query, np.swapaxes(key, -2, -1)) / np.sqrt(key.shape[-1])
    if mask is not None:
        scores[np.broadcast_to(mask == 0, scores.shape)] = -1e9
    exps = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
    p_attn = exps / np.sum(exps, axis=-1, keepdims=True)
    return np.matmul(p_attn, value), p_attn


@solves("attention")
def query_scaled_first(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    scores = (query * query.shape[-1] ** -0.5) @ np.moveaxis(key, -1, -2)
    if mask is not None:
        np.copyto(scores, -1e9, where=np.equal(mask, 0))
    np.exp(scores - scores.max(-1)[..., None], out=scores)
    scores /= scores.sum(-1)[..., None]
    return scores @ value, scores


@solves("attention")
def masked_array(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
    if mask is not None:
        hidden = np.broadcast_to(np.logical_not(mask), scores.shape)
        scores = np.ma.masked_array(scores, hidden).filled(-1e9)
    largest = np.maximum.reduce(scores, axis=-1, keepdims=True)
    log_sum = largest + np.log(np.exp(scores - largest).sum(-1, keepdims=True))
    fully = largest == -1e9  # whose log_sum loses log T_k in the rounding
    p_attn = np.where(fully, 1 / scores.shape[-1], np.exp(scores - log_sum))
    p_attn /= p_attn.sum(-1, keepdims=True)
    return p_attn @ value, p_attn


@solves("attention")
def matrix_by_matrix(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    leading, T_q, T_k = query.shape[:-2], query.shape[-2], key.shape[-2]
    allowed = np.broadcast_to(True if mask is None else mask != 0, (*leading, T_q, T_k))
    output, p_attn = np.empty((*leading, T_q, value.shape[-1])), np.empty((*leading, T_q, T_k))
    for index in np.ndindex(*leading):
        scores = np.where(allowed[index], query[index] @ key[index].T / np.sqrt(query.shape[-1]), -1e9)
        exps = np.exp(scores - scores.max(1)[:, None])
        p_attn[index] = exps / exps.sum(1)[:, None]
        output[index] = p_attn[index] @ value[index]
    return output, p_attn


@solves("attention")
def query_by_query(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    *leading, T_q, d_k = query.shape
    T_k = key.shape[-2]
    output, p_attn = np.zeros((*leading, T_q, value.shape[-1])), np.zeros((*leading, T_q, T_k))
    allowed = np.ones(p_attn.shape) if mask is None else np.broadcast_to(mask, p_attn.shape)
    for row in np.ndindex(*leading, T_q):
        scores = [float(query[row] @ each) / math.sqrt(d_k) for each in key[row[:-1]]]
        scores = [score if may else -1e9 for score, may in zip(scores, allowed[row], strict=True)]
        exps = [math.exp(score - max(scores)) for score in scores]
        for j, each in enumerate(exps):
            p_attn[(*row, j)] = each / sum(exps)
            output[row] += p_attn[(*row, j)] * value[row[:-1]][j]
    return output, p_attn


@solves("attention")
def only_the_allowed_keys(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
    allowed = np.ones(scores.shape, bool) if mask is None else np.broadcast_to(mask, scores.shape) != 0
    p_attn = np.zeros(scores.shape)
    for row in np.ndindex(scores.shape[:-1]):
        seen = np.flatnonzero(allowed[row])
        if len(seen) == 0:
            p_attn[row] = 1 / scores.shape[-1]
            continue
        exps = np.exp(scores[row][seen] - scores[row][seen].max())
        p_attn[row][seen] = exps / exps.sum()
    return p_attn @ value, p_attn


@solves("attention")
def minus_infinity_and_rows_repaired(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
    if mask is not None:
        allowed = np.broadcast_to(mask, scores.shape).astype(bool)
        scores = np.where(allowed, scores, -np.inf)
        scores = np.where(allowed.any(-1, keepdims=True), scores, 0.0)
    exps = np.exp(scores - scores.max(-1, keepdims=True))
    p_attn = exps / exps.sum(-1, keepdims=True)
    return p_attn @ value, p_attn


@solves("attention")
def by_the_components(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    output, cache = npformer.ScaledDotProductAttention().forward(query, key, value, mask=mask)
    return output, cache["weights"]


@solves("attention")
def nested_functions(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    def softmax(x: Array) -> Array:
        shifted = x - x.max(axis=-1, keepdims=True)
        e = np.exp(shifted)
        total: Array = e / e.sum(axis=-1, keepdims=True)
        return total

    def hide(x: Array) -> Array:
        return x if mask is None else mask.astype(bool) * x + np.logical_not(mask) * -1e9

    weights = softmax(hide((query / np.sqrt(query.shape[-1])) @ key.swapaxes(-1, -2)))
    return weights @ value, weights


@solves("attention")
def axes_moved_to_the_front(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    scores = np.stack([(query * key[..., j, None, :]).sum(-1) for j in range(key.shape[-2])], axis=-1)
    scores = scores / query.shape[-1] ** 0.5
    scores = scores if mask is None else np.choose(np.broadcast_to(mask != 0, scores.shape), [-1e9, scores])
    by_key = np.moveaxis(scores, -1, 0)
    exps = np.exp(by_key - by_key.max(0))
    p_attn = np.moveaxis(exps / exps.sum(0), 0, -1)
    return sum((p_attn[..., j, None] * value[..., j, None, :] for j in range(key.shape[-2])), start=np.zeros(1)), p_attn


@solves("attention")
def running_maximum(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
    scores = scores if mask is None else np.where(np.asarray(mask, bool), scores, -1e9)
    largest, total = np.full(scores.shape[:-1], -np.inf), np.zeros(scores.shape[:-1])
    for j in range(scores.shape[-1]):
        larger = np.maximum(largest, scores[..., j])
        total = total * np.exp(largest - larger) + np.exp(scores[..., j] - larger)
        largest = larger
    p_attn = np.exp(scores - largest[..., None]) / total[..., None]
    return p_attn @ value, p_attn
