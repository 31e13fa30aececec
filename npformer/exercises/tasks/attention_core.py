"""Scaled dot-product attention (Vaswani et al. 2017, eq. 1) with dropout and without a mask: write its backward.

Forward compares each query with all keys, and averages the values with the weights that come out:

    scores  = scale * query keyᵀ,    scale = 1 / √d_k
    weights = dropout(softmax(scores)),    softmax over the keys, the last axis
    output  = weights value

Backward is given grad_output, the gradient of output, and the cache that forward returned. It returns a tuple of the
three gradients, and an empty dict, since there are no parameters.

The softmax and the dropout are components, which know their own backward: self.dropout.backward(grad, cache["dropout"])
returns the gradient of what went into the dropout, and {}; self.softmax.backward(grad, cache["softmax"]) likewise.

Shapes: query (batch, heads, T_q, d_k), key (batch, heads, T_k, d_k), value (batch, heads, T_k, d_v), weights
(batch, heads, T_q, T_k), output (batch, heads, T_q, d_v). Each gradient has the shape of its array.
"""

from __future__ import annotations

import math

import numpy as np

from npformer import Dropout, Softmax
from npformer import ScaledDotProductAttention as RightAttention
from npformer.component import Array, Component, Tree
from npformer.exercises.task import BackwardTask, Term
from npformer.gradcheck import Case, Sizes

Gradients = tuple[tuple[Array, Array, Array], Tree]
RATE = 0.25


class ScaledDotProductAttention(Component):
    """Has the children softmax and dropout."""

    softmax: Softmax
    dropout: Dropout

    def forward(self, query: Array, key: Array, value: Array, rng: np.random.Generator) -> tuple[Array, Tree]:
        cache: Tree = {"query": query, "key": key, "value": value}
        scale = 1 / math.sqrt(query.shape[-1])
        scores = scale * query @ np.swapaxes(key, -1, -2)
        probabilities, cache["softmax"] = self.softmax.forward(scores)
        cache["weights"], cache["dropout"] = self.dropout.forward(probabilities, rng=rng)
        return cache["weights"] @ value, cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[tuple[Array, Array, Array], Tree]:
        """Return (grad_query, grad_key, grad_value), and {}."""
        query, key, value, weights = cache["query"], cache["key"], cache["value"], cache["weights"]
        scale = 1 / math.sqrt(query.shape[-1])
        grad_value = np.swapaxes(weights, -1, -2) @ grad_output
        grad_weights = grad_output @ np.swapaxes(value, -1, -2)
        grad_probabilities, _ = self.dropout.backward(grad_weights, cache["dropout"])
        grad_scores, _ = self.softmax.backward(grad_probabilities, cache["softmax"])
        grad_query = scale * grad_scores @ key
        grad_key = scale * np.swapaxes(grad_scores, -1, -2) @ query
        return (grad_query, grad_key, grad_value), {}


def make(sizes: Sizes, rng: np.random.Generator) -> Case:
    query, key, value = (
        rng.standard_normal((sizes.batch, sizes.num_heads, T, d))
        for T, d in ((sizes.T_q, sizes.d_head), (sizes.T_k, sizes.d_head), (sizes.T_k, sizes.d_head + 1))
    )
    options = {"rng": np.random.default_rng(rng.integers(2**32))}
    return Case(RightAttention(RATE), (query, key, value), options)


def transposed(array: Array) -> Array:
    return array.swapaxes(-1, -2)


def to_query_and_key(grad_scores: Array, cache: Tree) -> tuple[Array, Array]:
    """Take a gradient of the scores, or a part of one, on to query and key."""
    query, key = cache["query"], cache["key"]
    scale = 1 / math.sqrt(query.shape[-1])
    return scale * grad_scores @ key, scale * transposed(grad_scores) @ query


def before_softmax(core: Component, grad_output: Array, cache: Tree) -> tuple[Array, Array]:
    """Return what the softmax put out, and its gradient."""
    grad, _ = vars(core)["dropout"].backward(grad_output @ transposed(cache["value"]), cache["dropout"])
    return cache["softmax"]["output"], grad


def terms(case: Case, cache: Tree, grad_output: Array) -> dict[str, tuple[Term, ...]]:
    y, grad = before_softmax(case.component, grad_output, cache)
    own = "{} → scores → the softmax's own entry → weights → output"
    others = "{} → scores → the softmax's row sum → all weights of the row → output"
    parts = (
        ("p * grad_p", own, 1, y * grad),
        ("p * Σ(p * grad_p)", others, -1, y * (y * grad).sum(-1, keepdims=True)),
        ("grad_p", "{} → scores → weights, past the softmax", 0, grad),
        (
            "p * grad_weights",
            "{} → scores → weights, past the dropout",
            0,
            y * (grad_output @ transposed(cache["value"])),
        ),
    )
    values = [to_query_and_key(part, cache) for *_, part in parts]
    dropped, kept = transposed(cache["weights"]) @ grad_output, transposed(y) @ grad_output
    found = {
        array: tuple(
            Term(
                f"scale * ({name}){'' if array == 'query' else 'ᵀ'} {other}",
                path.format(array),
                coefficient,
                both[side],
            )
            for (name, path, coefficient, _), both in zip(parts, values, strict=True)
        )
        for side, (array, other) in enumerate((("query", "key"), ("key", "query")))
    }
    return found | {
        "value": (
            Term("weightsᵀ grad_output", "value → output", 1, dropped),
            Term("pᵀ grad_output", "value → output, with the weights from before the dropout", 0, kept),
        )
    }


