"""Attention without a matrix of all scores (Rabe and Staats 2021; Dao et al. 2022): write its backward.

Forward is scaled dot-product attention, without mask and dropout:

    scores  = scale * query keyᵀ,    scale = 1 / √d_k
    weights = softmax(scores)        over the keys
    output  = weights value

It meets the keys in blocks of block_size[1], and holds the scores of one block at a time. Of each row, that is of each
query, it keeps a maximum, a sum of powers and a total so far, and shrinks the last two when a block has a larger
maximum. So it has, after the last block, without ever having seen the row at once:

    row_max = max_j scores_j
    row_sum = Σ_j exp(scores_j - row_max)

Backward is given grad_output and the cache: query, key, value, output, row_max and row_sum, but no weights. It returns
(grad_query, grad_key, grad_value), and {} since there are no parameters. Let it meet the keys in blocks too: that no
array has T_q x T_k entries is the point of it, though only the gradients are checked.

Shapes: query (..., T_q, d_k), key (..., T_k, d_k), value (..., T_k, d_v), output (..., T_q, d_v), each gradient as what
it belongs to; row_max and row_sum (..., T_q). T_k need not be a multiple of the size of a block.
"""

from __future__ import annotations

import math

import numpy as np

from npformer import BlockwiseAttention as RightBlockwiseAttention
from npformer.component import Array, Component, Tree
from npformer.exercises.task import BackwardTask, Term
from npformer.gradcheck import Case, Sizes
from npformer.mistakes.catalogue import Gradients


class BlockwiseAttention(Component):
    """Has the attribute block_size: how many queries, and how many keys, are met at a time."""

    block_size: tuple[int, int]

    def forward(self, query: Array, key: Array, value: Array) -> tuple[Array, Tree]:
        scale = 1 / math.sqrt(query.shape[-1])
        T_k, size = key.shape[-2], self.block_size[1]
        row_max = np.full((*query.shape[:-1], 1), -np.inf)
        row_sum, total = np.zeros_like(row_max), np.zeros((*query.shape[:-1], value.shape[-1]))
        for start in range(0, T_k, size):
            keys = slice(start, start + size)
            scores = scale * query @ key[..., keys, :].swapaxes(-1, -2)
            new_max = np.maximum(row_max, scores.real.max(-1, keepdims=True))
            powers = np.exp(scores - new_max)
            shrink = np.exp(row_max - new_max)
            row_sum = shrink * row_sum + powers.sum(-1, keepdims=True)
            total = shrink * total + powers @ value[..., keys, :]
            row_max = new_max
        output = total / row_sum
        cache: Tree = {"query": query, "key": key, "value": value, "output": output}
        return output, cache | {"row_max": row_max[..., 0], "row_sum": row_sum[..., 0]}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[tuple[Array, Array, Array], Tree]:
        """Return (grad_query, grad_key, grad_value), and {}."""
        query, key, value, output = cache["query"], cache["key"], cache["value"], cache["output"]
        row_max, row_sum = cache["row_max"][..., None], cache["row_sum"][..., None]
        scale = 1 / math.sqrt(query.shape[-1])
        T_k, size = key.shape[-2], self.block_size[1]
        grad_query, grad_key, grad_value = np.zeros_like(query), np.zeros_like(key), np.zeros_like(value)
        delta = (grad_output * output).sum(-1, keepdims=True)  # one number for each row, the same for all blocks
        for start in range(0, T_k, size):
            keys = slice(start, start + size)
            scores = scale * query @ key[..., keys, :].swapaxes(-1, -2)
            weights = np.exp(scores - row_max) / row_sum
            grad_weights = grad_output @ value[..., keys, :].swapaxes(-1, -2)
            grad_scores = weights * (grad_weights - delta)
            grad_query += scale * grad_scores @ key[..., keys, :]  # every block has a share in it
            grad_key[..., keys, :] = scale * grad_scores.swapaxes(-1, -2) @ query
            grad_value[..., keys, :] = weights.swapaxes(-1, -2) @ grad_output
        return (grad_query, grad_key, grad_value), {}


