"""Scaled dot-product attention with a mask, and with rows in which everything is masked: write its backward.

The mask says which keys a query may attend to. Where it may not, the score is replaced:

    scores  = scale * query keyᵀ where mask is True, else -1e9,    scale = 1 / √d_k
    weights = softmax(scores) over the keys, the last axis
    output  = weights value

-1e9 makes a weight exactly 0, unless all scores of the row are -1e9: a query that may attend to nothing then attends to
all keys equally. That is one convention. In the other, zero_fully_masked is True, and forward sets all weights of such
a row to 0 after the softmax. Write a backward that is right for both.

Backward is given grad_output, the gradient of output, and the cache that forward returned. It returns a tuple of the
three gradients, and an empty dict, since there are no parameters. The softmax is a component that knows its own
backward: self.softmax.backward(grad, cache["softmax"]) returns the gradient of what went into it, and {}.

Shapes: query (batch, heads, T_q, d_k), key (batch, heads, T_k, d_k), value (batch, heads, T_k, d_v), mask and weights
(batch, heads, T_q, T_k), output (batch, heads, T_q, d_v). Each gradient has the shape of its array.
"""

from __future__ import annotations

import math

import numpy as np

from npformer import ScaledDotProductAttention as RightAttention
from npformer import Softmax
from npformer.component import Array, Component, Tree
from npformer.exercises.task import BackwardTask, Term
from npformer.exercises.tasks.attention_core import Gradients, from_scores, to_query_and_key, transposed
from npformer.gradcheck import Case, Sizes


class ScaledDotProductAttention(Component):
    """Has the child softmax, and the attribute zero_fully_masked."""

    softmax: Softmax
    zero_fully_masked: bool

    def forward(self, query: Array, key: Array, value: Array, mask: Array) -> tuple[Array, Tree]:
        cache: Tree = {"query": query, "key": key, "value": value, "mask": mask}
        scale = 1 / math.sqrt(query.shape[-1])
        scores = np.where(mask, scale * query @ np.swapaxes(key, -1, -2), -1e9)
        weights, cache["softmax"] = self.softmax.forward(scores)
        if self.zero_fully_masked:
            weights = weights * mask.any(-1, keepdims=True)
        cache["weights"] = weights
        return weights @ value, cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[tuple[Array, Array, Array], Tree]:
        """Return (grad_query, grad_key, grad_value), and {}."""
        query, key, value, weights = cache["query"], cache["key"], cache["value"], cache["weights"]
        scale = 1 / math.sqrt(query.shape[-1])
        grad_value = np.swapaxes(weights, -1, -2) @ grad_output
        grad_weights = grad_output @ np.swapaxes(value, -1, -2)
        grad_scores, _ = self.softmax.backward(grad_weights, cache["softmax"])
        grad_scores = grad_scores * cache["mask"]  # a score that was replaced has no gradient; covers zeroed rows too
        grad_query = scale * grad_scores @ key
        grad_key = scale * np.swapaxes(grad_scores, -1, -2) @ query
        return (grad_query, grad_key, grad_value), {}


def make(sizes: Sizes, rng: np.random.Generator) -> Case:
    """Rows are zeroed where there are more heads than items, so that both conventions occur among the sizes."""
    core = RightAttention(fully_masked="zero" if sizes.num_heads > sizes.batch else "uniform")
    query, key, value = (
        rng.standard_normal((sizes.batch, sizes.num_heads, T, d))
        for T, d in ((sizes.T_q, sizes.d_head), (sizes.T_k, sizes.d_head), (sizes.T_k, sizes.d_head + 1))
    )
    # the last query may attend to no key, the first of more than two to all, those between to some
    some = rng.random((sizes.batch, sizes.num_heads, sizes.T_q, sizes.T_k)).argsort(-1)
    mask = some < rng.integers(2, max(3, sizes.T_k), some.shape[:-1])[..., None]
    mask[..., -1, :] = False
    if sizes.T_q > 2:
        mask[..., 0, :] = True
    return Case(core, (query, key, value), {"mask": mask})


