"""Other ways to write the backward of the annotated Transformer's layer normalisation."""

import numpy as np

from npformer.component import Array, Tree
from npformer.exercises.tasks.annotated_layer_norm import AnnotatedLayerNorm
from solutions.registry import solves

Gradients = tuple[Array, Tree]


def parameter_gradients(grad_output: Array, x_hat: Array) -> Tree:
    d = x_hat.shape[-1]
    return {
        "weight": np.einsum("ri,ri->i", grad_output.reshape(-1, d), x_hat.reshape(-1, d)),
        "bias": grad_output.reshape(-1, d).sum(0),
    }


@solves("annotated_layer_norm")
def through_each_node(self: AnnotatedLayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    x_hat, std, n = cache["x_hat"], cache["std"], len(self.weight)
    s = std + self.eps
    centred = x_hat * s
    grad_bias = grad_output.sum(axis=tuple(range(grad_output.ndim - 1)))
    grad_weight = (grad_output * x_hat).sum(axis=tuple(range(grad_output.ndim - 1)))
    grad_x_hat = grad_output * self.weight
    grad_centred = grad_x_hat / s
    grad_s = -(grad_x_hat * centred / s**2).sum(-1, keepdims=True)
    grad_variance = grad_s / (2 * std)
    grad_squares = grad_variance / (n - 1)
    grad_centred += grad_squares * 2 * centred
    grad_mean = -grad_centred.sum(-1, keepdims=True)
    return grad_centred + grad_mean / n, {"weight": grad_weight, "bias": grad_bias}


@solves("annotated_layer_norm")
def two_projections(self: AnnotatedLayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    x_hat, std, n = cache["x_hat"], cache["std"], len(self.weight)
    g = grad_output * self.weight
    g = g - g.mean(-1, keepdims=True)
    grad_x = g / (std + self.eps) - x_hat * ((g * x_hat).sum(-1, keepdims=True) / ((n - 1) * std))
    return grad_x, parameter_gradients(grad_output, x_hat)


@solves("annotated_layer_norm")
def jacobian_of_each_row(self: AnnotatedLayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    d = len(self.weight)
    x_hats, stds, rows = cache["x_hat"].reshape(-1, d), cache["std"].ravel(), grad_output.reshape(-1, d)
    centring = np.eye(d) - np.ones((d, d)) / d
    grad_x = np.empty_like(rows)
    for row, (x_hat, std, grad_row) in enumerate(zip(x_hats, stds, rows, strict=True)):
        s = std + self.eps
        slope = np.eye(d) / s - np.outer(x_hat, x_hat) / ((d - 1) * std)
        grad_x[row] = (np.diag(self.weight) @ slope @ centring).T @ grad_row
    return grad_x.reshape(grad_output.shape), parameter_gradients(grad_output, cache["x_hat"])


@solves("annotated_layer_norm")
def row_by_row(self: AnnotatedLayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    n = len(self.weight)
    grad_x = np.zeros_like(grad_output)
    grad_weight, grad_bias = np.zeros(n), np.zeros(n)
    for index in np.ndindex(grad_output.shape[:-1]):
        x_hat, std, g_out = cache["x_hat"][index], cache["std"][index][0], grad_output[index]
        g = g_out * self.weight
        grad_c = g / (std + self.eps) - x_hat * np.dot(g, x_hat) / ((n - 1) * std)
        grad_x[index] = grad_c - grad_c.sum() / n
        grad_weight += g_out * x_hat
        grad_bias += g_out
    return grad_x, {"weight": grad_weight, "bias": grad_bias}


@solves("annotated_layer_norm")
def three_terms(self: AnnotatedLayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    x_hat, std, n = cache["x_hat"], cache["std"], grad_output.shape[-1]
    g = self.weight * grad_output
    direct = g / (std + self.eps)
    through_mean = g.sum(axis=-1, keepdims=True) / (n * (std + self.eps))
    through_std = np.einsum("...i,...i->...", g, x_hat)[..., np.newaxis] * x_hat / (n - 1) / std
    return direct - through_mean - through_std, parameter_gradients(grad_output, x_hat)


@solves("annotated_layer_norm")
def in_place(self: AnnotatedLayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    x_hat, std = cache["x_hat"], cache["std"]
    grad_x = grad_output * self.weight
    dots = (grad_x * x_hat).sum(-1, keepdims=True)
    dots /= (grad_x.shape[-1] - 1) * std
    grad_x /= std + self.eps
    grad_x -= dots * x_hat
    grad_x -= grad_x.mean(-1, keepdims=True)
    return grad_x, parameter_gradients(grad_output, x_hat)


@solves("annotated_layer_norm")
def unit_vectors(self: AnnotatedLayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    x_hat, std, n = cache["x_hat"], cache["std"], grad_output.shape[-1]
    s = std + self.eps
    unit = x_hat * s / (std * np.sqrt(n - 1))  # c over its length
    g = grad_output * self.weight
    along = (g * unit).sum(-1, keepdims=True) * unit
    grad_c = (g - along * std / s) / s
    return grad_c - np.mean(grad_c, axis=-1, keepdims=True), parameter_gradients(grad_output, x_hat)


@solves("annotated_layer_norm")
def matrix_products_of_rows(self: AnnotatedLayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    n = grad_output.shape[-1]
    x_hat, std, rows = (a.reshape(-1, a.shape[-1]) for a in (cache["x_hat"], cache["std"], grad_output))
    g = rows @ np.diag(self.weight)
    dots = (g * x_hat) @ np.ones((n, 1))
    grad_c = g / (std + self.eps) - x_hat * dots / ((n - 1) * std)
    grad_x = grad_c @ (np.eye(n) - 1 / n)
    grads = {"weight": np.diagonal(rows.T @ x_hat).copy(), "bias": np.ones(len(rows)) @ rows}
    return grad_x.reshape(grad_output.shape), grads


@solves("annotated_layer_norm")
def quotient_rule(self: AnnotatedLayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    """d(c_i / s) / d c_j = (δ_ij s - c_i c_j / ((n - 1) std)) / s²."""
    x_hat, std, n = cache["x_hat"], cache["std"], grad_output.shape[-1]
    s = (std + self.eps)[..., None]
    c = x_hat[..., None] * s
    slopes = (np.eye(n) * s - c * c.swapaxes(-1, -2) / ((n - 1) * std[..., None])) / s**2
    grad_c = np.einsum("...i,...ij->...j", grad_output * self.weight, slopes)
    return grad_c - grad_c.mean(-1)[..., None], parameter_gradients(grad_output, x_hat)


@solves("annotated_layer_norm")
def item_after_item(self: AnnotatedLayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    grads_x, grads_weight, grads_bias = [], [], []
    for g_out, x_hat, std in zip(grad_output, cache["x_hat"], cache["std"], strict=True):
        g = g_out * self.weight
        dots = np.sum(g * x_hat, axis=1, keepdims=True) / (g.shape[1] - 1)
        grad_c = g / (std + self.eps) - dots * x_hat / std
        grads_x.append(grad_c - grad_c.mean(axis=1, keepdims=True))
        grads_weight.append((g_out * x_hat).sum(axis=0))
        grads_bias.append(g_out.sum(axis=0))
    return np.stack(grads_x), {"weight": np.sum(grads_weight, axis=0), "bias": np.sum(grads_bias, axis=0)}


@solves("annotated_layer_norm")
def mean_corrected_to_n_minus_1(self: AnnotatedLayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    def centred(a: Array) -> Array:
        without_mean: Array = a - np.average(a, axis=-1)[..., None]
        return without_mean

    x_hat, std, n = cache["x_hat"], cache["std"], len(self.weight)
    g = centred(grad_output * self.weight)
    ratio = (std + self.eps) / std
    projected = n / (n - 1) * (g * x_hat).mean(-1, keepdims=True) * x_hat
    return (g - ratio * projected) / (std + self.eps), parameter_gradients(grad_output, x_hat)