def make(sizes: Sizes, rng: np.random.Generator) -> Case:
    """Blocks of all keys but one: there are two of them, and the last is not whole where it can be."""
    core = RightBlockwiseAttention(block_size=(2, max(1, sizes.T_k - 1)))
    heads = sizes.batch, sizes.num_heads
    query = rng.standard_normal((*heads, sizes.T_q, sizes.d_head))
    key = rng.standard_normal((*heads, sizes.T_k, sizes.d_head))
    value = rng.standard_normal((*heads, sizes.T_k, sizes.d_head + 1))
    return Case(core, (query, key, value))


def transposed(array: Array) -> Array:
    return array.swapaxes(-1, -2)


def powers_of(cache: Tree) -> Array:
    """All powers at once, as on these small cases one can."""
    scores = cache["query"] @ transposed(cache["key"]) / math.sqrt(cache["query"].shape[-1])
    powers: Array = np.exp(scores - cache["row_max"][..., None])
    return powers


def from_scores(grad_scores: Array, cache: Tree) -> tuple[Array, Array]:
    """Take a gradient of the scores to query and key."""
    grad_products = grad_scores / math.sqrt(cache["query"].shape[-1])
    return grad_products @ cache["key"], transposed(grad_products) @ cache["query"]


def parts(grad_output: Array, cache: Tree) -> tuple[Array, Array, Array]:
    """Weights, their gradient, and delta."""
    weights = powers_of(cache) / cache["row_sum"][..., None]
    delta = (grad_output * cache["output"]).sum(-1, keepdims=True)
    return weights, grad_output @ transposed(cache["value"]), delta


def terms(case: Case, cache: Tree, grad_output: Array) -> dict[str, tuple[Term, ...]]:
    powers, (weights, grad_weights, delta) = powers_of(cache), parts(grad_output, cache)
    through_weights = "scores of a block → powers of the same keys → total → output"
    through_the_sum = "scores of a block → row_sum, of all blocks → output"
    named = (
        ("weights * grad_weights", through_weights, 1, weights * grad_weights),
        ("weights * delta", through_the_sum, -1, weights * delta),
        ("powers * grad_weights", f"{through_weights}, but not as row_sum has divided it", 0, powers * grad_weights),
        ("delta", f"{through_the_sum}, but not in the share that a score has in it", 0, delta + 0 * weights),
    )
    taken = [(name, path, factor, *from_scores(values, cache)) for name, path, factor, values in named]
    undivided = "value → total → output, but not as row_sum has divided it"
    return {
        "query": tuple(Term(f"scale * ({name}) key", f"query → {path}", c, grad) for name, path, c, grad, _ in taken),
        "key": tuple(Term(f"scale * ({name})ᵀ query", f"key → {path}", c, grad) for name, path, c, _, grad in taken),
        "value": (
            Term("weightsᵀ grad_output", "value → total → output", 1, transposed(weights) @ grad_output),
            Term("powersᵀ grad_output", undivided, 0, transposed(powers) @ grad_output),
        ),
    }


def last_block(core: RightBlockwiseAttention, T_k: int) -> Array:
    """True for the keys of the last block."""
    size = core.block_size[1]
    return np.arange(T_k) >= (T_k - 1) // size * size


def regions(case: Case, cache: Tree) -> dict[str, dict[str, Array]]:
    assert isinstance(case.component, RightBlockwiseAttention)
    last = last_block(case.component, cache["key"].shape[-2])[:, None]
    return {name: {"keys of the last block": np.broadcast_to(last, cache[name].shape)} for name in ("key", "value")}


def with_scores(core: RightBlockwiseAttention, grad_scores: Array, grad_output: Array, cache: Tree) -> Gradients:
    """The right gradients, but for those that come from other gradients of the scores."""
    (_, _, grad_value), grads = core.backward(grad_output, cache)
    return (*from_scores(grad_scores, cache), grad_value), grads


def scale_missing(core: RightBlockwiseAttention, grad_output: Array, cache: Tree) -> Gradients:
    """The scores are scaled when they are made again, but their gradient is not."""
    (grad_query, grad_key, grad_value), grads = core.backward(grad_output, cache)
    root = math.sqrt(cache["query"].shape[-1])
    return (root * grad_query, root * grad_key, grad_value), grads


