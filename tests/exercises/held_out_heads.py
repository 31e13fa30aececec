"""Held-out mistakes in multi-head attention."""

from __future__ import annotations

from held_out_form import held_out

from npformer import MultiHeadedAttention
from npformer.component import Array, Tree

OfAttention = tuple[Array | tuple[Array, Array, Array], Tree]


def _split(component: MultiHeadedAttention, x: Array) -> Array:
    B, T, d_model = x.shape
    return x.reshape(B, T, component.num_heads, d_model // component.num_heads).transpose(0, 2, 1, 3)


def _merge(x: Array) -> Array:
    B, H, T, d_head = x.shape
    return x.transpose(0, 2, 1, 3).reshape(B, T, H * d_head)


def _grads_of_heads(component: MultiHeadedAttention, grad_output: Array, cache: Tree) -> tuple[Array, Array, Array]:
    """The gradients of q, k and v, in heads."""
    grad_merged, _ = component.out_proj.backward(grad_output, cache["out_proj"])
    (grad_q, grad_k, grad_v), _ = component.attention.backward(_split(component, grad_merged), cache["attention"])
    return grad_q, grad_k, grad_v


def _grads_of_inputs(component: MultiHeadedAttention, grad_output: Array, cache: Tree) -> tuple[Array, Array, Array]:
    """The gradients of query, key and value before they are added up."""
    grad_q, grad_k, grad_v = _grads_of_heads(component, grad_output, cache)
    return (
        component.q_proj.backward(_merge(grad_q), cache["q_proj"])[0],
        component.k_proj.backward(_merge(grad_k), cache["k_proj"])[0],
        component.v_proj.backward(_merge(grad_v), cache["v_proj"])[0],
    )


@held_out(
    MultiHeadedAttention,
    ("query", "q_proj.weight", "q_proj.bias"),
    r"head|merg|split",
    r"transpos|reshap|permut|order|axes|axis|swap|layout|scrambl",
)
def heads_merged_without_transpose(component: MultiHeadedAttention, grad_output: Array, cache: Tree) -> OfAttention:
    """The heads of grad_q are merged by a reshape alone: the transpose before it is missing."""
    grad_inputs, grads = component.backward(grad_output, cache)
    grad_q = _grads_of_heads(component, grad_output, cache)[0]
    B, H, T, d_head = grad_q.shape
    grad_query, grads_of_q = component.q_proj.backward(grad_q.reshape(B, T, H * d_head), cache["q_proj"])
    grads = {**grads, "q_proj": grads_of_q}
    if isinstance(grad_inputs, tuple):
        return (grad_query, *grad_inputs[1:]), grads
    _, grad_key, grad_value = _grads_of_inputs(component, grad_output, cache)
    return grad_query + grad_key + grad_value, grads


@held_out(
    MultiHeadedAttention,
    ("query",),
    r"fork|three|self.attention|grad_(query|key|value)|add(ed)? up|\bsum",
    r"averag|\bmean\b|divid|third|/ ?3\b|0\.33|factor",
)
def fork_averaged(component: MultiHeadedAttention, grad_output: Array, cache: Tree) -> OfAttention:
    """In self-attention the gradients of query, key and value are averaged at the fork; they should add up."""
    grad_inputs, grads = component.backward(grad_output, cache)
    return (grad_inputs if isinstance(grad_inputs, tuple) else grad_inputs / 3), grads


@held_out(
    MultiHeadedAttention,
    ("query",),
    r"grad_value|value('s)? (path|gradient)|path .{0,20}value|v_proj",
    r"miss|forgot|left out|lost|lack|not (added|at all|in the sum)|coefficient|key.{0,20}twice",
)
def fork_key_twice(component: MultiHeadedAttention, grad_output: Array, cache: Tree) -> OfAttention:
    """In self-attention grad_key is added twice at the fork, and grad_value not at all."""
    grad_inputs, grads = component.backward(grad_output, cache)
    if isinstance(grad_inputs, tuple):
        return grad_inputs, grads
    grad_query, grad_key, _ = _grads_of_inputs(component, grad_output, cache)
    return grad_query + grad_key + grad_key, grads


@held_out(
    MultiHeadedAttention,
    ("out_proj.weight",),
    r"transposed|(is|its) (the )?transpose|transpose of|\.T\b|ᵀ|flipped|wrong way|rows and columns|swapped axes",
)
def out_proj_weight_transposed(component: MultiHeadedAttention, grad_output: Array, cache: Tree) -> OfAttention:
    """The gradient of out_proj's weight is transposed, which fits because the weight is square."""
    grad_inputs, grads = component.backward(grad_output, cache)
    return grad_inputs, {**grads, "out_proj": {**grads["out_proj"], "weight": grads["out_proj"]["weight"].T}}


@held_out(
    MultiHeadedAttention,
    ("k_proj.weight", "k_proj.bias", "v_proj.weight", "v_proj.bias"),
    r"k_proj|\bkeys?\b",
    r"v_proj|\bvalues?\b",
    r"swap|exchang|mix|each other|interchang|belong|place|other's|confus|instead",
)
def k_and_v_exchanged(component: MultiHeadedAttention, grad_output: Array, cache: Tree) -> OfAttention:
    """The gradients of k_proj and v_proj are filed under each other's names."""
    grad_inputs, grads = component.backward(grad_output, cache)
    return grad_inputs, {**grads, "k_proj": grads["v_proj"], "v_proj": grads["k_proj"]}


@held_out(
    MultiHeadedAttention,
    ("query",),
    r"k_proj|wrong (weight|projection|matrix|layer)|another (projection|weight)|key('s)? (projection|weight)",
    r"q_proj|query",
)
def query_through_k_proj(component: MultiHeadedAttention, grad_output: Array, cache: Tree) -> OfAttention:
    """The query's path goes back through the weight of k_proj instead of that of q_proj."""
    grad_inputs, grads = component.backward(grad_output, cache)
    grad_q = _grads_of_heads(component, grad_output, cache)[0]
    grad_query, _ = component.k_proj.backward(_merge(grad_q), cache["q_proj"])
    if isinstance(grad_inputs, tuple):
        return (grad_query, *grad_inputs[1:]), grads
    _, grad_key, grad_value = _grads_of_inputs(component, grad_output, cache)
    return grad_query + grad_key + grad_value, grads
