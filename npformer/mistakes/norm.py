"""Mistakes in the backwards of the two norms."""

from __future__ import annotations

import numpy as np

from npformer.component import Array, Tree
from npformer.mistakes.catalogue import Gradients, mistake_in
from npformer.norm import AnnotatedLayerNorm, LayerNorm


def _mean(array: Array, axis: int = -1) -> Array:
    mean: Array = array.mean(axis, keepdims=True)
    return mean


def _row_sums(array: Array) -> Array:
    sums: Array = array.reshape(-1, array.shape[-1]).sum(0)
    return sums


@mistake_in(LayerNorm, case="LayerNorm")
def mean_term_missing(norm: LayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    """The path through mean(x) is forgotten: mean(g) is not subtracted."""
    x_hat, g = cache["x_hat"], grad_output * norm.weight
    grad_x = cache["rstd"] * (g - x_hat * _mean(g * x_hat))
    return grad_x, norm.backward(grad_output, cache)[1]


@mistake_in(LayerNorm, case="LayerNorm")
def variance_term_missing(norm: LayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    """The path through rstd is forgotten: x_hat * mean(g * x_hat) is not subtracted."""
    g = grad_output * norm.weight
    grad_x = cache["rstd"] * (g - _mean(g))
    return grad_x, norm.backward(grad_output, cache)[1]


@mistake_in(LayerNorm, case="LayerNorm")
def statistics_taken_for_constants(norm: LayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    """Mean and variance are taken for constants, as they are in a batch norm that no longer trains."""
    return cache["rstd"] * grad_output * norm.weight, norm.backward(grad_output, cache)[1]


@mistake_in(LayerNorm, case="LayerNorm")
def eps_outside_the_root(norm: LayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    """eps is added to the standard deviation instead of to the variance inside the root."""
    variance = 1 / cache["rstd"] ** 2 - norm.eps
    return norm.backward(grad_output, cache | {"rstd": 1 / (np.sqrt(variance) + norm.eps)})


@mistake_in(LayerNorm, case="LayerNorm")
def eps_dropped(norm: LayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient is divided by the standard deviation without eps."""
    variance = 1 / cache["rstd"] ** 2 - norm.eps
    return norm.backward(grad_output, cache | {"rstd": 1 / np.sqrt(variance)})


@mistake_in(LayerNorm, case="LayerNorm")
def eps_dropped_in_the_variance_term(norm: LayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    """eps is in rstd, but the derivative of the root divides by the variance without eps."""
    x_hat, rstd, g = cache["x_hat"], cache["rstd"], grad_output * norm.weight
    centred, variance = x_hat / rstd, 1 / rstd**2 - norm.eps
    grad_x = rstd * (g - _mean(g) - centred * _mean(g * centred) / variance)
    return grad_x, norm.backward(grad_output, cache)[1]


@mistake_in(LayerNorm, case="LayerNorm")
def unbiased_variance(norm: LayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    """The derivative of the variance divides by n - 1, though forward divides by n."""
    x_hat, g, n = cache["x_hat"], grad_output * norm.weight, len(norm.weight)
    grad_x = cache["rstd"] * (g - _mean(g) - x_hat * _mean(g * x_hat) * n / (n - 1))
    return grad_x, norm.backward(grad_output, cache)[1]


@mistake_in(LayerNorm, case="LayerNorm")
def gamma_outside_the_sums(norm: LayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    """The weight multiplies the result instead of entering the means, which is right only if it is constant."""
    x_hat = cache["x_hat"]
    grad_x_hat = grad_output - _mean(grad_output) - x_hat * _mean(grad_output * x_hat)
    return norm.weight * cache["rstd"] * grad_x_hat, norm.backward(grad_output, cache)[1]


@mistake_in(LayerNorm, case="LayerNorm")
def gamma_missing(norm: LayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    """grad_y is used where grad_y * weight belongs, which is right only while the weight is 1."""
    x_hat = cache["x_hat"]
    grad_x = cache["rstd"] * (grad_output - _mean(grad_output) - x_hat * _mean(grad_output * x_hat))
    return grad_x, norm.backward(grad_output, cache)[1]


@mistake_in(LayerNorm, case="LayerNorm")
def means_over_the_tokens(norm: LayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    """The means run over the tokens, as in a batch norm, instead of over the last axis."""
    x_hat, g = cache["x_hat"], grad_output * norm.weight
    grad_x = cache["rstd"] * (g - _mean(g, axis=-2) - x_hat * _mean(g * x_hat, axis=-2))
    return grad_x, norm.backward(grad_output, cache)[1]


@mistake_in(LayerNorm, case="LayerNorm")
def weight_gradient_from_the_output(norm: LayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    """grad_y is multiplied by y instead of x_hat for the weight gradient."""
    grad_x, grads = norm.backward(grad_output, cache)
    y = norm.weight * cache["x_hat"] + norm.bias
    return grad_x, grads | {"weight": _row_sums(grad_output * y)}


@mistake_in(LayerNorm, case="LayerNorm")
def weight_gradient_from_the_input(norm: LayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    """The weight gradient has x - mean(x) instead of x_hat, which is divided by the standard deviation."""
    grad_x, grads = norm.backward(grad_output, cache)
    return grad_x, grads | {"weight": _row_sums(grad_output * cache["x_hat"] / cache["rstd"])}


@mistake_in(LayerNorm, case="LayerNorm")
def bias_gradient_times_gamma(norm: LayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    """The bias gradient sums g = grad_y * weight instead of grad_y."""
    grad_x, grads = norm.backward(grad_output, cache)
    return grad_x, grads | {"bias": _row_sums(grad_output * norm.weight)}


@mistake_in(AnnotatedLayerNorm, case="AnnotatedLayerNorm")
def eps_inside_the_root(norm: AnnotatedLayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    """eps is added to the variance inside the root, as in LayerNorm, instead of to the standard deviation."""
    return norm.backward(grad_output, cache | {"std": np.sqrt(cache["std"] ** 2 + norm.eps) - norm.eps})


@mistake_in(AnnotatedLayerNorm, case="AnnotatedLayerNorm")
def biased_variance(norm: AnnotatedLayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    """The derivative of the variance divides by n, as in LayerNorm, though forward divides by n - 1."""
    x_hat, std, g = cache["x_hat"], cache["std"], grad_output * norm.weight
    grad_centred = g / (std + norm.eps) - x_hat * _mean(g * x_hat) / std
    return grad_centred - _mean(grad_centred), norm.backward(grad_output, cache)[1]


@mistake_in(AnnotatedLayerNorm, case="AnnotatedLayerNorm")
def centring_missing(norm: AnnotatedLayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    """The path through mean(x) is forgotten: the gradient of x - mean(x) is taken for that of x."""
    x_hat, std, g = cache["x_hat"], cache["std"], grad_output * norm.weight
    through_std = x_hat * (g * x_hat).sum(-1, keepdims=True) / ((len(norm.weight) - 1) * std)
    return g / (std + norm.eps) - through_std, norm.backward(grad_output, cache)[1]


@mistake_in(AnnotatedLayerNorm, case="AnnotatedLayerNorm")
def std_path_missing(norm: AnnotatedLayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    """The standard deviation is taken for a constant."""
    grad_centred = grad_output * norm.weight / (cache["std"] + norm.eps)
    return grad_centred - _mean(grad_centred), norm.backward(grad_output, cache)[1]


@mistake_in(AnnotatedLayerNorm, case="AnnotatedLayerNorm")
def eps_in_the_derivative_of_std(norm: AnnotatedLayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    """The derivative of std is divided by std + eps, but eps was added after the root: std alone divides there."""
    x_hat, g = cache["x_hat"], grad_output * norm.weight
    std_plus_eps = cache["std"] + norm.eps
    through_std = x_hat * (g * x_hat).sum(-1, keepdims=True) / ((len(norm.weight) - 1) * std_plus_eps)
    grad_centred = g / std_plus_eps - through_std
    return grad_centred - _mean(grad_centred), norm.backward(grad_output, cache)[1]
