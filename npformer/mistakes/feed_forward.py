"""Mistakes in the backward of the position-wise feed-forward network."""

from __future__ import annotations

from npformer.component import Array, Tree
from npformer.feed_forward import PositionwiseFeedForward
from npformer.mistakes.catalogue import Gradients, mistake_in


@mistake_in(PositionwiseFeedForward, case="PositionwiseFeedForward")
def activation_missing(network: PositionwiseFeedForward, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient goes from linear2 to linear1 without the derivative of the activation between them."""
    grad_dropped, linear2_grads = network.linear2.backward(grad_output, cache["linear2"])
    grad_activated, _ = network.dropout.backward(grad_dropped, cache["dropout"])
    grad_x, linear1_grads = network.linear1.backward(grad_activated, cache["linear1"])
    return grad_x, {"linear1": linear1_grads, "activation": {}, "dropout": {}, "linear2": linear2_grads}


@mistake_in(PositionwiseFeedForward, case="PositionwiseFeedForward")
def dropout_missing(network: PositionwiseFeedForward, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient is not taken back through the dropout between the two linear maps."""
    return network.backward(grad_output, cache | {"dropout": {}})


@mistake_in(PositionwiseFeedForward, case="PositionwiseFeedForward")
def linear2_input_before_dropout(network: PositionwiseFeedForward, grad_output: Array, cache: Tree) -> Gradients:
    """linear2's weight gradient is computed with the activations before dropout, which linear2 did not see."""
    activated = network.activation(network.linear1(cache["linear1"]["x"]))
    return network.backward(grad_output, cache | {"linear2": {"x": activated}})


@mistake_in(PositionwiseFeedForward, case="PositionwiseFeedForward")
def residual_inside(network: PositionwiseFeedForward, grad_output: Array, cache: Tree) -> Gradients:
    """A residual path is added to grad_x, though it belongs to the connection around this network."""
    grad_x, grads = network.backward(grad_output, cache)
    return grad_output + grad_x, grads
