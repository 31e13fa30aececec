"""Mistakes in the backwards of the embeddings, the positions and the whole model."""

from __future__ import annotations

import numpy as np

from npformer.component import Array, Tree
from npformer.embedding import Embeddings, PositionalEncoding, TokenEncoder
from npformer.mistakes.catalogue import Gradients, mistake_in


@mistake_in(Embeddings, case="Embeddings")
def repeats_overwritten(embeddings: Embeddings, grad_output: Array, cache: Tree) -> Gradients:
    """``grad[tokens] += ...`` adds only once for a token that repeats: np.add.at adds each time."""
    grad_weight = np.zeros_like(embeddings.weight)
    grad_weight[cache["tokens"]] += embeddings.scale * grad_output
    return None, {"weight": grad_weight}


@mistake_in(Embeddings, case="Embeddings")
def repeats_averaged(embeddings: Embeddings, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient of a token is divided by how often it occurs."""
    _, grads = embeddings.backward(grad_output, cache)
    counts = np.bincount(cache["tokens"].ravel(), minlength=len(embeddings.weight))
    return None, {"weight": grads["weight"] / np.maximum(counts, 1)[:, None]}


@mistake_in(Embeddings, case="Embeddings")
def scale_missing(embeddings: Embeddings, grad_output: Array, cache: Tree) -> Gradients:
    """The vectors were multiplied by √d_model, but their gradient is not."""
    _, grads = embeddings.backward(grad_output, cache)
    return None, {"weight": grads["weight"] / embeddings.scale}


@mistake_in(Embeddings, case="Embeddings")
def rows_shifted_by_one(embeddings: Embeddings, grad_output: Array, cache: Tree) -> Gradients:
    """Tokens are counted from 1 instead of 0, so that each gradient lands in the next row."""
    _, grads = embeddings.backward(grad_output, cache)
    return None, {"weight": np.roll(grads["weight"], 1, axis=0)}


@mistake_in(Embeddings, case="Embeddings")
def gradient_for_the_tokens(embeddings: Embeddings, grad_output: Array, cache: Tree) -> Gradients:
    """Tokens are integers and have no gradient, but that of their vectors is returned for them."""
    _, grads = embeddings.backward(grad_output, cache)
    return embeddings.scale * grad_output, grads


@mistake_in(PositionalEncoding, case="PositionalEncoding")
def dropout_missing(positions: PositionalEncoding, grad_output: Array, cache: Tree) -> Gradients:
    """Adding a constant has slope 1, but the dropout behind it does not."""
    return 1.0 * grad_output, {"dropout": {}}


@mistake_in(PositionalEncoding, case="PositionalEncoding")
def table_added_to_the_gradient(positions: PositionalEncoding, grad_output: Array, cache: Tree) -> Gradients:
    """The positions are added to the gradient as they were to x, though they are a constant."""
    grad_x, grads = positions.backward(grad_output, cache)
    return grad_x + positions.table[: grad_x.shape[1]], grads


@mistake_in(TokenEncoder, case="TokenEncoder")
def positions_missing(model: TokenEncoder, grad_output: Array, cache: Tree) -> Gradients:
    """The encoder's gradient goes straight to the embeddings, past the dropout of the positions."""
    _, grads = model.backward(grad_output, cache)
    grad_positioned, _ = model.encoder.backward(grad_output, cache["encoder"])
    return None, grads | {"embeddings": model.embeddings.backward(grad_positioned, cache["embeddings"])[1]}


@mistake_in(TokenEncoder, case="TokenEncoder")
def encoder_missing(model: TokenEncoder, grad_output: Array, cache: Tree) -> Gradients:
    """The embeddings get the gradient of the output, as if there were no encoder between."""
    _, grads = model.backward(grad_output, cache)
    grad_embedded, _ = model.positions.backward(grad_output, cache["positions"])
    return None, grads | {"embeddings": model.embeddings.backward(grad_embedded, cache["embeddings"])[1]}
