"""Other ways to write the backward of softmax."""

from functools import partial

import numpy as np

from npformer.component import Array, Tree
from npformer.exercises.tasks.softmax import Softmax
from solutions.registry import solves


@solves("softmax")
def row_by_row_through_the_jacobian(self: Softmax, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    y = cache["output"]
    grad_x = np.empty_like(y)
    for row in np.ndindex(y.shape[:-1]):
        jacobian = np.diag(y[row]) - np.outer(y[row], y[row])
        grad_x[row] = jacobian @ grad_output[row]
    return grad_x, {}


@solves("softmax")
def all_jacobians_at_once(self: Softmax, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    y = cache["output"]
    jacobians = y[..., :, None] * (np.eye(y.shape[-1]) - y[..., None, :])
    return (grad_output[..., None, :] @ jacobians)[..., 0, :], {}


@solves("softmax")
def einsum_for_the_row_dots(self: Softmax, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    y = cache["output"]
    dots = np.einsum("...j,...j->...", grad_output, y)
    return y * (grad_output - dots[..., np.newaxis]), {}


@solves("softmax")
def products_first(self: Softmax, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    y = cache["output"]
    grad_x = grad_output * y
    grad_x -= y * grad_x.sum(axis=-1, keepdims=True)
    return grad_x, {}


@solves("softmax")
def entry_by_entry(self: Softmax, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    y = cache["output"].reshape(-1, cache["output"].shape[-1])
    g = grad_output.reshape(y.shape)
    grad_x = np.zeros(y.shape)
    for r in range(y.shape[0]):
        for i in range(y.shape[1]):
            for j in range(y.shape[1]):
                grad_x[r, j] += g[r, i] * y[r, i] * ((i == j) - y[r, j])
    return grad_x.reshape(grad_output.shape), {}


@solves("softmax")
def through_each_node(self: Softmax, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    exps, total = cache["output"], np.ones((*grad_output.shape[:-1], 1))  # scaled so that the sum of the row is 1
    grad_exps = grad_output / total
    grad_total = -(grad_output * exps).sum(-1, keepdims=True) / total**2
    grad_exps = grad_exps + np.broadcast_to(grad_total, exps.shape)
    return grad_exps * exps, {}


@solves("softmax")
def diagonal_and_rest(self: Softmax, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    y = cache["output"]
    own = grad_output * y
    others = own.sum(-1, keepdims=True) - own
    return own * (1 - y) - y * others, {}


@solves("softmax")
def matmul_of_row_and_column(self: Softmax, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    y = cache["output"]
    dots = np.squeeze(grad_output[..., None, :] @ y[..., :, None], -1)
    return np.multiply(y, np.subtract(grad_output, dots)), {}


@solves("softmax")
def weighted_mean_taken_off(self: Softmax, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    y = cache["output"]
    mean = np.array([np.average(g, weights=w) for g, w in zip(_rows(grad_output), _rows(y), strict=True)])
    return (_rows(y) * (_rows(grad_output) - mean[:, None])).reshape(y.shape), {}


@solves("softmax")
def centred_first(self: Softmax, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    # a constant added to a row of grad_output changes nothing, since the outputs of a row add up to 1
    y = cache["output"]
    g = grad_output - grad_output.mean(-1, keepdims=True)
    return y * (g - (g * y).sum(-1, keepdims=True)), {}


@solves("softmax")
def differences_between_pairs(self: Softmax, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    y = cache["output"]
    pairs = grad_output[..., :, None] - grad_output[..., None, :]
    return y * np.matmul(pairs, y[..., None])[..., 0], {}


@solves("softmax")
def along_the_last_axis(self: Softmax, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    n = grad_output.shape[-1]
    both = np.concatenate([grad_output, cache["output"]], axis=-1)

    def of_row(n: int, row: Array) -> Array:
        g, y = row[:n], row[n:]
        grad: Array = y * (g - g.dot(y))
        return grad

    return np.apply_along_axis(partial(of_row, n), -1, both), {}


def _rows(array: Array) -> Array:
    return array.reshape(-1, array.shape[-1])
