"""Residual connections around a sublayer, with the norm before it or after."""

from __future__ import annotations

from typing import Any

from npformer.component import Array, Component, Tree
from npformer.dropout import Dropout
from npformer.shapes import check_equal, check_floats, check_part


class SublayerConnection(Component):
    """What both residual connections hold: a sublayer, its norm and a dropout.

    Parameters
    ----------
    sublayer : Component
        Keeps the shape of its input, such as MultiHeadedAttention or PositionwiseFeedForward.
    norm : Component
        LayerNorm or AnnotatedLayerNorm.
    dropout : float
        Rate for the sublayer's output, in [0, 1).

    `forward(x, **options)` hands the options, such as mask and rng, on to the sublayer; rng also draws the
    mask of the dropout.
    """

    def __init__(self, sublayer: Component, norm: Component, dropout: float = 0.1):
        check_part("sublayer", sublayer, Component)
        check_part("norm", norm, Component)
        self.sublayer = sublayer
        self.norm = norm
        self.dropout = Dropout(dropout)


class PreNormSublayerConnection(SublayerConnection):
    """``y = x + dropout(sublayer(norm(x)))`` (Xiong et al. 2020, figure 1b).

    x forks into the residual path and the sublayer's, so the gradients of the two add up:

        grad_x = grad_y + (grad_y taken back through dropout, sublayer and norm)

    Parameters and forward are those of SublayerConnection.

    Examples
    --------
    >>> import numpy as np
    >>> from npformer import Linear, LayerNorm
    >>> connection = PreNormSublayerConnection(Linear(2, 2), LayerNorm(2))
    >>> connection.sublayer.weight = np.eye(2)
    >>> connection(np.array([[1.0, 3.0]])).round(4)
    array([[0., 4.]])
    """

    def forward(self, x: Array, **options: Any) -> tuple[Array, Tree]:
        check_floats("x", x, "..., d_model")
        cache: Tree = {}
        normed, cache["norm"] = self.norm.forward(x)
        update, cache["sublayer"] = self.sublayer.forward(normed, **options)
        check_equal("the sublayer's output", "shape", update.shape, "x", x.shape)
        dropped, cache["dropout"] = self.dropout.forward(update, rng=options.get("rng"))
        return x + dropped, cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        grads: Tree = {}
        grad_update, grads["dropout"] = self.dropout.backward(grad_output, cache["dropout"])
        grad_normed, grads["sublayer"] = self.sublayer.backward(grad_update, cache["sublayer"])
        grad_x, grads["norm"] = self.norm.backward(grad_normed, cache["norm"])
        return grad_output + grad_x, grads


class PostNormSublayerConnection(SublayerConnection):
    """``y = norm(x + dropout(sublayer(x)))`` (Vaswani et al. 2017, section 3.1).

    With grad_sum the gradient of grad_y taken back through the norm, and x forking as in the pre-norm form:

        grad_x = grad_sum + (grad_sum taken back through dropout and sublayer)

    Parameters and forward are those of SublayerConnection.

    Examples
    --------
    >>> import numpy as np
    >>> from npformer import Linear, LayerNorm
    >>> connection = PostNormSublayerConnection(Linear(2, 2), LayerNorm(2))
    >>> connection.sublayer.weight = np.eye(2)
    >>> connection(np.array([[1.0, 3.0]])).round(4)
    array([[-1.,  1.]])
    """

    def forward(self, x: Array, **options: Any) -> tuple[Array, Tree]:
        check_floats("x", x, "..., d_model")
        cache: Tree = {}
        update, cache["sublayer"] = self.sublayer.forward(x, **options)
        check_equal("the sublayer's output", "shape", update.shape, "x", x.shape)
        dropped, cache["dropout"] = self.dropout.forward(update, rng=options.get("rng"))
        output, cache["norm"] = self.norm.forward(x + dropped)
        return output, cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        grads: Tree = {}
        grad_sum, grads["norm"] = self.norm.backward(grad_output, cache["norm"])
        grad_update, grads["dropout"] = self.dropout.backward(grad_sum, cache["dropout"])
        grad_x, grads["sublayer"] = self.sublayer.backward(grad_update, cache["sublayer"])
        return grad_sum + grad_x, grads
