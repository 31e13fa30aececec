"""Embeddings (Vaswani et al. 2017, section 3.4): write their backward.

Forward looks up a vector for each token, a row of weight, and scales it:

    output[b, t] = scale * weight[tokens[b, t]]

Backward is given grad_output, the gradient of output, and the cache that forward returned, with the tokens. It returns
None for the tokens, which are integers and have no gradient, and the gradient of weight.

Shapes: tokens (batch, T), integers from 0 to vocab_size - 1; output and its gradient (batch, T, d_model); weight and
its gradient (vocab_size, d_model). A token may stand at several places, in one item of the batch and in several; others
may not occur at all.
"""

from __future__ import annotations

import numpy as np

from npformer import Embeddings as RightEmbeddings
from npformer.component import Array, Component, Tree
from npformer.exercises.task import BackwardTask, Term
from npformer.gradcheck import Case


class Embeddings(Component):
    """Has the attributes weight and scale, a number."""

    parameter_names = ("weight",)
    weight: Array
    scale: float

    def forward(self, tokens: Array) -> tuple[Array, Tree]:
        return self.scale * np.take(self.weight, tokens, axis=0), {"tokens": tokens}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[None, Tree]:
        """Return None, and {"weight": grad_weight}."""
        grad_weight = np.zeros_like(self.weight)
        np.add.at(grad_weight, cache["tokens"], self.scale * grad_output)  # unlike +=, adds every repeat of a token
        return None, {"weight": grad_weight}


def scattered(weight: Array, tokens: Array, grad_rows: Array) -> Array:
    sums = np.zeros_like(weight)
    np.add.at(sums, tokens, grad_rows)
    return sums


def terms(case: Case, cache: Tree, grad_output: Array) -> dict[str, tuple[Term, ...]]:
    weight, scale, tokens = case.component.parameters()["weight"], vars(case.component)["scale"], cache["tokens"]
    last = np.zeros_like(weight)
    last[tokens] = scale * grad_output  # the last of equal tokens stays
    total = scattered(weight, tokens, scale * grad_output)
    return {
        "weight": (
            Term("scale * grad_output where a token stands last", "weight → its row → output, last use", 1, last),
            Term(
                "scale * grad_output where it stood before", "weight → its row → output, uses before", 1, total - last
            ),
            Term("weight * Σ scale * grad_output", "weight → output, as if squared", 0, weight * total),
        )
    }


def regions(case: Case, cache: Tree) -> dict[str, dict[str, Array]]:
    weight = case.component.parameters()["weight"]
    uses = np.bincount(cache["tokens"].ravel(), minlength=len(weight))
    kinds = {"rows of tokens that repeat": uses > 1, "rows of tokens that do not occur": uses == 0}
    return {
        "weight": {kind: np.broadcast_to(rows[:, None], weight.shape) for kind, rows in kinds.items()}
        | {"the row of token 0": np.broadcast_to(np.arange(len(weight))[:, None] == 0, weight.shape)}
    }


def first_use_alone(embeddings: RightEmbeddings, grad_output: Array, cache: Tree) -> tuple[None, Tree]:
    """A token that repeats gets the gradient of its first place, and not of the others."""
    used, first = np.unique(cache["tokens"], return_index=True)
    grad_weight = np.zeros_like(embeddings.weight)
    grad_weight[used] = embeddings.scale * grad_output.reshape(-1, grad_output.shape[-1])[first]
    return None, {"weight": grad_weight}


def scale_twice(embeddings: RightEmbeddings, grad_output: Array, cache: Tree) -> tuple[None, Tree]:
    """The gradient is multiplied by the scale twice."""
    return embeddings.backward(embeddings.scale * grad_output, cache)


def scale_upside_down(embeddings: RightEmbeddings, grad_output: Array, cache: Tree) -> tuple[None, Tree]:
    """The gradient is divided by the scale, as if backward had to undo it."""
    return embeddings.backward(grad_output / embeddings.scale**2, cache)


def first_item_alone(embeddings: RightEmbeddings, grad_output: Array, cache: Tree) -> tuple[None, Tree]:
    """Only the first item of the batch is scattered; the uses in the other items are missing."""
    return embeddings.backward(grad_output[:1], {"tokens": cache["tokens"][:1]})


def items_overwrite_each_other(embeddings: RightEmbeddings, grad_output: Array, cache: Tree) -> tuple[None, Tree]:
    """Repeats within an item add up, but each item of the batch overwrites the rows of those before it."""
    grad_weight = np.zeros_like(embeddings.weight)
    for tokens, grad_rows in zip(cache["tokens"], grad_output, strict=True):
        sums = scattered(grad_weight, tokens, embeddings.scale * grad_rows)
        grad_weight[tokens] = sums[tokens]
    return None, {"weight": grad_weight}


def averaged_over_the_batch(embeddings: RightEmbeddings, grad_output: Array, cache: Tree) -> tuple[None, Tree]:
    """The uses are averaged over the batch instead of summed."""
    return embeddings.backward(grad_output / len(grad_output), cache)


def positions_for_tokens(embeddings: RightEmbeddings, grad_output: Array, cache: Tree) -> tuple[None, Tree]:
    """The gradient goes to the row of the position t instead of that of the token that stands there."""
    return embeddings.backward(grad_output, {"tokens": cache["tokens"] * 0 + np.arange(grad_output.shape[1])})


def token_0_as_padding(embeddings: RightEmbeddings, grad_output: Array, cache: Tree) -> tuple[None, Tree]:
    """Token 0 is taken for padding and gets no gradient, though forward looks it up like any other."""
    return embeddings.backward(grad_output * (cache["tokens"] != 0)[..., None], cache)


TASK = BackwardTask(
    name="embeddings",
    title="Embeddings, backward",
    statement=__doc__,
    solution=Embeddings,
    component=RightEmbeddings,
    make="Embeddings",
    points=3,
    paths={"weight": "output → the row of each place's token → weight, from every place where the token stands"},
    terms=terms,
    regions=regions,
    wrong=(
        first_use_alone,
        scale_twice,
        scale_upside_down,
        first_item_alone,
        items_overwrite_each_other,
        averaged_over_the_batch,
        positions_for_tokens,
        token_0_as_padding,
    ),
    hints=(
        "Take one row of weight. Which places of output did it go to? Each of them sends it gradient.",
        "A token that does not occur moved nothing, so its row has gradient 0: begin with an array of zeros.",
        "A token that stands twice is a fork: two gradients come back and add up. Try it on the tokens [[1, 1]].",
        "grad_weight[tokens] += ... reads all rows before it writes any, so that of equal tokens one wins. NumPy has a "
        "function that adds at indices and counts each repeat; a loop over all places is right too.",
    ),
    derivation="""
    output[b, t] = scale * weight[v] for the token v = tokens[b, t]. So weight[v] reaches output at the places where v
    stands, each time with slope scale, and nowhere else. The gradients of all its uses add up:

        grad_weight[v] = scale * Σ grad_output[b, t]    over all b, t with tokens[b, t] = v

    Lookup takes rows from weight, so backward adds rows into zeros at the same indices: np.add.at, a scatter-add.
    As matrices: output = scale * onehot weight, so that grad_weight = scale * onehotᵀ grad_output.
    """,
)
