"""Other ways to write the backward of attention with rows in which everything is masked."""

import math

import numpy as np

from npformer.component import Array, Tree
from npformer.exercises.tasks.fully_masked import ScaledDotProductAttention
from solutions.registry import solves

Gradients = tuple[tuple[Array, Array, Array], Tree]


def finish(grad_scores: Array, grad_output: Array, cache: Tree) -> Gradients:
    """Go on from the gradient of the scores to those of the three."""
    grad_products = grad_scores / math.sqrt(cache["query"].shape[-1])
    grad_query = grad_products @ cache["key"]
    grad_key = grad_products.swapaxes(-1, -2) @ cache["query"]
    return (grad_query, grad_key, cache["weights"].swapaxes(-1, -2) @ grad_output), {}


@solves("fully_masked")
def masked_entries_assigned(self: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Gradients:
    p = cache["softmax"]["output"]
    grad_p = grad_output @ cache["value"].swapaxes(-1, -2)
    grad_scores = p * (grad_p - (p * grad_p).sum(-1, keepdims=True))
    grad_scores[~cache["mask"]] = 0
    return finish(grad_scores, grad_output, cache)


@solves("fully_masked")
def masked_before_the_softmax(self: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Gradients:
    """In a fully masked row all of grad_p is 0 then, and elsewhere a masked weight is 0 by itself."""
    grad_p = (grad_output @ cache["value"].swapaxes(-1, -2)) * cache["mask"]
    grad_scores, _ = self.softmax.backward(grad_p, cache["softmax"])
    return finish(grad_scores, grad_output, cache)


@solves("fully_masked")
def fully_masked_rows_alone(self: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Gradients:
    has_a_key = cache["mask"].any(axis=-1)
    grad_p = grad_output @ cache["value"].swapaxes(-1, -2)
    grad_scores, _ = self.softmax.backward(grad_p, cache["softmax"])
    return finish(np.where(has_a_key[..., None], grad_scores, 0.0), grad_output, cache)


@solves("fully_masked")
def masked_weights(self: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Gradients:
    p = np.where(cache["mask"], cache["weights"], 0)
    grad_p = np.einsum("bhqd,bhkd->bhqk", grad_output, cache["value"])
    row_sums = np.einsum("bhqk,bhqk->bhq", p, grad_p)
    return finish(p * (grad_p - row_sums[..., None]), grad_output, cache)


@solves("fully_masked")
def through_each_node(self: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Gradients:
    query, key, value, mask = cache["query"], cache["key"], cache["value"], cache["mask"]
    scale = 1 / np.sqrt(query.shape[-1])
    grad_weights = np.matmul(grad_output, np.transpose(value, (0, 1, 3, 2)))
    grad_value = np.matmul(np.transpose(cache["weights"], (0, 1, 3, 2)), grad_output)
    grad_p = grad_weights * mask.any(-1, keepdims=True) if self.zero_fully_masked else grad_weights
    grad_scores, _ = self.softmax.backward(grad_p, cache["softmax"])
    grad_products = np.where(mask, grad_scores, np.zeros_like(grad_scores))
    grad_scaled_query = np.matmul(grad_products, key)
    grad_key = np.matmul(np.transpose(grad_products, (0, 1, 3, 2)), scale * query)
    return (scale * grad_scaled_query, grad_key, grad_value), {}


@solves("fully_masked")
def head_by_head(self: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Gradients:
    query, key, value = cache["query"], cache["key"], cache["value"]
    grad_query, grad_key, grad_value = np.empty_like(query), np.empty_like(key), np.empty_like(value)
    for b in range(query.shape[0]):
        for h in range(query.shape[1]):
            p, g = cache["softmax"]["output"][b, h], grad_output[b, h]
            grad_p = g @ value[b, h].T
            grad_scores = p * (grad_p - np.sum(p * grad_p, axis=1, keepdims=True)) * cache["mask"][b, h]
            grad_query[b, h] = grad_scores @ key[b, h] / np.sqrt(key.shape[-1])
            grad_key[b, h] = grad_scores.T @ query[b, h] / np.sqrt(key.shape[-1])
            grad_value[b, h] = cache["weights"][b, h].T @ g
    return (grad_query, grad_key, grad_value), {}


@solves("fully_masked")
def only_the_open_keys(self: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Gradients:
    """Each query has a softmax over the keys that are open to it, and no other."""
    query, key, value = cache["query"], cache["key"], cache["value"]
    grad_query, grad_key, grad_value = np.zeros_like(query), np.zeros_like(key), np.zeros_like(value)
    scale = query.shape[-1] ** -0.5
    for b, h, q in np.ndindex(query.shape[:3]):
        g, keys = grad_output[b, h, q], np.flatnonzero(cache["mask"][b, h, q])
        grad_value[b, h] += np.outer(cache["weights"][b, h, q], g)
        p = cache["weights"][b, h, q, keys]
        grad_scores = (np.diag(p) - np.outer(p, p)) @ (value[b, h, keys] @ g)
        grad_query[b, h, q] = scale * grad_scores @ key[b, h, keys]
        grad_key[b, h, keys] += scale * np.outer(grad_scores, query[b, h, q])
    return (grad_query, grad_key, grad_value), {}


@solves("fully_masked")
def skips_fully_masked_queries(self: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Gradients:
    query, key, value, weights = cache["query"], cache["key"], cache["value"], cache["weights"]
    grad_query, grad_key, grad_value = np.zeros(query.shape), np.zeros(key.shape), np.zeros(value.shape)
    for index in np.ndindex(query.shape[:-1]):
        head, w = index[:2], weights[index]
        grad_value[head] += w[:, np.newaxis] * grad_output[index]
        if not cache["mask"][index].any():
            continue
        grad_w = value[head] @ grad_output[index]
        grad_products = w * (grad_w - w @ grad_w) / math.sqrt(query.shape[-1])
        grad_query[index] = grad_products @ key[head]
        grad_key[head] += grad_products[:, np.newaxis] * query[index]
    return (grad_query, grad_key, grad_value), {}


@solves("fully_masked")
def a_case_for_each_convention(self: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Gradients:
    p, weights, mask = cache["softmax"]["output"], cache["weights"], cache["mask"]
    grad_weights = grad_output @ cache["value"].swapaxes(-1, -2)
    if self.zero_fully_masked:  # weights are 0 wherever the mask is
        grad_scores = weights * (grad_weights - (weights * grad_weights).sum(-1, keepdims=True))
    else:
        grad_scores = p * (grad_weights - (p * grad_weights).sum(-1, keepdims=True))
        grad_scores = grad_scores * (~(~mask).all(-1, keepdims=True))
    return finish(grad_scores, grad_output, cache)


@solves("fully_masked")
def delta_from_the_output(self: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Gradients:
    delta = np.sum(grad_output * (cache["weights"] @ cache["value"]), axis=-1, keepdims=True)
    grad_weights = grad_output @ np.moveaxis(cache["value"], 2, 3)
    return finish(cache["mask"] * cache["weights"] * (grad_weights - delta), grad_output, cache)


@solves("fully_masked")
def jacobians_with_the_mask(self: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Gradients:
    p = cache["softmax"]["output"]
    jacobian = np.eye(p.shape[-1]) * p[..., None] - np.einsum("...i,...j->...ij", p, p)
    jacobian = jacobian * cache["mask"][..., None]
    grad_p = np.einsum("...qd,...kd->...qk", grad_output, cache["value"])
    return finish(np.einsum("...ij,...j->...i", jacobian, grad_p), grad_output, cache)


@solves("fully_masked")
def in_place(self: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Gradients:
    p = cache["softmax"]["output"]
    grad = grad_output @ cache["value"].swapaxes(-1, -2)
    grad *= p
    grad -= p * grad.sum(-1, keepdims=True)
    np.copyto(grad, 0, where=np.logical_not(cache["mask"]))
    grad *= 1 / np.sqrt(cache["key"].shape[-1])
    grad_value = np.tensordot(np.eye(p.shape[-1]), cache["weights"], axes=(1, 3)).transpose(1, 2, 0, 3) @ grad_output
    return (grad @ cache["key"], grad.swapaxes(-1, -2) @ cache["query"], grad_value), {}
