"""Linear and dropout in other forms."""

import math
from typing import Any

import numpy as np

from npformer import Dropout, Linear
from npformer.component import Array, Tree
from rewrites.registry import backward_of, forward_of


def _rows(grad_output: Array, cache: Tree) -> tuple[Array, Array]:
    """The rows of grad_output and those of x."""
    x = cache["x"]
    return grad_output.reshape(-1, grad_output.shape[-1]), x.reshape(-1, x.shape[-1])


def _grads(linear: Linear, grad_weight: Any, grad_bias: Any) -> Tree:
    return {"weight": grad_weight} | ({} if linear.bias is None else {"bias": grad_bias})


@backward_of(Linear)
def by_einsum(linear: Linear, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    rows, x_rows = _rows(grad_output, cache)
    grad_x = np.einsum("...o,oi->...i", grad_output, linear.weight)
    return grad_x, _grads(linear, np.einsum("ro,ri->oi", rows, x_rows), np.einsum("ro->o", rows))


@backward_of(Linear)
def row_by_row(linear: Linear, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    rows, x_rows = _rows(grad_output, cache)
    grad_weight = sum(grad[:, None] * x for grad, x in zip(rows, x_rows, strict=True))
    return grad_output @ linear.weight, _grads(linear, grad_weight, sum(rows))


@backward_of(Linear)
def rows_in_reverse(linear: Linear, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    rows, x_rows = _rows(grad_output, cache)
    grad_x, grads = row_by_row(linear, rows[::-1], {"x": x_rows[::-1]})
    return grad_x[::-1].reshape(cache["x"].shape), grads


@backward_of(Linear)
def rows_by_halves(linear: Linear, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    def total(rows: Array, x_rows: Array) -> tuple[Array, Array]:
        half = len(rows) // 2
        if half == 0:
            return rows.T @ x_rows, rows[0]
        first, second = total(rows[:half], x_rows[:half]), total(rows[half:], x_rows[half:])
        return first[0] + second[0], first[1] + second[1]

    return grad_output @ linear.weight, _grads(linear, *total(*_rows(grad_output, cache)))


@backward_of(Linear)
def exact_sums(linear: Linear, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    rows, x_rows = _rows(grad_output, cache)
    grad_bias = _exact_product(rows.T, np.ones((len(rows), 1)))[:, 0]
    grads = _grads(linear, _exact_product(rows.T, x_rows), grad_bias.astype(rows.dtype))
    return _exact_product(rows, linear.weight).reshape(cache["x"].shape), grads


def _exact_product(left: Array, right: Array) -> Array:
    """left @ right, where each entry is the exact sum of its products, rounded once."""
    wide = right.T.astype(np.float64)
    sums = [[math.fsum(row * column) for column in wide] for row in left.astype(np.float64)]
    return np.array(sums, dtype=left.dtype)


@backward_of(Linear)
def batch_item_by_batch_item(linear: Linear, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    B = len(grad_output)
    items, x_items = (array.reshape(B, -1, array.shape[-1]) for array in (grad_output, cache["x"]))
    return grad_output @ linear.weight, _grads(linear, (items.swapaxes(-1, -2) @ x_items).sum(0), items.sum(1).sum(0))


@backward_of(Linear)
def bias_as_a_weight_of_ones(linear: Linear, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    rows, x_rows = _rows(grad_output, cache)
    both = rows.T @ np.concatenate([x_rows, np.ones((len(rows), 1), rows.dtype)], axis=1)
    return grad_output @ linear.weight, _grads(linear, both[:, :-1], both[:, -1])


@forward_of(Linear)
def bias_first_and_inputs_in_reverse(linear: Linear, x: Array) -> tuple[Array, Tree]:
    output: Array = np.zeros(1, x.dtype) if linear.bias is None else linear.bias
    for column in reversed(range(x.shape[-1])):
        output = output + x[..., column, None] * linear.weight[:, column]
    return output, {"x": x}


@backward_of(Dropout)
def divided(dropout: Dropout, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    return grad_output * cache["mask"] / (1 - dropout.p) if cache else grad_output, {}


@backward_of(Dropout)
def chosen(dropout: Dropout, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    return np.where(cache["mask"], grad_output / (1 - dropout.p), 0) if cache else grad_output, {}


@backward_of(Dropout)
def mask_scaled_first(dropout: Dropout, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    if not cache:
        return grad_output, {}
    scaled = (cache["mask"] / (1 - dropout.p)).astype(grad_output.dtype)
    return scaled * grad_output, {}
