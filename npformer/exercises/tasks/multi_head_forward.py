"""Multi-head attention between its projections (Vaswani et al. 2017, section 3.2.2): write its forward.

q, k and v are projected already. Their last axis holds num_heads heads side by side, each d_head = d_model / num_heads
wide: head 0 is the first d_head entries, head 1 the next, and so on. Each head attends on its own,

    output of head h = attention(q of head h, k of head h, v of head h, mask)

and the outputs of the heads are put side by side again, in the same order. Return the output.

Reshapes and transposes do the cutting. attention is npformer's, and takes arrays with any leading axes, such as
(B, num_heads, T, d_head). It returns the pair (output, p_attn).

Shapes: q (B, T_q, d_model), k and v (B, T_k, d_model), output (B, T_q, d_model). The mask, if it is not None,
broadcasts to (B, num_heads, T_q, T_k), nonzero = may attend, and is handed on to attention.

You need: from npformer import attention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from npformer import attention
from npformer.component import Array
from npformer.exercises.quoting import kind_of
from npformer.exercises.task import Call, ForwardTask


def multi_head_attention(q: Array, k: Array, v: Array, num_heads: int, mask: Array | None = None) -> Array:
    """Return the output (B, T_q, d_model)."""
    B, T_q, d_model = q.shape

    def cut(x: Array) -> Array:
        return x.reshape(B, -1, num_heads, d_model // num_heads).transpose(0, 2, 1, 3)

    heads, _ = attention(cut(q), cut(k), cut(v), mask=mask)
    return heads.transpose(0, 2, 1, 3).reshape(B, T_q, d_model)


def calls(seed: int) -> Iterator[tuple[str, Call]]:
    rng = np.random.default_rng(seed)

    def arguments(B: int, T_q: int, T_k: int, d_model: int, num_heads: int) -> tuple[Any, ...]:
        q, k, v = (rng.standard_normal((B, T, d_model)).round(2) for T in (T_q, T_k, T_k))
        return q, k, v, num_heads

    def mask(*shape: int) -> Array:
        random = rng.integers(0, 2, shape, np.uint8)
        random[..., 0] = 1  # the first key of each query
        return rng.permuted(random, axis=-1)

    fully = mask(1, 1, 4, 4)
    fully[..., -1, :] = 0
    yield "2 heads of 1, 3 tokens", Call(arguments(1, 3, 3, 2, 2))
    yield "2 heads of 2, 2 queries, 3 keys", Call(arguments(1, 2, 3, 4, 2))
    yield "one head", Call(arguments(2, 3, 2, 4, 1))
    yield "all sizes differ", Call(arguments(2, 5, 4, 6, 3))
    yield "as many tokens as heads", Call(arguments(3, 3, 3, 9, 3))
    yield "a causal mask", Call(arguments(2, 4, 4, 6, 2), {"mask": np.tril(np.ones((1, 4, 4), np.uint8))})
    yield "a mask for each sequence", Call(arguments(2, 3, 4, 6, 3), {"mask": mask(2, 1, 3, 4)})
    yield "a mask for each head", Call(arguments(2, 3, 4, 6, 3), {"mask": mask(1, 3, 3, 4) != 0})
    yield "a query masked from all keys", Call(arguments(2, 4, 4, 8, 2), {"mask": fully})


def look(result: Any, *arguments: Any, mask: Array | None = None) -> dict[str, Array]:
    if not isinstance(result, np.ndarray):
        raise TypeError(f"multi_head_attention must return one array, the output, but it returned {kind_of(result)}")
    return {"output": result}


def cut(x: Array, num_heads: int) -> Array:
    B, T, d_model = x.shape
    return x.reshape(B, T, num_heads, d_model // num_heads).transpose(0, 2, 1, 3)


def cut_by_a_reshape(x: Array, num_heads: int) -> Array:
    B, T, d_model = x.shape
    return x.reshape(B, num_heads, T, d_model // num_heads)


def cut_across(x: Array, num_heads: int) -> Array:
    B, T, d_model = x.shape
    return x.reshape(B, T, d_model // num_heads, num_heads).transpose(0, 3, 1, 2)


def side_by_side(heads: Array) -> Array:
    B, H, T, d_head = heads.shape
    return heads.transpose(0, 2, 1, 3).reshape(B, T, H * d_head)


def heads_of(
    cut: Callable[[Array, int], Array], q: Array, k: Array, v: Array, num_heads: int, mask: Array | None
) -> Array:
    return attention(cut(q, num_heads), cut(k, num_heads), cut(v, num_heads), mask=mask)[0]


def reshaped_without_transposing(q: Array, k: Array, v: Array, num_heads: int, mask: Array | None = None) -> Array:
    """A reshape to (B, num_heads, T, d_head) alone hands each head the entries of other tokens."""
    return side_by_side(heads_of(cut_by_a_reshape, q, k, v, num_heads, mask))


def merged_without_transposing(q: Array, k: Array, v: Array, num_heads: int, mask: Array | None = None) -> Array:
    """The heads' outputs are put together by a reshape alone, which mixes up tokens and heads."""
    return heads_of(cut, q, k, v, num_heads, mask).reshape(q.shape)


