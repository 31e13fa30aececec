"""Other ways to write the backward of blockwise attention."""

import math

import numpy as np

from npformer.component import Array, Tree
from npformer.exercises.tasks.blockwise_attention import BlockwiseAttention
from solutions.registry import solves

Gradients = tuple[tuple[Array, Array, Array], Tree]


@solves("blockwise_attention")
def blocks_of_queries_outside(self: BlockwiseAttention, grad_output: Array, cache: Tree) -> Gradients:
    query, key, value, output = (cache[name] for name in ("query", "key", "value", "output"))
    grad_query, grad_key, grad_value = (np.zeros_like(array) for array in (query, key, value))
    scale = query.shape[-1] ** -0.5
    some_queries, some_keys = self.block_size
    for i in range(0, query.shape[-2], some_queries):
        rows = slice(i, i + some_queries)
        delta = np.einsum("...id,...id->...i", grad_output[..., rows, :], output[..., rows, :])
        for j in range(0, key.shape[-2], some_keys):
            keys = slice(j, j + some_keys)
            scores = scale * np.einsum("...id,...jd->...ij", query[..., rows, :], key[..., keys, :])
            weights = np.exp(scores - cache["row_max"][..., rows, None]) / cache["row_sum"][..., rows, None]
            grad_weights = np.einsum("...id,...jd->...ij", grad_output[..., rows, :], value[..., keys, :])
            grad_scores = weights * (grad_weights - delta[..., None]) * scale
            grad_query[..., rows, :] += np.einsum("...ij,...jd->...id", grad_scores, key[..., keys, :])
            grad_key[..., keys, :] += np.einsum("...ij,...id->...jd", grad_scores, query[..., rows, :])
            grad_value[..., keys, :] += np.einsum("...ij,...id->...jd", weights, grad_output[..., rows, :])
    return (grad_query, grad_key, grad_value), {}


@solves("blockwise_attention")
def key_by_key(self: BlockwiseAttention, grad_output: Array, cache: Tree) -> Gradients:
    query, key, value = cache["query"], cache["key"], cache["value"]
    scale = 1 / np.sqrt(query.shape[-1])
    delta = np.sum(grad_output * cache["output"], axis=-1)
    grad_query = np.zeros(query.shape)
    grad_keys, grad_values = [], []
    for j in range(key.shape[-2]):
        one_key, one_value = key[..., j, None, :], value[..., j, None, :]
        weight = np.exp(scale * (query * one_key).sum(-1) - cache["row_max"]) / cache["row_sum"]
        grad_score = weight * ((grad_output * one_value).sum(-1) - delta)
        grad_query += scale * grad_score[..., None] * one_key
        grad_keys.append(scale * (grad_score[..., None] * query).sum(-2))
        grad_values.append((weight[..., None] * grad_output).sum(-2))
    return (grad_query, np.stack(grad_keys, axis=-2), np.stack(grad_values, axis=-2)), {}


@solves("blockwise_attention")
def head_by_head(self: BlockwiseAttention, grad_output: Array, cache: Tree) -> Gradients:
    query, key, value = cache["query"], cache["key"], cache["value"]
    grads = np.zeros_like(query), np.zeros_like(key), np.zeros_like(value)
    scale = 1 / math.sqrt(query.shape[-1])
    for head in np.ndindex(*query.shape[:-2]):
        q, k, v, g = query[head], key[head], value[head], grad_output[head]
        row_max, row_sum = cache["row_max"][head].reshape(-1, 1), cache["row_sum"][head].reshape(-1, 1)
        delta = np.diag(g @ cache["output"][head].T).reshape(-1, 1)
        for start in range(0, len(k), self.block_size[1]):
            stop = min(start + self.block_size[1], len(k))
            weights = np.exp(q @ k[start:stop].T * scale - row_max) / row_sum
            grad_scores = weights * (g @ v[start:stop].T - delta)
            grads[0][head] += grad_scores @ k[start:stop] * scale
            grads[1][head][start:stop] = grad_scores.T @ q * scale
            grads[2][head][start:stop] = weights.T @ g
    return grads, {}


