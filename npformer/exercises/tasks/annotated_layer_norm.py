"""Layer normalisation as in "The Annotated Transformer" (Rush 2018, section "Encoder"): write its backward.

Forward normalises each row, that is the last axis of x, n = d_model entries:

    c      = x - mean(x)
    std    = sqrt(Σ c² / (n - 1))
    x_hat  = c / (std + eps)
    output = weight * x_hat + bias

It differs from the usual layer norm twice: the variance is divided by n - 1, and eps is added outside the root.

Backward is given grad_output, the gradient of output, and the cache that forward returned. It returns grad_x and the
gradients of the parameters. No row of x is constant, so that std is never 0.

Shapes: x, output and their gradients (..., d_model), with any number of leading axes; x_hat the same; std (..., 1);
weight and bias, and their gradients, (d_model,).
"""

from __future__ import annotations

import numpy as np

from npformer import AnnotatedLayerNorm as RightAnnotatedLayerNorm
from npformer.component import Array, Component, Tree
from npformer.exercises.task import BackwardTask, Term
from npformer.gradcheck import Case

Gradients = tuple[Array, Tree]


class AnnotatedLayerNorm(Component):
    """Has the attributes weight, bias and eps."""

    parameter_names = ("weight", "bias")
    weight: Array
    bias: Array
    eps: float

    def forward(self, x: Array) -> tuple[Array, Tree]:
        centred = x - x.mean(-1, keepdims=True)
        std = np.sqrt((centred**2).sum(-1, keepdims=True) / (x.shape[-1] - 1))
        x_hat = centred / (std + self.eps)
        return self.weight * x_hat + self.bias, {"x_hat": x_hat, "std": std}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        """Return grad_x, and {"weight": grad_weight, "bias": grad_bias}."""
        x_hat, std = cache["x_hat"], cache["std"]
        g = grad_output * self.weight
        sum_g_x_hat = (g * x_hat).sum(-1, keepdims=True)
        through_std = x_hat * sum_g_x_hat / ((g.shape[-1] - 1) * std)
        grad_centred = g / (std + self.eps) - through_std
        grad_x = grad_centred - grad_centred.mean(-1, keepdims=True)
        rows = tuple(range(grad_output.ndim - 1))  # every row used weight and bias, so their gradients add up
        return grad_x, {"weight": (grad_output * x_hat).sum(rows), "bias": grad_output.sum(rows)}


def terms(case: Case, cache: Tree, grad_output: Array) -> dict[str, tuple[Term, ...]]:
    weight, x_hat, std = case.component.parameters()["weight"], cache["x_hat"], cache["std"]
    g, over = grad_output * weight, 1 / (std + vars(case.component)["eps"])
    through_mean = over * np.broadcast_to(g.mean(-1, keepdims=True), g.shape)
    without_std = x_hat * (g * x_hat).sum(-1, keepdims=True) / (len(weight) - 1)
    without_weight = over * np.broadcast_to(grad_output.mean(-1, keepdims=True), g.shape)
    return {
        "x": (
            Term("g / (std + eps)", "x → c → x_hat → output", 1, g * over),
            Term("mean(g) / (std + eps)", "x → mean(x) → c → x_hat → output", -1, through_mean),
            Term("x_hat * Σ(g * x_hat) / ((n - 1) std)", "x → c → std → x_hat → output", -1, without_std / std),
            Term("x_hat * Σ(g * x_hat) / (n - 1)", "x → c² → std², without the root", 0, without_std),
            Term("mean(grad_output) / (std + eps)", "x → mean(x) → c → x_hat, past weight", 0, without_weight),
        )
    }


def regions(case: Case, cache: Tree) -> dict[str, dict[str, Array]]:
    x_hat, std = cache["x_hat"], cache["std"]
    return {"x": {"rows that vary little, where eps counts": np.broadcast_to(std < 0.1, x_hat.shape)}}


def gradient_of_x(g: Array, x_hat: Array, std: Array, eps: float, sign: float = -1.0) -> Array:
    through_std = x_hat * (g * x_hat).sum(-1, keepdims=True) / ((g.shape[-1] - 1) * std)
    grad_centred = g / (std + eps) + sign * through_std
    grad_x: Array = grad_centred - grad_centred.mean(-1, keepdims=True)
    return grad_x


