"""Other ways to write the backward of scaled dot-product attention with dropout."""

import math

import numpy as np

from npformer.component import Array, Tree
from npformer.exercises.tasks.attention_core import ScaledDotProductAttention
from solutions.registry import solves

Gradients = tuple[tuple[Array, Array, Array], Tree]


def through_dropout(self: ScaledDotProductAttention, grad_weights: Array, cache: Tree) -> Array:
    keep: Array = cache["dropout"]["mask"] / (1 - self.dropout.p)
    return grad_weights * keep


@solves("attention_core")
def softmax_written_out(self: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Gradients:
    query, key, value, weights = cache["query"], cache["key"], cache["value"], cache["weights"]
    p = cache["softmax"]["output"]
    grad_p = through_dropout(self, grad_output @ value.transpose(0, 1, 3, 2), cache)
    grad_scores = p * (grad_p - (p * grad_p).sum(-1, keepdims=True))
    grad_scores = grad_scores / np.sqrt(query.shape[-1])
    grad_query = grad_scores @ key
    grad_key = grad_scores.transpose(0, 1, 3, 2) @ query
    return (grad_query, grad_key, weights.transpose(0, 1, 3, 2) @ grad_output), {}


@solves("attention_core")
def by_einsum(self: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Gradients:
    scale = cache["query"].shape[-1] ** -0.5
    p = cache["softmax"]["output"]
    grad_value = np.einsum("bhqk,bhqd->bhkd", cache["weights"], grad_output)
    grad_weights = np.einsum("bhqd,bhkd->bhqk", grad_output, cache["value"])
    grad_p = through_dropout(self, grad_weights, cache)
    grad_scores = p * grad_p - p * np.einsum("bhqk,bhqk->bhq", p, grad_p)[..., None]
    grad_query = scale * np.einsum("bhqk,bhkd->bhqd", grad_scores, cache["key"])
    grad_key = scale * np.einsum("bhqk,bhqd->bhkd", grad_scores, cache["query"])
    return (grad_query, grad_key, grad_value), {}


@solves("attention_core")
def head_by_head(self: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Gradients:
    query, key, value = cache["query"], cache["key"], cache["value"]
    grad_query, grad_key, grad_value = np.zeros_like(query), np.zeros_like(key), np.zeros_like(value)
    for head in np.ndindex(query.shape[:2]):
        grad_value[head] = cache["weights"][head].T @ grad_output[head]
        grad_p = through_dropout(self, grad_output @ value.swapaxes(2, 3), cache)[head]
        p = cache["softmax"]["output"][head]
        grad_scores = p * (grad_p - np.sum(p * grad_p, axis=1, keepdims=True))
        grad_query[head] = grad_scores @ key[head] / math.sqrt(key.shape[-1])
        grad_key[head] = grad_scores.T @ query[head] / math.sqrt(key.shape[-1])
    return (grad_query, grad_key, grad_value), {}


@solves("attention_core")
def query_by_query_with_jacobians(self: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Gradients:
    query, key, value = cache["query"], cache["key"], cache["value"]
    grad_query, grad_key, grad_value = np.zeros_like(query), np.zeros_like(key), np.zeros_like(value)
    scale = 1 / np.sqrt(query.shape[-1])
    for b, h, q in np.ndindex(query.shape[:3]):
        g, p = grad_output[b, h, q], cache["softmax"]["output"][b, h, q]
        grad_value[b, h] += np.outer(cache["weights"][b, h, q], g)
        grad_p = value[b, h] @ g * cache["dropout"]["mask"][b, h, q] / (1 - self.dropout.p)
        grad_scores = (np.diag(p) - np.outer(p, p)) @ grad_p
        grad_query[b, h, q] = scale * grad_scores @ key[b, h]
        grad_key[b, h] += scale * np.outer(grad_scores, query[b, h, q])
    return (grad_query, grad_key, grad_value), {}


@solves("attention_core")
def delta_from_the_output(self: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Gradients:
    """Σ p grad_p = Σ weights grad_weights = grad_output · output."""
    query, key, value, weights = cache["query"], cache["key"], cache["value"], cache["weights"]
    delta = np.sum(grad_output * (weights @ value), axis=-1, keepdims=True)
    grad_p = through_dropout(self, grad_output @ value.swapaxes(-1, -2), cache)
    grad_scores = cache["softmax"]["output"] * (grad_p - delta) / math.sqrt(query.shape[-1])
    return (grad_scores @ key, grad_scores.swapaxes(-1, -2) @ query, weights.swapaxes(-1, -2) @ grad_output), {}


@solves("attention_core")
def scale_in_query_and_key(self: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Gradients:
    scale = 1 / math.sqrt(cache["query"].shape[-1])
    query, key = scale * cache["query"], scale * cache["key"]
    grad_weights = np.matmul(grad_output, np.moveaxis(cache["value"], -1, -2))
    grad_p, _ = self.dropout.backward(grad_weights, cache["dropout"])
    grad_scores, _ = self.softmax.backward(grad_p, cache["softmax"])
    grad_value = np.matmul(np.moveaxis(cache["weights"], -1, -2), grad_output)
    return (np.matmul(grad_scores, key), np.matmul(np.moveaxis(grad_scores, -1, -2), query), grad_value), {}


@solves("attention_core")
def in_place(self: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Gradients:
    p = cache["softmax"]["output"]
    grad = grad_output @ cache["value"].swapaxes(-1, -2)
    grad *= cache["dropout"]["mask"]
    grad /= 1 - self.dropout.p
    grad *= p
    grad -= p * grad.sum(-1, keepdims=True)
    grad *= cache["query"].shape[-1] ** -0.5
    grad_value = cache["weights"].swapaxes(-1, -2) @ grad_output
    return (grad @ cache["key"], grad.swapaxes(-1, -2) @ cache["query"], grad_value), {}


@solves("attention_core")
def full_jacobian_of_the_softmax(self: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Gradients:
    p = cache["softmax"]["output"]
    jacobian = p[..., :, None] * np.eye(p.shape[-1]) - p[..., :, None] * p[..., None, :]
    grad_weights = grad_output @ cache["value"].swapaxes(-1, -2)
    grad_p, _ = self.dropout.backward(grad_weights, cache["dropout"])
    grad_scores = (grad_p[..., None, :] @ jacobian).squeeze(-2)
    grad_products = grad_scores * (1 / np.sqrt(cache["key"].shape[-1]))
    grad_value = (grad_output.swapaxes(-1, -2) @ cache["weights"]).swapaxes(-1, -2)
    grad_key = (cache["query"].swapaxes(-1, -2) @ grad_products).swapaxes(-1, -2)
    return (grad_products @ cache["key"], grad_key, grad_value), {}


@solves("attention_core")
def batch_and_heads_as_one_axis(self: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Gradients:
    query, key, value, weights, p, mask, g = (
        a.reshape(-1, *a.shape[2:])
        for a in (
            *(cache["query"], cache["key"], cache["value"], cache["weights"]),
            *(cache["softmax"]["output"], cache["dropout"]["mask"], grad_output),
        )
    )
    found: tuple[list[Array], list[Array], list[Array]] = ([], [], [])
    for n in range(len(query)):
        grad_p = np.where(mask[n], np.dot(g[n], value[n].T) / (1 - self.dropout.p), 0)
        grad_scores = p[n] * (grad_p - np.diag(grad_p @ p[n].T)[:, None]) / math.sqrt(query.shape[-1])
        found[0].append(np.dot(grad_scores, key[n]))
        found[1].append(np.dot(grad_scores.T, query[n]))
        found[2].append(np.dot(weights[n].T, g[n]))
    grad_query, grad_key, grad_value = (
        np.stack(grads).reshape(cache[name].shape) for name, grads in zip(("query", "key", "value"), found, strict=True)
    )
    return (grad_query, grad_key, grad_value), {}


@solves("attention_core")
def key_after_key(self: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Gradients:
    query, key, value, p = cache["query"], cache["key"], cache["value"], cache["softmax"]["output"]
    scale, keep = 1 / math.sqrt(query.shape[-1]), cache["dropout"]["mask"] / (1 - self.dropout.p)
    columns = range(key.shape[2])
    grad_p = [keep[..., k] * (grad_output * value[:, :, k, None]).sum(-1) for k in columns]
    row_sum = sum((p[..., k] * grad_p[k] for k in columns), np.zeros(p.shape[:-1]))
    grad_query, grad_key, grad_value = np.zeros_like(query), np.empty_like(key), np.empty_like(value)
    for k in columns:
        grad_score = (p[..., k] * (grad_p[k] - row_sum))[..., None] * scale
        grad_query += grad_score * key[:, :, k, None]
        grad_key[:, :, k] = (grad_score * query).sum(2)
        grad_value[:, :, k] = (cache["weights"][..., k, None] * grad_output).sum(2)
    return (grad_query, grad_key, grad_value), {}


@solves("attention_core")
def two_parts_of_the_softmax(self: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Gradients:
    query, key, weights = cache["query"], cache["key"], cache["weights"]
    grad_weights = grad_output @ cache["value"].swapaxes(-1, -2)
    own = weights * grad_weights  # p grad_p, since mask / (1 - rate) is in both
    others = cache["softmax"]["output"] * own.sum(-1, keepdims=True)
    scale = 1 / math.sqrt(query.shape[-1])
    grad_query = scale * (own @ key) - scale * (others @ key)
    grad_key = scale * (own.swapaxes(-1, -2) @ query) - scale * (others.swapaxes(-1, -2) @ query)
    return (grad_query, grad_key, weights.swapaxes(-1, -2) @ grad_output), {}