def grad_of_softmax(grad_output: Array, cache: Tree) -> tuple[Array, Array]:
    """Return what the softmax put out, and its gradient."""
    return cache["softmax"]["output"], grad_output @ transposed(cache["value"])


def terms(case: Case, cache: Tree, grad_output: Array) -> dict[str, tuple[Term, ...]]:
    mask = cache["mask"]
    closed = ~mask.any(-1, keepdims=True)
    y, grad = grad_of_softmax(grad_output, cache)
    row_sum = (y * grad).sum(-1, keepdims=True)
    rows = "rows in which everything is masked"
    parts = (
        ("mask * p * grad_weights", "{} → open scores → their own weights → output", 1, mask * y * grad),
        ("mask * p * Σ(p * grad_weights)", "{} → open scores → the other weights of the row", -1, mask * y * row_sum),
        (f"p * (grad_weights - Σ), {rows}", "{} past the mask → weights → output", 0, closed * y * (grad - row_sum)),
        ("mask * grad_weights", "{} → open scores → weights, past the softmax", 0, mask * grad),
    )
    values = [to_query_and_key(part, cache) for *_, part in parts]
    found = {
        array: tuple(
            Term(f"scale * ({name}){mark}", path.format(array), coefficient, both[side])
            for (name, path, coefficient, _), both in zip(parts, values, strict=True)
        )
        for side, (array, mark) in enumerate((("query", " key"), ("key", "ᵀ query")))
    }
    from_rows = transposed(closed * y) @ grad_output
    zeroed = vars(case.component)["zero_fully_masked"]
    of_closed = (
        Term(f"pᵀ grad_output, {rows}", "value → output, through weights that were set to 0", 0, from_rows)
        if zeroed
        else Term(f"weightsᵀ grad_output, {rows}", "value → output of fully masked queries", 1, from_rows)
    )
    of_open = Term("weightsᵀ grad_output, all other rows", "value → output", 1, transposed(mask * y) @ grad_output)
    return found | {"value": (of_open, of_closed)}


def regions(case: Case, cache: Tree) -> dict[str, dict[str, Array]]:
    mask, query, key = cache["mask"], cache["query"], cache["key"]
    closed, partly = ~mask.any(-1), mask.any(-1) & ~mask.all(-1)
    hidden = (~mask & partly[..., None]).any(-2)
    return {
        "query": {
            "fully masked rows": np.broadcast_to(closed[..., None], query.shape),
            "partly masked rows": np.broadcast_to(partly[..., None], query.shape),
            "rows without a masked entry": np.broadcast_to(mask.all(-1)[..., None], query.shape),
        },
        "key": {"keys that a partly masked row hides": np.broadcast_to(hidden[..., None], key.shape)},
    }


def partly_masked_rows_dropped(core: RightAttention, grad_output: Array, cache: Tree) -> Gradients:
    """A row with any masked entry is taken for fully masked, so that its open scores lose their gradient as well."""
    return core.backward(grad_output, cache | {"mask": cache["mask"].all(-1, keepdims=True)})


def mask_of_the_first_head(core: RightAttention, grad_output: Array, cache: Tree) -> Gradients:
    """The mask of the first head is used for all heads."""
    return core.backward(grad_output, cache | {"mask": cache["mask"][:, :1]})


def mask_of_the_first_item(core: RightAttention, grad_output: Array, cache: Tree) -> Gradients:
    """The mask of the first item of the batch is used for all items."""
    return core.backward(grad_output, cache | {"mask": cache["mask"][:1]})


def query_unmasked(core: RightAttention, grad_output: Array, cache: Tree) -> Gradients:
    """The scores' gradient is masked for the key, but not for the query."""
    (_, grad_key, grad_value), grads = core.backward(grad_output, cache)
    (grad_query, _, _), _ = core.backward(grad_output, {name: cache[name] for name in cache if name != "mask"})
    return (grad_query, grad_key, grad_value), grads


