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


@held_out(
    LayerNorm,
    ("x",),
    r"mean",
    r"wrong ax|ax[ie]s ?-?\d|over (the )?(positions?|batch|rows|tokens|wrong)|"
    r"(must|should|not|instead).{0,30}last axis|last axis.{0,15}(not|instead)|(an)?other axis|columns",
)
def layer_norm_mean_over_positions(component: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """mean(g) is taken over the positions (axis -2), not over the last axis."""
    x_hat, g = cache["x_hat"], grad_output * component.weight
    grad_x = cache["rstd"] * (g - _mean(g, -2) - x_hat * _mean(g * x_hat))
    return grad_x, component.backward(grad_output, cache)[1]


@held_out(
    LayerNorm,
    ("x",),
    r"d(_model)? ?- ?1|n ?- ?1|unbiased|bessel|coefficient.{0,60}1\.\d|factor.{0,30}1\.\d|count",
    r"x_hat|variance|rstd|second mean",
)
def layer_norm_unbiased_in_backward(component: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The sum of g·x_hat is divided by d_model - 1, though forward's variance is the biased one."""
    x_hat, g = cache["x_hat"], grad_output * component.weight
    through_variance = x_hat * _sum(g * x_hat) / (g.shape[-1] - 1)
    return cache["rstd"] * (g - _mean(g) - through_variance), component.backward(grad_output, cache)[1]


@held_out(LayerNorm, ("x",), r"rstd|std|bracket|parenthes|scal", r"x_hat|variance|last term|third")
def layer_norm_rstd_on_two_terms(component: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """rstd multiplies g - mean(g) only: the term x_hat·mean(g·x_hat) stands outside the bracket."""
    x_hat, g = cache["x_hat"], grad_output * component.weight
    return cache["rstd"] * (g - _mean(g)) - x_hat * _mean(g * x_hat), component.backward(grad_output, cache)[1]


@held_out(
    LayerNorm,
    ("x",),
    r"x_hat|normali[sz]ed",
    r"\by\b|(?<!grad_)output|(before|after|without).{0,20}(weight|bias|gamma|affine)|affine|wrong variable",
)
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
    r"grad_y|grad_output|\bg\b|already|once too",
    r"weight.{0,40}(multipl|times|twice|already|scaled)|(multipl|scaled)\w* .{0,20}weight|"
    r"(from|with|uses?|is) g\b|gamma",
)
def layer_norm_parameters_from_g(component: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The gradients of weight and bias are made from g = grad_y·weight where grad_y itself belongs."""
    x_hat, g = cache["x_hat"], grad_output * component.weight
    rows = (-1, g.shape[-1])
    grads = {"weight": (g * x_hat).reshape(rows).sum(0), "bias": g.reshape(rows).sum(0)}
    return component.backward(grad_output, cache)[0], grads


@held_out(
    LayerNorm, ("x",), r"twice|doubled?|half|½|1/2|[-−]2\b|\b2\.0|coefficient|factor", r"x_hat|variance|rstd|std|third"
)
def layer_norm_derivative_of_square(component: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The term through the variance is doubled: the 2 of the square was kept, the 1/2 of the root forgotten."""
    x_hat, g = cache["x_hat"], grad_output * component.weight
    return cache["rstd"] * (g - _mean(g) - 2 * x_hat * _mean(g * x_hat)), component.backward(grad_output, cache)[1]


@held_out(
    LayerNorm,
    ("x",),
    r"mean\(grad_(y|output)\)|mean.{0,40}(without|before|lack|miss|not|instead).{0,30}(weight|gamma)|"
    r"weight.{0,30}(missing|inside|in the mean|left out|forgot)|mean\(g\).{0,60}grad_(y|output)|weighted",
)
def layer_norm_mean_of_raw_grad(component: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The term through the mean is mean(grad_y), where it should be mean(g) with g = grad_y·weight."""
    x_hat, g = cache["x_hat"], grad_output * component.weight
    grad_x = cache["rstd"] * (g - _mean(grad_output) - x_hat * _mean(g * x_hat))
    return grad_x, component.backward(grad_output, cache)[1]


@held_out(
    LayerNorm,
    ("weight",),
    r"averag|\bmean over|divid|1/T\b|factor.{0,20}(0\.\d|1/\d)|0\.\d+ ?(times|×)|too small",
    r"position|\bsum|rows|add|batch|times|factor|token",
)
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
    r"d(_model)? ?- ?1|n ?- ?1|unbiased|bessel|biased|coefficient.{0,60}0\.\d|factor.{0,30}0\.\d",
    r"std|deviation|variance|second|x_hat",
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
    r"weight|gamma",
    r"outside|(before|after|inside).{0,30}(mean|sum|bracket)|grad_y ?[·*] ?weight|at the end|too late|order|first",
)
def annotated_weight_at_the_end(component: AnnotatedLayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """weight multiplies the finished gradient, where it belongs to grad_y before the sums are taken."""
    x_hat, std = cache["x_hat"], cache["std"]
    d_model = x_hat.shape[-1]
    grad_centred = grad_output / (std + component.eps) - x_hat * _sum(grad_output * x_hat) / ((d_model - 1) * std)
    grad_x = component.weight * (grad_centred - _mean(grad_centred))
    return grad_x, component.backward(grad_output, cache)[1]


@held_out(
    AnnotatedLayerNorm,
    ("x",),
    r"mean",
    r"d(_model)? ?- ?1|n ?- ?1|divid|unbiased|coefficient.{0,60}1\.\d|factor.{0,30}1\.\d",
)
def annotated_mean_with_one_less(component: AnnotatedLayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The mean that is subtracted at the end is a sum divided by d_model - 1."""
    g, direct, through_std, grads = _annotated(component, grad_output, cache)
    grad_centred = direct - through_std
    return grad_centred - _sum(grad_centred) / (g.shape[-1] - 1), grads


@held_out(AnnotatedLayerNorm, ("x",), r"\bstd|deviation", r"divid|division|1/std|factor|lack|scal")
def annotated_not_divided_by_std(component: AnnotatedLayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The term through std lacks the division by std that comes from the root's slope."""
    _, direct, through_std, grads = _annotated(component, grad_output, cache)
    grad_centred = direct - through_std * cache["std"]
    return grad_centred - _mean(grad_centred), grads
