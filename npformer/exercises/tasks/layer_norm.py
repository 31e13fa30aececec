"""Layer normalisation (Ba et al. 2016, eq. 4): write its backward.

Forward normalises each row, that is the last axis of x:

    x_hat  = (x - mean(x)) * rstd,    rstd = 1 / sqrt(var(x) + eps)
    output = weight * x_hat + bias

Backward is given grad_output, the gradient of output, and the cache that forward returned. It returns grad_x and the
gradients of the parameters.

Shapes: x, output and their gradients (..., d_model), with any number of leading axes; x_hat the same; rstd (..., 1);
weight and bias, and their gradients, (d_model,).
"""

from __future__ import annotations

import numpy as np

from npformer import LayerNorm as RightLayerNorm
from npformer.component import Array, Component, Tree
from npformer.exercises.task import BackwardTask, Term
from npformer.gradcheck import Case


class LayerNorm(Component):
    """Has the attributes weight, bias and eps."""

    parameter_names = ("weight", "bias")
    weight: Array
    bias: Array
    eps: float

    def forward(self, x: Array) -> tuple[Array, Tree]:
        centred = x - x.mean(-1, keepdims=True)
        rstd = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + self.eps)
        x_hat = centred * rstd
        return self.weight * x_hat + self.bias, {"x_hat": x_hat, "rstd": rstd}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        """Return grad_x, and {"weight": grad_weight, "bias": grad_bias}."""
        x_hat, rstd = cache["x_hat"], cache["rstd"]
        g = grad_output * self.weight
        mean_g = g.mean(-1, keepdims=True)
        mean_g_x_hat = (g * x_hat).mean(-1, keepdims=True)
        grad_x = rstd * (g - mean_g - x_hat * mean_g_x_hat)
        rows = tuple(range(grad_output.ndim - 1))  # every row used weight and bias, so their gradients add up
        return grad_x, {"weight": (grad_output * x_hat).sum(rows), "bias": grad_output.sum(rows)}


def terms(case: Case, cache: Tree, grad_output: Array) -> dict[str, tuple[Term, ...]]:
    weight, x_hat, rstd = case.component.parameters()["weight"], cache["x_hat"], cache["rstd"]
    g = grad_output * weight
    through_mean = rstd * np.broadcast_to(g.mean(-1, keepdims=True), g.shape)
    through_rstd = rstd * x_hat * (g * x_hat).mean(-1, keepdims=True)
    return {
        "x": (
            Term("rstd * g", "x → x - mean(x) → x_hat → output", 1, rstd * g),
            Term("rstd * mean(g)", "x → mean(x) → x_hat → output", -1, through_mean),
            Term("rstd * x_hat * mean(g * x_hat)", "x → var(x) → rstd → x_hat → output", -1, through_rstd),
        )
    }


TASK = BackwardTask(
    name="layer_norm",
    title="Layer normalisation, backward",
    statement=__doc__,
    solution=LayerNorm,
    component=RightLayerNorm,
    make="LayerNorm",
    points=6,
    paths={"x": "output → x_hat → x", "weight": "output → weight", "bias": "output → bias"},
    terms=terms,
    hints=(
        "Begin with bias and weight: which entries of output did one entry of bias move? All of them send it gradient.",
        "Call g the gradient of x_hat. x reaches x_hat in three ways: directly, and through two numbers that are "
        "computed from the whole row. Draw the graph, and give each arrow its slope.",
        "The two numbers are mean(x) and rstd. Each belongs to a row, so its gradient is a sum over the row, and every "
        "x of the row gets its share of it.",
        "rstd is (var + eps)^(-1/2), so that d rstd / d var = -rstd³ / 2, and d var / d x = 2 (x - mean(x)) / d_model. "
        "Write x - mean(x) as x_hat / rstd, and most of it cancels.",
    ),
    derivation="""
    grad_bias = Σ_rows grad_output and grad_weight = Σ_rows grad_output * x_hat, since every row used them.

    With g = grad_output * weight, the gradient of x_hat, n = d_model and c = x - mean(x), so that x_hat = c * rstd:

        grad_rstd = Σ g * c                          over the row: one number for each
        grad_var  = grad_rstd * (-1/2) rstd³
        grad_c    = g * rstd + grad_var * 2 c / n    directly, and through var = mean(c²)
                  = rstd * (g - x_hat * mean(g * x_hat))

    c is x minus its mean, so that grad_x = grad_c - mean(grad_c). The mean of x_hat is 0, which leaves

        grad_x = rstd * (g - mean(g) - x_hat * mean(g * x_hat))
    """,
)
