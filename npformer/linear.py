"""The linear map: every weight matrix of the encoder is one of these."""

from __future__ import annotations

import numpy as np

from npformer.component import Array, Component, Tree
from npformer.shapes import (
    check_count,
    check_flag,
    check_floats,
    check_grad,
    check_shape,
    check_width,
    make_generator,
)


def column_sums(rows: Array) -> Array:
    """Return the sum of the rows of a matrix; a product with ones is faster than rows.sum(0)."""
    sums: Array = np.ones(len(rows), rows.dtype) @ rows
    return sums


class Linear(Component):
    """Linear map of the last axis, ``y = x Wᵀ + b``.

    Backward, with the leading axes of x flattened into rows r: y[r,o] = Σ_i x[r,i] W[o,i] + b[o], so

        grad_x[r,i] = Σ_o grad_y[r,o] W[o,i]          grad_x = grad_y W
        grad_W[o,i] = Σ_r grad_y[r,o] x[r,i]          grad_W = grad_yᵀ x
        grad_b[o]   = Σ_r grad_y[r,o]                 (b is used by every row: its gradients add up)

    Parameters
    ----------
    d_in, d_out : int
        Sizes of the last axis before and after.
    bias : bool
        Whether there is a b.
    rng : Generator, int or None
        W is drawn from U(-a, a) with a = √(6 / (d_in + d_out)) (Glorot and Bengio 2010, eq. 16); b is 0.

    Shapes: x (..., d_in), y (..., d_out), weight (d_out, d_in), bias (d_out,).

    Examples
    --------
    >>> linear = Linear(2, 3)
    >>> linear.weight = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> linear(np.array([[4.0, 5.0]]))
    array([[4., 5., 9.]])
    """

    parameter_names = ("weight", "bias")

    def __init__(self, d_in: int, d_out: int, bias: bool = True, rng: np.random.Generator | int | None = None):
        bound = np.sqrt(6 / (check_count("d_in", d_in) + check_count("d_out", d_out)))
        check_flag("bias", bias)
        self.weight: Array = make_generator(rng).uniform(-bound, bound, (d_out, d_in))
        self.bias: Array | None = np.zeros(d_out) if bias else None

    def forward(self, x: Array) -> tuple[Array, Tree]:
        check_floats("weight", self.weight, "d_out, d_in")
        d_out, d_in = self.weight.shape
        check_floats("x", x, "..., d_in")
        check_width("x", x, "d_in", d_in, self)
        output = x.reshape(-1, d_in) @ self.weight.T  # one 2-D product is faster than a batch of them
        if self.bias is not None:
            check_shape("bias", self.bias, (d_out,))
            in_place = output if np.can_cast(self.bias.dtype, output.dtype) else None  # not where one alone is complex
            output = np.add(output, self.bias, out=in_place)
        return output.reshape(*x.shape[:-1], d_out), {"x": x}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        x = cache["x"]
        d_out, d_in = self.weight.shape
        check_grad(grad_output, (*x.shape[:-1], d_out))
        grad_rows = grad_output.reshape(-1, d_out)
        grads = {"weight": grad_rows.T @ x.reshape(-1, d_in)}
        if self.bias is not None:
            grads["bias"] = column_sums(grad_rows)
        return (grad_rows @ self.weight).reshape(x.shape), grads
