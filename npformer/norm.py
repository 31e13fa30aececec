"""Layer normalisation, in the form of its paper and in that of the annotated transformer."""

from __future__ import annotations

import numpy as np

from npformer.component import Array, Component, Tree
from npformer.linear import column_sums
from npformer.shapes import check_count, check_floats, check_grad, check_number, check_shape, check_width


def _dot(left: Array, right: Array) -> Array:
    """Row dots over the last axis, which is kept; einsum is faster than (left * right).sum(-1)."""
    dots: Array = np.einsum("...i,...i->...", left, right)[..., None]
    return dots


class _Norm(Component):
    """What both norms have: a scale and a shift for each entry of the last axis, and x minus its mean."""

    parameter_names = ("weight", "bias")
    weight: Array
    bias: Array

    def _centred(self, x: Array) -> Array:
        check_floats("weight", self.weight, "d_model")
        check_shape("bias", self.bias, self.weight.shape)
        check_floats("x", x, "..., d_model")
        check_width("x", x, "d_model", len(self.weight), self)
        centred: Array = x - x.mean(-1, keepdims=True)
        return centred


class LayerNorm(_Norm):
    """Layer normalisation over the last axis (Ba et al. 2016, eq. 4).

        y = weight * x_hat + bias,    x_hat = (x - mean(x)) * rstd,    rstd = 1 / sqrt(var(x) + eps)

    The variance is biased: a mean over d_model, not d_model - 1. Backward, with g = grad_y * weight (each
    mean is over the last axis):

        grad_x = rstd * (g - mean(g) - x_hat * mean(g * x_hat))

    The two means are the paths through mean(x) and through rstd; leaving one out is the classic mistake.

    Parameters
    ----------
    d_model : int
        Size of the last axis.
    eps : float
        Added to the variance inside the root; above 0.

    Initially weight is 1 and bias 0. Shapes: x and y (..., d_model), weight and bias (d_model,).

    Examples
    --------
    >>> LayerNorm(2, eps=1e-12)(np.array([[1.0, 3.0]]))
    array([[-1.,  1.]])
    """

    def __init__(self, d_model: int, eps: float = 1e-5):
        self.weight = np.ones(check_count("d_model", d_model))
        self.bias = np.zeros(d_model)
        self.eps = check_number("eps", eps, 0, open_low=True)

    def forward(self, x: Array) -> tuple[Array, Tree]:
        centred = self._centred(x)
        rstd = 1 / np.sqrt(_dot(centred, centred) / x.shape[-1] + self.eps)
        x_hat = np.multiply(centred, rstd, out=centred)
        return self.weight * x_hat + self.bias, {"x_hat": x_hat, "rstd": rstd}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        x_hat, rstd = cache["x_hat"], cache["rstd"]
        check_grad(grad_output, x_hat.shape)
        g = grad_output * self.weight
        mean_g = g.mean(-1, keepdims=True)
        mean_g_x_hat = _dot(g, x_hat) / g.shape[-1]
        return rstd * (g - mean_g - x_hat * mean_g_x_hat), _scale_and_shift_grads(grad_output, x_hat)


class AnnotatedLayerNorm(_Norm):
    """Layer normalisation as in "The Annotated Transformer" (Rush 2018, section "Encoder").

        y = weight * c / (std + eps) + bias,    c = x - mean(x),    std = sqrt(Σ c² / (d_model - 1))

    It differs from LayerNorm twice: the variance is unbiased, and eps is added outside the root. Backward,
    with g = grad_y * weight and ∂std/∂c = c / ((d_model - 1) std):

        grad_c = g / (std + eps) - u * Σ(g * u) * std / ((d_model - 1) (std + eps)²),    u = c / std
        grad_x = grad_c - mean(grad_c)

    For a constant row std and c are 0 and u is undefined, but bounded, so that its term tends to 0.

    Parameters
    ----------
    d_model : int
        Size of the last axis; at least 2, since a single entry has no unbiased variance.
    eps : float
        Added to the standard deviation; above 0.

    Initially weight is 1 and bias 0. Shapes: x and y (..., d_model), weight and bias (d_model,).

    Examples
    --------
    >>> AnnotatedLayerNorm(3)(np.array([[1.0, 2.0, 3.0]])).round(5)
    array([[-1.,  0.,  1.]])
    """

    def __init__(self, d_model: int, eps: float = 1e-6):
        self.weight = np.ones(check_count("d_model", d_model, least=2))
        self.bias = np.zeros(d_model)
        self.eps = check_number("eps", eps, 0, open_low=True)

    def forward(self, x: Array) -> tuple[Array, Tree]:
        centred = self._centred(x)
        std = np.sqrt(_dot(centred, centred) / (x.shape[-1] - 1))
        x_hat = np.divide(centred, std + self.eps, out=centred)
        return self.weight * x_hat + self.bias, {"x_hat": x_hat, "std": std}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        x_hat, std = cache["x_hat"], cache["std"]
        check_grad(grad_output, x_hat.shape)
        g = grad_output * self.weight
        nonzero_std = std + (std == 0)  # a constant row: x_hat is 0, so the term through std is its limit, 0
        through_std = x_hat * _dot(g, x_hat) / ((g.shape[-1] - 1) * nonzero_std)
        grad_centred = g / (std + self.eps) - through_std
        grad_x = grad_centred - grad_centred.mean(-1, keepdims=True)
        return grad_x, _scale_and_shift_grads(grad_output, x_hat)


def _scale_and_shift_grads(grad_output: Array, x_hat: Array) -> Tree:
    """weight and bias are used by every row: their gradients add up over all leading axes."""
    rows = (-1, x_hat.shape[-1])
    return {
        "weight": np.einsum("ri,ri->i", grad_output.reshape(rows), x_hat.reshape(rows)),
        "bias": column_sums(grad_output.reshape(rows)),
    }
