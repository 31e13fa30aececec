"""The norms in other forms."""

import numpy as np

from npformer import AnnotatedLayerNorm, LayerNorm
from npformer.component import Array, Tree
from rewrites.registry import backward_of, forward_of


def _sum(x: Array) -> Array:
    total: Array = x.sum(-1, keepdims=True)
    return total


def _grads(grad_output: Array, x_hat: Array) -> Tree:
    """The gradients of weight and bias, with the rows in reverse."""
    rows, x_hat_rows = (x.reshape(-1, x.shape[-1])[::-1] for x in (grad_output, x_hat))
    return {"weight": np.einsum("ri,ri->i", rows, x_hat_rows), "bias": np.einsum("ri->i", rows)}


@backward_of(LayerNorm)
def sums_for_means(norm: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    x_hat, d = cache["x_hat"], len(norm.weight)
    g = grad_output * norm.weight
    return cache["rstd"] / d * (d * g - _sum(g) - x_hat * _sum(g * x_hat)), _grads(grad_output, x_hat)


@backward_of(LayerNorm)
def projection_matrix(norm: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    x_hat, d = cache["x_hat"], len(norm.weight)
    identity = np.eye(d, dtype=x_hat.dtype)
    projection = identity - 1 / d - x_hat[..., None] * x_hat[..., None, :] / d
    grad_x = cache["rstd"] * np.einsum("...ij,...j->...i", projection, grad_output * norm.weight)
    return grad_x, _grads(grad_output, x_hat)


@backward_of(LayerNorm)
def centred_over_the_variance(norm: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    x_hat, rstd, d = cache["x_hat"], cache["rstd"], len(norm.weight)
    centred, g = x_hat / rstd, grad_output * norm.weight
    projected = centred * _sum(g * centred) / d * rstd**2
    return (g - g.mean(-1, keepdims=True) - projected) * rstd, _grads(grad_output, x_hat)


@backward_of(LayerNorm)
def through_variance_and_mean(norm: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    x_hat, rstd, d = cache["x_hat"], cache["rstd"], len(norm.weight)
    centred, g = x_hat / rstd, grad_output * norm.weight
    grad_var = -0.5 * rstd**3 * _sum(g * centred)
    grad_centred = g * rstd + grad_var * 2 * centred / d
    return grad_centred - _sum(grad_centred) / d, _grads(grad_output, x_hat)


@backward_of(LayerNorm)
def one_projection_after_the_other(norm: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    x_hat = cache["x_hat"]
    g = grad_output * norm.weight
    centred = g - g.mean(-1, keepdims=True)
    return cache["rstd"] * (centred - x_hat * _sum(centred * x_hat) / len(norm.weight)), _grads(grad_output, x_hat)


@backward_of(LayerNorm)
def row_by_row(norm: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    grad_x = np.empty_like(grad_output)
    grads: Tree = {"weight": 0, "bias": 0}
    for index in np.ndindex(grad_output.shape[:-1]):
        x_hat, g = cache["x_hat"][index], grad_output[index] * norm.weight
        grad_x[index] = cache["rstd"][index] * (g - g.mean() - x_hat * np.dot(g, x_hat) / len(g))
        grads = {"weight": grads["weight"] + grad_output[index] * x_hat, "bias": grads["bias"] + grad_output[index]}
    return grad_x, grads


@forward_of(LayerNorm)
def shifted_by_the_first_entry(norm: LayerNorm, x: Array) -> tuple[Array, Tree]:
    centred = _centred_after_a_shift(x)
    std = np.sqrt((centred * centred).mean(-1, keepdims=True) + norm.eps)
    x_hat = centred / std
    return norm.bias + x_hat * norm.weight, {"x_hat": x_hat, "rstd": 1 / std}


@forward_of(LayerNorm)
def corrected_two_pass_variance(norm: LayerNorm, x: Array) -> tuple[Array, Tree]:
    centred, d = x - x.mean(-1, keepdims=True), x.shape[-1]
    rstd = ((_sum(centred**2) - _sum(centred) ** 2 / d) / d + norm.eps) ** -0.5
    return centred * (rstd * norm.weight) + norm.bias, {"x_hat": centred * rstd, "rstd": rstd}


def _centred_after_a_shift(x: Array) -> Array:
    shifted = x - x[..., :1]
    centred: Array = shifted - shifted.mean(-1, keepdims=True)
    return centred


@backward_of(AnnotatedLayerNorm)
def unit_vectors(norm: AnnotatedLayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    x_hat, std, d = cache["x_hat"], cache["std"], len(norm.weight)
    g = grad_output * norm.weight
    unit = x_hat * (std + norm.eps) / (std + (std == 0))
    grad_centred = g / (std + norm.eps) - unit * _sum(g * unit) * std / ((d - 1) * (std + norm.eps) ** 2)
    return grad_centred - _sum(grad_centred) / d, _grads(grad_output, x_hat)


@backward_of(AnnotatedLayerNorm)
def projection_matrices(norm: AnnotatedLayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    x_hat, std, d = cache["x_hat"], cache["std"], len(norm.weight)
    identity = np.eye(d, dtype=x_hat.dtype)
    outer = x_hat[..., None] * x_hat[..., None, :] * ((std + norm.eps) / (std + (std == 0)) / (d - 1))[..., None]
    jacobian = (identity - outer) @ (identity - np.full_like(identity, 1 / d)) / (std + norm.eps)[..., None]
    return np.einsum("...i,...ij->...j", grad_output * norm.weight, jacobian), _grads(grad_output, x_hat)


@backward_of(AnnotatedLayerNorm)
def through_std_and_mean(norm: AnnotatedLayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    x_hat, std, d = cache["x_hat"], cache["std"], len(norm.weight)
    g, centred = grad_output * norm.weight, x_hat * (std + norm.eps)
    grad_std = -_sum(g * centred) / (std + norm.eps) ** 2
    grad_centred = g / (std + norm.eps) + grad_std * centred / ((d - 1) * (std + (std == 0)))
    return grad_centred - grad_centred.mean(-1, keepdims=True), _grads(grad_output, x_hat)


@backward_of(AnnotatedLayerNorm)
def mean_removed_first(norm: AnnotatedLayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    x_hat, std, d = cache["x_hat"], cache["std"], len(norm.weight)
    g = grad_output * norm.weight
    centred = g - g.mean(-1, keepdims=True)
    through_std = x_hat * (_sum(centred * x_hat) / ((d - 1) * (std + (std == 0))))
    return centred / (std + norm.eps) - through_std, _grads(grad_output, x_hat)


@forward_of(AnnotatedLayerNorm)
def shifted_and_scaled_once(norm: AnnotatedLayerNorm, x: Array) -> tuple[Array, Tree]:
    centred = _centred_after_a_shift(x)
    std = np.sqrt((centred * centred)[..., ::-1].sum(-1, keepdims=True) / (x.shape[-1] - 1))
    over = 1 / (std + norm.eps)
    return norm.bias + centred * (over * norm.weight), {"x_hat": centred * over, "std": std}
