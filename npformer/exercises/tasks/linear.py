"""The linear map: write its backward.

Forward multiplies each row, that is the last axis of x, by the transposed weight, and adds the bias:

    output = x weightᵀ + bias,    output[r, o] = Σ_i x[r, i] weight[o, i] + bias[o]

where r counts the rows: x may have any number of axes before the last, here a batch and tokens. All rows share one
weight and one bias.

Backward is given grad_output, the gradient of output, and the cache that forward returned. It returns grad_x and the
gradients of the parameters, each in the shape of what it is the gradient of.

Shapes: x (..., d_in), output (..., d_out), weight (d_out, d_in), bias (d_out,).
"""

from __future__ import annotations

import numpy as np

from npformer import Linear as RightLinear
from npformer.component import Array, Component, Tree
from npformer.exercises.task import BackwardTask, Term
from npformer.gradcheck import Case
from npformer.mistakes.catalogue import Gradients


class Linear(Component):
    """Has the attributes weight and bias."""

    parameter_names = ("weight", "bias")
    weight: Array
    bias: Array

    def forward(self, x: Array) -> tuple[Array, Tree]:
        return x @ self.weight.T + self.bias, {"x": x}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        """Return grad_x, and {"weight": grad_weight, "bias": grad_bias}."""
        d_out, d_in = self.weight.shape
        grad_rows, x_rows = grad_output.reshape(-1, d_out), cache["x"].reshape(-1, d_in)
        grad_x = grad_output @ self.weight
        return grad_x, {"weight": grad_rows.T @ x_rows, "bias": grad_rows.sum(0)}


def rows(array: Array) -> Array:
    return array.reshape(-1, array.shape[-1])


def terms(case: Case, cache: Tree, grad_output: Array) -> dict[str, tuple[Term, ...]]:
    parameters, grad_rows, x_rows = case.component.parameters(), rows(grad_output), rows(cache["x"])
    summed = np.outer(grad_rows.sum(0), x_rows.sum(0))
    return {
        "weight": (
            Term("grad_outputᵀ x", "weight → output of the same row, with its x", 1, grad_rows.T @ x_rows),
            Term("(Σ grad_output) (Σ x)ᵀ", "weight → output of one row, with the x of another", 0, summed),
            Term("weight", "weight → a penalty on its size, which is no part of forward", 0, parameters["weight"]),
        ),
        "bias": (
            Term("Σ grad_output", "bias → output of every row", 1, grad_rows.sum(0)),
            Term("bias", "bias → a penalty on its size, which is no part of forward", 0, parameters["bias"]),
        ),
    }


def all_axes_reversed(linear: RightLinear, grad_output: Array, cache: Tree) -> Gradients:
    """grad_output.T of three axes exchanges batch and tokens too, so that each row meets the x of another."""
    grad_x, grads = linear.backward(grad_output, cache)
    return grad_x, grads | {"weight": grad_output.T.reshape(len(linear.weight), -1) @ rows(cache["x"])}


def rows_summed_before_the_product(linear: RightLinear, grad_output: Array, cache: Tree) -> Gradients:
    """grad_output and x are each summed over the rows and then multiplied; the sum of products is another thing."""
    grad_x, grads = linear.backward(grad_output, cache)
    return grad_x, grads | {"weight": np.outer(rows(grad_output).sum(0), rows(cache["x"]).sum(0))}


def weight_gradient_averaged(linear: RightLinear, grad_output: Array, cache: Tree) -> Gradients:
    """The weight gradient is averaged over the rows instead of summed."""
    grad_x, grads = linear.backward(grad_output, cache)
    return grad_x, grads | {"weight": grads["weight"] / len(rows(grad_output))}


def parameters_averaged_over_the_batch(linear: RightLinear, grad_output: Array, cache: Tree) -> Gradients:
    """The gradients of weight and bias are divided by the batch size, which a loss may do, but not its parts."""
    grad_x, grads = linear.backward(grad_output, cache)
    return grad_x, {name: grad / len(grad_output) for name, grad in grads.items()}


def weight_gradient_for_each_sequence(linear: RightLinear, grad_output: Array, cache: Tree) -> Gradients:
    """Each sequence of the batch has its weight gradient, but they are not added up."""
    grad_x, grads = linear.backward(grad_output, cache)
    return grad_x, grads | {"weight": grad_output.swapaxes(-1, -2) @ cache["x"]}


def bias_summed_over_the_batch_alone(linear: RightLinear, grad_output: Array, cache: Tree) -> Gradients:
    """The bias gradient is summed over the batch, but not over the tokens."""
    grad_x, grads = linear.backward(grad_output, cache)
    return grad_x, grads | {"bias": grad_output.sum(0)}


def bias_summed_over_the_outputs(linear: RightLinear, grad_output: Array, cache: Tree) -> Gradients:
    """The bias gradient is summed over the last axis, which is its own, instead of over the rows."""
    grad_x, grads = linear.backward(grad_output, cache)
    return grad_x, grads | {"bias": grad_output.sum(-1)}


def weight_reshaped(linear: RightLinear, grad_output: Array, cache: Tree) -> Gradients:
    """The weight is transposed as in forward and then reshaped until it fits, which puts its entries elsewhere."""
    return grad_output @ linear.weight.T.reshape(linear.weight.shape), linear.backward(grad_output, cache)[1]


TASK = BackwardTask(
    name="linear",
    title="The linear map, backward",
    statement=__doc__,
    solution=Linear,
    component=RightLinear,
    make="Linear",
    points=3,
    paths={"x": "output → x", "weight": "output of every row → weight", "bias": "output of every row → bias"},
    terms=terms,
    wrong=(
        all_axes_reversed,
        rows_summed_before_the_product,
        weight_gradient_averaged,
        parameters_averaged_over_the_batch,
        weight_gradient_for_each_sequence,
        bias_summed_over_the_batch_alone,
        bias_summed_over_the_outputs,
        weight_reshaped,
    ),
    hints=(
        "Take one entry of bias, of weight and of x in turn, and list the entries of output that it moves.",
        "One bias moves one column of output, in every row. All those entries send it their gradient, and it adds up.",
        "Flatten the axes before the last into rows, grad_output.reshape(-1, d_out) and x.reshape(-1, d_in). Then all "
        "three gradients are sums that a product or .sum(0) of matrices does.",
        "Let the shapes check you: grad_weight is (d_out, d_in), made of (rows, d_out) and (rows, d_in), so the rows "
        "are what is summed over. grad_x is made of (..., d_out) and weight (d_out, d_in).",
    ),
    derivation="""
    output[r, o] = Σ_i x[r, i] weight[o, i] + bias[o]. With g = grad_output, each gradient is the sum over all entries
    of output of g times the slope of that entry:

        grad_bias[o]      = Σ_r g[r, o]                  its slope is 1 in column o of every row
        grad_weight[o, i] = Σ_r g[r, o] x[r, i]          its slope is x[r, i], in column o of row r
        grad_x[r, i]      = Σ_o g[r, o] weight[o, i]     its slope is weight[o, i], in row r alone

    Read as products of matrices, whose rows are all rows of the batch:

        grad_bias = Σ_rows g        grad_weight = gᵀ x        grad_x = g weight
    """,
)
