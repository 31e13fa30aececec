"""Other ways to cut arrays into heads and to put them together."""

from functools import partial

import numpy as np

from npformer import ScaledDotProductAttention, attention
from npformer.component import Array
from solutions.registry import solves


@solves("multi_head_forward")
def head_by_head_with_slices(q: Array, k: Array, v: Array, num_heads: int, mask: Array | None = None) -> Array:
    B, T_q, d_model = q.shape
    d_head = d_model // num_heads
    allowed = None if mask is None else np.broadcast_to(mask, (B, num_heads, T_q, k.shape[1]))
    output = np.zeros((B, T_q, d_model))
    for h in range(num_heads):
        mine = slice(h * d_head, (h + 1) * d_head)
        of_head, _ = attention(q[:, :, mine], k[:, :, mine], v[:, :, mine], None if allowed is None else allowed[:, h])
        output[:, :, mine] = of_head
    return output


@solves("multi_head_forward")
def split_and_concatenated(q: Array, k: Array, v: Array, num_heads: int, mask: Array | None = None) -> Array:
    heads = zip(*(np.split(x, num_heads, axis=-1) for x in (q, k, v)), strict=True)
    masks: list[Array | None] = [None] * num_heads
    if mask is not None:
        masks = list(np.moveaxis(np.broadcast_to(mask, (len(q), num_heads, q.shape[1], k.shape[1])), 1, 0))
    outputs = [attention(q_h, k_h, v_h, m)[0] for (q_h, k_h, v_h), m in zip(heads, masks, strict=True)]
    return np.concatenate(outputs, axis=-1)


@solves("multi_head_forward")
def split_and_stacked(q: Array, k: Array, v: Array, num_heads: int, mask: Array | None = None) -> Array:
    by_head = [np.stack(np.split(x, num_heads, axis=-1), axis=1) for x in (q, k, v)]
    output, _ = attention(by_head[0], by_head[1], by_head[2], mask)
    return np.concatenate([output[:, h] for h in range(num_heads)], axis=2)


@solves("multi_head_forward")
def swapaxes(q: Array, k: Array, v: Array, num_heads: int, mask: Array | None = None) -> Array:
    cut = [x.reshape(len(x), x.shape[1], num_heads, -1).swapaxes(1, 2) for x in (q, k, v)]
    return attention(cut[0], cut[1], cut[2], mask)[0].swapaxes(1, 2).reshape(q.shape)


@solves("multi_head_forward")
def moveaxis(q: Array, k: Array, v: Array, num_heads: int, mask: Array | None = None) -> Array:
    d_head = q.shape[-1] // num_heads
    cut = partial(lambda x: np.moveaxis(x.reshape(*x.shape[:2], num_heads, d_head), 2, 1))
    return np.moveaxis(attention(cut(q), cut(k), cut(v), mask)[0], 1, 2).reshape(*q.shape)


@solves("multi_head_forward")
def einsum_with_named_axes(q: Array, k: Array, v: Array, num_heads: int, mask: Array | None = None) -> Array:
    q_heads, k_heads, v_heads = (x.reshape(*x.shape[:2], num_heads, x.shape[2] // num_heads) for x in (q, k, v))
    scores = np.einsum("bqhd,bkhd->bhqk", q_heads, k_heads) / np.sqrt(q_heads.shape[-1])
    if mask is not None:
        scores = np.where(mask, scores, -1e9)
    exps = np.exp(scores - scores.max(-1, keepdims=True))
    output: Array = np.einsum("bhqk,bkhd->bqhd", exps / exps.sum(-1, keepdims=True), v_heads).reshape(q.shape)
    return output


@solves("multi_head_forward")
def heads_in_the_first_axis(q: Array, k: Array, v: Array, num_heads: int, mask: Array | None = None) -> Array:
    B, T_q, d_model = q.shape

    def flat(x: Array) -> Array:
        cut = x.reshape(B, x.shape[1], num_heads, d_model // num_heads)
        return cut.transpose(0, 2, 1, 3).reshape(B * num_heads, x.shape[1], -1)

    if mask is not None:
        mask = np.broadcast_to(mask, (B, num_heads, T_q, k.shape[1])).reshape(B * num_heads, T_q, k.shape[1])
    output = attention(flat(q), flat(k), flat(v), mask)[0]
    return output.reshape(B, num_heads, T_q, -1).transpose(0, 2, 1, 3).reshape(B, T_q, d_model)


@solves("multi_head_forward")
def sequence_by_sequence(q: Array, k: Array, v: Array, num_heads: int, mask: Array | None = None) -> Array:
    allowed = np.broadcast_to(np.uint8(1) if mask is None else mask, (len(q), num_heads, q.shape[1], k.shape[1]))
    outputs = []
    for b in range(len(q)):
        heads = [x[b].T.reshape(num_heads, -1, len(x[b])).transpose(0, 2, 1) for x in (q, k, v)]
        output = attention(heads[0], heads[1], heads[2], allowed[b])[0]
        outputs.append(np.hstack(list(output)))
    return np.array(outputs)


@solves("multi_head_forward")
def gathered_by_index(q: Array, k: Array, v: Array, num_heads: int, mask: Array | None = None) -> Array:
    d_model = q.shape[-1]
    columns = np.arange(d_model).reshape(num_heads, -1)
    heads = [x[:, :, columns].transpose(0, 2, 1, 3) for x in (q, k, v)]
    of_heads, _ = attention(heads[0], heads[1], heads[2], mask)
    output = np.empty_like(q)
    output[:, :, columns] = of_heads.transpose(0, 2, 1, 3)
    return output


@solves("multi_head_forward")
def heads_that_are_zero_elsewhere(q: Array, k: Array, v: Array, num_heads: int, mask: Array | None = None) -> Array:
    d_head = q.shape[-1] // num_heads
    own = np.repeat(np.eye(num_heads), d_head, axis=1)[:, None]  # 1 in a head's own entries of d_model
    core = ScaledDotProductAttention(scale=d_head**-0.5)
    whole = core(*(x[:, None] * own for x in (q, k, v)), mask=mask)
    total: Array = whole.sum(axis=1)
    return total


@solves("multi_head_forward")
def transposed_in_two_steps(q: Array, k: Array, v: Array, num_heads: int, mask: Array | None = None) -> Array:
    def cut(x: Array) -> Array:
        by_width = x.transpose(0, 2, 1).reshape(x.shape[0], num_heads, -1, x.shape[1])
        return by_width.transpose(0, 1, 3, 2)

    output = attention(cut(q), cut(k), cut(v), mask=mask)[0]
    return output.transpose(0, 1, 3, 2).reshape(q.shape[0], q.shape[2], q.shape[1]).transpose(0, 2, 1)
