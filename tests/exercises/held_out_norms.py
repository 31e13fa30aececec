"""Held-out mistakes in the two layer norms."""

from __future__ import annotations

import numpy as np
from held_out_form import held_out

from npformer import AnnotatedLayerNorm, LayerNorm
from npformer.component import Array, Tree


def _mean(x: Array, axis: int = -1) -> Array:
    mean: Array = x.mean(axis, keepdims=True)
    return mean


def _sum(x: Array) -> Array:
    total: Array = x.sum(-1, keepdims=True)
    return total


@held_out(LayerNorm, ("x",), r"mean", r"\baxis\b|\baxes\b|position|each row|per row|across rows|column|last")
def layer_norm_mean_over_positions(component: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """mean(g) is taken over the positions (axis -2), not over the last axis."""
    x_hat, g = cache["x_hat"], grad_output * component.weight
    grad_x = cache["rstd"] * (g - _mean(g, -2) - x_hat * _mean(g * x_hat))
    return grad_x, component.backward(grad_output, cache)[1]


@held_out(
    LayerNorm,
    ("x",),
    r"d(_model)? ?- ?1|n ?- ?1|unbiased|bessel|count|coefficient|factor|times too|1\.2",
    r"x_hat|variance|rstd|second mean",
)
def layer_norm_unbiased_in_backward(component: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The sum of g·x_hat is divided by d_model - 1, though forward's variance is the biased one."""
    x_hat, g = cache["x_hat"], grad_output * component.weight
    through_variance = x_hat * _sum(g * x_hat) / (g.shape[-1] - 1)
    return cache["rstd"] * (g - _mean(g) - through_variance), component.backward(grad_output, cache)[1]


@held_out(LayerNorm, ("x",), r"rstd|std|bracket|parenthes|scal", r"x_hat|variance|last term|third|mean\(g")
def layer_norm_rstd_on_two_terms(component: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """rstd multiplies g - mean(g) only: the term x_hat·mean(g·x_hat) stands outside the bracket."""
    x_hat, g = cache["x_hat"], grad_output * component.weight
    return cache["rstd"] * (g - _mean(g)) - x_hat * _mean(g * x_hat), component.backward(grad_output, cache)[1]


@held_out(LayerNorm, ("x",), r"x_hat|normali[sz]ed", r"\by\b|output|after (scal|weight)|weight|bias|gamma|affine")
def layer_norm_output_for_x_hat(component: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The term through the variance has the output y = weight·x_hat + bias where x_hat should stand."""
    y, g = component.weight * cache["x_hat"] + component.bias, grad_output * component.weight
    return cache["rstd"] * (g - _mean(g) - y * _mean(g * y)), component.backward(grad_output, cache)[1]


@held_out(LayerNorm, ("x",), r"\beps|epsilon|ε")
def layer_norm_rstd_without_eps(component: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """rstd is made again as 1/sqrt(var), without the eps that forward adds inside the root."""
    x_hat, g = cache["x_hat"], grad_output * component.weight
    rstd = 1 / np.sqrt(1 / cache["rstd"] ** 2 - component.eps)
    return rstd * (g - _mean(g) - x_hat * _mean(g * x_hat)), component.backward(grad_output, cache)[1]


@held_out(
    LayerNorm,
    ("weight", "bias"),
    r"weight|gamma|\bg\b",
    r"grad_y|grad_output|already|twice|times|multipl|factor|scaled",
)
def layer_norm_parameters_from_g(component: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The gradients of weight and bias are made from g = grad_y·weight where grad_y itself belongs."""
    x_hat, g = cache["x_hat"], grad_output * component.weight
    rows = (-1, g.shape[-1])
    grads = {"weight": (g * x_hat).reshape(rows).sum(0), "bias": g.reshape(rows).sum(0)}
    return component.backward(grad_output, cache)[0], grads


@held_out(LayerNorm, ("x",), r"twice|doubl|half|½|\b2\b|-2|factor|coefficient|0\.5", r"x_hat|variance|rstd|third|std")
def layer_norm_derivative_of_square(component: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The term through the variance is doubled: the 2 of the square was kept, the 1/2 of the root forgotten."""
    x_hat, g = cache["x_hat"], grad_output * component.weight
    return cache["rstd"] * (g - _mean(g) - 2 * x_hat * _mean(g * x_hat)), component.backward(grad_output, cache)[1]


@held_out(LayerNorm, ("x",), r"mean", r"weight|gamma|\bg\b|grad_y")
def layer_norm_mean_of_raw_grad(component: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The term through the mean is mean(grad_y), where it should be mean(g) with g = grad_y·weight."""
    x_hat, g = cache["x_hat"], grad_output * component.weight
    grad_x = cache["rstd"] * (g - _mean(grad_output) - x_hat * _mean(g * x_hat))
    return grad_x, component.backward(grad_output, cache)[1]


@held_out(LayerNorm, ("weight",), r"mean|averag|divid|factor|too small|1/", r"sum|position|row|divid|factor|add")
def layer_norm_weight_mean_over_positions(component: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The gradient of weight is summed over the batch but averaged over the positions."""
    grad_x, grads = component.backward(grad_output, cache)
    return grad_x, {**grads, "weight": (grad_output * cache["x_hat"]).sum(0).mean(0)}


def _annotated(component: AnnotatedLayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Array, Array, Tree]:
    """Return what each backward below starts from: g, the direct term, the term through std, the right grads."""
    x_hat, std = cache["x_hat"], cache["std"]
    g = grad_output * component.weight
    direct = g / (std + component.eps)
    through_std = x_hat * _sum(g * x_hat) / ((g.shape[-1] - 1) * std)
    return g, direct, through_std, component.backward(grad_output, cache)[1]


@held_out(
    AnnotatedLayerNorm,
    ("x",),
    r"d(_model)? ?- ?1|n ?- ?1|unbiased|bessel|count|coefficient|factor|biased|0\.83",
    r"std|deviation|variance|second|u\b|x_hat",
)
def annotated_counts_all(component: AnnotatedLayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The term through std is divided by d_model, though forward's std has d_model - 1."""
    g, direct, through_std, grads = _annotated(component, grad_output, cache)
    d_model = g.shape[-1]
    grad_centred = direct - through_std * (d_model - 1) / d_model
    return grad_centred - _mean(grad_centred), grads


@held_out(AnnotatedLayerNorm, ("x",), r"\beps|epsilon|ε")
def annotated_eps_in_slope_of_std(component: AnnotatedLayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The slope of std is c / ((d_model - 1)(std + eps)): eps has come into it, where forward adds it afterwards."""
    _, direct, through_std, grads = _annotated(component, grad_output, cache)
    grad_centred = direct - through_std * cache["std"] / (cache["std"] + component.eps)
    return grad_centred - _mean(grad_centred), grads


@held_out(
    AnnotatedLayerNorm,
    ("x",),
    r"weight|gamma|scale",
    r"outside|before|inside|after|order|first|last|late|at the end|grad_y|mean",
)
def annotated_weight_at_the_end(component: AnnotatedLayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """weight multiplies the finished gradient, where it belongs to grad_y before the sums are taken."""
    x_hat, std = cache["x_hat"], cache["std"]
    d_model = x_hat.shape[-1]
    grad_centred = grad_output / (std + component.eps) - x_hat * _sum(grad_output * x_hat) / ((d_model - 1) * std)
    grad_x = component.weight * (grad_centred - _mean(grad_centred))
    return grad_x, component.backward(grad_output, cache)[1]


@held_out(AnnotatedLayerNorm, ("x",), r"mean", r"d_model|n ?- ?1|divid|count|factor|coefficient|1\.2|sum")
def annotated_mean_with_one_less(component: AnnotatedLayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The mean that is subtracted at the end is a sum divided by d_model - 1."""
    g, direct, through_std, grads = _annotated(component, grad_output, cache)
    grad_centred = direct - through_std
    return grad_centred - _sum(grad_centred) / (g.shape[-1] - 1), grads


@held_out(
    AnnotatedLayerNorm, ("x",), r"\bstd|deviation|1/std", r"divid|factor|miss|scal|coefficient|forgot|lack|through"
)
def annotated_not_divided_by_std(component: AnnotatedLayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The term through std lacks the division by std that comes from the root's slope."""
    _, direct, through_std, grads = _annotated(component, grad_output, cache)
    grad_centred = direct - through_std * cache["std"]
    return grad_centred - _mean(grad_centred), grads
