"""Other ways to write the backward of embeddings."""

from collections import defaultdict

import numpy as np

from npformer.component import Array, Tree
from npformer.exercises.tasks.embeddings import Embeddings
from solutions.registry import solves

Gradients = tuple[None, Tree]


@solves("embeddings")
def place_by_place(self: Embeddings, grad_output: Array, cache: Tree) -> Gradients:
    tokens = cache["tokens"]
    grad_weight = np.zeros(self.weight.shape)
    for b in range(tokens.shape[0]):
        for t in range(tokens.shape[1]):
            grad_weight[tokens[b, t]] += self.scale * grad_output[b, t]
    return None, {"weight": grad_weight}


@solves("embeddings")
def flat_and_scaled_at_the_end(self: Embeddings, grad_output: Array, cache: Tree) -> Gradients:
    grad_weight = np.zeros_like(self.weight)
    np.add.at(grad_weight, cache["tokens"].ravel(), grad_output.reshape(-1, self.weight.shape[1]))
    grad_weight *= self.scale
    return None, {"weight": grad_weight}


@solves("embeddings")
def one_hot_product(self: Embeddings, grad_output: Array, cache: Tree) -> Gradients:
    one_hot = np.eye(len(self.weight))[cache["tokens"].reshape(-1)]
    return None, {"weight": self.scale * one_hot.T @ grad_output.reshape(-1, grad_output.shape[-1])}


@solves("embeddings")
def one_hot_by_einsum(self: Embeddings, grad_output: Array, cache: Tree) -> Gradients:
    is_token = (cache["tokens"][..., None] == np.arange(len(self.weight))).astype(float)
    return None, {"weight": np.einsum("btv,btd->vd", is_token, self.scale * grad_output)}


@solves("embeddings")
def one_hot_by_tensordot(self: Embeddings, grad_output: Array, cache: Tree) -> Gradients:
    one_hot = np.zeros((*cache["tokens"].shape, len(self.weight)))
    np.put_along_axis(one_hot, cache["tokens"][..., None], 1.0, axis=-1)
    return None, {"weight": np.tensordot(one_hot, grad_output * self.scale, axes=((0, 1), (0, 1)))}


@solves("embeddings")
def token_after_token(self: Embeddings, grad_output: Array, cache: Tree) -> Gradients:
    rows = [grad_output[cache["tokens"] == v].sum(axis=0) for v in range(len(self.weight))]
    return None, {"weight": self.scale * np.stack(rows)}


@solves("embeddings")
def column_by_column(self: Embeddings, grad_output: Array, cache: Tree) -> Gradients:
    tokens, vocab_size = cache["tokens"].ravel(), len(self.weight)
    columns = (self.scale * grad_output).reshape(len(tokens), -1).T
    sums = [np.bincount(tokens, weights=column, minlength=vocab_size) for column in columns]
    return None, {"weight": np.column_stack(sums)}


@solves("embeddings")
def entries_counted_at_once(self: Embeddings, grad_output: Array, cache: Tree) -> Gradients:
    vocab_size, d = self.weight.shape
    places = cache["tokens"][..., None] * d + np.arange(d)
    sums = np.bincount(places.ravel(), self.scale * grad_output.ravel(), vocab_size * d)
    return None, {"weight": sums.reshape(vocab_size, d)}


@solves("embeddings")
def sorted_and_reduced(self: Embeddings, grad_output: Array, cache: Tree) -> Gradients:
    tokens, rows = cache["tokens"].ravel(), grad_output.reshape(-1, grad_output.shape[-1])
    order = tokens.argsort(kind="stable")
    used, starts = np.unique(tokens[order], return_index=True)
    grad_weight = np.zeros_like(self.weight)
    grad_weight[used] = np.add.reduceat(rows[order], starts, axis=0) * self.scale
    return None, {"weight": grad_weight}


@solves("embeddings")
def collected_in_a_dict(self: Embeddings, grad_output: Array, cache: Tree) -> Gradients:
    uses: dict[int, list[Array]] = defaultdict(list)
    for tokens, grads in zip(cache["tokens"], grad_output, strict=True):
        for token, grad in zip(tokens.tolist(), grads, strict=True):
            uses[token].append(grad)
    zero = np.zeros(self.weight.shape[1])
    rows = [self.scale * sum(uses[v], zero) for v in range(len(self.weight))]
    return None, {"weight": np.array(rows)}


@solves("embeddings")
def one_position_at_a_time(self: Embeddings, grad_output: Array, cache: Tree) -> Gradients:
    grad_weight = np.zeros_like(self.weight)
    for t in range(grad_output.shape[1]):
        for item, token in enumerate(cache["tokens"][:, t]):
            one_row = np.zeros_like(self.weight)
            one_row[token] = grad_output[item, t]
            grad_weight = grad_weight + self.scale * one_row
    return None, {"weight": grad_weight}


@solves("embeddings")
def repeats_merged_first(self: Embeddings, grad_output: Array, cache: Tree) -> Gradients:
    used, which = np.unique(cache["tokens"].ravel(), return_inverse=True)
    rows = grad_output.reshape(-1, grad_output.shape[-1])
    merged = np.zeros((len(used), rows.shape[1]))
    for place, row in zip(which, rows, strict=True):
        merged[place] += row
    grad_weight = np.zeros_like(self.weight)
    grad_weight[used] += self.scale * merged  # no repeats are left
    return None, {"weight": grad_weight}