def gamma_missing(norm: RightAnnotatedLayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    """grad_output is used where grad_output * weight belongs, which is right only while the weight is 1."""
    grad_x = gradient_of_x(grad_output, cache["x_hat"], cache["std"], norm.eps)
    return grad_x, norm.backward(grad_output, cache)[1]


def gamma_outside_the_sums(norm: RightAnnotatedLayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    """The weight multiplies the result instead of entering mean and sum, which is right only if it is constant."""
    grad_x, grads = gamma_missing(norm, grad_output, cache)
    return norm.weight * grad_x, grads


def eps_dropped(norm: RightAnnotatedLayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient of x - mean(x) is divided by std without eps."""
    g = grad_output * norm.weight
    return gradient_of_x(g, cache["x_hat"], cache["std"], 0.0), norm.backward(grad_output, cache)[1]


def std_path_added(norm: RightAnnotatedLayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    """The path through std is added instead of subtracted: a larger std makes x_hat smaller."""
    g = grad_output * norm.weight
    grad_x = gradient_of_x(g, cache["x_hat"], cache["std"], norm.eps, sign=1.0)
    return grad_x, norm.backward(grad_output, cache)[1]


def root_missing_from_the_std_path(norm: RightAnnotatedLayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    """std is taken for the variance on the way back: the root's derivative 1 / (2 std) is missing."""
    x_hat, std, g = cache["x_hat"], cache["std"], grad_output * norm.weight
    centred = x_hat * (std + norm.eps)
    grad_std = -(g * x_hat).sum(-1, keepdims=True) / (std + norm.eps)
    grad_centred = g / (std + norm.eps) + grad_std * 2 * centred / (g.shape[-1] - 1)
    return grad_centred - grad_centred.mean(-1, keepdims=True), norm.backward(grad_output, cache)[1]


def weight_gradient_from_the_output(norm: RightAnnotatedLayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    """grad_output is multiplied by output instead of x_hat for the weight gradient."""
    grad_x, grads = norm.backward(grad_output, cache)
    products = grad_output * (norm.weight * cache["x_hat"] + norm.bias)
    return grad_x, grads | {"weight": products.reshape(-1, len(norm.weight)).sum(0)}


def weight_gradient_from_the_input(norm: RightAnnotatedLayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    """The weight gradient has x - mean(x) instead of x_hat, which is divided by std + eps."""
    grad_x, grads = norm.backward(grad_output, cache)
    products = grad_output * cache["x_hat"] * (cache["std"] + norm.eps)
    return grad_x, grads | {"weight": products.reshape(-1, len(norm.weight)).sum(0)}


def bias_gradient_times_gamma(norm: RightAnnotatedLayerNorm, grad_output: Array, cache: Tree) -> Gradients:
    """The bias gradient sums g = grad_output * weight instead of grad_output."""
    grad_x, grads = norm.backward(grad_output, cache)
    return grad_x, grads | {"bias": norm.weight * grads["bias"]}


TASK = BackwardTask(
    name="annotated_layer_norm",
    title="The annotated Transformer's layer normalisation, backward",
    statement=__doc__,
    solution=AnnotatedLayerNorm,
    component=RightAnnotatedLayerNorm,
    make="AnnotatedLayerNorm",
    points=7,
    paths={"x": "output → x_hat → c → x", "weight": "output → weight", "bias": "output → bias"},
    terms=terms,
    regions=regions,
    wrong=(
        gamma_missing,
        gamma_outside_the_sums,
        eps_dropped,
        std_path_added,
        root_missing_from_the_std_path,
        weight_gradient_from_the_output,
        weight_gradient_from_the_input,
        bias_gradient_times_gamma,
    ),
    hints=(
        "If you have done layer_norm, the graph is the same. Only two arrows have other slopes: the one out of the "
        "sum of c², and the one past eps.",
        "Call g the gradient of x_hat. Go back one node at a time: x_hat is a quotient, so that g goes to c above and "
        "to std + eps below.",
        "std belongs to a whole row, so its gradient is a sum over the row, and each c of the row gets its share. eps "
        "was added after the root was taken: which of the two divides in the derivative of the root?",
        "grad_std = -Σ(g * x_hat) / (std + eps), and d std / d c = c / ((n - 1) std). At last c = x - mean(x): take "
        "the mean of grad_c off grad_c.",
    ),
    derivation="""
    grad_bias = Σ_rows grad_output and grad_weight = Σ_rows grad_output * x_hat, since every row used them.

    With g = grad_output * weight, the gradient of x_hat = c / s, and s = std + eps, row by row:

        grad_s   = -Σ g * c / s² = -Σ(g * x_hat) / s      one number for each row
        grad_std = grad_s                                 eps is a constant
        d std / d c = c / ((n - 1) std)                   the root's derivative: std alone, without eps
        grad_c   = g / s + grad_std * c / ((n - 1) std)   directly, and through std

    With c = x_hat * s the s cancels in the second term:

        grad_c = g / (std + eps) - x_hat * Σ(g * x_hat) / ((n - 1) std)

    c is x minus its mean, so that every x lowers all c of its row:

        grad_x = grad_c - mean(grad_c)
    """,
)