def from_scores(grad_scores: Array, grad_output: Array, cache: Tree) -> Gradients:
    """Return the gradients of the three, given that of the scores."""
    return (*to_query_and_key(grad_scores, cache), transposed(cache["weights"]) @ grad_output), {}


def row_sum_missing(core: RightAttention, grad_output: Array, cache: Tree) -> Gradients:
    """In the softmax's backward the sum over the row is not subtracted."""
    y, grad = before_softmax(core, grad_output, cache)
    return from_scores(y * grad, grad_output, cache)


def diagonal_alone(core: RightAttention, grad_output: Array, cache: Tree) -> Gradients:
    """Only the diagonal p (1 - p) of the softmax's Jacobian is used, as if softmax were elementwise."""
    y, grad = before_softmax(core, grad_output, cache)
    return from_scores(y * (1 - y) * grad, grad_output, cache)


def row_mean_for_the_sum(core: RightAttention, grad_output: Array, cache: Tree) -> Gradients:
    """In the softmax's backward the mean over the row is subtracted instead of the sum."""
    y, grad = before_softmax(core, grad_output, cache)
    return from_scores(y * (grad - (y * grad).mean(-1, keepdims=True)), grad_output, cache)


def sum_over_the_queries(core: RightAttention, grad_output: Array, cache: Tree) -> Gradients:
    """In the softmax's backward the sum runs over the queries instead of the keys."""
    y, grad = before_softmax(core, grad_output, cache)
    return from_scores(y * (grad - (y * grad).sum(-2, keepdims=True)), grad_output, cache)


def row_sum_of_dropped_weights(core: RightAttention, grad_output: Array, cache: Tree) -> Gradients:
    """In the softmax's backward the row sum has the weights after dropout, so that the dropout counts twice."""
    y, grad = before_softmax(core, grad_output, cache)
    return from_scores(y * (grad - (cache["weights"] * grad).sum(-1, keepdims=True)), grad_output, cache)


def key_unscaled(core: RightAttention, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient of the query is scaled, but that of the key is not."""
    (grad_query, grad_key, grad_value), grads = core.backward(grad_output, cache)
    return (grad_query, math.sqrt(grad_key.shape[-1]) * grad_key, grad_value), grads


def scale_upside_down(core: RightAttention, grad_output: Array, cache: Tree) -> Gradients:
    """The scores' gradient is multiplied by √d_k, as if backward had to undo the scale."""
    (grad_query, grad_key, grad_value), grads = core.backward(grad_output, cache)
    d_k = grad_query.shape[-1]
    return (d_k * grad_query, d_k * grad_key, grad_value), grads


def value_scaled(core: RightAttention, grad_output: Array, cache: Tree) -> Gradients:
    """The scale is in the gradient of the value too, though it was only used for the scores."""
    (grad_query, grad_key, grad_value), grads = core.backward(grad_output, cache)
    return (grad_query, grad_key, grad_value / math.sqrt(grad_query.shape[-1])), grads


TASK = BackwardTask(
    name="attention_core",
    title="Scaled dot-product attention, backward",
    statement=__doc__,
    solution=ScaledDotProductAttention,
    component=RightAttention,
    make=make,
    in_encoder=False,
    points=8,
    paths={
        "query": "output → weights → dropout → softmax → scores → query",
        "key": "output → weights → dropout → softmax → scores → key",
        "value": "output → value",
    },
    terms=terms,
    wrong=(
        row_sum_missing,
        diagonal_alone,
        row_mean_for_the_sum,
        sum_over_the_queries,
        row_sum_of_dropped_weights,
        key_unscaled,
        scale_upside_down,
        value_scaled,
    ),
    hints=(
        "Go through forward from its last line to its first. Each line is undone by one or two lines.",
        "Two lines are matrix products. For C = A B the gradients are grad_A = grad_C Bᵀ and grad_B = Aᵀ grad_C: if "
        "the shapes fit only in one way, that is the way.",
        "Between the two products stand dropout and softmax. Undo them in the reverse order of forward, each with its "
        "own part of the cache.",
        "The product of query and key was scaled before anything else saw it, so both of their gradients carry the "
        "scale, and that of value does not. The output was made with the weights after dropout.",
    ),
    derivation="""
    With p = softmax(scores), line by line, the last line first:

        output  = weights value        grad_value   = weightsᵀ grad_output
                                       grad_weights = grad_output valueᵀ
        weights = dropout(p)           grad_p       = grad_weights * mask / (1 - rate)
        p       = softmax(scores)      grad_scores  = p * (grad_p - Σ p * grad_p)    the sum over each row
        scores  = scale * query keyᵀ   grad_query   = scale * grad_scores key
                                       grad_key     = scale * grad_scoresᵀ query

    value has the weights after dropout, because the output was made with them. The softmax has p, from before it: its
    Jacobian belongs to its own output. A score raises its own weight and lowers all others of its row, which are the
    two parts of grad_scores.
    """,
)
