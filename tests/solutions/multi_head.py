"""Other ways to write the backward of multi-head attention."""

from functools import reduce
from typing import Any

import numpy as np

from npformer.component import Array, Tree, add_trees
from npformer.exercises.tasks.multi_head import MultiHeadedAttention
from solutions.registry import solves

Gradients = tuple[Any, Tree]
LETTERS = ("q", "k", "v")


def linear_backward(weight: Array, grad: Array, x: Array) -> tuple[Array, Tree]:
    """A linear map's backward, written out."""
    return grad @ weight, {"weight": np.einsum("bto,bti->oi", grad, x), "bias": grad.sum((0, 1))}


@solves("multi_head")
def reshapes_written_out(self: MultiHeadedAttention, grad_output: Array, cache: Tree) -> Gradients:
    B, T, d_model = grad_output.shape
    H = self.num_heads
    grad_merged, out_grads = self.out_proj.backward(grad_output, cache["out_proj"])
    grad_heads = np.swapaxes(grad_merged.reshape(B, T, H, d_model // H), 1, 2)
    (grad_q, grad_k, grad_v), _ = self.attention.backward(grad_heads, cache["attention"])
    merged = [np.swapaxes(grad, 1, 2).reshape(B, -1, d_model) for grad in (grad_q, grad_k, grad_v)]
    grad_query, q_grads = self.q_proj.backward(merged[0], cache["q_proj"])
    grad_key, k_grads = self.k_proj.backward(merged[1], cache["k_proj"])
    grad_value, v_grads = self.v_proj.backward(merged[2], cache["v_proj"])
    grads = {"q_proj": q_grads, "k_proj": k_grads, "v_proj": v_grads, "out_proj": out_grads}
    if not cache["is_self_attention"]:
        return (grad_query, grad_key, grad_value), grads
    return grad_value + (grad_key + grad_query), grads


@solves("multi_head")
def heads_cut_by_slices(self: MultiHeadedAttention, grad_output: Array, cache: Tree) -> Gradients:
    grads: Tree = {}
    grad_merged, grads["out_proj"] = self.out_proj.backward(grad_output, cache["out_proj"])
    size = grad_merged.shape[-1] // self.num_heads
    slices = [grad_merged[:, :, head * size : (head + 1) * size] for head in range(self.num_heads)]
    by_head, grads["attention"] = self.attention.backward(np.stack(slices, axis=1), cache["attention"])
    inputs = []
    for letter, grad in zip(LETTERS, by_head, strict=True):
        side_by_side = np.concatenate([grad[:, head] for head in range(self.num_heads)], axis=-1)
        name = f"{letter}_proj"
        grad_input, grads[name] = getattr(self, name).backward(side_by_side, cache[name])
        inputs.append(grad_input)
    return sum(inputs) if cache["is_self_attention"] else tuple(inputs), grads


@solves("multi_head")
def einsum_throughout(self: MultiHeadedAttention, grad_output: Array, cache: Tree) -> Gradients:
    """out_proj's weight is cut into heads instead of the gradient."""
    H = self.num_heads
    weight = self.out_proj.weight.reshape(len(self.out_proj.weight), H, -1)
    grad_heads = np.einsum("bto,ohd->bhtd", grad_output, weight)
    out_x = cache["out_proj"]["x"]
    grads: Tree = {
        "out_proj": {"weight": np.einsum("bto,bti->oi", grad_output, out_x), "bias": np.einsum("bto->o", grad_output)}
    }
    by_head, _ = self.attention.backward(grad_heads, cache["attention"])
    inputs = {}
    for letter, grad in zip(LETTERS, by_head, strict=True):
        projection, x = getattr(self, f"{letter}_proj"), cache[f"{letter}_proj"]["x"]
        d_model = x.shape[-1]
        inputs[letter] = np.einsum("bhtd,hdi->bti", grad, projection.weight.reshape(H, -1, d_model))
        grads[f"{letter}_proj"] = {
            "weight": np.einsum("bhtd,bti->hdi", grad, x).reshape(d_model, d_model),
            "bias": np.einsum("bhtd->hd", grad).reshape(d_model),
        }
    if cache["is_self_attention"]:
        return inputs["q"] + inputs["k"] + inputs["v"], grads
    return tuple(inputs.values()), grads


@solves("multi_head")
def core_written_out(self: MultiHeadedAttention, grad_output: Array, cache: Tree) -> Gradients:
    core, kept = self.attention, cache["attention"]
    grad_merged, out_grads = linear_backward(self.out_proj.weight, grad_output, cache["out_proj"]["x"])
    grad_heads = self.split(grad_merged)
    scale = kept["query"].shape[-1] ** -0.5
    y = kept["softmax"]["output"]
    grad_v = np.einsum("bhqk,bhqd->bhkd", kept["weights"], grad_heads)
    grad_weights = np.einsum("bhqd,bhkd->bhqk", grad_heads, kept["value"])
    grad_y = np.where(kept["dropout"]["mask"], grad_weights / (1 - core.dropout.p), 0)
    grad_scores = np.where(kept["mask"], y * (grad_y - (grad_y * y).sum(-1, keepdims=True)), 0) * scale
    grad_q = np.einsum("bhqk,bhkd->bhqd", grad_scores, kept["key"])
    grad_k = np.einsum("bhqk,bhqd->bhkd", grad_scores, kept["query"])
    grad_query, q_grads = linear_backward(self.q_proj.weight, self.merge(grad_q), cache["q_proj"]["x"])
    grad_key, k_grads = linear_backward(self.k_proj.weight, self.merge(grad_k), cache["k_proj"]["x"])
    grad_value, v_grads = linear_backward(self.v_proj.weight, self.merge(grad_v), cache["v_proj"]["x"])
    grads = {"out_proj": out_grads, "q_proj": q_grads, "k_proj": k_grads, "v_proj": v_grads, "attention": {}}
    if cache["is_self_attention"]:
        return grad_query + grad_key + grad_value, grads
    return (grad_query, grad_key, grad_value), grads


@solves("multi_head")
def softmax_by_its_jacobian(self: MultiHeadedAttention, grad_output: Array, cache: Tree) -> Gradients:
    kept = cache["attention"]
    grad_merged, out_grads = self.out_proj.backward(grad_output, cache["out_proj"])
    grad_heads = self.split(grad_merged)
    y = kept["softmax"]["output"]
    jacobian = y[..., :, None] * (np.eye(y.shape[-1]) - y[..., None, :])  # of each row
    grad_y = grad_heads @ np.swapaxes(kept["value"], 2, 3) * kept["dropout"]["mask"] / (1 - self.attention.dropout.p)
    grad_scores = (jacobian @ grad_y[..., None])[..., 0] * kept["mask"] / np.sqrt(kept["key"].shape[-1])
    by_head = (
        grad_scores @ kept["key"],
        np.swapaxes(grad_scores, 2, 3) @ kept["query"],
        np.swapaxes(kept["weights"], 2, 3) @ grad_heads,
    )
    return _from_heads(self, by_head, {"out_proj": out_grads}, cache)


@solves("multi_head")
def head_by_head(self: MultiHeadedAttention, grad_output: Array, cache: Tree) -> Gradients:
    kept = cache["attention"]
    grad_merged, out_grads = self.out_proj.backward(grad_output, cache["out_proj"])
    grad_heads = self.split(grad_merged)
    grad_q, grad_k, grad_v = (np.empty_like(kept[name]) for name in ("query", "key", "value"))
    allowed = np.broadcast_to(kept["mask"], kept["weights"].shape)
    for b, h in np.ndindex(*grad_heads.shape[:2]):
        q, k, v, y = (kept[name][b, h] for name in ("query", "key", "value", "weights"))
        grad_y = (grad_heads[b, h] @ v.T) * kept["dropout"]["mask"][b, h] / (1 - self.attention.dropout.p)
        softmax = kept["softmax"]["output"][b, h]
        grad_scores = softmax * (grad_y - (softmax * grad_y).sum(1, keepdims=True))
        grad_scores = grad_scores * allowed[b, h] / np.sqrt(q.shape[1])
        grad_q[b, h], grad_k[b, h], grad_v[b, h] = grad_scores @ k, grad_scores.T @ q, y.T @ grad_heads[b, h]
    return _from_heads(self, (grad_q, grad_k, grad_v), {"out_proj": out_grads}, cache)


def _from_heads(self: MultiHeadedAttention, by_head: tuple[Array, ...], grads: Tree, cache: Tree) -> Gradients:
    inputs = []
    for letter, grad in zip(LETTERS, by_head, strict=True):
        grad_input, grads[f"{letter}_proj"] = getattr(self, f"{letter}_proj").backward(
            self.merge(grad), cache[f"{letter}_proj"]
        )
        inputs.append(grad_input)
    return reduce(np.add, inputs) if cache["is_self_attention"] else tuple(inputs), grads


@solves("multi_head")
def projections_as_one_matrix(self: MultiHeadedAttention, grad_output: Array, cache: Tree) -> Gradients:
    """In self-attention the three projections are one map of x to 3 d_model entries."""
    grads: Tree = {}
    grad_merged, grads["out_proj"] = self.out_proj.backward(grad_output, cache["out_proj"])
    by_head, grads["attention"] = self.attention.backward(self.split(grad_merged), cache["attention"])
    if not cache["is_self_attention"]:
        return _from_heads(self, by_head, grads, cache)
    side_by_side = np.concatenate([self.merge(grad) for grad in by_head], axis=-1)
    weights = np.vstack([self.q_proj.weight, self.k_proj.weight, self.v_proj.weight])
    grad_weights = np.tensordot(side_by_side, cache["q_proj"]["x"], axes=([0, 1], [0, 1]))
    for letter, grad_weight, grad_bias in zip(
        LETTERS, np.split(grad_weights, 3), np.split(side_by_side.sum(1).sum(0), 3), strict=True
    ):
        grads[f"{letter}_proj"] = {"weight": grad_weight, "bias": grad_bias}
    return side_by_side @ weights, grads


@solves("multi_head")
def added_up_in_place(self: MultiHeadedAttention, grad_output: Array, cache: Tree) -> Gradients:
    grads: Tree = {"attention": {}}
    grad_merged, grads["out_proj"] = self.out_proj.backward(grad_output, cache["out_proj"])
    (grad_q, grad_k, grad_v), _ = self.attention.backward(self.split(grad_merged), cache["attention"])
    grad_value, grads["v_proj"] = self.v_proj.backward(self.merge(grad_v), cache["v_proj"])
    grad_key, grads["k_proj"] = self.k_proj.backward(self.merge(grad_k), cache["k_proj"])
    grad_query, grads["q_proj"] = self.q_proj.backward(self.merge(grad_q), cache["q_proj"])
    if cache["is_self_attention"]:
        grad_x = np.zeros_like(grad_query)
        for grad in (grad_query, grad_key, grad_value):
            grad_x += grad
        return grad_x, grads
    return (grad_query, grad_key, grad_value), grads


@solves("multi_head")
def axes_moved(self: MultiHeadedAttention, grad_output: Array, cache: Tree) -> Gradients:
    H = self.num_heads

    def merged(grad: Array) -> Array:
        return np.moveaxis(grad, 1, 2).reshape(len(grad), -1, H * grad.shape[-1])

    grad_merged, out_grads = self.out_proj.backward(grad_output, cache["out_proj"])
    grad_heads = np.moveaxis(grad_merged.reshape(*grad_merged.shape[:2], H, -1), 2, 1)
    by_head, _ = self.attention.backward(grad_heads, cache["attention"])
    pairs = {
        f"{letter}_proj": getattr(self, f"{letter}_proj").backward(merged(grad), cache[f"{letter}_proj"])
        for letter, grad in zip(LETTERS, by_head, strict=True)
    }
    grads = {name: grads for name, (_, grads) in pairs.items()} | {"out_proj": out_grads}
    inputs = tuple(grad for grad, _ in pairs.values())
    return np.stack(inputs).sum(0) if cache["is_self_attention"] else inputs, grads


@solves("multi_head")
def heads_filled_by_a_loop(self: MultiHeadedAttention, grad_output: Array, cache: Tree) -> Gradients:
    grads: Tree = {}
    grad_merged, grads["out_proj"] = self.out_proj.backward(grad_output, cache["out_proj"])
    B, T, d_model = grad_merged.shape
    d_head = d_model // self.num_heads
    grad_heads = np.zeros((B, self.num_heads, T, d_head))
    for h in range(self.num_heads):
        for i in range(d_head):
            grad_heads[:, h, :, i] = grad_merged[:, :, h * d_head + i]
    by_head, grads["attention"] = self.attention.backward(grad_heads, cache["attention"])
    merged = []
    for grad in by_head:
        whole = np.zeros((B, grad.shape[2], d_model))
        for h in range(self.num_heads):
            for i in range(d_head):
                whole[:, :, h * d_head + i] = grad[:, h, :, i]
        merged.append(whole)
    grad_query, grads["q_proj"] = self.q_proj.backward(merged[0], cache["q_proj"])
    grad_key, grads["k_proj"] = self.k_proj.backward(merged[1], cache["k_proj"])
    grad_value, grads["v_proj"] = self.v_proj.backward(merged[2], cache["v_proj"])
    result = grad_query, grad_key, grad_value
    return sum(result, start=np.zeros_like(grad_query)) if cache["is_self_attention"] else result, grads


@solves("multi_head")
def batch_item_by_batch_item(self: MultiHeadedAttention, grad_output: Array, cache: Tree) -> Gradients:
    """Backward is linear in grad_output: each item's share is computed alone, and the shares add up."""
    shares = []
    for index in range(len(grad_output)):
        share = np.zeros_like(grad_output)
        share[index] = grad_output[index]
        shares.append(added_up_in_place(self, share, cache))
    grads = reduce(add_trees, (grads for _, grads in shares))
    if cache["is_self_attention"]:
        return sum(grad for grad, _ in shares), grads
    return tuple(map(sum, zip(*(inputs for inputs, _ in shares), strict=True))), grads


@solves("multi_head")
def out_proj_row_by_row(self: MultiHeadedAttention, grad_output: Array, cache: Tree) -> Gradients:
    x, weight = cache["out_proj"]["x"], self.out_proj.weight
    grad_weight, grad_bias, grad_merged = np.zeros_like(weight), np.zeros(len(weight)), np.zeros_like(x)
    for b in range(x.shape[0]):
        for t in range(x.shape[1]):
            grad_weight += np.outer(grad_output[b, t], x[b, t])
            grad_bias += grad_output[b, t]
            grad_merged[b, t] = weight.T @ grad_output[b, t]
    by_head, _ = self.attention.backward(self.split(grad_merged), cache["attention"])
    return _from_heads(self, by_head, {"out_proj": {"weight": grad_weight, "bias": grad_bias}}, cache)
