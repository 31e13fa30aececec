"""Scaled dot-product attention (Vaswani et al. 2017, eq. 1): write its forward.

Each query is compared with all keys. The closer a key, the more weight its value has in the output:

    scores = query keyᵀ / √d_k        -1e9 in place of the score where the mask is 0
    p_attn = softmax(scores)          over the keys, so that the weights of each query add up to 1
    output = p_attn value

Return the pair (output, p_attn). The mask is of integers or booleans, nonzero where the query (row) may attend to the
key (column), and broadcasts to the scores; None masks nothing. Scores may be in the thousands, and a query may be
masked from all keys: in both cases the results are finite. (A query that is masked from all keys has equal scores, so
that it attends to all keys equally.)

Shapes: query (..., T_q, d_k), key (..., T_k, d_k), value (..., T_k, d_v), with the same leading axes; p_attn
(..., T_q, T_k), output (..., T_q, d_v).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from npformer.component import Array
from npformer.exercises.quoting import kind_of
from npformer.exercises.task import Call, ForwardTask

Pair = tuple[Array, Array]


def attention(query: Array, key: Array, value: Array, mask: Array | None = None) -> tuple[Array, Array]:
    """Return (output, p_attn)."""
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
    if mask is not None:
        scores = np.where(mask, scores, -1e9)
    exps = np.exp(scores - scores.max(-1, keepdims=True))
    p_attn = exps / exps.sum(-1, keepdims=True)
    return p_attn @ value, p_attn


def calls(seed: int) -> Iterator[tuple[str, Call]]:
    rng = np.random.default_rng(seed)

    def triple(*leading: int, T_q: int, T_k: int, d_k: int, d_v: int) -> tuple[Array, ...]:
        sizes = ((T_q, d_k), (T_k, d_k), (T_k, d_v))
        return tuple(rng.standard_normal((*leading, *size)).round(2) for size in sizes)

    causal = np.tril(np.ones((4, 4), np.uint8))
    some = rng.permuted(np.tile([1, 1, 0, 0, 1], (2, 1, 3, 1)), axis=-1)  # no query is masked from all keys
    fully = np.array([[1, 0, 1], [0, 0, 0]])
    padding = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], bool)[:, None, None]
    yield "2 queries, 3 keys", Call(triple(T_q=2, T_k=3, d_k=2, d_v=2))
    yield "a query masked from all keys", Call(triple(T_q=2, T_k=3, d_k=2, d_v=2), {"mask": fully})
    yield "all sizes differ", Call(triple(2, 3, T_q=5, T_k=4, d_k=2, d_v=6))
    yield "a causal mask, all sizes equal", Call(triple(4, T_q=4, T_k=4, d_k=4, d_v=4), {"mask": causal})
    yield "a padding mask of booleans", Call(triple(2, 3, T_q=5, T_k=4, d_k=2, d_v=3), {"mask": padding})
    yield "a mask for each sequence", Call(triple(2, 3, T_q=3, T_k=5, d_k=3, d_v=2), {"mask": some})
    query, key, value = triple(1, T_q=3, T_k=2, d_k=4, d_v=2)
    # rows of scores about 1000 and -1000, and one of ordinary size; eighths have exact products
    query[:] = np.array([[2000, 0, 0, 0], [-2000, 0, 0, 0], [0, 1, -1, 2]])
    key = np.round(8 * key) / 8
    key[..., 0] = [1, 1.0005]
    yield "scores of 1000 and -1000", Call((query, key, value))


def look(result: Any, *arguments: Array, mask: Array | None = None) -> dict[str, Array]:
    if not isinstance(result, tuple) or len(result) != 2 or not all(isinstance(each, np.ndarray) for each in result):
        raise TypeError(f"attention must return a pair of arrays (output, p_attn), but it returned {kind_of(result)}")
    return {"output": result[0], "p_attn": result[1]}


def scores_of(query: Array, key: Array, divisor: float | None = None) -> Array:
    scores: Array = query @ key.swapaxes(-1, -2) / (np.sqrt(query.shape[-1]) if divisor is None else divisor)
    return scores


def masked(scores: Array, mask: Array | None, fill: float = -1e9) -> Array:
    return scores if mask is None else np.where(mask, scores, fill)


def softmax(scores: Array, axis: int | tuple[int, int] = -1) -> Array:
    exps = np.exp(scores - scores.max(axis, keepdims=True))
    weights: Array = exps / exps.sum(axis, keepdims=True)
    return weights


def attended(p_attn: Array, value: Array) -> Pair:
    return p_attn @ value, p_attn


def scale_missing(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    """The scores are not divided by √d_k."""
    return attended(softmax(masked(scores_of(query, key, 1), mask)), value)


def d_k_for_its_root(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    """The scores are divided by d_k instead of its root."""
    return attended(softmax(masked(scores_of(query, key, query.shape[-1]), mask)), value)


def multiplied_by_the_root(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    """The scores are multiplied by √d_k instead of divided."""
    return attended(softmax(masked(scores_of(query, key, 1 / np.sqrt(query.shape[-1])), mask)), value)


def scaled_after_softmax(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    """The weights are divided by √d_k instead of the scores, so that they no longer add up to 1."""
    return attended(softmax(masked(scores_of(query, key, 1), mask)) / np.sqrt(query.shape[-1]), value)


def key_reshaped(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    """The key is reshaped to (d_k, T_k) instead of transposed, which puts its entries in other places."""
    reshaped = key.reshape(*key.shape[:-2], key.shape[-1], key.shape[-2])
    return attended(softmax(masked(scores_of(query, reshaped.swapaxes(-1, -2)), mask)), value)


def softmax_over_the_queries(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    """The softmax runs over the queries: the weights of each key add up to 1, not those of each query."""
    return attended(softmax(masked(scores_of(query, key), mask), -2), value)


def softmax_over_both_axes(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    """The softmax runs over queries and keys together, so that all weights of a matrix add up to 1."""
    return attended(softmax(masked(scores_of(query, key), mask), (-2, -1)), value)


def softmax_missing(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    """The scores themselves are used as weights."""
    return attended(masked(scores_of(query, key), mask), value)


def exp_overflows(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    """The largest score is not subtracted before exp: large scores overflow, and a fully masked row is 0/0."""
    with np.errstate(all="ignore"):
        exps = np.exp(masked(scores_of(query, key), mask))
        return attended(exps / exps.sum(-1, keepdims=True), value)


def largest_of_all_rows_subtracted(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    """The largest of all scores is subtracted instead of that of each row, so that a row of low ones becomes 0/0."""
    scores = masked(scores_of(query, key), mask)
    with np.errstate(all="ignore"):
        exps = np.exp(scores - scores.max())
        return attended(exps / exps.sum(-1, keepdims=True), value)


def mask_ignored(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    """The mask is not used."""
    return attended(softmax(scores_of(query, key)), value)


def mask_inverted(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    """The scores are replaced where the mask is 1, but 1 says that the query may attend."""
    return attended(softmax(masked(scores_of(query, key), None if mask is None else np.equal(mask, 0))), value)


def mask_added(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    """-1e9 is added to masked scores instead of replacing them, and a fully masked row attends as if it were open."""
    scores = scores_of(query, key)
    return attended(softmax(scores if mask is None else scores + np.where(mask, 0, -1e9)), value)


def mask_multiplied(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    """Masked scores become 0, which is a score like any other: exp(0) is 1."""
    return attended(softmax(masked(scores_of(query, key), mask, 0)), value)


def mask_after_softmax(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    """The mask is applied to the weights, and those that are left do not add up to 1."""
    return attended(masked(softmax(scores_of(query, key)), mask, 0), value)


def minus_infinity(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    """Masked scores become -inf, which makes NaN of a row that is fully masked."""
    with np.errstate(invalid="ignore"):
        return attended(softmax(masked(scores_of(query, key), mask, -np.inf)), value)


def fully_masked_rows_zeroed(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    """A fully masked row gets weights of 0, as is the convention elsewhere; here it attends to all keys equally."""
    return attended(masked(softmax(masked(scores_of(query, key), mask)), mask, 0), value)


def scores_returned(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    """The output is right, but what is returned beside it are the scores before the softmax."""
    scores = masked(scores_of(query, key), mask)
    return softmax(scores) @ value, scores


def pair_swapped(query: Array, key: Array, value: Array, mask: Array | None = None) -> Pair:
    """The weights are returned first, and the output second."""
    p_attn = softmax(masked(scores_of(query, key), mask))
    return p_attn, p_attn @ value


TASK = ForwardTask(
    name="attention",
    title="Scaled dot-product attention, forward",
    statement=__doc__,
    solution=attention,
    blank="attention",
    points=3,
    calls=calls,
    look=look,
    wrong=(
        scale_missing,
        d_k_for_its_root,
        multiplied_by_the_root,
        scaled_after_softmax,
        key_reshaped,
        softmax_over_the_queries,
        softmax_over_both_axes,
        softmax_missing,
        exp_overflows,
        largest_of_all_rows_subtracted,
        mask_ignored,
        mask_inverted,
        mask_added,
        mask_multiplied,
        mask_after_softmax,
        minus_infinity,
        fully_masked_rows_zeroed,
        scores_returned,
        pair_swapped,
    ),
    hints=(
        "Work from the shapes: p_attn is (..., T_q, T_k), one row for each query. Which axes of query and key meet in "
        "the product, and over which axis do the weights add up to 1?",
        "key.swapaxes(-1, -2) transposes the last two axes alone, however many there are before them. d_k is the size "
        "of the last axis of query.",
        "np.where(mask, scores, -1e9) replaces scores. It comes before the softmax, so that the weights that are left "
        "add up to 1.",
        "exp(1000) overflows, but softmax does not change if a number is subtracted from a whole row: take the largest "
        "of that row, with keepdims=True, after masking.",
    ),
    derivation="""
    scores[i, j] is the product of query i and key j, so scores = query keyᵀ, where only the last two axes of key are
    exchanged. For random q and k of d_k entries its variance is d_k; dividing by √d_k makes it 1.

    Masked scores are replaced before the softmax: exp(-1e9 - largest) is exactly 0, so that a masked key has weight 0
    and the others add up to 1. Where all keys of a query are masked all its scores are -1e9, and the softmax of equal
    scores is uniform. (With -inf they would be -inf - (-inf) = NaN; and -1e9 added to the scores would leave their
    differences, so that the query would attend as if nothing were masked.)

    softmax(s)_j = exp(s_j) / Σ_k exp(s_k). Subtracting the row's largest s from all s of the row divides numerator and
    denominator by the same number. Then the largest exponent is 0: exp cannot overflow, and the sum is at least 1.
    """,
)
