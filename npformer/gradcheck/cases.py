"""Small cases on which wrong gradients show: one for each component and each way of using it.

Parameters are random and signed (a gamma of 1 hides mistakes), all sizes differ, rows are fully masked here and
partly masked there, tokens repeat.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npformer.activations import GELU, ReLU, SiLU, Softmax
from npformer.attention import MultiHeadedAttention, ScaledDotProductAttention
from npformer.component import Array, Component, flatten
from npformer.dropout import Dropout
from npformer.embedding import Embeddings, PositionalEncoding, TokenEncoder
from npformer.encoder import Encoder, EncoderLayer, SharedEncoder, make_encoder
from npformer.feed_forward import PositionwiseFeedForward
from npformer.linear import Linear
from npformer.masks import length_mask
from npformer.norm import AnnotatedLayerNorm, LayerNorm
from npformer.sublayer import PostNormSublayerConnection, PreNormSublayerConnection

RATE = 0.25


@dataclass(frozen=True)
class Sizes:
    """The sizes that a case is made with; T_k is also the length of self-attention."""

    batch: int = 2
    T_q: int = 3
    T_k: int = 4
    num_heads: int = 3
    d_head: int = 2
    d_ff: int = 5
    vocab_size: int = 5

    @property
    def d_model(self) -> int:
        return self.num_heads * self.d_head


@dataclass(frozen=True)
class Case:
    """A component, and what to call its forward with; options has an rng wherever there is dropout."""

    component: Component
    inputs: tuple[Array, ...]
    options: dict[str, Any] = field(default_factory=dict)


def randomise(component: Component, rng: np.random.Generator) -> None:
    """Overwrite every parameter with random signs times U[0.5, 1.5], divided by √fan-in for matrices."""
    for array in flatten(component.parameters()).values():
        fan_in = array.shape[-1] if array.ndim == 2 else 1
        array[...] = signed(rng, array.shape, 0.5, 1.5) / np.sqrt(fan_in)


def signed(rng: np.random.Generator, shape: tuple[int, ...], low: float, high: float) -> Array:
    """Return random signs times U[low, high]: no entry is small, and no sum over them is predictable."""
    signs: Array = rng.choice([-1.0, 1.0], shape)
    return signs * rng.uniform(low, high, shape)


def make_case(name: str, sizes: Sizes, rng: np.random.Generator) -> Case:
    """Return the case of this name, with random parameters and inputs.

    Examples
    --------
    >>> make_case("LayerNorm", Sizes(), np.random.default_rng(0)).component
    LayerNorm(12 parameters)
    """
    case = CASES[name](sizes, rng)
    randomise(case.component, rng)
    if _has_dropout(case.component):
        case.options["rng"] = np.random.default_rng(rng.integers(2**32))
    return case


def _has_dropout(component: Component) -> bool:
    parts = [part for value in vars(component).values() for part in (value if isinstance(value, list) else [value])]
    return isinstance(component, Dropout) or any(_has_dropout(part) for part in parts if isinstance(part, Component))


def _x(s: Sizes, rng: np.random.Generator) -> Array:
    return rng.standard_normal((s.batch, s.T_k, s.d_model))


def _mask(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """A random mask; some rows of it are fully masked, and the first is open."""
    mask: Array = rng.integers(0, 2, shape) * (rng.random((*shape[:-1], 1)) < 0.75)
    mask[..., 0, :] = 1
    return mask


def _mapped(component: Component, s: Sizes, rng: np.random.Generator) -> Case:
    return Case(component, (_x(s, rng),))


def _masked(component: Component, s: Sizes, rng: np.random.Generator) -> Case:
    return Case(component, (_x(s, rng),), {"mask": _mask((s.batch, 1, s.T_k, s.T_k), rng)})


def _core(fully_masked: str, s: Sizes, rng: np.random.Generator) -> Case:
    query, key, value = (
        rng.standard_normal((s.batch, s.num_heads, T, d))
        for T, d in ((s.T_q, s.d_head), (s.T_k, s.d_head), (s.T_k, s.d_head + 1))
    )
    mask = _mask((s.batch, s.num_heads, s.T_q, s.T_k), rng)
    return Case(ScaledDotProductAttention(RATE, fully_masked), (query, key, value), {"mask": mask})


def _cross(s: Sizes, rng: np.random.Generator) -> Case:
    query = rng.standard_normal((s.batch, s.T_q, s.d_model))
    mask = _mask((s.batch, 1, s.T_q, s.T_k), rng)
    return Case(_attention(s), (query, _x(s, rng), _x(s, rng)), {"mask": mask})


def _tokens(s: Sizes, rng: np.random.Generator) -> Array:
    return rng.integers(0, s.vocab_size, (s.batch, s.T_k))


def _model(s: Sizes, rng: np.random.Generator) -> Case:
    encoder = make_encoder(1, s.d_model, s.num_heads, s.d_ff, RATE, activation="gelu")
    model = TokenEncoder(Embeddings(s.d_model, s.vocab_size), PositionalEncoding(s.d_model, RATE), encoder)
    lengths = rng.integers(0, s.T_k + 1, s.batch)
    return Case(model, (_tokens(s, rng),), {"mask": length_mask(lengths, s.T_k)})


def _attention(s: Sizes) -> MultiHeadedAttention:
    return MultiHeadedAttention(s.num_heads, s.d_model, RATE)


def _layer(s: Sizes, norm_first: bool, norm: Component | None = None) -> EncoderLayer:
    feed_forward = PositionwiseFeedForward(s.d_model, s.d_ff, RATE, SiLU())
    return EncoderLayer(s.d_model, _attention(s), feed_forward, RATE, norm_first, norm)


CASES: dict[str, Callable[[Sizes, np.random.Generator], Case]] = {
    "Linear": lambda s, rng: _mapped(Linear(s.d_model, s.d_ff), s, rng),
    "Linear, no bias": lambda s, rng: _mapped(Linear(s.d_model, s.d_ff, bias=False), s, rng),
    "Softmax": lambda s, rng: _mapped(Softmax(), s, rng),
    "ReLU": lambda s, rng: _mapped(ReLU(), s, rng),
    "GELU": lambda s, rng: _mapped(GELU(), s, rng),
    "GELU, tanh": lambda s, rng: _mapped(GELU("tanh"), s, rng),
    "SiLU": lambda s, rng: _mapped(SiLU(), s, rng),
    "Dropout": lambda s, rng: _mapped(Dropout(RATE), s, rng),
    "LayerNorm": lambda s, rng: _mapped(LayerNorm(s.d_model), s, rng),
    "AnnotatedLayerNorm": lambda s, rng: _mapped(AnnotatedLayerNorm(s.d_model), s, rng),
    "ScaledDotProductAttention": lambda s, rng: _core("uniform", s, rng),
    "ScaledDotProductAttention, zero": lambda s, rng: _core("zero", s, rng),
    "MultiHeadedAttention, self": lambda s, rng: _masked(_attention(s), s, rng),
    "MultiHeadedAttention, cross": _cross,
    "PositionwiseFeedForward": lambda s, rng: _mapped(PositionwiseFeedForward(s.d_model, s.d_ff, RATE), s, rng),
    "PreNormSublayerConnection": lambda s, rng: _masked(
        PreNormSublayerConnection(_attention(s), LayerNorm(s.d_model), RATE), s, rng
    ),
    "PostNormSublayerConnection": lambda s, rng: _masked(
        PostNormSublayerConnection(_attention(s), LayerNorm(s.d_model), RATE), s, rng
    ),
    "EncoderLayer, pre-norm": lambda s, rng: _masked(_layer(s, True), s, rng),
    "EncoderLayer, post-norm": lambda s, rng: _masked(_layer(s, False, AnnotatedLayerNorm(s.d_model)), s, rng),
    "Encoder": lambda s, rng: _masked(Encoder([_layer(s, True), _layer(s, False)], LayerNorm(s.d_model)), s, rng),
    "SharedEncoder": lambda s, rng: _masked(SharedEncoder(_layer(s, True), 2, LayerNorm(s.d_model)), s, rng),
    "Embeddings": lambda s, rng: Case(Embeddings(s.d_model, s.vocab_size), (_tokens(s, rng),)),
    "PositionalEncoding": lambda s, rng: _mapped(PositionalEncoding(s.d_model, RATE), s, rng),
    "TokenEncoder": _model,
}
