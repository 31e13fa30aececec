"""The encoder layer, and stacks of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npformer.activations import ACTIVATIONS
from npformer.attention import MultiHeadedAttention
from npformer.component import Array, Component, Tree, add_trees, clones
from npformer.dropout import RandomSource
from npformer.feed_forward import PositionwiseFeedForward
from npformer.norm import LayerNorm
from npformer.shapes import (
    check_choice,
    check_count,
    check_flag,
    check_floats,
    check_part,
    check_parts,
    check_width,
    make_generator,
)
from npformer.sublayer import PostNormSublayerConnection, PreNormSublayerConnection


class EncoderLayer(Component):
    """One encoder layer: self-attention, then feed-forward, each in a residual connection (Vaswani et al. 2017, 3.1).

    Backward is the two connections, last first.

    Parameters
    ----------
    d_model : int
        Size of the last axis.
    self_attn, feed_forward : Component
        The two sublayers; ``layer.self_attn`` is the connection, ``layer.self_attn.sublayer`` the attention.
    dropout : float
        Rate for the sublayers' outputs, in [0, 1).
    norm_first : bool
        Pre-norm connections if true, post-norm if not.
    norm : Component, optional
        The prototype that each connection gets a copy of; LayerNorm(d_model) by default.

    `forward(x, mask=None, rng=None)`, with x and output (batch, T, d_model) and the mask of the attention.

    Examples
    --------
    >>> from npformer import subsequent_mask
    >>> layer = EncoderLayer(8, MultiHeadedAttention(2, 8, rng=0), PositionwiseFeedForward(8, 32, rng=1))
    >>> layer(np.ones((2, 5, 8)), mask=subsequent_mask(5)).shape
    (2, 5, 8)
    """

    def __init__(
        self,
        d_model: int,
        self_attn: Component,
        feed_forward: Component,
        dropout: float = 0.1,
        norm_first: bool = True,
        norm: Component | None = None,
    ):
        self.d_model = check_count("d_model", d_model)
        check_part("self_attn", self_attn, Component)
        check_part("feed_forward", feed_forward, Component)
        norm = LayerNorm(d_model) if norm is None else norm
        check_part("norm", norm, Component)
        connection = PreNormSublayerConnection if check_flag("norm_first", norm_first) else PostNormSublayerConnection
        norm1, norm2 = clones(norm, 2)
        self.self_attn = connection(self_attn, norm1, dropout)
        self.feed_forward = connection(feed_forward, norm2, dropout)

    def forward(self, x: Array, mask: Array | None = None, rng: RandomSource | None = None) -> tuple[Array, Tree]:
        check_floats("x", x, "batch, T, d_model")
        check_width("x", x, "d_model", self.d_model, self)
        cache: Tree = {}
        attended, cache["self_attn"] = self.self_attn.forward(x, mask=mask, rng=rng)
        output, cache["feed_forward"] = self.feed_forward.forward(attended, rng=rng)
        return output, cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        grads: Tree = {}
        grad_attended, grads["feed_forward"] = self.feed_forward.backward(grad_output, cache["feed_forward"])
        grad_x, grads["self_attn"] = self.self_attn.backward(grad_attended, cache["self_attn"])
        return grad_x, grads


class Encoder(Component):
    """A stack of layers, then the norm if there is one (pre-norm layers need it).

    Parameters
    ----------
    layers : list of Component
        Such as ``clones(layer, N)``; to use one layer N times, see SharedEncoder.
    norm : Component, optional
        Normalises the last layer's output.

    `forward(x, mask=None, rng=None)` hands mask and rng to each layer. Shapes: x and output
    (batch, T, d_model).

    Examples
    --------
    >>> layer = EncoderLayer(8, MultiHeadedAttention(2, 8, rng=0), PositionwiseFeedForward(8, 32, rng=1))
    >>> encoder = Encoder(clones(layer, 3), LayerNorm(8))
    >>> encoder(np.ones((2, 5, 8))).shape
    (2, 5, 8)
    """

    def __init__(self, layers: Sequence[Component], norm: Component | None = None):
        check_parts("layers", layers, Component)
        self.layers = list(layers)
        self.norm = norm
        if norm is not None:
            check_part("norm", norm, Component)

    def forward(self, x: Array, mask: Array | None = None, rng: RandomSource | None = None) -> tuple[Array, Tree]:
        cache: Tree = {"layers": {}}
        for index, layer in enumerate(self.layers):
            x, cache["layers"][str(index)] = layer.forward(x, mask=mask, rng=rng)
        if self.norm is not None:
            x, cache["norm"] = self.norm.forward(x)
        return x, cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        grads: Tree = {"layers": {}}
        if self.norm is not None:
            grad_output, grads["norm"] = self.norm.backward(grad_output, cache["norm"])
        for index, layer in reversed(list(enumerate(self.layers))):
            grad_output, grads["layers"][str(index)] = layer.backward(grad_output, cache["layers"][str(index)])
        return grad_output, grads


class SharedEncoder(Component):
    """One layer applied N times, so that all layers share its weights (Dehghani et al. 2019; Lan et al. 2020).

    There is one set of parameters, one cache for each use, and the uses' gradients add up.

    Parameters
    ----------
    layer : Component
        Such as an EncoderLayer.
    N : int
        How many times it is applied.
    norm : Component, optional
        Normalises the last output.

    `forward(x, mask=None, rng=None)`, as in Encoder.

    Examples
    --------
    >>> layer = EncoderLayer(8, MultiHeadedAttention(2, 8, rng=0), PositionwiseFeedForward(8, 32, rng=1))
    >>> SharedEncoder(layer, 3), Encoder(clones(layer, 3))
    (SharedEncoder(872 parameters), Encoder(2,616 parameters))
    """

    def __init__(self, layer: Component, N: int, norm: Component | None = None):
        check_part("layer", layer, Component)
        self.layer = layer
        self.N = check_count("N", N)
        self.norm = norm
        if norm is not None:
            check_part("norm", norm, Component)

    def forward(self, x: Array, mask: Array | None = None, rng: RandomSource | None = None) -> tuple[Array, Tree]:
        cache: Tree = {"layer": {}}
        for use in range(self.N):
            x, cache["layer"][str(use)] = self.layer.forward(x, mask=mask, rng=rng)
        if self.norm is not None:
            x, cache["norm"] = self.norm.forward(x)
        return x, cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        grads: Tree = {}
        if self.norm is not None:
            grad_output, grads["norm"] = self.norm.backward(grad_output, cache["norm"])
        for use in reversed(range(self.N)):
            grad_output, use_grads = self.layer.backward(grad_output, cache["layer"][str(use)])
            grads["layer"] = add_trees(grads["layer"], use_grads) if "layer" in grads else use_grads
        return grad_output, grads


def make_encoder(
    num_layers: int,
    d_model: int,
    num_heads: int,
    d_ff: int,
    dropout: float = 0.1,
    activation: str = "relu",
    norm_first: bool = True,
    eps: float = 1e-5,
    rng: np.random.Generator | int | None = None,
) -> Encoder:
    """Return a whole encoder, each layer initialised on its own.

    Parameters
    ----------
    num_layers, d_model, num_heads, d_ff : int
        Sizes; d_model must be a multiple of num_heads.
    dropout : float
        Rate of every dropout, in [0, 1): attention weights, inner activations, sublayer outputs.
    activation : {"relu", "gelu", "gelu_tanh", "silu"}
        Between the two linear maps of the feed-forward network.
    norm_first : bool
        Pre-norm layers and a final norm if true; post-norm layers, and no final norm, if not.
    eps : float
        Of every LayerNorm.
    rng : Generator, int or None
        For the initial weights, distributed as Linear says.

    Examples
    --------
    >>> make_encoder(num_layers=6, d_model=512, num_heads=8, d_ff=2048, rng=0)
    Encoder(18,915,328 parameters)
    """
    rng = make_generator(rng)
    make_activation = check_choice("activation", activation, ACTIVATIONS)
    check_count("d_ff", d_ff)
    check_flag("norm_first", norm_first)
    norm = LayerNorm(d_model, eps)
    layers = [
        EncoderLayer(
            d_model,
            MultiHeadedAttention(num_heads, d_model, dropout, rng=rng),
            PositionwiseFeedForward(d_model, d_ff, dropout, make_activation(), rng=rng),
            dropout,
            norm_first,
            norm,
        )
        for _ in range(check_count("num_layers", num_layers))
    ]
    return Encoder(layers, norm if norm_first else None)