@solves("blockwise_attention")
def delta_in_a_first_pass(self: BlockwiseAttention, grad_output: Array, cache: Tree) -> Gradients:
    query, key, value = cache["query"], cache["key"], cache["value"]
    scale, size = 1 / math.sqrt(query.shape[-1]), self.block_size[1]
    blocks = [slice(start, start + size) for start in range(0, key.shape[-2], size)]

    def weights_of(keys: slice) -> Array:
        scores = scale * np.matmul(query, np.moveaxis(key[..., keys, :], -1, -2))
        weights: Array = np.exp(scores - cache["row_max"][..., None]) / cache["row_sum"][..., None]
        return weights

    def grad_weights_of(keys: slice) -> Array:
        product: Array = np.matmul(grad_output, np.moveaxis(value[..., keys, :], -1, -2))
        return product

    delta = sum((weights_of(keys) * grad_weights_of(keys)).sum(-1, keepdims=True) for keys in blocks)
    grad_scores = [weights_of(keys) * (grad_weights_of(keys) - delta) for keys in blocks]
    grad_query = sum(scale * grad @ key[..., keys, :] for grad, keys in zip(grad_scores, blocks, strict=True))
    grad_key = np.concatenate([scale * np.moveaxis(grad, -1, -2) @ query for grad in grad_scores], axis=-2)
    grad_value = np.concatenate([np.moveaxis(weights_of(keys), -1, -2) @ grad_output for keys in blocks], axis=-2)
    return (np.asarray(grad_query), grad_key, grad_value), {}


@solves("blockwise_attention")
def through_the_quotient(self: BlockwiseAttention, grad_output: Array, cache: Tree) -> Gradients:
    query, key, value = cache["query"], cache["key"], cache["value"]
    row_max, row_sum = cache["row_max"][..., None], cache["row_sum"][..., None]
    root = math.sqrt(query.shape[-1])
    total = cache["output"] * row_sum
    grad_total = grad_output / row_sum
    grad_row_sum = -(grad_output * total).sum(-1, keepdims=True) / row_sum**2
    grad_query = np.zeros_like(query)
    grad_key = np.empty_like(key)
    grad_value = np.empty_like(value)
    start = 0
    while start < key.shape[-2]:
        keys = np.arange(start, min(start + self.block_size[1], key.shape[-2]))
        powers = np.exp(query @ key[..., keys, :].swapaxes(-1, -2) / root - row_max)
        grad_value[..., keys, :] = powers.swapaxes(-1, -2) @ grad_total
        grad_powers = grad_total @ value[..., keys, :].swapaxes(-1, -2) + grad_row_sum
        grad_products = grad_powers * powers / root
        grad_query += grad_products @ key[..., keys, :]
        grad_key[..., keys, :] = grad_products.swapaxes(-1, -2) @ query
        start += self.block_size[1]
    return (grad_query, grad_key, grad_value), {}


