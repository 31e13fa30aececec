"""The position-wise feed-forward network (Vaswani et al. 2017, eq. 2): write its backward.

Forward is four steps, on each position alone; the activation is ReLU:

    hidden    = linear1(x)
    activated = activation(hidden)
    dropped   = dropout(activated)
    output    = linear2(dropped)

Backward is given grad_output, the gradient of output, and the cache that forward returned. It returns grad_x and the
tree of the gradients of the parameters, which has the names of the children; two of them have no parameters:

    {"linear1": ..., "activation": {}, "dropout": {}, "linear2": ...}

Each child has a right backward, which you call with the gradient of its output and its own part of the cache, such as
cache["linear1"]. It returns the gradient of its input and the tree of its parameters' gradients, ready to be put under
its name. You may also write the steps out: the caches of the linear maps hold "x", what each was given; that of the
activation holds "positive", where hidden > 0; and that of dropout holds "mask", True where an entry was kept and
multiplied by 1 / (1 - dropout.p).

Shapes: x, output and their gradients (..., d_model); between the linear maps (..., d_ff). linear1.weight is (d_ff,
d_model), linear2.weight (d_model, d_ff).
"""

from __future__ import annotations

from typing import cast

import numpy as np

from npformer import Dropout, Linear, ReLU
from npformer import PositionwiseFeedForward as RightFeedForward
from npformer.component import Array, Component, Tree
from npformer.dropout import RandomSource
from npformer.exercises.task import BackwardTask, Term
from npformer.gradcheck import Case
from npformer.mistakes.catalogue import Gradients


class PositionwiseFeedForward(Component):
    """Has the attributes linear1, activation, dropout and linear2."""

    linear1: Linear
    activation: ReLU
    dropout: Dropout
    linear2: Linear

    def forward(self, x: Array, rng: RandomSource | None = None) -> tuple[Array, Tree]:
        cache: Tree = {}
        hidden, cache["linear1"] = self.linear1.forward(x)
        activated, cache["activation"] = self.activation.forward(hidden)
        dropped, cache["dropout"] = self.dropout.forward(activated, rng=rng)
        output, cache["linear2"] = self.linear2.forward(dropped)
        return output, cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        """Return grad_x, and the tree of the children's gradients."""
        grads: Tree = {}
        grad_dropped, grads["linear2"] = self.linear2.backward(grad_output, cache["linear2"])
        grad_activated, grads["dropout"] = self.dropout.backward(grad_dropped, cache["dropout"])
        grad_hidden, grads["activation"] = self.activation.backward(grad_activated, cache["activation"])
        grad_x, grads["linear1"] = self.linear1.backward(grad_hidden, cache["linear1"])
        return grad_x, grads


def terms(case: Case, cache: Tree, grad_output: Array) -> dict[str, tuple[Term, ...]]:
    network = cast(RightFeedForward, case.component)
    grad_dropped, _ = network.linear2.backward(grad_output, cache["linear2"])
    kept = network.dropout.backward(np.ones_like(grad_dropped), cache["dropout"])[0]
    on = cache["activation"]["positive"]
    chain = "x → hidden → activated → dropped → output"
    hidden_grads = {
        "slope * kept * grad_dropped": (chain, 1, grad_dropped * kept * on),
        "kept * grad_dropped": ("x → hidden → dropped → output, past the activation", 0, grad_dropped * kept),
        "slope * grad_dropped": ("x → hidden → activated → output, past the dropout", 0, grad_dropped * on),
    }
    of: dict[str, list[Term]] = {"x": [], "linear1.weight": [], "linear1.bias": []}
    for name, (path, coefficient, grad) in hidden_grads.items():
        grad_x, grads = network.linear1.backward(grad, cache["linear1"])
        of["x"].append(Term(f"({name}) linear1.weight", path, coefficient, grad_x))
        for kind, values in grads.items():
            path_from = path.replace("x →", f"linear1.{kind} →")
            of[f"linear1.{kind}"].append(Term(name, path_from, coefficient, values))
    of["x"].append(Term("grad_output", "x → output, past the network: the parent's residual path", 0, grad_output))
    hidden = network.linear1(cache["linear1"]["x"])
    weights = [
        Term(name, path, coefficient, network.linear2.backward(grad_output, {"x": given})[1]["weight"])
        for name, path, coefficient, given in (
            ("grad_outputᵀ dropped", "linear2.weight with dropped → output", 1, cache["linear2"]["x"]),
            ("grad_outputᵀ activated", "linear2.weight with activated, before the dropout → output", 0, hidden * on),
            ("grad_outputᵀ hidden", "linear2.weight with hidden, before the activation → output", 0, hidden),
        )
    ]
    return {name: tuple(each) for name, each in of.items()} | {"linear2.weight": tuple(weights)}


def regions(case: Case, cache: Tree) -> dict[str, dict[str, Array]]:
    network = cast(RightFeedForward, case.component)
    used = cache["activation"]["positive"] & cache["dropout"]["mask"]
    idle = ~used.reshape(-1, used.shape[-1]).any(0)
    label = "hidden units that are off or dropped at every position"
    return {
        "linear1.weight": {label: np.broadcast_to(idle[:, None], network.linear1.weight.shape)},
        "linear1.bias": {label: idle},
        "linear2.weight": {label: np.broadcast_to(idle, network.linear2.weight.shape)},
    }


