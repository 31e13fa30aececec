"""Mistakes in the backward of Linear."""

from __future__ import annotations

from npformer.component import Array, Tree
from npformer.linear import Linear
from npformer.mistakes.catalogue import Gradients, mistake_in


@mistake_in(Linear, case="Linear")
def weight_gradient_not_transposed(linear: Linear, grad_output: Array, cache: Tree) -> Gradients:
    """xᵀ grad_y is (d_in, d_out), the transpose of the gradient of a weight that is (d_out, d_in)."""
    grad_x, grads = linear.backward(grad_output, cache)
    return grad_x, grads | {"weight": grads["weight"].T}


@mistake_in(Linear, case="Linear")
def weight_gradient_reshaped(linear: Linear, grad_output: Array, cache: Tree) -> Gradients:
    """The transposed weight gradient is reshaped until it fits, which puts its entries in other places."""
    grad_x, grads = linear.backward(grad_output, cache)
    return grad_x, grads | {"weight": grads["weight"].T.reshape(linear.weight.shape)}


@mistake_in(Linear, case="Linear")
def weight_gradient_of_the_last_sequence(linear: Linear, grad_output: Array, cache: Tree) -> Gradients:
    """A loop over the batch assigns the weight gradient of each sequence instead of adding it up."""
    grad_x, grads = linear.backward(grad_output, cache)
    for grad_rows, x_rows in zip(grad_output, cache["x"], strict=True):
        grads["weight"] = grad_rows.T @ x_rows
    return grad_x, grads


@mistake_in(Linear, case="Linear")
def weight_gradient_with_decay(linear: Linear, grad_output: Array, cache: Tree) -> Gradients:
    """Weight decay, which is the optimizer's, is added to the weight gradient."""
    grad_x, grads = linear.backward(grad_output, cache)
    return grad_x, grads | {"weight": grads["weight"] + 1e-4 * linear.weight}


@mistake_in(Linear, case="Linear")
def bias_gradient_not_summed(linear: Linear, grad_output: Array, cache: Tree) -> Gradients:
    """The bias was broadcast to all rows, but its gradient is not summed over them."""
    grad_x, grads = linear.backward(grad_output, cache)
    return grad_x, grads | {"bias": grad_output}


@mistake_in(Linear, case="Linear")
def bias_gradient_averaged(linear: Linear, grad_output: Array, cache: Tree) -> Gradients:
    """The bias gradient is averaged over the rows instead of summed."""
    grad_x, grads = linear.backward(grad_output, cache)
    rows = grad_output.size // grad_output.shape[-1]
    return grad_x, grads | {"bias": grads["bias"] / rows}


@mistake_in(Linear, case="Linear")
def bias_gradient_missing(linear: Linear, grad_output: Array, cache: Tree) -> Gradients:
    """The bias gets no gradient."""
    grad_x, grads = linear.backward(grad_output, cache)
    return grad_x, {"weight": grads["weight"]}


@mistake_in(Linear, case="Linear, no bias")
def bias_gradient_without_a_bias(linear: Linear, grad_output: Array, cache: Tree) -> Gradients:
    """A gradient is returned for the bias that this Linear does not have."""
    grad_x, grads = linear.backward(grad_output, cache)
    return grad_x, grads | {"bias": grad_output.reshape(-1, grad_output.shape[-1]).sum(0)}
