"""Components in the layouts that kernels take: queries, keys and values in one array, and sequences without padding."""

from __future__ import annotations

import numpy as np

from npformer.attention import ScaledDotProductAttention
from npformer.component import Array, Component, Tree
from npformer.dropout import RandomSource
from npformer.linear import Linear
from npformer.masks import length_mask
from npformer.shapes import (
    check_count,
    check_equal,
    check_flag,
    check_floats,
    check_grad,
    check_part,
    check_tokens,
)


class PackedAttention(Component):
    """An attention core whose query, key and value are one array (batch, T, 3, heads, d_head).

    Parameters
    ----------
    attention : Component, optional
        The core; ScaledDotProductAttention() by default.

    `forward(qkv, mask=None, rng=None)`. The output is (batch, T, heads, d_head), and the mask that of the core.

    Examples
    --------
    >>> PackedAttention()(np.ones((2, 5, 3, 4, 8))).shape
    (2, 5, 4, 8)
    """

    def __init__(self, attention: Component | None = None):
        self.attention = ScaledDotProductAttention() if attention is None else attention
        check_part("attention", self.attention, Component)

    def forward(self, qkv: Array, mask: Array | None = None, rng: RandomSource | None = None) -> tuple[Array, Tree]:
        check_floats("qkv", qkv, "batch, T, 3, heads, d_head")
        check_equal("qkv", "axis 2 of size", qkv.shape[2], "query, key and value", 3)
        query, key, value = qkv.transpose(2, 0, 3, 1, 4)
        heads, cache = self.attention.forward(query, key, value, mask=mask, rng=rng)
        return heads.swapaxes(1, 2), {"attention": cache}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        triple, grads = self.attention.backward(grad_output.swapaxes(1, 2), cache["attention"])
        return np.stack(triple).transpose(1, 3, 0, 2, 4), {"attention": grads}


