"""Multi-head attention (Vaswani et al. 2017, section 3.2.2): write the backward of the whole.

Forward projects query, key and value, cuts each into heads, attends in each head, puts the heads side by side again,
and projects once more:

    q, k, v = q_proj(query), k_proj(key), v_proj(value)
    heads   = attention(split(q), split(k), split(v))
    output  = out_proj(merge(heads))

With query alone it is self-attention: the same array is query, key and value, and cache["is_self_attention"] is True.

Backward is given grad_output, the gradient of output, and the cache that forward returned. It returns the gradients of
the inputs: a tuple (grad_query, grad_key, grad_value), or in self-attention one array, the gradient of query. With it
goes the tree of the gradients of the parameters, which has the names of the children; attention has no parameters:

    {"q_proj": ..., "k_proj": ..., "v_proj": ..., "out_proj": ..., "attention": {}}

Each child has a right backward, which you call with the gradient of its output and its own part of the cache, such as
cache["q_proj"]. It returns the gradient of its input and the tree of its parameters' gradients, ready to be put under
its name. That of attention has three inputs and returns ((grad_q, grad_k, grad_v), {...}), all of them cut into heads.

Shapes: query and output (batch, T_q, d_model); key and value (batch, T_k, d_model); cut into heads (batch, num_heads,
T, d_model / num_heads). split and merge take one form to the other.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import cast

import numpy as np

from npformer import Linear, ScaledDotProductAttention
from npformer import MultiHeadedAttention as RightAttention
from npformer.component import Array, Component, Tree
from npformer.dropout import RandomSource
from npformer.exercises.task import BackwardTask, Term
from npformer.gradcheck import Case, Sizes, make_case
from npformer.mistakes.attention import with_scale
from npformer.mistakes.catalogue import Gradients


class MultiHeadedAttention(Component):
    """Has the attributes num_heads, q_proj, k_proj, v_proj, out_proj and attention."""

    num_heads: int
    q_proj: Linear
    k_proj: Linear
    v_proj: Linear
    out_proj: Linear
    attention: ScaledDotProductAttention

    def split(self, x: Array) -> Array:
        B, T, d_model = x.shape
        return x.reshape(B, T, self.num_heads, d_model // self.num_heads).transpose(0, 2, 1, 3)

    def merge(self, x: Array) -> Array:
        B, H, T, d_head = x.shape
        return x.transpose(0, 2, 1, 3).reshape(B, T, H * d_head)

    def forward(
        self,
        query: Array,
        key: Array | None = None,
        value: Array | None = None,
        mask: Array | None = None,
        rng: RandomSource | None = None,
    ) -> tuple[Array, Tree]:
        cache: Tree = {"is_self_attention": key is None}
        key, value = (query, query) if key is None or value is None else (key, value)
        q, cache["q_proj"] = self.q_proj.forward(query)
        k, cache["k_proj"] = self.k_proj.forward(key)
        v, cache["v_proj"] = self.v_proj.forward(value)
        by_head = self.split(q), self.split(k), self.split(v)
        heads, cache["attention"] = self.attention.forward(*by_head, mask=mask, rng=rng)
        output, cache["out_proj"] = self.out_proj.forward(self.merge(heads))
        return output, cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array | tuple[Array, Array, Array], Tree]:
        """Return grad_query, or (grad_query, grad_key, grad_value), and the tree of the children's gradients."""
        grads: Tree = {}
        grad_merged, grads["out_proj"] = self.out_proj.backward(grad_output, cache["out_proj"])
        grad_heads = self.split(grad_merged)
        (grad_q, grad_k, grad_v), grads["attention"] = self.attention.backward(grad_heads, cache["attention"])
        grad_query, grads["q_proj"] = self.q_proj.backward(self.merge(grad_q), cache["q_proj"])
        grad_key, grads["k_proj"] = self.k_proj.backward(self.merge(grad_k), cache["k_proj"])
        grad_value, grads["v_proj"] = self.v_proj.backward(self.merge(grad_v), cache["v_proj"])
        if cache["is_self_attention"]:  # one array was all three, so its gradients add up
            return grad_query + grad_key + grad_value, grads
        return (grad_query, grad_key, grad_value), grads


