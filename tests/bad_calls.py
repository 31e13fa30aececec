"""What the tests of bad input share: the names that bad calls use, and what must hold after one.

The calls stand as text, since their types are wrong on purpose; {} takes one bad argument after the other.
"""

import pickle
from collections.abc import Iterable
from contextlib import suppress
from random import Random
from typing import Any

import numpy as np
import pytest

import npformer
from npformer import gradcheck, verify
from npformer.component import Array, Component, Tree

Bad = dict[str, tuple[type[Exception], str]]  # an argument or a whole call: what it raises, and the sentence

FLOATS = "float32, float64 or complex128"


class Same:
    """A random source that returns the same whatever it is asked for."""

    def __init__(self, numbers: Any):
        self.numbers = numbers

    def random(self, shape: tuple[int, ...]) -> Any:
        return self.numbers


class Narrow(npformer.Linear):
    """A sublayer that changes the shape."""

    def forward(self, x: Array, rng: object = None) -> tuple[Array, Tree]:
        return super().forward(x)


def assigned(component: Any, **parameters: Any) -> Any:
    """Assign parameters, as anyone may."""
    vars(component).update(parameters)
    return component


def names() -> dict[str, Any]:
    """Make all that calls may name: batch 3, T 4, T_k 5, d_model 6, 2 heads, 7 tokens, 6 classes."""
    rng = np.random.default_rng(0)
    mha, norm = npformer.MultiHeadedAttention(2, 6, rng=rng), npformer.LayerNorm(6)
    layer = npformer.make_encoder(1, 6, 2, 8, rng=rng).layers[0]
    encoder = npformer.Encoder([layer], norm)
    embeddings, positions = npformer.Embeddings(6, 7, rng=rng), npformer.PositionalEncoding(6, max_len=9)
    bert = npformer.make_bert(1, 6, 2, 8, 7, max_len=9, dropout=0.5, rng=rng)
    parts = {
        "linear": npformer.Linear(6, 6, rng=rng),
        "relu": npformer.ReLU(),
        "gelu": npformer.GELU(),
        "tanh": npformer.GELU("tanh"),
        "silu": npformer.SiLU(),
        "hyperbolic": npformer.Tanh(),
        "softmax": npformer.Softmax(),
        "dropout": npformer.Dropout(0.5),
        "norm": norm,
        "annotated": npformer.AnnotatedLayerNorm(6),
        "core": npformer.ScaledDotProductAttention(0.5),
        "blockwise": npformer.BlockwiseAttention(0.5),
        "mha": mha,
        "feed_forward": npformer.PositionwiseFeedForward(6, 8, rng=rng),
        "pre": npformer.PreNormSublayerConnection(mha, norm),
        "post": npformer.PostNormSublayerConnection(mha, norm),
        "layer": layer,
        "encoder": encoder,
        "shared": npformer.SharedEncoder(layer, 2, norm),
        "checkpoint": npformer.Checkpoint(layer),
        "embeddings": embeddings,
        "positions": positions,
        "model": npformer.TokenEncoder(embeddings, positions, encoder),
        "bert": bert,
        "bert_encoder": bert.encoder,
        "bert_embeddings": npformer.BertEmbeddings(6, 7, 9, dropout=0.5, rng=rng),
        "pooler": bert.pooler,
        "loss": npformer.CrossEntropy(0.1),
        "ignoring": npformer.CrossEntropy(ignore_index=-100),
        "squared": npformer.MeanSquaredError(),
    }
    arrays = {name: rng.standard_normal((3, T, 6)) for name, T in (("x", 4), ("key", 5))}
    tools = {"np": np, "rng": rng, "Random": Random, "Same": Same, "Narrow": Narrow, "assigned": assigned}
    checks = {name: getattr(gradcheck, name) for name in ("check_gradients", "hvp", "discriminating_cases")}
    functions = checks | {"Verification": verify.Verification}
    integers = {"tokens": rng.integers(0, 7, (3, 4)), "targets": rng.integers(0, 6, (3, 4))}
    return vars(npformer) | functions | parts | arrays | tools | integers


def fill(calls: dict[str, str] | Iterable[str], bad: Bad) -> Bad:
    """Put each bad argument into each call, and the call's own words into the sentence."""
    words = calls if isinstance(calls, dict) else dict.fromkeys(calls, "")
    return {
        call.replace("{}", argument): (kind, sentence.replace("{}", words[call]))
        for call in words
        for argument, (kind, sentence) in bad.items()
    }


def each(kind: type[Exception], expected: str, arguments: dict[str, str]) -> Bad:
    """Make bad arguments of what stands after "but" in their sentences."""
    return {argument: (kind, f"{expected}, but {came}") for argument, came in arguments.items()}


def check_one_sentence(call: str, kind: type[Exception], sentence: str) -> None:
    """Check what a call raises; warnings are errors in this suite."""
    with pytest.raises(kind) as caught:
        eval(call, names())
    assert type(caught.value) is kind
    assert str(caught.value) == sentence
    assert "\n" not in sentence


def check_nothing_changed(call: str) -> None:
    """Check that a call that fails leaves every component, every array and the generator as they were."""
    given = names()
    before = _bytes(given)
    with suppress(Exception):
        eval(call, given)
    after = _bytes(given)
    assert [name for name in before if after[name] != before[name]] == []


def _bytes(given: dict[str, Any]) -> dict[str, bytes]:
    kinds = (Component, np.ndarray, np.random.Generator)
    return {name: pickle.dumps(value) for name, value in given.items() if isinstance(value, kinds)}
