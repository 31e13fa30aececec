"""The position-wise feed-forward network."""

from __future__ import annotations

import numpy as np

from npformer.activations import ReLU
from npformer.component import Array, Component, Tree
from npformer.dropout import Dropout, RandomSource
from npformer.linear import Linear
from npformer.shapes import check_count, check_floats, check_part, check_width, make_generator


class PositionwiseFeedForward(Component):
    """Two linear maps with an activation between, on each position alone (Vaswani et al. 2017, eq. 2).

        y = linear2(dropout(activation(linear1(x))))

    Backward is the same four steps, last first.

    Parameters
    ----------
    d_model, d_ff : int
        Sizes outside and inside.
    dropout : float
        Rate for the inner activations, in [0, 1).
    activation : Component, optional
        ReLU() by default.
    rng : Generator, int or None
        For the initial weights, distributed as Linear says.

    `forward(x, rng=None)`. Shapes: x and y (..., d_model).

    Examples
    --------
    >>> PositionwiseFeedForward(d_model=4, d_ff=16, rng=0)(np.ones((2, 3, 4))).shape
    (2, 3, 4)
    """

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        dropout: float = 0.1,
        activation: Component | None = None,
        rng: np.random.Generator | int | None = None,
    ):
        check_count("d_model", d_model)
        check_count("d_ff", d_ff)
        activation = ReLU() if activation is None else activation
        check_part("activation", activation, Component)
        inner_dropout = Dropout(dropout)
        rng = make_generator(rng)
        self.linear1 = Linear(d_model, d_ff, rng=rng)
        self.activation = activation
        self.dropout = inner_dropout
        self.linear2 = Linear(d_ff, d_model, rng=rng)

    def forward(self, x: Array, rng: RandomSource | None = None) -> tuple[Array, Tree]:
        check_floats("x", x, "..., d_model")
        check_width("x", x, "d_model", self.linear1.weight.shape[1], self)
        cache: Tree = {}
        hidden, cache["linear1"] = self.linear1.forward(x)  # one name, so that what no one needs any more is freed
        hidden, cache["activation"] = self.activation.forward(hidden)
        hidden, cache["dropout"] = self.dropout.forward(hidden, rng=rng)
        output, cache["linear2"] = self.linear2.forward(hidden)
        return output, cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        grads: Tree = {}
        grad_hidden, grads["linear2"] = self.linear2.backward(grad_output, cache["linear2"])
        grad_hidden, grads["dropout"] = self.dropout.backward(grad_hidden, cache["dropout"])
        grad_hidden, grads["activation"] = self.activation.backward(grad_hidden, cache["activation"])
        grad_x, grads["linear1"] = self.linear1.backward(grad_hidden, cache["linear1"])
        return grad_x, grads