def make(sizes: Sizes, rng: np.random.Generator) -> Case:
    return make_case(f"MultiHeadedAttention, {'cross' if sizes.T_q < sizes.T_k else 'self'}", sizes, rng)


def terms(case: Case, cache: Tree, grad_output: Array) -> dict[str, tuple[Term, ...]]:
    component = cast(RightAttention, case.component)
    (grad_query, grad_key, grad_value), _ = component.backward(grad_output, cache | {"is_self_attention": False})
    residual = Term("grad_output", "query → output, past the attention: the parent's residual path", 0, grad_output)
    if not cache["is_self_attention"]:
        by_query, by_key = (f"{name} → {name[0]} → scores → weights → heads → output" for name in ("query", "key"))
        by_value = "value → v → heads → output"
        return {
            "query": (Term("grad_query", by_query, 1, grad_query), residual),
            "key": (Term("grad_key", by_key, 1, grad_key), Term("grad_value", by_value, 0, grad_value)),
            "value": (Term("grad_value", by_value, 1, grad_value), Term("grad_key", by_key, 0, grad_key)),
        }
    return {
        "query": (
            Term("grad_query", "x → query → q → scores → weights → heads → output", 1, grad_query),
            Term("grad_key", "x → key → k → scores → weights → heads → output", 1, grad_key),
            Term("grad_value", "x → value → v → heads → output", 1, grad_value),
            residual,
        )
    }


def regions(case: Case, cache: Tree) -> dict[str, dict[str, Array]]:
    hidden = ~cache["attention"]["mask"].any(-1)[:, 0, :, None]
    return {"query": {"queries that may attend to nothing": np.broadcast_to(hidden, case.inputs[0].shape)}}


def _returned(three: Iterable[Array], grads: Tree, cache: Tree) -> Gradients:
    grad_query, grad_key, grad_value = three
    if cache["is_self_attention"]:
        return grad_query + grad_key + grad_value, grads
    return (grad_query, grad_key, grad_value), grads


def _identical(linear: Linear) -> Linear:
    """The same map with the identity for its weight, so that gradients pass it unchanged."""
    return linear.with_parameters({"weight": np.eye(len(linear.weight)), "bias": linear.bias})


def _weighted(attention: RightAttention, grad_output: Array, cache: Tree, *factors: float) -> Gradients:
    """In self-attention, the three paths with a factor each."""
    three, grads = attention.backward(grad_output, cache | {"is_self_attention": False})
    if cache["is_self_attention"]:
        three = tuple(factor * grad for factor, grad in zip(factors, three, strict=True))
    return _returned(three, grads, cache)


def query_path_missing(attention: RightAttention, grad_output: Array, cache: Tree) -> Gradients:
    """In self-attention the path of x through the query is left out."""
    return _weighted(attention, grad_output, cache, 0, 1, 1)


def key_path_missing(attention: RightAttention, grad_output: Array, cache: Tree) -> Gradients:
    """In self-attention the path of x through the key is left out."""
    return _weighted(attention, grad_output, cache, 1, 0, 1)


def value_path_missing(attention: RightAttention, grad_output: Array, cache: Tree) -> Gradients:
    """In self-attention the path of x through the value is left out."""
    return _weighted(attention, grad_output, cache, 1, 1, 0)


def fork_left_to_the_caller(attention: RightAttention, grad_output: Array, cache: Tree) -> Gradients:
    """In self-attention three gradients are returned too, though forward was given one input."""
    return attention.backward(grad_output, cache | {"is_self_attention": False})


def out_proj_skipped(attention: RightAttention, grad_output: Array, cache: Tree) -> Gradients:
    """grad_output is cut into heads as it is, without going back through out_proj."""
    twin = copy.copy(attention)
    twin.out_proj = _identical(attention.out_proj)
    return twin.backward(grad_output, cache)


