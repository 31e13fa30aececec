"""Scaled dot-product attention, and its multi-headed form."""

from __future__ import annotations

import math

import numpy as np

from npformer.activations import Softmax
from npformer.component import Array, Component, Tree
from npformer.dropout import Dropout, RandomSource
from npformer.linear import Linear
from npformer.shapes import (
    check_choice,
    check_count,
    check_equal,
    check_floats,
    check_grad,
    check_mask,
    check_number,
    check_part,
    check_width,
    make_generator,
)

MASKED_SCORE = -1e9


class ScaledDotProductAttention(Component):
    """The attention core (Vaswani et al. 2017, eq. 1).

        scores  = scale * query keyᵀ,  and -1e9 where the mask is 0
        weights = dropout(softmax(scores))
        output  = weights value

    Backward undoes this line by line, with D the softmax's Jacobian and 0 where a score was replaced:

        grad_value   = weightsᵀ grad_output
        grad_weights = grad_output valueᵀ
        grad_scores  = mask * D(dropout's gradient of grad_weights)
        grad_query   = scale * grad_scores key
        grad_key     = scale * grad_scoresᵀ query

    A fully masked row has equal scores, so it attends to all keys equally. Its value gradients are those of
    a mean; its scores were replaced, so query and key get no gradient from it. This is the only place where
    forgetting the mask in backward shows, since elsewhere a masked weight is exactly 0.

    Parameters
    ----------
    dropout : float
        Rate at which weights are dropped, in [0, 1).
    fully_masked : {"uniform", "zero"}
        "zero" makes the weights of a fully masked row 0, and with them its output and all its gradients.
    scale : float, optional
        1/√d_k if not given.

    `forward(query, key, value, mask=None, rng=None)` takes query (..., T_q, d_k), key (..., T_k, d_k) and
    value (..., T_k, d_v), and an integer or boolean mask that broadcasts to the scores (..., T_q, T_k),
    nonzero = may attend. `backward` returns the gradients of the three. The cache holds query, key, value,
    weights and mask (if there is one) by these names; the softmax's own output and the dropout mask are under
    "softmax" and "dropout".

    Raises
    ------
    ValueError
        If sizes disagree, or the mask does not broadcast to the scores or would enlarge them.
    TypeError
        If the mask is of floats: an additive mask is another convention.

    Examples
    --------
    >>> value = np.array([[1.0], [3.0]])
    >>> core = ScaledDotProductAttention()
    >>> core(np.zeros((1, 4)), np.zeros((2, 4)), value)
    array([[2.]])
    >>> core(np.zeros((1, 4)), np.zeros((2, 4)), value, mask=np.array([[0, 1]]))
    array([[3.]])
    """

    def __init__(self, dropout: float = 0.0, fully_masked: str = "uniform", scale: float | None = None):
        self.softmax = Softmax()
        self.dropout = Dropout(dropout)
        self.zero_fully_masked = check_choice("fully_masked", fully_masked, {"uniform": False, "zero": True})
        self.scale = scale if scale is None else check_number("scale", scale, -math.inf, open_low=True)

    def forward(
        self, query: Array, key: Array, value: Array, mask: Array | None = None, rng: RandomSource | None = None
    ) -> tuple[Array, Tree]:
        check_triple(query, key, value)
        cache: Tree = {"query": query, "key": key, "value": value}
        scores = (self._scale(query) * query) @ key.swapaxes(-1, -2)
        if mask is not None:
            cache["mask"] = check_mask(mask, scores.shape)
            scores = np.where(cache["mask"], scores, MASKED_SCORE)
        weights, cache["softmax"] = self.softmax.forward(scores)
        if mask is not None and self.zero_fully_masked:
            weights = weights * cache["mask"].any(-1, keepdims=True)
        cache["weights"], cache["dropout"] = self.dropout.forward(weights, rng=rng)
        return cache["weights"] @ value, cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[tuple[Array, Array, Array], Tree]:
        query, key, value, weights = cache["query"], cache["key"], cache["value"], cache["weights"]
        check_grad(grad_output, (*query.shape[:-1], value.shape[-1]))
        grad_value = weights.swapaxes(-1, -2) @ grad_output
        grad_weights = grad_output @ value.swapaxes(-1, -2)
        grad_weights, _ = self.dropout.backward(grad_weights, cache["dropout"])
        grad_scores, _ = self.softmax.backward(grad_weights, cache["softmax"])
        if "mask" in cache:  # this also covers rows that were set to zero: they are masked everywhere
            grad_scores = grad_scores * cache["mask"]
        grad_query = self._scale(query) * (grad_scores @ key)
        grad_key = grad_scores.swapaxes(-1, -2) @ (self._scale(query) * query)
        return (grad_query, grad_key, grad_value), {"softmax": {}, "dropout": {}}

    def _scale(self, query: Array) -> float:
        return 1 / math.sqrt(query.shape[-1]) if self.scale is None else self.scale


