"""Other ways to write the backward of layer normalisation."""

import numpy as np

from npformer.component import Array, Tree
from npformer.exercises.tasks.layer_norm import LayerNorm
from solutions.registry import solves


@solves("layer_norm")
def through_each_node(self: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    x_hat, rstd, n = cache["x_hat"], cache["rstd"], len(self.weight)
    centred = x_hat / rstd
    grad_x_hat = grad_output * self.weight
    grad_var = (grad_x_hat * centred).sum(-1, keepdims=True) * -0.5 * rstd**3
    grad_centred = grad_x_hat * rstd + grad_var * 2 * centred / n
    grad_mean = -grad_centred.sum(-1, keepdims=True)
    grads = {
        "weight": np.einsum("ri,ri->i", grad_output.reshape(-1, n), x_hat.reshape(-1, n)),
        "bias": np.einsum("ri->i", grad_output.reshape(-1, n)),
    }
    return grad_centred + grad_mean / n, grads


def parameter_gradients(grad_output: Array, x_hat: Array) -> Tree:
    leading = tuple(range(grad_output.ndim - 1))
    return {"weight": np.sum(grad_output * x_hat, axis=leading), "bias": np.sum(grad_output, axis=leading)}


@solves("layer_norm")
def sums_for_means(self: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    x_hat, rstd, n = cache["x_hat"], cache["rstd"], grad_output.shape[-1]
    g = self.weight * grad_output
    sum_g = g.sum(axis=-1, keepdims=True)
    sum_g_x_hat = (g * x_hat).sum(axis=-1, keepdims=True)
    return rstd / n * (n * g - sum_g - x_hat * sum_g_x_hat), parameter_gradients(grad_output, x_hat)


@solves("layer_norm")
def row_by_row(self: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    grad_x = np.zeros(grad_output.shape)
    grads = {"weight": np.zeros(len(self.weight)), "bias": np.zeros(len(self.bias))}
    for index in np.ndindex(*grad_output.shape[:-1]):
        x_hat, rstd, g_out = cache["x_hat"][index], cache["rstd"][index], grad_output[index]
        g = g_out * self.weight
        grad_x[index] = rstd * (g - np.mean(g) - x_hat * np.mean(g * x_hat))
        grads["weight"] += g_out * x_hat
        grads["bias"] += g_out
    return grad_x, grads


@solves("layer_norm")
def entry_by_entry(self: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    n = len(self.weight)
    x_hats, rstds = cache["x_hat"].reshape(-1, n), cache["rstd"].ravel()
    rows = grad_output.reshape(-1, n)
    grad_x, grad_weight, grad_bias = np.zeros_like(rows), np.zeros(n), np.zeros(n)
    for r in range(len(rows)):
        g = [rows[r, i] * self.weight[i] for i in range(n)]
        mean_g = sum(g) / n
        mean_g_x_hat = sum(g[i] * x_hats[r, i] for i in range(n)) / n
        for i in range(n):
            grad_x[r, i] = rstds[r] * (g[i] - mean_g - x_hats[r, i] * mean_g_x_hat)
            grad_weight[i] += rows[r, i] * x_hats[r, i]
            grad_bias[i] += rows[r, i]
    return grad_x.reshape(grad_output.shape), {"weight": grad_weight, "bias": grad_bias}


@solves("layer_norm")
def jacobian_matrices(self: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    x_hat, rstd, n = cache["x_hat"], cache["rstd"], len(self.weight)
    outer = np.einsum("...i,...j->...ij", x_hat, x_hat)
    jacobian = rstd[..., None] * (np.eye(n) - 1 / n - outer / n) * self.weight[:, None]
    return np.einsum("...i,...ij->...j", grad_output, jacobian), parameter_gradients(grad_output, x_hat)


@solves("layer_norm")
def in_place(self: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    x_hat = cache["x_hat"]
    grad_x = grad_output * self.weight
    projected = x_hat * (grad_x * x_hat).mean(-1, keepdims=True)
    grad_x -= grad_x.mean(-1, keepdims=True)
    grad_x -= projected
    grad_x *= cache["rstd"]
    grads = parameter_gradients(grad_output, x_hat)
    return grad_x, grads


@solves("layer_norm")
def one_projection_after_the_other(self: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    x_hat, n = cache["x_hat"], len(self.weight)
    g = grad_output * self.weight
    g = g - g.mean(-1)[..., np.newaxis]
    g = g - np.einsum("...i,...i->...", g, x_hat)[..., np.newaxis] / n * x_hat
    return g * cache["rstd"], parameter_gradients(grad_output, x_hat)


@solves("layer_norm")
def matrix_products_of_rows(self: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    n = grad_output.shape[-1]
    rows, x_hat, rstd = grad_output.reshape(-1, n), cache["x_hat"].reshape(-1, n), cache["rstd"].reshape(-1, 1)
    averaging = np.full((n, n), 1 / n)
    g = rows @ np.diag(self.weight)
    grad_x = rstd * (g - g @ averaging - x_hat * ((g * x_hat) @ averaging))
    grads = {"weight": (rows.T @ x_hat).diagonal().copy(), "bias": rows.T @ np.ones(len(rows))}
    return grad_x.reshape(grad_output.shape), grads


@solves("layer_norm")
def through_the_deviations(self: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """In terms of x - mean(x) and var + eps, as x_hat is often not kept."""
    x_hat, rstd, n = cache["x_hat"], cache["rstd"], grad_output.shape[-1]
    centred, var_plus_eps = x_hat / rstd, 1 / rstd**2
    g = grad_output * self.weight
    dots = np.sum(g * centred, axis=-1, keepdims=True) / n
    grad_x = (g - np.sum(g, axis=-1, keepdims=True) / n - centred * dots / var_plus_eps) / np.sqrt(var_plus_eps)
    return grad_x, parameter_gradients(grad_output, x_hat)


@solves("layer_norm")
def item_after_item(self: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    def of_item(g: Array, x_hat: Array, rstd: Array) -> Array:
        grad_item: Array = rstd * (g - np.average(g, axis=1)[:, None] - x_hat * np.average(g * x_hat, axis=1)[:, None])
        return grad_item

    items = zip(grad_output * self.weight, cache["x_hat"], cache["rstd"], strict=True)
    grads = {
        "weight": sum((g * x_hat).sum(0) for g, x_hat in zip(grad_output, cache["x_hat"], strict=True)),
        "bias": sum(g.sum(0) for g in grad_output),
    }
    return np.stack([of_item(*item) for item in items]), grads


@solves("layer_norm")
def three_paths_added(self: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    x_hat, rstd = cache["x_hat"], cache["rstd"]
    grad_x_hat = np.multiply(grad_output, self.weight)
    direct = grad_x_hat * rstd
    through_mean = -np.mean(direct, axis=-1, keepdims=True)
    through_rstd = -rstd * x_hat * np.mean(grad_x_hat * x_hat, axis=-1, keepdims=True)
    grads = {
        "weight": np.einsum("bti,bti->i", grad_output, x_hat),
        "bias": np.einsum("bti->i", grad_output),
    }
    return direct + through_mean + through_rstd, grads
