"""BERT: learned positions and token types in front of a post-norm encoder, and a pooler behind it."""

from __future__ import annotations

import numpy as np

from npformer.activations import ACTIVATIONS, Tanh
from npformer.attention import MultiHeadedAttention
from npformer.bert_embedding import BertEmbeddings
from npformer.component import Array, Component, Tree
from npformer.dropout import Dropout, RandomSource, rewound_on_error
from npformer.encoder import Encoder, EncoderLayer
from npformer.feed_forward import PositionwiseFeedForward
from npformer.linear import Linear
from npformer.norm import LayerNorm
from npformer.shapes import check_choice, check_count, check_floats, check_part, check_width, make_generator


class BertEncoder(Component):
    """BERT without its pooler: from token ids to hidden states, by the embeddings and then the encoder.

    Backward is the two, last first; tokens and token types have no gradient (None).

    Parameters
    ----------
    embeddings, encoder : Component
        BertEmbeddings, and a post-norm Encoder without a final norm; `make_bert` makes both.

    `forward(tokens, token_types=None, mask=None, rng=None)`, with tokens and token_types (batch, T), the mask of the
    attention, such as ``padding_mask(tokens)``, and output (batch, T, d_model).

    Examples
    --------
    >>> from npformer import padding_mask
    >>> encoder = make_bert(2, 8, 2, 32, vocab_size=9, rng=0).encoder
    >>> tokens = np.array([[5, 7, 2], [8, 4, 0]])
    >>> encoder(tokens, mask=padding_mask(tokens)).shape
    (2, 3, 8)
    """

    def __init__(self, embeddings: Component, encoder: Component):
        check_part("embeddings", embeddings, Component)
        check_part("encoder", encoder, Component)
        self.embeddings = embeddings
        self.encoder = encoder

    def forward(
        self,
        tokens: Array,
        token_types: Array | None = None,
        mask: Array | None = None,
        rng: RandomSource | None = None,
    ) -> tuple[Array, Tree]:
        cache: Tree = {}
        with rewound_on_error(rng):
            embedded, cache["embeddings"] = self.embeddings.forward(tokens, token_types, rng=rng)
            output, cache["encoder"] = self.encoder.forward(embedded, mask=mask, rng=rng)
        return output, cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[tuple[None, None] | None, Tree]:
        grads: Tree = {}
        grad_embedded, grads["encoder"] = self.encoder.backward(grad_output, cache["encoder"])
        grad_tokens, grads["embeddings"] = self.embeddings.backward(grad_embedded, cache["embeddings"])
        return grad_tokens, grads


class BertPooler(Component):
    """The first token's vector for the whole sequence (Devlin et al. 2019, section 3.1).

        y = tanh(x[:, 0] Wᵀ + b)

    Backward: grad_x is 0 but for the first token, which gets grad_y taken back through tanh and the linear map.

    Parameters
    ----------
    d_model : int
        Size of the last axis.
    rng : Generator, int or None
        For the initial weights, distributed as Linear says.

    Shapes: x (batch, T, d_model), y (batch, d_model).

    Examples
    --------
    >>> pooler = BertPooler(2)
    >>> pooler.dense.weight = np.eye(2)
    >>> pooler(np.array([[[0.0, 0.5], [7.0, 8.0]]])).round(4)
    array([[0.    , 0.4621]])
    """

    def __init__(self, d_model: int, rng: np.random.Generator | int | None = None):
        self.dense = Linear(check_count("d_model", d_model), d_model, rng=rng)
        self.activation = Tanh()

    def forward(self, x: Array) -> tuple[Array, Tree]:
        check_floats("x", x, "batch, T, d_model")
        check_width("x", x, "d_model", self.dense.weight.shape[1], self)
        cache: Tree = {"x": x}
        hidden, cache["dense"] = self.dense.forward(x[:, 0])
        output, cache["activation"] = self.activation.forward(hidden)
        return output, cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        grads: Tree = {}
        grad_hidden, grads["activation"] = self.activation.backward(grad_output, cache["activation"])
        grad_first, grads["dense"] = self.dense.backward(grad_hidden, cache["dense"])
        grad_x = np.zeros_like(cache["x"], dtype=grad_first.dtype)
        grad_x[:, 0] = grad_first
        return grad_x, grads