def input_projections_skipped(attention: RightAttention, grad_output: Array, cache: Tree) -> Gradients:
    """The gradients of q, k and v are returned for those of query, key and value, which lie behind the projections."""
    twin = copy.copy(attention)
    twin.q_proj, twin.k_proj, twin.v_proj = map(_identical, (attention.q_proj, attention.k_proj, attention.v_proj))
    return twin.backward(grad_output, cache)


def scaled_again(attention: RightAttention, grad_output: Array, cache: Tree) -> Gradients:
    """The gradients of q and k are divided by √d_head, which the attention core has done already."""
    twin = copy.copy(attention)
    twin.attention = with_scale(attention.attention, attention.num_heads / attention.d_model)
    return twin.backward(grad_output, cache)


def residual_inside(attention: RightAttention, grad_output: Array, cache: Tree) -> Gradients:
    """A residual path is added to the query's gradient, though it belongs to the connection around this attention."""
    (grad_query, grad_key, grad_value), grads = attention.backward(grad_output, cache | {"is_self_attention": False})
    return _returned((grad_query + grad_output, grad_key, grad_value), grads, cache)


TASK = BackwardTask(
    name="multi_head",
    title="Multi-head attention, backward",
    statement=__doc__,
    solution=MultiHeadedAttention,
    component=RightAttention,
    make=make,
    points=7,
    paths={
        "query": "output → merged heads → heads → weights → scores → q → query; in self-attention also by k and v",
        "key": "output → merged heads → heads → weights → scores → k → key",
        "value": "output → merged heads → heads → v → value",
        "q_proj.weight": "output → merged heads → heads → weights → scores → q → q_proj.weight",
        "q_proj.bias": "output → merged heads → heads → weights → scores → q → q_proj.bias",
        "k_proj.weight": "output → merged heads → heads → weights → scores → k → k_proj.weight",
        "k_proj.bias": "output → merged heads → heads → weights → scores → k → k_proj.bias",
        "v_proj.weight": "output → merged heads → heads → v → v_proj.weight",
        "v_proj.bias": "output → merged heads → heads → v → v_proj.bias",
        "out_proj.weight": "output → out_proj.weight",
        "out_proj.bias": "output → out_proj.bias",
    },
    terms=terms,
    regions=regions,
    wrong=(
        query_path_missing,
        key_path_missing,
        value_path_missing,
        fork_left_to_the_caller,
        out_proj_skipped,
        input_projections_skipped,
        scaled_again,
        residual_inside,
    ),
    hints=(
        "Read forward from its last line to its first. Each line is undone by one line of backward, and each child's "
        "backward is called once.",
        "split and merge are a reshape and a transpose: they compute nothing, they only move entries. So the gradient "
        "of each only moves entries too, back to where they came from.",
        "attention.backward wants the gradient of heads, cut into heads; a projection's backward wants the gradient of "
        "its output, with the heads side by side. split and merge are each other's inverse.",
        "In self-attention, count the ways in which one array reaches output. What happens to gradients at a fork?",
    ),
    derivation="""
    Forward is a chain but for the fork at its beginning, so backward is the chain from its end:

        grad_merged            = out_proj.backward(grad_output)
        grad_heads             = split(grad_merged)                    since split undoes merge
        grad_q, grad_k, grad_v = attention.backward(grad_heads)        each cut into heads
        grad_query             = q_proj.backward(merge(grad_q))        since merge undoes split
        grad_key               = k_proj.backward(merge(grad_k))
        grad_value             = v_proj.backward(merge(grad_v))

    A transpose or reshape is a permutation P of the entries. The gradient is multiplied by Pᵀ, the inverse of P.

    In self-attention x = query = key = value. output depends on x through all three, and the chain rule adds them up:

        grad_x = grad_query + grad_key + grad_value
    """,
)