def key_unmasked(core: RightAttention, grad_output: Array, cache: Tree) -> Gradients:
    """The scores' gradient is masked for the query, but not for the key."""
    (grad_query, _, grad_value), grads = core.backward(grad_output, cache)
    (_, grad_key, _), _ = core.backward(grad_output, {name: cache[name] for name in cache if name != "mask"})
    return (grad_query, grad_key, grad_value), grads


def mask_left_to_the_weights(core: RightAttention, grad_output: Array, cache: Tree) -> Gradients:
    """Weights of 0 are relied on to stop the gradient, but where rows stay uniform their weights are not 0."""
    y, grad = cache["weights"], grad_output @ transposed(cache["value"])
    return from_scores(y * (grad - (y * grad).sum(-1, keepdims=True)), grad_output, cache)


def row_sum_missing(core: RightAttention, grad_output: Array, cache: Tree) -> Gradients:
    """In the softmax's backward the sum over the row is not subtracted."""
    y, grad = grad_of_softmax(grad_output, cache)
    return from_scores(cache["mask"] * y * grad, grad_output, cache)


def mean_over_the_open_keys(core: RightAttention, grad_output: Array, cache: Tree) -> Gradients:
    """The softmax subtracts the plain mean over the keys that are open, instead of the sum that the weights make."""
    y, grad = grad_of_softmax(grad_output, cache)
    mask = cache["mask"]
    mean = (mask * grad).sum(-1, keepdims=True) / np.maximum(mask.sum(-1, keepdims=True), 1)
    return from_scores(mask * y * (grad - mean), grad_output, cache)


TASK = BackwardTask(
    name="fully_masked",
    title="Attention with a mask that hides whole rows, backward",
    statement=__doc__,
    solution=ScaledDotProductAttention,
    component=RightAttention,
    make=make,
    in_encoder=False,
    points=8,
    paths={
        "query": "output → weights → softmax → where the mask is open → scores → query",
        "key": "output → weights → softmax → where the mask is open → scores → key",
        "value": "output → value",
    },
    terms=terms,
    regions=regions,
    wrong=(
        partly_masked_rows_dropped,
        mask_of_the_first_head,
        mask_of_the_first_item,
        query_unmasked,
        key_unmasked,
        mask_left_to_the_weights,
        row_sum_missing,
        mean_over_the_open_keys,
    ),
    hints=(
        "Begin as if there were no mask: two matrix products, and the softmax between them. In most rows that is right "
        "as it stands. In which is it not?",
        "Where the mask is False, forward threw the score away and put a constant there. How much does the output move "
        "when such a score moves? In a partly masked row the softmax gives that answer by itself: the weight is 0.",
        "In a fully masked row of the uniform kind the weights are 1 / T_k, not 0. They pass gradient to value, for "
        "the output is made of it; but nothing may pass to the scores. In the other kind not even value gets any.",
        "One line does it for both kinds, right after the softmax's backward: the scores' gradient is kept where the "
        "mask is True, and is 0 elsewhere. grad_value needs no mask, if it is made with the weights that forward used.",
    ),
    derivation="""
    Line by line, the last line first, with p = softmax(scores):

        output = weights value              grad_value   = weightsᵀ grad_output
                                            grad_weights = grad_output valueᵀ
        weights = p, or 0 in zeroed rows    grad_p       = grad_weights, or 0 in zeroed rows
        p = softmax(scores)                 grad_scores  = p * (grad_p - Σ p * grad_p)    the sum over each row
        scores = products, or -1e9          grad_products = grad_scores where mask is True, else 0
        products = scale * query keyᵀ       grad_query   = scale * grad_products key
                                            grad_key     = scale * grad_productsᵀ query

    Where a score was replaced, the product does not reach the output, so its gradient is 0. In a row with an open entry
    p is 0 wherever the mask is False, and so is grad_scores: the mask changes nothing there. In a fully masked row p is
    1 / T_k, and only the mask stops the gradient. Zeroed rows are masked everywhere, so that the same line covers them,
    and their weights of 0 give value nothing; where rows stay uniform, value gets the gradient of a mean.
    """,
)
