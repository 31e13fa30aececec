"""Mistakes in the backwards of BERT's embeddings, of its pooler and of the whole model."""

from __future__ import annotations

import numpy as np

from npformer.bert import BertEncoder, BertModel, BertPooler
from npformer.bert_embedding import BertEmbeddings
from npformer.component import Array, Tree
from npformer.mistakes.catalogue import Gradients, mistake_in


def _back_through_norm(embeddings: BertEmbeddings, grad_output: Array, cache: Tree) -> Array:
    """The first two steps of backward: the gradient of the sum."""
    grad_normed, _ = embeddings.dropout.backward(grad_output, cache["dropout"])
    return embeddings.norm.backward(grad_normed, cache["norm"])[0]


@mistake_in(BertEmbeddings, case="BertEmbeddings")
def positions_of_the_first_item_alone(embeddings: BertEmbeddings, grad_output: Array, cache: Tree) -> Gradients:
    """All items of the batch use the same positions, but only the first one's gradient reaches them."""
    grad_tokens, grads = embeddings.backward(grad_output, cache)
    grad_sum = _back_through_norm(embeddings, grad_output, cache)
    _, of_positions = embeddings.position_embeddings.backward(grad_sum[:1], cache["position_embeddings"])
    return grad_tokens, grads | {"position_embeddings": of_positions}


@mistake_in(BertEmbeddings, case="BertEmbeddings")
def positions_averaged_over_the_batch(embeddings: BertEmbeddings, grad_output: Array, cache: Tree) -> Gradients:
    """The gradients of the positions are averaged over the batch, where the uses of a parameter add up."""
    grad_tokens, grads = embeddings.backward(grad_output, cache)
    averaged = {name: grad / len(grad_output) for name, grad in grads["position_embeddings"].items()}
    return grad_tokens, grads | {"position_embeddings": averaged}


@mistake_in(BertEmbeddings, case="BertEmbeddings")
def token_types_of_the_first_item_alone(embeddings: BertEmbeddings, grad_output: Array, cache: Tree) -> Gradients:
    """The gradients of the token types are not summed over the batch: only its first item counts."""
    grad_tokens, grads = embeddings.backward(grad_output, cache)
    grad_sum = _back_through_norm(embeddings, grad_output, cache)
    first = {"tokens": cache["token_type_embeddings"]["tokens"][:1]}
    _, of_types = embeddings.token_type_embeddings.backward(grad_sum[:1], first)
    return grad_tokens, grads | {"token_type_embeddings": of_types}


@mistake_in(BertEmbeddings, case="BertEmbeddings")
def token_types_ignored(embeddings: BertEmbeddings, grad_output: Array, cache: Tree) -> Gradients:
    """The whole gradient goes to token type 0, as if no token types had been given."""
    grad_tokens, grads = embeddings.backward(grad_output, cache)
    grad_weight = np.zeros_like(embeddings.token_type_embeddings.weight)
    grad_weight[0] = _back_through_norm(embeddings, grad_output, cache).sum((0, 1))
    return grad_tokens, grads | {"token_type_embeddings": {"weight": grad_weight}}


@mistake_in(BertEmbeddings, case="BertEmbeddings")
def norm_and_dropout_missing(embeddings: BertEmbeddings, grad_output: Array, cache: Tree) -> Gradients:
    """The tables get the gradient of the output, as if nothing had been done to their sum."""
    grad_tokens, grads = embeddings.backward(grad_output, cache)
    _, of_words = embeddings.word_embeddings.backward(grad_output, cache["word_embeddings"])
    return grad_tokens, grads | {"word_embeddings": of_words}


@mistake_in(BertEncoder, case="BertEncoder")
def embeddings_past_the_encoder(model: BertEncoder, grad_output: Array, cache: Tree) -> Gradients:
    """The embeddings get the gradient of the hidden states, as if these were their own output."""
    grad_tokens, grads = model.backward(grad_output, cache)
    return grad_tokens, grads | {"embeddings": model.embeddings.backward(grad_output, cache["embeddings"])[1]}


@mistake_in(BertPooler, case="BertPooler")
def spread_over_all_tokens(pooler: BertPooler, grad_output: Array, cache: Tree) -> Gradients:
    """Every token gets the gradient of the first one, though the pooler never saw the others."""
    grad_x, grads = pooler.backward(grad_output, cache)
    return np.repeat(grad_x[:, :1], grad_x.shape[1], axis=1), grads


@mistake_in(BertPooler, case="BertPooler")
def gradient_for_the_last_token(pooler: BertPooler, grad_output: Array, cache: Tree) -> Gradients:
    """The last token gets the gradient, as in models that read from left to right."""
    grad_x, grads = pooler.backward(grad_output, cache)
    return grad_x[:, ::-1].copy(), grads


@mistake_in(BertPooler, case="BertPooler")
def tanh_missing(pooler: BertPooler, grad_output: Array, cache: Tree) -> Gradients:
    """The linear map gets the gradient of the output: tanh between them is forgotten."""
    grad_x = np.zeros_like(cache["x"])
    grad_x[:, 0], of_dense = pooler.dense.backward(grad_output, cache["dense"])
    return grad_x, {"dense": of_dense, "activation": {}}


@mistake_in(BertModel, case="BertModel")
def encoder_past_the_pooler(model: BertModel, grad_output: Array, cache: Tree) -> Gradients:
    """The first hidden state gets the gradient of the pooled vector, as if it were that vector itself."""
    grad_tokens, grads = model.backward(grad_output, cache)
    grad_hidden = np.zeros_like(cache["pooler"]["x"])
    grad_hidden[:, 0] = grad_output
    return grad_tokens, grads | {"encoder": model.encoder.backward(grad_hidden, cache["encoder"])[1]}
