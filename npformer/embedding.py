"""From token ids to encodings: embeddings, positions, and the whole model."""

from __future__ import annotations

import math

import numpy as np

from npformer.component import Array, Component, Tree
from npformer.dropout import Dropout, RandomSource, rewound_on_error
from npformer.shapes import (
    check_count,
    check_floats,
    check_grad,
    check_number,
    check_part,
    check_range,
    check_tokens,
    check_width,
    make_generator,
)


class Embeddings(Component):
    """A vector for each token, times a scale (Vaswani et al. 2017, section 3.4): ``y = scale * weight[tokens]``.

    Backward: a row of weight is used wherever its token stands, so that the gradients of all its uses add up,
    ``grad_weight[v] = scale * Σ_{tokens[b,t] = v} grad_y[b,t]``. Tokens are integers and have no gradient (None).

    Parameters
    ----------
    d_model, vocab_size : int
        Size of a vector and number of them.
    scale : float, optional
        √d_model if not given; BERT has 1.
    rng : Generator, int or None
        weight is drawn from the standard normal distribution.

    Shapes: tokens (batch, T), y (batch, T, d_model), weight (vocab_size, d_model).

    Raises
    ------
    ValueError
        If a token is not in 0..vocab_size-1; negative ones do not count from the end.

    Examples
    --------
    >>> embeddings = Embeddings(d_model=4, vocab_size=2)
    >>> embeddings.weight = np.array([[0.0, 0.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0]])
    >>> embeddings(np.array([[1, 0]]))
    array([[[2., 4., 6., 8.],
            [0., 0., 0., 0.]]])
    """

    parameter_names = ("weight",)

    def __init__(
        self,
        d_model: int,
        vocab_size: int,
        scale: float | None = None,
        rng: np.random.Generator | int | None = None,
    ):
        shape = (check_count("vocab_size", vocab_size), check_count("d_model", d_model))
        self.scale = math.sqrt(d_model) if scale is None else check_number("scale", scale, -math.inf, open_low=True)
        self.weight: Array = make_generator(rng).standard_normal(shape)

    def forward(self, tokens: Array) -> tuple[Array, Tree]:
        check_floats("weight", self.weight, "vocab_size, d_model")
        check_tokens("tokens", tokens, "batch, T")
        check_range("tokens", tokens, 0, len(self.weight) - 1)
        return self.scale * self.weight[tokens], {"tokens": tokens}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[None, Tree]:
        tokens = cache["tokens"]
        check_grad(grad_output, (*tokens.shape, self.weight.shape[1]))
        grad_weight = np.zeros_like(self.weight, dtype=grad_output.dtype)
        np.add.at(grad_weight, tokens, self.scale * grad_output)  # unlike +=, adds every repeat of a token
        return None, {"weight": grad_weight}


class PositionalEncoding(Component):
    """Adds sines and cosines of the position (Vaswani et al. 2017, section 3.5), then dropout.

        table[pos, 2i] = sin(pos / 10000^(2i/d_model))        y = dropout(x + table[:T])
        table[pos, 2i+1] = cos(pos / 10000^(2i/d_model))

    The table is a constant, so that grad_x is grad_y taken back through the dropout. It stays float64 and is
    cast to the dtype of x: computed in float32, its angles would be off by 4e-4 at position 5000.

    Parameters
    ----------
    d_model : int
        Size of the last axis; may be odd.
    dropout : float
        Rate for the sum, in [0, 1).
    max_len : int
        Number of positions.

    `forward(x, rng=None)`. Shapes: x and y (batch, T, d_model).

    Raises
    ------
    ValueError
        If T is above max_len.

    Examples
    --------
    >>> PositionalEncoding(4)(np.zeros((1, 2, 4))).round(4)
    array([[[0.    , 1.    , 0.    , 1.    ],
            [0.8415, 0.5403, 0.01  , 1.    ]]])
    """

    def __init__(self, d_model: int, dropout: float = 0.1, max_len: int = 5000):
        positions = np.arange(check_count("max_len", max_len))[:, None]
        angles = positions / 10000 ** (np.arange(0, check_count("d_model", d_model), 2) / d_model)
        self.table: Array = np.empty((max_len, d_model))
        self.table[:, 0::2] = np.sin(angles)
        self.table[:, 1::2] = np.cos(angles[:, : d_model // 2])
        self.dropout = Dropout(dropout)

    def forward(self, x: Array, rng: RandomSource | None = None) -> tuple[Array, Tree]:
        max_len, d_model = self.table.shape
        check_floats("x", x, "batch, T, d_model")
        check_width("x", x, "d_model", d_model, self)
        T = x.shape[1]
        if max_len < T:
            raise ValueError(f"x has T={T} positions, but this PositionalEncoding was built with max_len={max_len}")
        output, dropout_cache = self.dropout.forward(x + self.table[:T].astype(x.dtype), rng=rng)
        return output, {"dropout": dropout_cache}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        grad_x, grads = self.dropout.backward(grad_output, cache["dropout"])
        return grad_x, {"dropout": grads}


class TokenEncoder(Component):
    """From token ids to encodings: embeddings, then positions, then the encoder.

    Backward is the three, last first; tokens have no gradient (None).

    Parameters
    ----------
    embeddings, positions, encoder : Component
        Such as Embeddings, PositionalEncoding and what make_encoder returns.

    `forward(tokens, mask=None, rng=None)`, with tokens (batch, T), the mask of the attention, and output
    (batch, T, d_model).

    Examples
    --------
    >>> from npformer import make_encoder, padding_mask
    >>> model = TokenEncoder(Embeddings(8, 100, rng=0), PositionalEncoding(8), make_encoder(2, 8, 2, 32, rng=1))
    >>> tokens = np.array([[5, 7, 2], [9, 4, 0]])
    >>> model(tokens, mask=padding_mask(tokens)).shape
    (2, 3, 8)
    """

    def __init__(self, embeddings: Component, positions: Component, encoder: Component):
        self.embeddings = embeddings
        self.positions = positions
        self.encoder = encoder
        for name, part in vars(self).items():
            check_part(name, part, Component)

    def forward(self, tokens: Array, mask: Array | None = None, rng: RandomSource | None = None) -> tuple[Array, Tree]:
        cache: Tree = {}
        embedded, cache["embeddings"] = self.embeddings.forward(tokens)
        with rewound_on_error(rng):
            positioned, cache["positions"] = self.positions.forward(embedded, rng=rng)
            output, cache["encoder"] = self.encoder.forward(positioned, mask=mask, rng=rng)
        return output, cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[None, Tree]:
        grads: Tree = {}
        grad_positioned, grads["encoder"] = self.encoder.backward(grad_output, cache["encoder"])
        grad_embedded, grads["positions"] = self.positions.backward(grad_positioned, cache["positions"])
        _, grads["embeddings"] = self.embeddings.backward(grad_embedded, cache["embeddings"])
        return None, grads