@solves("blockwise_attention")
def all_at_once(self: BlockwiseAttention, grad_output: Array, cache: Tree) -> Gradients:
    query, key, value = cache["query"], cache["key"], cache["value"]
    scores = query @ key.swapaxes(-1, -2) / math.sqrt(query.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    grad_weights = grad_output @ value.swapaxes(-1, -2)
    grad_scores = weights * grad_weights
    grad_scores -= weights * grad_scores.sum(-1, keepdims=True)
    grad_scores /= math.sqrt(query.shape[-1])
    grads = grad_scores @ key, grad_scores.swapaxes(-1, -2) @ query, weights.swapaxes(-1, -2) @ grad_output
    return grads, {}


@solves("blockwise_attention")
def jacobian_of_each_row(self: BlockwiseAttention, grad_output: Array, cache: Tree) -> Gradients:
    query, key, value = cache["query"], cache["key"], cache["value"]
    scale = query.shape[-1] ** -0.5
    grads = np.zeros_like(query), np.zeros_like(key), np.zeros_like(value)
    for head in np.ndindex(*query.shape[:-2]):
        for i in range(query.shape[-2]):
            row = key[head] @ query[head][i] * scale
            weights = np.exp(row - cache["row_max"][head][i]) / cache["row_sum"][head][i]
            jacobian = np.diag(weights) - np.outer(weights, weights)
            grad_row = jacobian @ (value[head] @ grad_output[head][i])
            grads[0][head][i] = scale * grad_row @ key[head]
            grads[1][head][...] += scale * np.outer(grad_row, query[head][i])
            grads[2][head][...] += np.outer(weights, grad_output[head][i])
    return grads, {}


@solves("blockwise_attention")
def log_of_the_sum(self: BlockwiseAttention, grad_output: Array, cache: Tree) -> Gradients:
    query, key, value = cache["query"], cache["key"], cache["value"]
    log_sum_exp = cache["row_max"] + np.log(cache["row_sum"])
    scaled = query / math.sqrt(query.shape[-1])
    delta = np.vecdot(grad_output, cache["output"])
    grad_query, grad_key, grad_value = map(np.zeros_like, (query, key, value))
    for start in range(0, key.shape[-2], self.block_size[1]):
        keys = np.s_[..., start : start + self.block_size[1], :]
        weights = np.exp(scaled @ np.matrix_transpose(key[keys]) - log_sum_exp[..., np.newaxis])
        grad_value[keys] += np.matrix_transpose(weights) @ grad_output
        grad_scores = grad_output @ np.matrix_transpose(value[keys])
        grad_scores -= delta[..., np.newaxis]
        grad_scores *= weights
        grad_key[keys] += np.matrix_transpose(grad_scores) @ scaled
        grad_query += grad_scores @ key[keys]
    grad_query /= math.sqrt(query.shape[-1])
    return (grad_query, grad_key, grad_value), {}


@solves("blockwise_attention")
def from_the_last_block(self: BlockwiseAttention, grad_output: Array, cache: Tree) -> Gradients:
    query, key, value = cache["query"], cache["key"], cache["value"]
    scale, size = 1 / math.sqrt(query.shape[-1]), self.block_size[1]
    row_max, row_sum = np.expand_dims(cache["row_max"], -1), np.expand_dims(cache["row_sum"], -1)
    delta = (grad_output * cache["output"]) @ np.ones((value.shape[-1], 1))
    grad_query = np.zeros_like(query)
    parts: list[tuple[Array, Array]] = []
    for start in reversed(range(0, key.shape[-2], size)):
        some_keys, some_values = (np.take(x, range(start, min(start + size, x.shape[-2])), -2) for x in (key, value))
        weights = np.exp(scale * query @ some_keys.swapaxes(-1, -2) - row_max) / row_sum
        direct = weights * (grad_output @ some_values.swapaxes(-1, -2))
        through_the_sum = -weights * delta
        for grad_scores in (direct, through_the_sum):
            grad_query = grad_query + scale * grad_scores @ some_keys
        grad_key = scale * direct.swapaxes(-1, -2) @ query + scale * through_the_sum.swapaxes(-1, -2) @ query
        parts.insert(0, (grad_key, weights.swapaxes(-1, -2) @ grad_output))
    grad_key, grad_value = (np.concatenate(part, axis=-2) for part in zip(*parts, strict=True))
    return (grad_query, grad_key, grad_value), {}


@solves("blockwise_attention")
def blocks_of_equal_size(self: BlockwiseAttention, grad_output: Array, cache: Tree) -> Gradients:
    query, key, value = cache["query"], cache["key"], cache["value"]
    missing = -key.shape[-2] % self.block_size[1]
    padding = [(0, 0)] * (key.ndim - 2) + [(0, missing), (0, 0)]
    padded_key, padded_value = np.pad(key, padding), np.pad(value, padding)
    exists = np.arange(padded_key.shape[-2]) < key.shape[-2]
    scale = 1 / math.sqrt(query.shape[-1])
    delta = (grad_output * cache["output"]).sum(-1)
    grads = np.zeros_like(query), np.zeros_like(padded_key), np.zeros_like(padded_value)
    for keys in np.split(np.arange(len(exists)), len(exists) // self.block_size[1]):
        scores = scale * np.einsum("bhid,bhjd->bhij", query, padded_key[:, :, keys])
        log_weights = scores - cache["row_max"][..., None] - np.log(cache["row_sum"])[..., None]
        weights = np.exp(np.where(exists[keys], log_weights, -np.inf))
        grad_weights = np.einsum("bhid,bhjd->bhij", grad_output, padded_value[:, :, keys])
        grad_scores = scale * weights * (grad_weights - delta[..., None])
        grads[0][...] += np.einsum("bhij,bhjd->bhid", grad_scores, padded_key[:, :, keys])
        grads[1][:, :, keys] = np.einsum("bhij,bhid->bhjd", grad_scores, query)
        grads[2][:, :, keys] = np.einsum("bhij,bhid->bhjd", weights, grad_output)
    return (grads[0], grads[1][..., exists, :], grads[2][..., exists, :]), {}