def powers_for_weights(core: RightBlockwiseAttention, grad_output: Array, cache: Tree) -> Gradients:
    """The powers are not divided by row_sum, but used as if they were the weights."""
    return core.backward(grad_output, cache | {"row_sum": np.ones_like(cache["row_sum"])})


def maximum_not_subtracted(core: RightBlockwiseAttention, grad_output: Array, cache: Tree) -> Gradients:
    """row_sum belongs to powers of scores minus row_max, but the powers are made again without it."""
    return core.backward(grad_output, cache | {"row_max": np.zeros_like(cache["row_max"])})


def softmax_missing(core: RightBlockwiseAttention, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient of the weights is taken for that of the scores: the softmax between them is left out."""
    _, grad_weights, _ = parts(grad_output, cache)
    return with_scores(core, grad_weights, grad_output, cache)


def delta_of_each_block(core: RightBlockwiseAttention, grad_output: Array, cache: Tree) -> Gradients:
    """Each block subtracts the sum over its own keys alone, but delta is the sum over the whole row."""
    weights, grad_weights, _ = parts(grad_output, cache)
    last = last_block(core, weights.shape[-1])
    products = weights * grad_weights
    deltas = [(products * block).sum(-1, keepdims=True) * block for block in (last, ~last)]
    return with_scores(core, products - weights * sum(deltas), grad_output, cache)


def query_of_the_last_block(core: RightBlockwiseAttention, grad_output: Array, cache: Tree) -> Gradients:
    """Each block of keys assigns the gradient of the queries instead of adding to it."""
    weights, grad_weights, delta = parts(grad_output, cache)
    grad_scores = weights * (grad_weights - delta)
    (_, grad_key, grad_value), grads = core.backward(grad_output, cache)
    grad_query, _ = from_scores(grad_scores * last_block(core, weights.shape[-1]), cache)
    return (grad_query, grad_key, grad_value), grads


TASK = BackwardTask(
    name="blockwise_attention",
    title="Attention without a matrix of all scores, backward",
    statement=__doc__,
    solution=BlockwiseAttention,
    component=RightBlockwiseAttention,
    make=make,
    points=12,
    paths={
        "query": "output → weights of every block → scores → query",
        "key": "output → weights of the whole row → scores of the key's block → key",
        "value": "output → total → value of the block",
    },
    terms=terms,
    regions=regions,
    wrong=(
        scale_missing,
        powers_for_weights,
        maximum_not_subtracted,
        softmax_missing,
        delta_of_each_block,
        query_of_the_last_block,
    ),
    hints=(
        "Write the backward of plain attention first: value, then weights, then softmax, then scores. Which step of it "
        "needs something of the whole row, beyond the block at hand?",
        "The weights of a block need only row_max and row_sum, which are those of the whole row: make the scores of "
        "the block again, and from them what softmax would have given these keys.",
        "Softmax's backward subtracts Σ_j weights_j grad_weights_j over all keys, one number for each row. "
        "Write grad_weights as grad_output valueᵀ, with the sum over the keys inside: what is Σ_j weights_j value_j?",
        "That number is the dot product of a row of grad_output with the same row of output, so it is known before the "
        "loop. In the loop, a key and a value meet their queries once, but a query meets every block.",
    ),
    derivation="""
    With all weights at hand, grad_value is weightsᵀ grad_output, and the rest of attention goes back as

        grad_weights = grad_output valueᵀ
        grad_scores  = weights * (grad_weights - delta),    delta_i = Σ_j weights_ij grad_weights_ij
        grad_query   = scale * grad_scores key
        grad_key     = scale * grad_scoresᵀ query

    A block of keys needs the columns of these that belong to it. The weights are made again, from numbers of the row:

        weights_ij = exp(scores_ij - row_max_i) / row_sum_i

    delta alone is a sum over all keys, but grad_weights_ij = Σ_c grad_output_ic value_jc, so that

        delta_i = Σ_c grad_output_ic Σ_j weights_ij value_jc = Σ_c grad_output_ic output_ic

    which needs no block at all. row_max is no path of its own: it cancels in total / row_sum. A query's gradient is a
    sum over the keys, so that every block adds to it; those of a key and a value are sums over the queries:

        grad_query += scale * weights * (grad_weights - delta) key                 in each block
        grad_key    = scale * (weights * (grad_weights - delta))ᵀ query            of the block
    """,
)
