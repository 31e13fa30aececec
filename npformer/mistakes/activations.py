"""Mistakes in the backwards of the activations and of softmax."""

from __future__ import annotations

import math

import numpy as np

from npformer.activations import GELU, SQRT_2_OVER_PI, ReLU, SiLU, Softmax, Tanh
from npformer.component import Array, Tree
from npformer.mistakes.catalogue import Gradients, mistake_in
from npformer.special import sigmoid


@mistake_in(ReLU, case="ReLU")
def passes_everywhere(relu: ReLU, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient passes where x < 0 too, as if the activation were the identity."""
    return 1.0 * grad_output, {}


@mistake_in(ReLU, case="ReLU")
def sign_of_the_gradient(relu: ReLU, grad_output: Array, cache: Tree) -> Gradients:
    """The sign of the incoming gradient decides what passes, instead of the sign of x."""
    return grad_output * (grad_output > 0), {}


@mistake_in(ReLU, case="ReLU")
def leaky_slope(relu: ReLU, grad_output: Array, cache: Tree) -> Gradients:
    """Where x < 0 the slope is that of a leaky ReLU, 0.01, though forward has none there."""
    return np.where(cache["positive"], grad_output, 0.01 * grad_output), {}


@mistake_in(GELU, case="GELU")
def cdf_alone(gelu: GELU, grad_output: Array, cache: Tree) -> Gradients:
    """Φ(x) is taken for a constant: the term x Φ'(x) of the product rule is missing."""
    return grad_output * cache["cdf"], {}


@mistake_in(GELU, case="GELU")
def exponent_without_its_half(gelu: GELU, grad_output: Array, cache: Tree) -> Gradients:
    """The density has exp(-x²), which belongs to erf, instead of exp(-x²/2)."""
    x, cdf = cache["x"], cache["cdf"]
    return grad_output * (cdf + x * np.exp(-x * x) / math.sqrt(2 * math.pi)), {}


@mistake_in(GELU, case="GELU")
def tanh_slope_for_erf(gelu: GELU, grad_output: Array, cache: Tree) -> Gradients:
    """The derivative is that of the tanh form, but forward computed the exact one."""
    tanh = GELU("tanh")
    return tanh.backward(grad_output, tanh.forward(cache["x"])[1])


@mistake_in(GELU, case="GELU")
def slope_at_the_output(gelu: GELU, grad_output: Array, cache: Tree) -> Gradients:
    """The derivative is taken at y instead of x, as is right for a sigmoid's y (1 - y)."""
    return gelu.backward(grad_output, gelu.forward(cache["x"] * cache["cdf"])[1])


@mistake_in(GELU, case="GELU")
def slope_by_finite_difference(gelu: GELU, grad_output: Array, cache: Tree) -> Gradients:
    """The slope is the difference quotient (f(x + h) - f(x)) / h with h = 1e-6, not the derivative."""
    x, h = cache["x"], 1e-6
    return grad_output * (gelu(x + h) - gelu(x)) / h, {}


@mistake_in(GELU, case="GELU, tanh")
def erf_slope_for_tanh(gelu: GELU, grad_output: Array, cache: Tree) -> Gradients:
    """The derivative is that of the exact form, but forward computed the tanh one."""
    exact = GELU()
    return exact.backward(grad_output, exact.forward(cache["x"])[1])


@mistake_in(GELU, case="GELU, tanh")
def inner_derivative_missing(gelu: GELU, grad_output: Array, cache: Tree) -> Gradients:
    """The chain rule's u' = √(2/π) (1 + 0.134145 x²) is missing from the derivative of tanh u."""
    x, cdf = cache["x"], cache["cdf"]
    return grad_output * (cdf + x * 2 * cdf * (1 - cdf)), {}


@mistake_in(GELU, case="GELU, tanh")
def cubic_coefficient_not_tripled(gelu: GELU, grad_output: Array, cache: Tree) -> Gradients:
    """The derivative of 0.044715 x³ is written as 0.044715 x², without its factor 3."""
    x, cdf = cache["x"], cache["cdf"]
    slope = 2 * SQRT_2_OVER_PI * (1 + 0.044715 * x * x) * cdf * (1 - cdf)
    return grad_output * (cdf + x * slope), {}


@mistake_in(SiLU, case="SiLU")
def gate_alone(silu: SiLU, grad_output: Array, cache: Tree) -> Gradients:
    """σ(x) is taken for a constant: the term x σ'(x) of the product rule is missing."""
    return grad_output * cache["gate"], {}


@mistake_in(SiLU, case="SiLU")
def gate_for_its_derivative(silu: SiLU, grad_output: Array, cache: Tree) -> Gradients:
    """σ' is written as σ, as if it were exp: the factor 1 - σ is missing."""
    x, gate = cache["x"], cache["gate"]
    return grad_output * (gate + x * gate), {}


@mistake_in(SiLU, case="SiLU")
def derivative_of_the_gate_alone(silu: SiLU, grad_output: Array, cache: Tree) -> Gradients:
    """The derivative is that of the sigmoid σ(x), not of x σ(x)."""
    return grad_output * cache["gate"] * sigmoid(-cache["x"]), {}


@mistake_in(Tanh, case="Tanh")
def slope_at_the_input(tanh: Tanh, grad_output: Array, cache: Tree) -> Gradients:
    """The slope 1 - y² is taken with x for y, which overshoots to large negative slopes."""
    x = np.arctanh(cache["output"])
    return grad_output * (1 - x * x), {}


@mistake_in(Tanh, case="Tanh")
def square_missing(tanh: Tanh, grad_output: Array, cache: Tree) -> Gradients:
    """The slope is written as 1 - y instead of 1 - y²."""
    return grad_output * (1 - cache["output"]), {}


@mistake_in(Tanh, case="Tanh")
def slope_of_the_sigmoid(tanh: Tanh, grad_output: Array, cache: Tree) -> Gradients:
    """The slope is y (1 - y), which is that of the other S-shaped curve."""
    y = cache["output"]
    return grad_output * y * (1 - y), {}


@mistake_in(Softmax, case="Softmax")
def row_sum_missing(softmax: Softmax, grad_output: Array, cache: Tree) -> Gradients:
    """Each x lowers all other outputs, but that sum over the row is not subtracted."""
    return cache["output"] * grad_output, {}


@mistake_in(Softmax, case="Softmax")
def diagonal_alone(softmax: Softmax, grad_output: Array, cache: Tree) -> Gradients:
    """Only the diagonal y (1 - y) of the Jacobian is used, as if softmax were elementwise."""
    y = cache["output"]
    return grad_output * y * (1 - y), {}


@mistake_in(Softmax, case="Softmax")
def row_sum_without_y(softmax: Softmax, grad_output: Array, cache: Tree) -> Gradients:
    """The sum that is subtracted is that of grad_y instead of grad_y * y."""
    return cache["output"] * (grad_output - grad_output.sum(-1, keepdims=True)), {}


@mistake_in(Softmax, case="Softmax")
def row_mean_for_the_sum(softmax: Softmax, grad_output: Array, cache: Tree) -> Gradients:
    """The mean over the row is subtracted instead of the sum."""
    y = cache["output"]
    return y * (grad_output - (grad_output * y).mean(-1, keepdims=True)), {}


@mistake_in(Softmax, case="Softmax")
def sum_over_another_axis(softmax: Softmax, grad_output: Array, cache: Tree) -> Gradients:
    """The sum runs over the rows instead of the entries of each row."""
    y = cache["output"]
    return y * (grad_output - (grad_output * y).sum(-2, keepdims=True)), {}


@mistake_in(Softmax, case="Softmax")
def cross_entropy_shortcut(softmax: Softmax, grad_output: Array, cache: Tree) -> Gradients:
    """y - target, the gradient of softmax and cross-entropy together, is used for softmax alone."""
    return cache["output"] - grad_output, {}
