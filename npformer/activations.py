"""The elementwise activations, and softmax."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from npformer.component import Array, Component, Tree
from npformer.shapes import check_choice, check_floats, check_grad
from npformer.special import normal_cdf, normal_pdf, saturated, sigmoid

SQRT_2_OVER_PI = math.sqrt(2 / math.pi)


class ReLU(Component):
    """Rectified linear unit, ``y = max(x, 0)`` (Nair and Hinton 2010).

    y = x where x > 0, else 0, so ``grad_x = grad_y`` where x > 0, else 0. At the kink x = 0 any slope in
    [0, 1] is a subgradient; this one takes 0, as PyTorch does. Shapes: any.

    Examples
    --------
    >>> output, cache = ReLU().forward(np.array([-2.0, 0.0, 3.0]))
    >>> ReLU().backward(np.array([1.0, 1.0, 1.0]), cache)[0]
    array([0., 0., 1.])
    """

    def forward(self, x: Array) -> tuple[Array, Tree]:
        check_floats("x", x, "...")
        positive = x.real > 0
        return x * positive, {"positive": positive}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        check_grad(grad_output, cache["positive"].shape)
        return grad_output * cache["positive"], {}


class GELU(Component):
    """Gaussian error linear unit, ``y = x Φ(x)`` (Hendrycks and Gimpel 2016, eq. 1-2), Φ the normal distribution.

        approximate="none":  Φ(x) = erfc(-x/√2) / 2                    Φ'(x) = φ(x) = exp(-x²/2) / √(2π)
        approximate="tanh":  Φ(x) ≈ (1 + tanh u) / 2 = σ(2u)           Φ'(x) ≈ 2u' σ(2u) σ(-2u)
                             u = √(2/π) (x + 0.044715 x³)              u' = √(2/π) (1 + 0.134145 x²)

    Backward, by the product rule: ``grad_x = grad_y (Φ(x) + x Φ'(x))``. Neither form subtracts, so both
    keep their relative accuracy in the left tail. Shapes: any.

    Examples
    --------
    >>> GELU()(np.array([-8.0, 0.0, 1.0])).round(6)
    array([-0.      ,  0.      ,  0.841345])
    >>> GELU(approximate="tanh")(np.array([1.0])).round(6)
    array([0.841192])
    """

    def __init__(self, approximate: str = "none"):
        forms = {"none": (normal_cdf, _normal_slope), "tanh": (_tanh_cdf, _tanh_slope)}
        self.cdf, self.slope = check_choice("approximate", approximate, forms)

    def forward(self, x: Array) -> tuple[Array, Tree]:
        check_floats("x", x, "...")
        cdf = self.cdf(x)
        return x * cdf, {"x": x, "cdf": cdf}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        x, cdf = cache["x"], cache["cdf"]
        check_grad(grad_output, x.shape)
        return grad_output * (cdf + x * self.slope(x, cdf)), {}


def _normal_slope(x: Array, cdf: Array) -> Array:
    return normal_pdf(x)


def _tanh_cdf(x: Array) -> Array:
    x = saturated(x)
    return sigmoid(2 * SQRT_2_OVER_PI * x * (1 + 0.044715 * x * x))


def _tanh_slope(x: Array, cdf: Array) -> Array:
    x = saturated(x)
    slope: Array = 2 * SQRT_2_OVER_PI * (1 + 0.134145 * x * x) * cdf * _tanh_cdf(-x)  # 1 - cdf would cancel
    return slope


class SiLU(Component):
    """Sigmoid linear unit, ``y = x σ(x)``, σ(x) = 1 / (1 + exp(-x)) (Elfwing et al. 2018, eq. 9).

    Backward, with σ'(x) = σ(x) σ(-x), which does not cancel as σ (1 - σ) does for large x:

        grad_x = grad_y σ(x) (1 + x σ(-x))

    Shapes: any.

    Examples
    --------
    >>> SiLU()(np.array([-1000.0, 0.0, 2.0])).round(6)
    array([-0.      ,  0.      ,  1.761594])
    """

    def forward(self, x: Array) -> tuple[Array, Tree]:
        check_floats("x", x, "...")
        gate = sigmoid(x)
        return x * gate, {"x": x, "gate": gate}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        x, gate = cache["x"], cache["gate"]
        check_grad(grad_output, x.shape)
        return grad_output * gate * (1 + x * sigmoid(-x)), {}


class Tanh(Component):
    """Hyperbolic tangent, ``y = tanh(x) = (exp(x) - exp(-x)) / (exp(x) + exp(-x))``.

    Backward, with tanh' = 1 - tanh², which needs the output alone:

        grad_x = grad_y (1 - y²)

    Where y is within rounding of ±1, so is the slope of 0. Shapes: any.

    Examples
    --------
    >>> output, cache = Tanh().forward(np.array([-1000.0, 0.0, 0.5]))
    >>> output.round(6)
    array([-1.      ,  0.      ,  0.462117])
    >>> Tanh().backward(np.array([1.0, 1.0, 1.0]), cache)[0].round(6)
    array([0.      , 1.      , 0.786448])
    """

    def forward(self, x: Array) -> tuple[Array, Tree]:
        check_floats("x", x, "...")
        output: Array = np.tanh(x)
        return output, {"output": output}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        y = cache["output"]
        check_grad(grad_output, y.shape)
        return grad_output * (1 - y * y), {}


class Softmax(Component):
    """Softmax over the last axis, ``y_i = exp(x_i) / Σ_j exp(x_j)`` (Bridle 1990).

    The largest x is subtracted first: it cancels in the quotient, and exp cannot overflow. Backward, with
    ∂y_i/∂x_j = y_i (δ_ij - y_j):

        grad_x_j = Σ_i grad_y_i y_i (δ_ij - y_j) = y_j (grad_y_j - Σ_i grad_y_i y_i)

    The sum is what one x takes from all the others; leaving it out is the classic mistake.
    Shapes: x and y (..., T).

    Examples
    --------
    >>> output, cache = Softmax().forward(np.log([[1.0, 2.0, 5.0]]))
    >>> output
    array([[0.125, 0.25 , 0.625]])
    >>> Softmax().backward(np.array([[1.0, 0.0, 0.0]]), cache)[0]
    array([[ 0.109375, -0.03125 , -0.078125]])
    """

    def forward(self, x: Array) -> tuple[Array, Tree]:
        check_floats("x", x, "..., T")
        output = x - x.real.max(-1, keepdims=True)
        np.exp(output, out=output)
        output /= output @ np.ones((x.shape[-1], 1), x.dtype)  # the row sums; faster than output.sum(-1)
        return output, {"output": output}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        y = cache["output"]
        check_grad(grad_output, y.shape)
        row_sums = np.einsum("...i,...i->...", grad_output, y)[..., None]
        return y * (grad_output - row_sums), {}


ACTIVATIONS: dict[str, Callable[[], Component]] = {
    "relu": ReLU,
    "gelu": GELU,
    "gelu_tanh": lambda: GELU("tanh"),
    "silu": SiLU,
}