def attention(
    query: Array,
    key: Array,
    value: Array,
    mask: Array | None = None,
    dropout: Dropout | float | None = None,
    rng: RandomSource | None = None,
) -> tuple[Array, Array]:
    """Return the output of scaled dot-product attention, and its weights after dropout (p_attn).

    The function form of ScaledDotProductAttention, which says the shapes and the formula; dropout is a
    component or a rate.

    Examples
    --------
    >>> x = np.zeros((2, 4, 8))
    >>> output, p_attn = attention(x, x, x, mask=np.zeros((2, 4, 4), dtype=int))
    >>> p_attn[0, 0]
    array([0.25, 0.25, 0.25, 0.25])
    """
    rate = 0.0 if dropout is None else dropout
    rate = rate.p if isinstance(rate, Dropout) else rate
    output, cache = ScaledDotProductAttention(rate).forward(query, key, value, mask=mask, rng=rng)
    return output, cache["weights"]


class MultiHeadedAttention(Component):
    """Multi-head attention (Vaswani et al. 2017, section 3.2.2): four projections around the core.

        q, k, v = q_proj(query), k_proj(key), v_proj(value),  each cut into heads of d_model / num_heads
        output  = out_proj(the heads' attention, side by side)

    Backward goes the same way back. Cutting into heads is a reshape and a transpose, so its gradient is the
    same transpose and reshape undone. In self-attention one x is query, key and value: a fork, so that
    ``grad_x = grad_query + grad_key + grad_value``.

    Parameters
    ----------
    num_heads, d_model : int
        d_model must be a multiple of num_heads.
    dropout : float
        Rate at which the default core drops attention weights, in [0, 1).
    bias : bool
        Whether the projections have biases.
    attention : Component, optional
        Another core; by default ScaledDotProductAttention(dropout).
    rng : Generator, int or None
        For the initial weights, distributed as Linear says.

    `forward(query, key=None, value=None, mask=None, rng=None)`: query (batch, T_q, d_model) alone is
    self-attention, and `backward` returns one gradient; with key and value (batch, T_k, d_model) it returns
    three. The mask must broadcast to (batch, num_heads, T_q, T_k), nonzero = may attend; so a 3-D mask is
    one for each head, and a (batch, T_q, T_k) mask is written ``mask[:, None]`` (where batch equals
    num_heads the two cannot be told apart).

    Raises
    ------
    ValueError
        If d_model is no multiple of num_heads, one of key and value is missing, or sizes or the mask do not fit.
    TypeError
        If the mask is of floats: an additive mask is another convention.

    Examples
    --------
    >>> self_attention = MultiHeadedAttention(num_heads=2, d_model=8, rng=0)
    >>> output, cache = self_attention.forward(np.ones((1, 3, 8)))
    >>> output.shape, cache["attention"]["weights"].shape
    ((1, 3, 8), (1, 2, 3, 3))
    """

    def __init__(
        self,
        num_heads: int,
        d_model: int,
        dropout: float = 0.1,
        bias: bool = True,
        attention: Component | None = None,
        rng: np.random.Generator | int | None = None,
    ):
        self.num_heads = check_count("num_heads", num_heads)
        self.d_model = check_count("d_model", d_model)
        if d_model % num_heads:
            raise ValueError(
                f"d_model must be a multiple of num_heads, but d_model={d_model} and num_heads={num_heads}"
            )
        core = ScaledDotProductAttention(dropout) if attention is None else attention
        check_part("attention", core, Component)
        rng = make_generator(rng)
        self.q_proj = Linear(d_model, d_model, bias, rng)
        self.k_proj = Linear(d_model, d_model, bias, rng)
        self.v_proj = Linear(d_model, d_model, bias, rng)
        self.out_proj = Linear(d_model, d_model, bias, rng)
        self.attention = core

    def forward(
        self,
        query: Array,
        key: Array | None = None,
        value: Array | None = None,
        mask: Array | None = None,
        rng: RandomSource | None = None,
    ) -> tuple[Array, Tree]:
        if (key is None) != (value is None):
            missing = "key" if key is None else "value"
            raise ValueError(
                f"key and value must be given together, or neither for self-attention, but {missing} is None"
            )
        cache: Tree = {"is_self_attention": key is None}
        key, value = (query, query) if key is None or value is None else (key, value)
        for name, array in (("query", query), ("key", key), ("value", value)):
            check_floats(name, array, "batch, T, d_model")
            check_width(name, array, "d_model", self.d_model, self)
        check_triple(query, key, value)
        q, cache["q_proj"] = self.q_proj.forward(query)
        k, cache["k_proj"] = self.k_proj.forward(key)
        v, cache["v_proj"] = self.v_proj.forward(value)
        heads, cache["attention"] = self.attention.forward(
            self._split(q), self._split(k), self._split(v), mask=mask, rng=rng
        )
        output, cache["out_proj"] = self.out_proj.forward(self._merge(heads))
        return output, cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array | tuple[Array, Array, Array], Tree]:
        grads: Tree = {}
        grad_merged, grads["out_proj"] = self.out_proj.backward(grad_output, cache["out_proj"])
        (grad_q, grad_k, grad_v), grads["attention"] = self.attention.backward(
            self._split(grad_merged), cache["attention"]
        )
        grad_value, grads["v_proj"] = self.v_proj.backward(self._merge(grad_v), cache["v_proj"])
        grad_key, grads["k_proj"] = self.k_proj.backward(self._merge(grad_k), cache["k_proj"])
        grad_query, grads["q_proj"] = self.q_proj.backward(self._merge(grad_q), cache["q_proj"])
        if cache["is_self_attention"]:
            return grad_query + grad_key + grad_value, grads
        return (grad_query, grad_key, grad_value), grads

    def _split(self, x: Array) -> Array:
        """(batch, T, d_model) to (batch, num_heads, T, d_head)."""
        B, T, d_model = x.shape
        return x.reshape(B, T, self.num_heads, d_model // self.num_heads).transpose(0, 2, 1, 3)

    def _merge(self, x: Array) -> Array:
        """(batch, num_heads, T, d_head) to (batch, T, d_model)."""
        B, H, T, d_head = x.shape
        return x.transpose(0, 2, 1, 3).reshape(B, T, H * d_head)


def check_triple(query: Array, key: Array, value: Array) -> None:
    """Check that query (..., T_q, d_k), key (..., T_k, d_k) and value (..., T_k, d_v) go together."""
    check_floats("query", query, "..., T_q, d_k")
    check_floats("key", key, "..., T_k, d_k")
    check_floats("value", value, "..., T_k, d_v")
    check_equal("key", "d_k", key.shape[-1], "query", query.shape[-1])
    check_equal("key", "leading axes", key.shape[:-2], "query", query.shape[:-2])
    check_equal("value", "leading axes", value.shape[:-2], "query", query.shape[:-2])
    check_equal("value", "T_k", value.shape[-2], "key", key.shape[-2])
