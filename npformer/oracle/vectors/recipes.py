"""Components from plain JSON: what is built, with which arguments; only names in a table mean anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from npformer.activations import GELU, ReLU, SiLU, Softmax, Tanh
from npformer.attention import MultiHeadedAttention, ScaledDotProductAttention
from npformer.bert import BertPooler, make_bert
from npformer.bert_embedding import BertEmbeddings
from npformer.component import Component
from npformer.dropout import Dropout
from npformer.embedding import Embeddings, PositionalEncoding, TokenEncoder
from npformer.encoder import SharedEncoder, make_encoder
from npformer.feed_forward import PositionwiseFeedForward
from npformer.linear import Linear
from npformer.norm import AnnotatedLayerNorm, LayerNorm
from npformer.oracle.declared import quoted
from npformer.oracle.vectors.layouts import (
    PackedAttention,
    PackedMultiHeadedAttention,
    VariableLengthAttention,
    VariableLengths,
)
from npformer.shapes import check_tree, describe
from npformer.sublayer import PostNormSublayerConnection, PreNormSublayerConnection

Recipe = Mapping[str, Any]

DEEPEST = 4  # recipes inside recipes
MOST_LAYERS = 16
MOST_SIZE = 512


@dataclass(frozen=True)
class Builder:
    """A callable that returns a component, and the names of the arguments that it needs and may have."""

    make: Callable[..., Component]
    needs: tuple[str, ...] = ()
    may_have: tuple[str, ...] = ()


PARTS = ("sublayer", "norm", "activation", "layer", "inner", "embeddings", "positions", "encoder")
STACKED = ("num_layers", "N")
ENCODER = ("d_model", "num_heads", "d_ff"), ("dropout", "activation", "norm_first", "eps")
BERT = ("num_layers", "d_model", "num_heads", "d_ff", "vocab_size", "max_len"), ("dropout",)

BUILDERS = {
    "LayerNorm": Builder(LayerNorm, ("d_model",), ("eps",)),
    "AnnotatedLayerNorm": Builder(AnnotatedLayerNorm, ("d_model",), ("eps",)),
    "Linear": Builder(Linear, ("d_in", "d_out"), ("bias",)),
    "ReLU": Builder(ReLU),
    "GELU": Builder(GELU, (), ("approximate",)),
    "SiLU": Builder(SiLU),
    "Tanh": Builder(Tanh),
    "Softmax": Builder(Softmax),
    "Dropout": Builder(Dropout, ("p",)),
    "ScaledDotProductAttention": Builder(ScaledDotProductAttention, (), ("dropout", "fully_masked", "scale")),
    "MultiHeadedAttention": Builder(MultiHeadedAttention, ("num_heads", "d_model"), ("dropout", "bias")),
    "PositionwiseFeedForward": Builder(PositionwiseFeedForward, ("d_model", "d_ff"), ("dropout", "activation")),
    "PreNormSublayerConnection": Builder(PreNormSublayerConnection, ("sublayer", "norm"), ("dropout",)),
    "PostNormSublayerConnection": Builder(PostNormSublayerConnection, ("sublayer", "norm"), ("dropout",)),
    "EncoderLayer": Builder(lambda **arguments: make_encoder(1, **arguments).layers[0], *ENCODER),
    "Encoder": Builder(make_encoder, ("num_layers", *ENCODER[0]), ENCODER[1]),
    "SharedEncoder": Builder(SharedEncoder, ("layer", "N"), ("norm",)),
    "Embeddings": Builder(Embeddings, ("d_model", "vocab_size"), ("scale",)),
    "PositionalEncoding": Builder(PositionalEncoding, ("d_model",), ("dropout", "max_len")),
    "TokenEncoder": Builder(TokenEncoder, ("embeddings", "positions", "encoder")),
    "BertEmbeddings": Builder(BertEmbeddings, ("d_model", "vocab_size", "max_len"), ("dropout",)),
    "BertPooler": Builder(BertPooler, ("d_model",)),
    "BertEncoder": Builder(lambda **arguments: make_bert(**arguments).encoder, *BERT),
    "BertModel": Builder(make_bert, *BERT),
    "PackedAttention": Builder(PackedAttention),
    "PackedMultiHeadedAttention": Builder(PackedMultiHeadedAttention, ("num_heads", "d_model")),
    "VariableLengths": Builder(VariableLengths, ("inner",)),
    "VariableLengthAttention": Builder(VariableLengthAttention, (), ("causal",)),
}


def build(recipe: Recipe) -> Component:
    """Return the component of a recipe, with initial parameters drawn at random.

    Parameters
    ----------
    recipe : dict
        {"build": a name in BUILDERS, "arguments": a dict of numbers, flags, texts, and recipes of parts}.

    Raises
    ------
    TypeError, ValueError
        If it is no recipe, or its sizes are beyond what conformance cases need.

    Examples
    --------
    >>> build({"build": "LayerNorm", "arguments": {"d_model": 8}})
    LayerNorm(16 parameters)
    """
    extent(recipe)
    return _build(recipe)


def extent(recipe: Recipe) -> tuple[int, int]:
    """Return how many layers a recipe has, and its largest size, after checking that it is one and both are small."""
    arguments = [pair for part in _every_part(recipe, 0) for pair in part["arguments"].items()]
    counts = [(name, value) for name, value in arguments if type(value) is int]
    largest = max((value for name, value in counts if name not in STACKED), default=1)
    layers = math.prod(max(value, 1) for name, value in counts if name in STACKED)
    for what, value, most in (("layers", layers, MOST_LAYERS), ("sizes", largest, MOST_SIZE)):
        if value > most:
            raise ValueError(f"recipe must have {what} of at most {most}, but they come to {quoted(value)}")
    return layers, largest


def _build(recipe: Recipe) -> Component:
    arguments = {
        name: _build(value) if name in PARTS and isinstance(value, Mapping) else value
        for name, value in recipe["arguments"].items()
    }
    return BUILDERS[recipe["build"]].make(**arguments)


def _every_part(recipe: object, depth: int) -> Iterator[Recipe]:
    """Yield a recipe and those inside it, each checked."""
    if depth > DEEPEST:
        raise ValueError(f"recipe must have at most {DEEPEST} recipes inside each other, but it has more")
    if not isinstance(recipe, Mapping):
        raise TypeError(f"recipe must be a dict, but it is {describe(recipe)}")
    if recipe.keys() != {"build", "arguments"}:
        raise ValueError(f"recipe must have build and arguments, but has {quoted(list(recipe))}")
    name, arguments = recipe["build"], recipe["arguments"]
    if not isinstance(name, str) or name not in BUILDERS:
        raise ValueError(f"recipe must build one of {', '.join(BUILDERS)}, but it builds {quoted(name)}")
    check_tree("arguments", arguments)
    builder = BUILDERS[name]
    missing = [each for each in builder.needs if each not in arguments]
    unknown = [each for each in arguments if each not in builder.needs + builder.may_have]
    if missing or unknown:
        flaw = f"lacks {missing[0]}" if missing else f"has {quoted(unknown[0])}"
        known = ", ".join(builder.needs + builder.may_have) or "no arguments"
        raise ValueError(f"recipe must give {name} {known}, but it {flaw}")
    yield recipe
    for each, value in arguments.items():
        if isinstance(value, Mapping) and each in PARTS:
            yield from _every_part(value, depth + 1)
        elif value is not None and type(value) not in (int, float, bool, str):
            raise TypeError(f"{quoted(each)} must be a number, a flag or a text, but it is {describe(value)}")
