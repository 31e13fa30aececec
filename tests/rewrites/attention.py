"""The attention core and multi-head attention in other forms."""

from typing import Any

import numpy as np

from npformer import MultiHeadedAttention, ScaledDotProductAttention
from npformer.component import Array, Tree
from rewrites.registry import backward_of, forward_of

Gradients = tuple[tuple[Array, Array, Array], Tree]
NONE: Tree = {"softmax": {}, "dropout": {}}  # the core's children have no parameters


def _dot(left: Array, right: Array) -> Array:
    dots: Array = (left * right).sum(-1, keepdims=True)
    return dots


def _sliced(cache: Tree, index: Any) -> Tree:
    """The core's cache for some of its leading axes."""
    scores = cache["weights"].shape
    broadcast = {"mask": np.broadcast_to(cache["mask"], scores)} if "mask" in cache else {}
    return _each(cache | broadcast, lambda leaf: leaf[index])


def _each(cache: Tree, change: Any) -> Tree:
    return {name: _each(leaf, change) if isinstance(leaf, dict) else change(leaf) for name, leaf in cache.items()}


@backward_of(ScaledDotProductAttention)
def head_by_head(core: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Gradients:
    gradients = tuple(np.empty_like(cache[name]) for name in ("query", "key", "value"))
    for head in np.ndindex(grad_output.shape[:-2]):
        of_head, _ = ScaledDotProductAttention.backward(core, grad_output[head], _sliced(cache, head))
        for whole, gradient in zip(gradients, of_head, strict=True):
            whole[head] = gradient
    grad_query, grad_key, grad_value = gradients
    return (grad_query, grad_key, grad_value), NONE


@backward_of(ScaledDotProductAttention)
def query_by_query(core: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Gradients:
    grad_query, grad_key, grad_value = (np.zeros_like(cache[name]) for name in ("query", "key", "value"))
    for index in np.ndindex(grad_output.shape[:-1]):
        head, row = index[:-1], _sliced({name: cache[name] for name in cache if name not in ("key", "value")}, index)
        key, value = cache["key"][head], cache["value"][head]
        grad_value[head] += row["weights"][:, None] * grad_output[index]
        grad_weights, _ = core.dropout.backward(value @ grad_output[index], row["dropout"])
        y = row["softmax"]["output"]
        grad_scores = y * (grad_weights - np.dot(grad_weights, y)) * row.get("mask", 1)
        grad_query[index] = core._scale(key) * (grad_scores @ key)
        grad_key[head] += core._scale(key) * (grad_scores[:, None] * row["query"])
    return (grad_query, grad_key, grad_value), NONE


@backward_of(ScaledDotProductAttention)
def delta_from_the_output(core: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Gradients:
    """Σ_j grad_weights_j y_j = Σ_j (grad_output · value_j) weights_j = grad_output · output, with dropout as well."""
    query, key, value, weights = cache["query"], cache["key"], cache["value"], cache["weights"]
    delta = _dot(grad_output, weights @ value)
    grad_weights, _ = core.dropout.backward(grad_output @ value.swapaxes(-1, -2), cache["dropout"])
    grad_scores = core._scale(query) * cache["softmax"]["output"] * (grad_weights - delta) * cache.get("mask", 1)
    grad_value = weights.swapaxes(-1, -2) @ grad_output
    return (grad_scores @ key, grad_scores.swapaxes(-1, -2) @ query, grad_value), NONE


@backward_of(ScaledDotProductAttention)
def keys_in_reverse(core: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Gradients:
    turned = _each(cache, lambda leaf: leaf[..., ::-1])
    turned |= {"query": cache["query"], "key": cache["key"][..., ::-1, :], "value": cache["value"][..., ::-1, :]}
    (grad_query, grad_key, grad_value), grads = ScaledDotProductAttention.backward(core, grad_output, turned)
    return (grad_query, grad_key[..., ::-1, :], grad_value[..., ::-1, :]), grads


@backward_of(ScaledDotProductAttention)
def keys_in_blocks(core: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Gradients:
    query, key, value = cache["query"], cache["key"], cache["value"]
    blocks = [slice(start, start + 2) for start in range(0, key.shape[-2], 2)]
    scaled = core._scale(query) * query
    y, grad_weights = {}, {}
    delta: Array = np.zeros(1, query.dtype)
    for index, block in enumerate(blocks):
        dropout_cache = {name: mask[..., block] for name, mask in cache["dropout"].items()}
        grad_block, _ = core.dropout.backward(grad_output @ value[..., block, :].swapaxes(-1, -2), dropout_cache)
        y[index], grad_weights[index] = cache["softmax"]["output"][..., block], grad_block
        delta = delta + _dot(y[index], grad_block)
    grad_query, grad_key, grad_value = (np.zeros_like(x) for x in (query, key, value))
    mask = np.broadcast_to(cache.get("mask", 1), cache["weights"].shape)
    for index, block in enumerate(blocks):
        grad_scores = y[index] * (grad_weights[index] - delta) * mask[..., block]
        grad_query += core._scale(query) * (grad_scores @ key[..., block, :])
        grad_key[..., block, :] = grad_scores.swapaxes(-1, -2) @ scaled
        grad_value[..., block, :] = cache["weights"][..., block].swapaxes(-1, -2) @ grad_output
    return (grad_query, grad_key, grad_value), NONE


@backward_of(ScaledDotProductAttention)
def scaled_query_and_key(core: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Gradients:
    root = core._scale(cache["query"]) ** 0.5
    scaled = cache | {"query": root * cache["query"], "key": root * cache["key"]}
    grad_weights, _ = core.dropout.backward(grad_output @ cache["value"].swapaxes(-1, -2), cache["dropout"])
    grad_scores = core.softmax.backward(grad_weights, cache["softmax"])[0] * cache.get("mask", 1)
    grad_query = root * (grad_scores @ scaled["key"])
    grad_key = root * (grad_scores.swapaxes(-1, -2) @ scaled["query"])
    return (grad_query, grad_key, cache["weights"].swapaxes(-1, -2) @ grad_output), NONE


@backward_of(ScaledDotProductAttention)
def by_einsum(core: ScaledDotProductAttention, grad_output: Array, cache: Tree) -> Gradients:
    query, key, value, y = cache["query"], cache["key"], cache["value"], cache["softmax"]["output"]
    grad_weights, _ = core.dropout.backward(np.einsum("...qd,...kd->...qk", grad_output, value), cache["dropout"])
    delta = np.einsum("...qk,...qk->...q", grad_weights, y)[..., None]
    grad_scores = (y * grad_weights - y * delta) * cache.get("mask", 1)
    grad_query = np.einsum("...qk,...kd->...qd", grad_scores, core._scale(query) * key)
    grad_key = np.einsum("...qk,...qd->...kd", grad_scores, core._scale(query) * query)
    return (grad_query, grad_key, np.einsum("...qk,...qd->...kd", cache["weights"], grad_output)), NONE


@forward_of(ScaledDotProductAttention)
def values_in_reverse(core: ScaledDotProductAttention, *inputs: Any, **options: Any) -> tuple[Any, Tree]:
    _, cache = ScaledDotProductAttention.forward(core, *inputs, **options)
    weights, value = cache["weights"], cache["value"]
    terms = (weights[..., key, None] * value[..., key, None, :] for key in reversed(range(value.shape[-2])))
    return sum(terms), cache


@backward_of(MultiHeadedAttention)
def packed_projections(attention: MultiHeadedAttention, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    projections = {name: getattr(attention, name) for name in ("q_proj", "k_proj", "v_proj")}
    grads, gradients = _outer_steps(attention, grad_output, cache)
    if not cache["is_self_attention"]:
        return MultiHeadedAttention.backward(attention, grad_output, cache)
    packed_weight = np.concatenate([projection.weight for projection in projections.values()])
    packed = np.concatenate([attention._merge(gradient) for gradient in gradients], axis=-1)
    rows, x = packed.reshape(-1, packed.shape[-1]), cache["q_proj"]["x"]
    grad_weights = np.split(rows.T @ x.reshape(-1, x.shape[-1]), 3)
    grad_biases = np.split(rows.sum(0), 3)
    for name, weight, bias in zip(projections, grad_weights, grad_biases, strict=True):
        grads[name] = {"weight": weight, "bias": bias}
    return packed @ packed_weight, grads


def _outer_steps(attention: MultiHeadedAttention, grad_output: Array, cache: Tree) -> tuple[Tree, Any]:
    """Backward through out_proj and the core."""
    grad_merged, out_grads = attention.out_proj.backward(grad_output, cache["out_proj"])
    gradients, core_grads = attention.attention.backward(attention._split(grad_merged), cache["attention"])
    return {"out_proj": out_grads, "attention": core_grads}, gradients


@backward_of(MultiHeadedAttention)
def projections_by_einsum(attention: MultiHeadedAttention, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    d_model, H = attention.d_model, attention.num_heads
    grads, (grad_q, grad_k, grad_v) = _outer_steps(attention, grad_output, cache)
    inputs = {}
    for name, grad in (("v_proj", grad_v), ("k_proj", grad_k), ("q_proj", grad_q)):
        weight = getattr(attention, name).weight.reshape(H, d_model // H, d_model)
        grad_weight = np.einsum("bhtk,bti->hki", grad, cache[name]["x"]).reshape(d_model, d_model)
        grads[name] = {"weight": grad_weight, "bias": np.einsum("bhtk->hk", grad).reshape(-1)}
        inputs[name] = np.einsum("bhtk,hki->bti", grad, weight)
    if cache["is_self_attention"]:
        return inputs["v_proj"] + inputs["k_proj"] + inputs["q_proj"], grads
    return (inputs["q_proj"], inputs["k_proj"], inputs["v_proj"]), grads


@backward_of(MultiHeadedAttention)
def inputs_head_by_head(attention: MultiHeadedAttention, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    _, grads = MultiHeadedAttention.backward(attention, grad_output, cache)
    _, gradients = _outer_steps(attention, grad_output, cache)
    d_head = attention.d_model // attention.num_heads
    inputs = []
    for projection, grad in zip((attention.q_proj, attention.k_proj, attention.v_proj), gradients, strict=True):
        rows = (slice(head * d_head, (head + 1) * d_head) for head in range(attention.num_heads))
        inputs.append(sum(grad[:, head] @ projection.weight[part] for head, part in enumerate(rows)))
    return inputs[0] + (inputs[1] + inputs[2]) if cache["is_self_attention"] else tuple(inputs), grads