def dropout_without_its_factor(network: RightFeedForward, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient is multiplied by dropout's mask, but not by 1 / (1 - p)."""
    grad_dropped, linear2_grads = network.linear2.backward(grad_output, cache["linear2"])
    return _from_activated(network, grad_dropped * cache["dropout"]["mask"], cache, linear2_grads)


def dropout_undone(network: RightFeedForward, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient is multiplied by 1 - p, which undoes what dropout did, where it needs dropout's factor again."""
    grad_dropped, linear2_grads = network.linear2.backward(grad_output, cache["linear2"])
    undone = grad_dropped * cache["dropout"]["mask"] * (1 - network.dropout.p)
    return _from_activated(network, undone, cache, linear2_grads)


def dropout_twice(network: RightFeedForward, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient goes through dropout twice, so that its factor 1 / (1 - p) is squared."""
    grad_dropped, linear2_grads = network.linear2.backward(grad_output, cache["linear2"])
    once, _ = network.dropout.backward(grad_dropped, cache["dropout"])
    return _from_activated(network, network.dropout.backward(once, cache["dropout"])[0], cache, linear2_grads)


def mask_drawn_again(network: RightFeedForward, grad_output: Array, cache: Tree) -> Gradients:
    """Dropout's mask is drawn anew in backward, so that it is not the one of forward."""
    _, other = network.dropout.forward(cache["linear2"]["x"], rng=np.random.default_rng(0))
    return network.backward(grad_output, cache | {"dropout": other})


def linear2_input_before_the_activation(network: RightFeedForward, grad_output: Array, cache: Tree) -> Gradients:
    """linear2's weight gradient is computed with hidden, the output of linear1, which linear2 did not see."""
    hidden = network.linear1(cache["linear1"]["x"])
    return network.backward(grad_output, cache | {"linear2": {"x": hidden}})


def linear1_grads_without_the_slope(network: RightFeedForward, grad_output: Array, cache: Tree) -> Gradients:
    """grad_x is right, but linear1's own gradients are taken before the gradient goes through the activation."""
    grad_x, grads = network.backward(grad_output, cache)
    grad_dropped, _ = network.linear2.backward(grad_output, cache["linear2"])
    grad_activated, _ = network.dropout.backward(grad_dropped, cache["dropout"])
    return grad_x, grads | {"linear1": network.linear1.backward(grad_activated, cache["linear1"])[1]}


def _from_activated(network: RightFeedForward, grad_activated: Array, cache: Tree, linear2_grads: Tree) -> Gradients:
    grad_hidden, _ = network.activation.backward(grad_activated, cache["activation"])
    grad_x, linear1_grads = network.linear1.backward(grad_hidden, cache["linear1"])
    return grad_x, {"linear1": linear1_grads, "activation": {}, "dropout": {}, "linear2": linear2_grads}


TASK = BackwardTask(
    name="feed_forward",
    title="The feed-forward network, backward",
    statement=__doc__,
    solution=PositionwiseFeedForward,
    component=RightFeedForward,
    make="PositionwiseFeedForward",
    points=4,
    paths={
        "x": "output → dropped → activated → hidden → x",
        "linear1.weight": "output → dropped → activated → hidden → linear1.weight",
        "linear1.bias": "output → dropped → activated → hidden → linear1.bias",
        "linear2.weight": "output → linear2.weight",
        "linear2.bias": "output → linear2.bias",
    },
    terms=terms,
    regions=regions,
    wrong=(
        dropout_without_its_factor,
        dropout_undone,
        dropout_twice,
        mask_drawn_again,
        linear2_input_before_the_activation,
        linear1_grads_without_the_slope,
    ),
    hints=(
        "There is no fork here: forward is a chain of four steps, and backward is the same chain from its other end.",
        "Each step needs two things: the gradient of what that step put out, and what forward kept for that step. Name "
        "the gradient after the value it belongs to, as in grad_dropped.",
        "A linear map gives two results: the gradient of its parameters, which goes into the tree, and the gradient of "
        "its input, with which the step before it goes on.",
        "The order is linear2, dropout, activation, linear1: each gets what the one named before it returned.",
    ),
    derivation="""
    By the chain rule each step multiplies the gradient by its own Jacobian, transposed, the last step first. With the
    positions as rows:

        grad_dropped   = grad_output linear2.weight
        grad_activated = grad_dropped * mask / (1 - p)         the mask of that forward
        grad_hidden    = grad_activated * (hidden > 0)
        grad_x         = grad_hidden linear1.weight

    A linear map's parameters need the gradient of its output and what it was given, and every row used them:

        linear2:  grad_weight = grad_outputᵀ dropped,   grad_bias = Σ_rows grad_output
        linear1:  grad_weight = grad_hiddenᵀ x,         grad_bias = Σ_rows grad_hidden

    Dropout and ReLU both multiply entry by entry, so these two may be exchanged. In one line:

        grad_x = ((grad_output linear2.weight) * mask / (1 - p) * (hidden > 0)) linear1.weight
    """,
)