class PackedMultiHeadedAttention(Component):
    """Multi-head self-attention whose three input projections are one, as in PyTorch's nn.MultiheadAttention.

    ``in_proj.weight`` (3 d_model, d_model) and ``in_proj.bias`` (3 d_model) are PyTorch's in_proj_weight and
    in_proj_bias: the rows of the queries, then those of the keys, then those of the values.

    Parameters
    ----------
    num_heads, d_model : int
        d_model must be a multiple of num_heads.

    `forward(x, mask=None, rng=None)`, as MultiHeadedAttention.

    Examples
    --------
    >>> PackedMultiHeadedAttention(2, 8)(np.ones((1, 3, 8))).shape
    (1, 3, 8)
    """

    def __init__(self, num_heads: int, d_model: int):
        self.num_heads = check_count("num_heads", num_heads)
        self.d_model = check_count("d_model", d_model)
        if d_model % num_heads:
            raise ValueError(
                f"d_model must be a multiple of num_heads, but d_model={d_model} and num_heads={num_heads}"
            )
        self.in_proj = Linear(d_model, 3 * d_model)
        self.attention = PackedAttention()
        self.out_proj = Linear(d_model, d_model)

    def forward(self, x: Array, mask: Array | None = None, rng: RandomSource | None = None) -> tuple[Array, Tree]:
        check_floats("x", x, "batch, T, d_model")
        cache: Tree = {}
        packed, cache["in_proj"] = self.in_proj.forward(x)
        qkv = packed.reshape(*x.shape[:2], 3, self.num_heads, self.d_model // self.num_heads)
        heads, cache["attention"] = self.attention.forward(qkv, mask=mask, rng=rng)
        output, cache["out_proj"] = self.out_proj.forward(heads.reshape(x.shape))
        return output, cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        grads: Tree = {}
        grad_merged, grads["out_proj"] = self.out_proj.backward(grad_output, cache["out_proj"])
        grad_heads = grad_merged.reshape(*grad_output.shape[:2], self.num_heads, -1)
        grad_qkv, grads["attention"] = self.attention.backward(grad_heads, cache["attention"])
        grad_packed = grad_qkv.reshape(*grad_output.shape[:2], -1)
        grad_x, grads["in_proj"] = self.in_proj.backward(grad_packed, cache["in_proj"])
        return grad_x, grads


class VariableLengths(Component):
    """A component on sequences that lie one behind the other without padding: pads them, masks it, and takes it away.

    Parameters
    ----------
    inner : Component
        Has `forward(x, mask)`, such as MultiHeadedAttention or an Encoder.

    `forward(x, cu_seqlens)`: x (total, d_model) holds in the rows cu_seqlens[i] to cu_seqlens[i + 1] - 1 the i-th
    sequence. cu_seqlens are integers (batch + 1), from 0 to total.

    Examples
    --------
    >>> from npformer import MultiHeadedAttention
    >>> VariableLengths(MultiHeadedAttention(2, 8))(np.ones((5, 8)), cu_seqlens=np.array([0, 2, 5])).shape
    (5, 8)
    """

    def __init__(self, inner: Component):
        self.inner = inner
        check_part("inner", inner, Component)

    def forward(self, x: Array, cu_seqlens: Array) -> tuple[Array, Tree]:
        check_floats("x", x, "total, d_model")
        lengths = _lengths("cu_seqlens", cu_seqlens, len(x))
        real = _real(lengths)
        output, cache = self.inner.forward(_padded(x, real), mask=length_mask(lengths, real.shape[1]) != 0)
        return output[real], {"inner": cache, "real": real}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        grad_padded, grads = self.inner.backward(_padded(grad_output, cache["real"]), cache["inner"])
        return grad_padded[cache["real"]], {"inner": grads}


class VariableLengthAttention(Component):
    """An attention core on sequences that lie one behind the other without padding.

    Parameters
    ----------
    causal : bool
        Whether each query sees no key after its own place, counted from the ends of both sequences (lower-right).

    `forward(query, key, value, cu_seqlens_q, cu_seqlens_k)`: query (total_q, heads, d_head), key and value
    (total_k, heads, d_head); cu_seqlens say where each sequence begins, and last where the last one ends. A query that
    sees no key has output 0. The output is as query.

    Examples
    --------
    >>> q, k = np.ones((3, 2, 4)), np.ones((5, 2, 4))
    >>> starts = {"cu_seqlens_q": np.array([0, 1, 3]), "cu_seqlens_k": np.array([0, 3, 5])}
    >>> VariableLengthAttention()(q, k, k, **starts).shape
    (3, 2, 4)
    """

    def __init__(self, causal: bool = False):
        self.causal = check_flag("causal", causal)
        self.attention = ScaledDotProductAttention(fully_masked="zero")

    def forward(
        self, query: Array, key: Array, value: Array, cu_seqlens_q: Array, cu_seqlens_k: Array
    ) -> tuple[Array, Tree]:
        for name, array in (("query", query), ("key", key), ("value", value)):
            check_floats(name, array, "total, heads, d_head")
        check_equal("value", "length", len(value), "key", len(key))
        lengths_q = _lengths("cu_seqlens_q", cu_seqlens_q, len(query))
        lengths_k = _lengths("cu_seqlens_k", cu_seqlens_k, len(key))
        check_equal("cu_seqlens_k", "length", len(lengths_k) + 1, "cu_seqlens_q", len(lengths_q) + 1)
        real_q, real_k = _real(lengths_q), _real(lengths_k)
        mask = (real_q[:, :, None] & real_k[:, None, :])[:, None]
        if self.causal:
            last = np.arange(real_q.shape[1])[:, None] + (lengths_k - lengths_q)[:, None, None, None]
            mask = mask & (np.arange(real_k.shape[1]) <= last)
        q, k, v = (
            _padded(rows, real).swapaxes(1, 2) for rows, real in ((query, real_q), (key, real_k), (value, real_k))
        )
        heads, cache = self.attention.forward(q, k, v, mask=mask)
        return heads.swapaxes(1, 2)[real_q], {"attention": cache, "real_q": real_q, "real_k": real_k}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[tuple[Array, Array, Array], Tree]:
        real_q, real_k = cache["real_q"], cache["real_k"]
        grad_heads = _padded(grad_output, real_q).swapaxes(1, 2)
        triple, grads = self.attention.backward(grad_heads, cache["attention"])
        grad_query, grad_key, grad_value = (each.swapaxes(1, 2) for each in triple)
        return (grad_query[real_q], grad_key[real_k], grad_value[real_k]), {"attention": grads}


def _lengths(name: str, cu_seqlens: Array, total: int) -> Array:
    """Return the lengths of the sequences."""
    check_tokens(name, cu_seqlens, "sequences + 1")
    starts: Array = cu_seqlens.astype(np.int64)
    lengths: Array = np.diff(starts)
    if len(starts) < 2 or starts[0] != 0 or starts[-1] != total or (lengths < 0).any():
        raise ValueError(
            f"{name} must rise from 0 to the number of rows, {total}, but it goes from {starts[0]} to {starts[-1]}"
            f"{' and falls on the way' if (lengths < 0).any() else ''}"
        )
    return lengths


def _real(lengths: Array) -> Array:
    """Return (batch, T): which places hold a row, once the sequences are padded to the longest."""
    real: Array = np.arange(lengths.max()) < lengths[:, None]
    return real


def _padded(rows: Array, real: Array) -> Array:
    check_grad(rows, (int(real.sum()), *rows.shape[1:]))
    padded: Array = np.zeros((*real.shape, *rows.shape[1:]), rows.dtype)
    padded[real] = rows
    return padded