def never_transposed(q: Array, k: Array, v: Array, num_heads: int, mask: Array | None = None) -> Array:
    """Both ways go by a reshape alone: the shapes fit, but the heads are made of other tokens' entries."""
    return heads_of(cut_by_a_reshape, q, k, v, num_heads, mask).reshape(q.shape)


def heads_interleaved(q: Array, k: Array, v: Array, num_heads: int, mask: Array | None = None) -> Array:
    """d_model is cut as (d_head, num_heads), so that a head has every num_heads-th entry instead of d_head in a row."""
    heads = heads_of(cut_across, q, k, v, num_heads, mask)
    return heads.transpose(0, 2, 3, 1).reshape(q.shape)


def interleaved_when_merged(q: Array, k: Array, v: Array, num_heads: int, mask: Array | None = None) -> Array:
    """The heads' outputs are put together as (d_head, num_heads), the first entries of all heads first."""
    return heads_of(cut, q, k, v, num_heads, mask).transpose(0, 2, 3, 1).reshape(q.shape)


def one_head_alone(q: Array, k: Array, v: Array, num_heads: int, mask: Array | None = None) -> Array:
    """q, k and v are not cut: all of d_model is one head."""
    return attention(q, k, v, mask=None if mask is None else mask_of(mask, q, k, num_heads)[:, 0])[0]


def scale_from_d_model(q: Array, k: Array, v: Array, num_heads: int, mask: Array | None = None) -> Array:
    """The scores are divided by √d_model, but each head is only d_head wide."""
    return side_by_side(heads_of(cut, q / np.sqrt(num_heads), k, v, num_heads, mask))


def mask_not_handed_on(q: Array, k: Array, v: Array, num_heads: int, mask: Array | None = None) -> Array:
    """The mask is not used."""
    return side_by_side(heads_of(cut, q, k, v, num_heads, None))


def keys_and_values_of_the_first_head(q: Array, k: Array, v: Array, num_heads: int, mask: Array | None = None) -> Array:
    """All heads use the keys and values of the first."""
    first_k, first_v = (np.repeat(cut(x, num_heads)[:, :1], num_heads, axis=1) for x in (k, v))
    return side_by_side(attention(cut(q, num_heads), first_k, first_v, mask=mask)[0])


def mask_of(mask: Array, q: Array, k: Array, num_heads: int) -> Array:
    return np.broadcast_to(mask, (len(q), num_heads, q.shape[1], k.shape[1]))


def heads_attend_to_each_other(q: Array, k: Array, v: Array, num_heads: int, mask: Array | None = None) -> Array:
    """The heads are treated as more tokens, so that each head attends to the keys of all heads."""
    B, _, d_model = q.shape
    queries, keys, values = (x.reshape(B, -1, d_model // num_heads) for x in (q, k, v))
    if mask is not None:
        by_token = np.repeat(mask_of(mask, q, k, num_heads).transpose(0, 2, 1, 3), num_heads, -1)
        mask = by_token.reshape(B, q.shape[1] * num_heads, -1)
    return attention(queries, keys, values, mask=mask)[0].reshape(q.shape)


def heads_averaged(q: Array, k: Array, v: Array, num_heads: int, mask: Array | None = None) -> Array:
    """The outputs of the heads are averaged instead of put side by side."""
    mean: Array = heads_of(cut, q, k, v, num_heads, mask).mean(1)
    return mean


TASK = ForwardTask(
    name="multi_head_forward",
    title="Multi-head attention as reshapes, forward",
    statement=__doc__,
    solution=multi_head_attention,
    blank="multi_head_attention",
    points=3,
    calls=calls,
    look=look,
    wrong=(
        reshaped_without_transposing,
        merged_without_transposing,
        never_transposed,
        heads_interleaved,
        interleaved_when_merged,
        one_head_alone,
        scale_from_d_model,
        mask_not_handed_on,
        keys_and_values_of_the_first_head,
        heads_attend_to_each_other,
        heads_averaged,
    ),
    hints=(
        "Take a q of one sequence, two tokens and d_model 4 with the entries 0 to 7. Which of them make head 0 of two?",
        "A reshape keeps the order of the entries in memory: it may cut an axis in two, or join two neighbours, but it "
        "cannot move an axis. Which axis has to be cut, and which have to change places?",
        "reshape(B, T, num_heads, d_head) cuts d_model. Then num_heads has to come before T: transpose(0, 2, 1, 3).",
        "Afterwards do the same backwards: the same transpose, then a reshape that joins num_heads and d_head.",
    ),
    derivation="""
    In memory q is, for each sequence and token, the d_head entries of head 0, then those of head 1, and so on. So
    reshape(B, T, num_heads, d_head) only cuts the last axis. attention takes the last two axes for tokens and width,
    and all before them for a batch: transpose(0, 2, 1, 3) brings it to (B, num_heads, T, d_head).

    A reshape to (B, num_heads, T, d_head) at once has the right shape too, but it deals out the entries in the order of
    memory: head 0 would get all entries of the first tokens.

    The way back undoes this in reverse order: transpose(0, 2, 1, 3) again, and reshape(B, T_q, d_model).
    """,
)