class BertModel(Component):
    """The whole BERT: from token ids to hidden states, and from these to one pooled vector for each sequence.

    `model.encoder` gives the hidden states. A loss that uses both adds the pooler's gradient of the hidden states to
    its own before ``model.encoder.backward``. Backward is the two, last first; tokens and token types have no
    gradient (None).

    Parameters
    ----------
    encoder, pooler : Component
        BertEncoder and BertPooler.

    `forward(tokens, token_types=None, mask=None, rng=None)`, as in BertEncoder, with output (batch, d_model).

    Examples
    --------
    >>> model = make_bert(2, 8, 2, 32, vocab_size=9, rng=0)
    >>> model(np.array([[5, 7, 2], [8, 4, 1]])).shape
    (2, 8)
    """

    def __init__(self, encoder: Component, pooler: Component):
        check_part("encoder", encoder, Component)
        check_part("pooler", pooler, Component)
        self.encoder = encoder
        self.pooler = pooler

    def forward(
        self,
        tokens: Array,
        token_types: Array | None = None,
        mask: Array | None = None,
        rng: RandomSource | None = None,
    ) -> tuple[Array, Tree]:
        cache: Tree = {}
        with rewound_on_error(rng):
            hidden, cache["encoder"] = self.encoder.forward(tokens, token_types, mask=mask, rng=rng)
            output, cache["pooler"] = self.pooler.forward(hidden)
        return output, cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[tuple[None, None] | None, Tree]:
        grads: Tree = {}
        grad_hidden, grads["pooler"] = self.pooler.backward(grad_output, cache["pooler"])
        grad_tokens, grads["encoder"] = self.encoder.backward(grad_hidden, cache["encoder"])
        return grad_tokens, grads


def make_bert(
    num_layers: int,
    d_model: int,
    num_heads: int,
    d_ff: int,
    vocab_size: int,
    max_len: int = 512,
    type_vocab_size: int = 2,
    dropout: float = 0.1,
    activation: str = "gelu",
    eps: float = 1e-12,
    rng: np.random.Generator | int | None = None,
    attention_dropout: float | None = None,
) -> BertModel:
    """Return a whole BERT, each layer initialised on its own.

    Parameters
    ----------
    num_layers, d_model, num_heads, d_ff : int
        Sizes; d_model must be a multiple of num_heads.
    vocab_size, max_len, type_vocab_size : int
        Number of tokens, positions and token types.
    dropout : float
        Rate for the embeddings and the sublayers' outputs, in [0, 1). Inside the feed-forward network BERT has none.
    activation : {"relu", "gelu", "gelu_tanh", "silu"}
        Between the two linear maps of the feed-forward network.
    eps : float
        Of every LayerNorm.
    rng : Generator, int or None
        For the initial weights, distributed as Linear and BertEmbeddings say.
    attention_dropout : float, optional
        Rate for the attention weights, in [0, 1); that of the others if not given.

    Examples
    --------
    >>> make_bert(num_layers=2, d_model=128, num_heads=2, d_ff=512, vocab_size=30522, rng=0)
    BertModel(4,385,920 parameters)
    """
    make_activation = check_choice("activation", activation, ACTIVATIONS)
    sizes = {"num_layers": num_layers, "d_ff": d_ff, "vocab_size": vocab_size, "max_len": max_len}
    for name, size in (sizes | {"type_vocab_size": type_vocab_size}).items():
        check_count(name, size)
    norm, rate = LayerNorm(d_model, eps), Dropout(dropout).p
    rng = make_generator(rng)
    layers = [
        EncoderLayer(
            d_model,
            MultiHeadedAttention(num_heads, d_model, rate if attention_dropout is None else attention_dropout, rng=rng),
            PositionwiseFeedForward(d_model, d_ff, 0.0, make_activation(), rng=rng),
            rate,
            norm_first=False,
            norm=norm,
        )
        for _ in range(num_layers)
    ]
    embeddings = BertEmbeddings(d_model, vocab_size, max_len, type_vocab_size, rate, eps, rng)
    return BertModel(BertEncoder(embeddings, Encoder(layers)), BertPooler(d_model, rng))
