"""Small cases on which wrong gradients show: one for each component and each way of using it.

Parameters are random and signed (a gamma of 1 hides mistakes); a row of x has little variance (where eps counts); of a
mask's rows the first is open, the last fully masked and those between partly; a token is repeated. The sizes all
differ, or coincide on purpose (SITUATIONS), so that a swapped axis cannot hide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npformer.activations import GELU, ReLU, SiLU, Softmax, Tanh
from npformer.attention import MultiHeadedAttention, ScaledDotProductAttention
from npformer.bert import BertModel, BertPooler, make_bert
from npformer.bert_embedding import BertEmbeddings
from npformer.blockwise import BlockwiseAttention
from npformer.checkpoint import Checkpoint
from npformer.component import Array, Component, flatten
from npformer.dropout import Dropout
from npformer.embedding import Embeddings, PositionalEncoding, TokenEncoder
from npformer.encoder import Encoder, EncoderLayer, SharedEncoder, make_encoder
from npformer.feed_forward import PositionwiseFeedForward
from npformer.gradcheck.image_cases import make_parts
from npformer.gradcheck.inputs import (
    IGNORED,
    draw_length_mask,
    draw_mask,
    draw_targets,
    draw_token_types,
    draw_tokens,
    draw_x,
)
from npformer.gradcheck.sizes import SITUATIONS, Sizes
from npformer.linear import Linear
from npformer.loss import CrossEntropy, MeanSquaredError
from npformer.norm import AnnotatedLayerNorm, LayerNorm
from npformer.shapes import check_choice, check_count
from npformer.sublayer import PostNormSublayerConnection, PreNormSublayerConnection

RATE = 0.25
SMOOTHING = 0.1
EPS = 1e-5  # of BERT's norms: with its own 1e-12, two nearly equal entries of a row leave nothing but rounding


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
    return np.asarray(signs * rng.uniform(low, high, shape))  # the product of shape () is a scalar and no array


def make_case(name: str, sizes: Sizes, rng: np.random.Generator) -> Case:
    """Return the case of this name, with random parameters and inputs.

    Raises
    ------
    ValueError
        If there is no case of this name.

    Examples
    --------
    >>> make_case("LayerNorm", Sizes(), np.random.default_rng(0)).component
    LayerNorm(12 parameters)
    """
    case = check_choice("name", name, CASES)(sizes, rng)
    randomise(case.component, rng)
    if _has_dropout(case.component):
        case.options["rng"] = np.random.default_rng(rng.integers(2**32))
    return case


def discriminating_cases(name: str, seed: int = 0) -> Iterator[tuple[str, Case]]:
    """Yield a case of this component in each situation where mistakes show that ordinary sizes hide.

    Use them for a component of your own by calling it with ``case.inputs`` and ``case.options``.

    Parameters
    ----------
    name : str
        A name in CASES.
    seed : int
        For parameters, inputs and dropout masks.

    Yields
    ------
    situation, case
        What is special about the sizes, and the case.

    Raises
    ------
    ValueError
        If there is no case of this name.

    Examples
    --------
    >>> for situation, case in discriminating_cases("ScaledDotProductAttention"):
    ...     print(situation, case.inputs[0].shape, case.inputs[1].shape)
    all sizes differ (2, 3, 5, 2) (2, 3, 4, 2)
    T equal to num_heads (2, 3, 5, 2) (2, 3, 3, 2)
    batch equal to num_heads (3, 3, 6, 2) (3, 3, 4, 2)
    one head (2, 1, 3, 6) (2, 1, 4, 6)
    heads of size 1 (2, 5, 3, 1) (2, 5, 4, 1)
    """
    check_count("seed", seed, least=0)
    for situation, sizes in SITUATIONS.items():
        yield situation, make_case(name, sizes, np.random.default_rng(seed))


def _has_dropout(component: Component) -> bool:
    parts = [part for value in vars(component).values() for part in (value if isinstance(value, list) else [value])]
    return isinstance(component, Dropout) or any(_has_dropout(part) for part in parts if isinstance(part, Component))


def _mapped(component: Component, s: Sizes, rng: np.random.Generator) -> Case:
    return Case(component, (draw_x(s, rng),))


def _masked(component: Component, s: Sizes, rng: np.random.Generator) -> Case:
    return Case(component, (draw_x(s, rng),), {"mask": draw_mask((s.batch, 1, s.T_k, s.T_k), rng)})


def _core(core: Component, s: Sizes, rng: np.random.Generator) -> Case:
    query, key, value = (
        rng.standard_normal((s.batch, s.num_heads, T, d))
        for T, d in ((s.T_q, s.d_head), (s.T_k, s.d_head), (s.T_k, s.d_head + 1))
    )
    mask = draw_mask((s.batch, s.num_heads, s.T_q, s.T_k), rng)
    return Case(core, (query, key, value), {"mask": mask})


def _cross(s: Sizes, rng: np.random.Generator) -> Case:
    query = rng.standard_normal((s.batch, s.T_q, s.d_model))
    mask = draw_mask((s.batch, 1, s.T_q, s.T_k), rng)
    return Case(_attention(s), (query, draw_x(s, rng), draw_x(s, rng)), {"mask": mask})


def _model(s: Sizes, rng: np.random.Generator) -> Case:
    encoder = make_encoder(1, s.d_model, s.num_heads, s.d_ff, RATE, "gelu")
    model = TokenEncoder(Embeddings(s.d_model, s.vocab_size), PositionalEncoding(s.d_model, RATE), encoder)
    return Case(model, (draw_tokens(s, rng),), {"mask": draw_length_mask(s, rng)})


def _bert(s: Sizes) -> BertModel:
    return make_bert(1, s.d_model, s.num_heads, s.d_ff, s.vocab_size, s.T_k + 1, 2, RATE, eps=EPS)


def _bert_embeddings(s: Sizes, rng: np.random.Generator) -> Case:
    embeddings = BertEmbeddings(s.d_model, s.vocab_size, s.T_k + 1, dropout=RATE, eps=EPS)
    return Case(embeddings, (draw_tokens(s, rng), draw_token_types(s, rng)))


def _bert_model(s: Sizes, rng: np.random.Generator) -> Case:
    return Case(_bert(s), (draw_tokens(s, rng), draw_token_types(s, rng)), {"mask": draw_length_mask(s, rng)})


def _loss(s: Sizes, rng: np.random.Generator) -> Case:
    logits = rng.standard_normal((s.batch, s.T_k, s.vocab_size))
    return Case(CrossEntropy(label_smoothing=SMOOTHING, ignore_index=IGNORED), (logits, draw_targets(s, rng)))


def _of_images(name: str, s: Sizes, rng: np.random.Generator) -> Case:
    component, x = make_parts(s, rng)[name]
    return Case(component, (x,))


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
    "Tanh": lambda s, rng: _mapped(Tanh(), s, rng),
    "Dropout": lambda s, rng: _mapped(Dropout(RATE), s, rng),
    "LayerNorm": lambda s, rng: _mapped(LayerNorm(s.d_model), s, rng),
    "AnnotatedLayerNorm": lambda s, rng: _mapped(AnnotatedLayerNorm(s.d_model), s, rng),
    "ScaledDotProductAttention": lambda s, rng: _core(ScaledDotProductAttention(RATE), s, rng),
    "ScaledDotProductAttention, zero": lambda s, rng: _core(ScaledDotProductAttention(RATE, "zero"), s, rng),
    "BlockwiseAttention": lambda s, rng: _core(BlockwiseAttention(RATE, block_size=(1, 2)), s, rng),
    "BlockwiseAttention, zero": lambda s, rng: _core(BlockwiseAttention(RATE, "zero", block_size=(2, 3)), s, rng),
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
    "Embeddings": lambda s, rng: Case(Embeddings(s.d_model, s.vocab_size), (draw_tokens(s, rng),)),
    "PositionalEncoding": lambda s, rng: _mapped(PositionalEncoding(s.d_model, RATE), s, rng),
    "TokenEncoder": _model,
    "BertEmbeddings": _bert_embeddings,
    "BertEncoder": lambda s, rng: Case(_bert(s).encoder, (draw_tokens(s, rng),), {"mask": draw_length_mask(s, rng)}),
    "BertPooler": lambda s, rng: _mapped(BertPooler(s.d_model), s, rng),
    "BertModel": _bert_model,
    "CrossEntropy": _loss,
    "MeanSquaredError": lambda s, rng: Case(MeanSquaredError(), (draw_x(s, rng), draw_x(s, rng))),
    "Patches": lambda s, rng: _of_images("Patches", s, rng),
    "FlatHead": lambda s, rng: _of_images("FlatHead", s, rng),
    "ImageClassifier": lambda s, rng: _of_images("ImageClassifier", s, rng),
    "Checkpoint": lambda s, rng: _masked(
        Checkpoint(PreNormSublayerConnection(_attention(s), LayerNorm(s.d_model), RATE)), s, rng
    ),
}
