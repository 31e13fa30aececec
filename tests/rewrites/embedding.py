"""Embeddings and positions in other forms."""

from typing import Any

import numpy as np

from npformer import BertEmbeddings, Embeddings, PositionalEncoding
from npformer.component import Array, Tree
from rewrites.registry import backward_of, forward_of


def _one_hot(embeddings: Embeddings, tokens: Array) -> Array:
    is_token: Array = tokens[..., None] == np.arange(len(embeddings.weight))
    return is_token.astype(embeddings.weight.real.dtype)


@backward_of(Embeddings)
def one_hot_product(embeddings: Embeddings, grad_output: Array, cache: Tree) -> tuple[None, Tree]:
    one_hot = _one_hot(embeddings, cache["tokens"]).reshape(-1, len(embeddings.weight))
    rows = grad_output.reshape(-1, grad_output.shape[-1])
    return None, {"weight": embeddings.scale * (one_hot.T @ rows)}


@backward_of(Embeddings)
def token_by_token_in_reverse(embeddings: Embeddings, grad_output: Array, cache: Tree) -> tuple[None, Tree]:
    grad_weight = np.zeros_like(embeddings.weight)
    for index in reversed(list(np.ndindex(cache["tokens"].shape))):
        grad_weight[cache["tokens"][index]] += embeddings.scale * grad_output[index]
    return None, {"weight": grad_weight}


@backward_of(Embeddings)
def scaled_at_the_end(embeddings: Embeddings, grad_output: Array, cache: Tree) -> tuple[None, Tree]:
    sums = np.zeros_like(embeddings.weight)
    np.add.at(sums, cache["tokens"], grad_output)
    return None, {"weight": embeddings.scale * sums}


@backward_of(Embeddings)
def column_by_column(embeddings: Embeddings, grad_output: Array, cache: Tree) -> tuple[None, Tree]:
    tokens, columns = cache["tokens"].ravel(), grad_output.reshape(-1, grad_output.shape[-1]).T
    counts = [np.bincount(tokens, embeddings.scale * column, len(embeddings.weight)) for column in columns]
    return None, {"weight": np.stack(counts, axis=1).astype(grad_output.dtype)}


@backward_of(Embeddings)
def sorted_tokens(embeddings: Embeddings, grad_output: Array, cache: Tree) -> tuple[None, Tree]:
    tokens, rows = cache["tokens"].ravel(), grad_output.reshape(-1, grad_output.shape[-1])
    order = np.argsort(tokens, kind="stable")
    used, starts = np.unique(tokens[order], return_index=True)
    grad_weight = np.zeros_like(embeddings.weight)
    grad_weight[used] = embeddings.scale * np.add.reduceat(rows[order], starts)
    return None, {"weight": grad_weight}


@forward_of(Embeddings)
def product_with_one_hot(embeddings: Embeddings, tokens: Array) -> tuple[Array, Tree]:
    return (_one_hot(embeddings, tokens) @ embeddings.weight) * embeddings.scale, {"tokens": tokens}


@backward_of(PositionalEncoding)
def dropout_written_out(positions: PositionalEncoding, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    mask = cache["dropout"].get("mask")
    grad_x = grad_output if mask is None else np.where(mask, grad_output / (1 - positions.dropout.p), 0)
    return grad_x, {"dropout": {}}


@backward_of(BertEmbeddings)
def positions_written_out(embeddings: BertEmbeddings, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Each item of the batch has its own copy of the positions, whose gradients the scatter adds up."""
    grad_tokens, grads = BertEmbeddings.backward(embeddings, grad_output, cache)
    grad_normed, _ = embeddings.dropout.backward(grad_output, cache["dropout"])
    grad_sum, _ = embeddings.norm.backward(grad_normed, cache["norm"])
    B, T, _ = grad_sum.shape
    positions = np.tile(np.arange(T), (B, 1))
    _, grads["position_embeddings"] = embeddings.position_embeddings.backward(grad_sum, {"tokens": positions})
    return grad_tokens, grads
