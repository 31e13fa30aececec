"""Other ways to write the backward of the linear map."""

import numpy as np

from npformer.component import Array, Tree
from npformer.exercises.tasks.linear import Linear
from solutions.registry import solves


@solves("linear")
def einsum_over_named_axes(self: Linear, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    grad_x = np.einsum("bto,oi->bti", grad_output, self.weight)
    grads = {
        "weight": np.einsum("bto,bti->oi", grad_output, cache["x"]),
        "bias": np.einsum("bto->o", grad_output),
    }
    return grad_x, grads


@solves("linear")
def tensordot_and_sum_of_axes(self: Linear, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    leading = tuple(range(grad_output.ndim - 1))
    grad_weight = np.tensordot(grad_output, cache["x"], axes=(leading, leading))
    return np.tensordot(grad_output, self.weight, axes=1), {"weight": grad_weight, "bias": grad_output.sum(leading)}


@solves("linear")
def sequence_by_sequence(self: Linear, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    grad_weight = np.zeros_like(self.weight)
    grad_bias = np.zeros_like(self.bias)
    grad_x = np.empty_like(cache["x"])
    for b, (g, x) in enumerate(zip(grad_output, cache["x"], strict=True)):
        grad_weight += g.T @ x
        grad_bias += g.sum(axis=0)
        grad_x[b] = g @ self.weight
    return grad_x, {"weight": grad_weight, "bias": grad_bias}


@solves("linear")
def row_by_row_with_outer_products(self: Linear, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    x = cache["x"]
    grads = {"weight": np.zeros(self.weight.shape), "bias": np.zeros(self.bias.shape)}
    grad_x = np.zeros(x.shape)
    for index in np.ndindex(x.shape[:-1]):
        grads["weight"] += np.outer(grad_output[index], x[index])
        grads["bias"] += grad_output[index]
        grad_x[index] = self.weight.T @ grad_output[index]
    return grad_x, grads


@solves("linear")
def entry_by_entry(self: Linear, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    x = cache["x"]
    d_out, d_in = self.weight.shape
    grad_x, grad_weight, grad_bias = np.zeros(x.shape), np.zeros((d_out, d_in)), np.zeros(d_out)
    for row in np.ndindex(x.shape[:-1]):
        for o in range(d_out):
            grad_bias[o] += grad_output[row][o]
            for i in range(d_in):
                grad_weight[o, i] += grad_output[row][o] * x[row][i]
                grad_x[(*row, i)] += grad_output[row][o] * self.weight[o, i]
    return grad_x, {"weight": grad_weight, "bias": grad_bias}


@solves("linear")
def stack_of_products_summed(self: Linear, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    by_sequence = grad_output.swapaxes(-1, -2) @ cache["x"]
    return grad_output @ self.weight, {"weight": by_sequence.sum(0), "bias": grad_output.sum(0).sum(0)}


@solves("linear")
def transpose_of_the_other_product(self: Linear, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    x = cache["x"].reshape(-1, self.weight.shape[1])
    g = grad_output.reshape(-1, self.weight.shape[0])
    grad_x = (self.weight.T @ g.T).T.reshape(cache["x"].shape)
    return grad_x, {"weight": (x.T @ g).T, "bias": g.T @ np.ones(len(g))}


@solves("linear")
def bias_as_one_more_column(self: Linear, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    x = cache["x"]
    with_ones = np.concatenate([x, np.ones((*x.shape[:-1], 1))], axis=-1).reshape(-1, x.shape[-1] + 1)
    both = grad_output.reshape(len(with_ones), -1).T @ with_ones
    return grad_output @ self.weight, {"weight": both[:, :-1], "bias": both[:, -1]}


@solves("linear")
def broadcast_and_summed(self: Linear, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    products = grad_output[..., :, None] * cache["x"][..., None, :]
    slopes = grad_output[..., :, None] * self.weight
    return slopes.sum(-2), {"weight": products.sum((0, 1)), "bias": grad_output.sum((0, 1))}


@solves("linear")
def column_by_column_in_a_list(self: Linear, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    x, d_out = cache["x"], len(self.bias)
    weight_rows = [np.sum(grad_output[..., o, None] * x, axis=(0, 1)) for o in range(d_out)]
    grad_x = sum((grad_output[..., o, None] * self.weight[o] for o in range(d_out)), start=np.zeros_like(x))
    return grad_x, {
        "weight": np.stack(weight_rows),
        "bias": np.array([grad_output[..., o].sum() for o in range(d_out)]),
    }


@solves("linear")
def through_a_jacobian(self: Linear, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    x_rows = cache["x"].reshape(-1, self.weight.shape[1])
    g_rows = grad_output.reshape(len(x_rows), -1)
    of_weight = np.einsum("op,ri->ropi", np.eye(len(self.weight)), x_rows)  # of output[r, o] by weight[p, i]
    grad_weight = np.einsum("ro,ropi->pi", g_rows, of_weight)
    grad_x = np.stack([self.weight.T @ g for g in g_rows]).reshape(cache["x"].shape)
    return grad_x, {"weight": grad_weight, "bias": np.add.reduce(g_rows)}


@solves("linear")
def added_at_the_same_place(self: Linear, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    g = np.moveaxis(grad_output, -1, 0)
    grad_bias = np.zeros_like(self.bias)
    np.add.at(grad_bias, np.tile(np.arange(len(grad_bias)), grad_output[..., 0].size), grad_output.ravel())
    grad_weight = np.matmul(g.reshape(len(g), -1), np.reshape(cache["x"], (-1, self.weight.shape[1])))
    return np.matmul(grad_output, self.weight), {"bias": grad_bias, "weight": grad_weight}
