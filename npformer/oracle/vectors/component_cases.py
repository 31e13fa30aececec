"""The cases of single components, whole layers and stacks of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from npformer.component import Component, flatten
from npformer.oracle.vectors.attention_cases import attention_cases
from npformer.oracle.vectors.bert_cases import bert_cases
from npformer.oracle.vectors.cases import Given, VectorCase, lengths, masked_rows, part, rows, upper_left

STORAGES = ("float32", "float64", "float16", "bfloat16")
SIZES = {"d_model": 16, "num_heads": 4, "d_ff": 24}


def catalogue() -> dict[str, VectorCase]:
    """Return every case by its name.

    Examples
    --------
    >>> catalogue()["layer_norm_float32"].purpose
    'Layer normalisation, in float32.'
    """
    cases = [*_components(), *attention_cases(), *_sublayers(), *_encoders(), *bert_cases()]
    return {case.name: case for case in cases}


def _components() -> Iterator[VectorCase]:
    for storage in STORAGES:
        norm = part("LayerNorm", d_model=37)
        yield VectorCase(f"layer_norm_{storage}", f"Layer normalisation, in {storage}.", norm, rows(3, 5, 37), storage)
    yield VectorCase(
        "layer_norm_offset",
        "Rows whose mean is 30 times their deviation: the difference of two means of squares is useless here.",
        part("LayerNorm", d_model=33),
        lambda _, rng: Given({"x": 30 + rng.standard_normal((4, 33))}),
    )
    yield VectorCase(
        "layer_norm_constant_row",
        "A constant row, whose variance is 0: only eps keeps its derivative finite.",
        part("LayerNorm", d_model=8, eps=1e-2),
        lambda _, rng: Given({"x": np.concatenate([rng.standard_normal((4, 8)), np.zeros((1, 8))])}),
    )
    yield VectorCase("layer_norm_eps_1e-12", "BERT's eps.", part("LayerNorm", d_model=8, eps=1e-12), rows(4, 8))
    annotated = part("AnnotatedLayerNorm", d_model=12)
    purpose = "The annotated transformer's normalisation: deviation with n - 1, eps outside of the root."
    yield VectorCase("annotated_layer_norm", purpose, annotated, rows(3, 5, 12))
    for storage in STORAGES:
        linear = part("Linear", d_in=33, d_out=20)
        purpose = f"A linear map, in {storage}: weights are (d_out, d_in), and their gradients sum over all rows."
        yield VectorCase(f"linear_{storage}", purpose, linear, rows(2, 5, 33), storage)
    yield VectorCase(
        "linear_no_bias", "A linear map without bias.", part("Linear", d_in=7, d_out=9, bias=False), rows(2, 5, 7)
    )
    for name, activation in (
        ("relu", part("ReLU")),
        ("gelu", part("GELU")),
        ("gelu_tanh", part("GELU", approximate="tanh")),
        ("silu", part("SiLU")),
        ("tanh", part("Tanh")),
    ):
        purpose = f"{name}, from -6 to 6 and at random; the entries at 0 have the documented derivative."
        yield VectorCase(f"activation_{name}", purpose, activation, _over_an_interval)
    yield VectorCase("softmax", "Over the last axis, with rows far from 0.", part("Softmax"), _shifted_rows)
    yield VectorCase(
        "dropout", "Inverted dropout by a mask that is given.", part("Dropout", p=0.25), rows(3, 5, 8), dropout=True
    )
    yield VectorCase(
        "embeddings",
        "Tokens that repeat add up in the gradient, and those that are not used have gradient 0.",
        part("Embeddings", d_model=6, vocab_size=11),
        _tokens,
    )
    purpose = "Sines and cosines at an odd width, and dropout by a mask that is given."
    positions = part("PositionalEncoding", d_model=7, dropout=0.25, max_len=12)
    yield VectorCase("positional_encoding", purpose, positions, rows(2, 12, 7), dropout=True)


def _over_an_interval(_: Component, rng: np.random.Generator) -> Given:
    return Given({"x": np.concatenate([np.linspace(-6, 6, 49), rng.standard_normal(47)]).reshape(4, 24)})


def _shifted_rows(_: Component, rng: np.random.Generator) -> Given:
    return Given({"x": rng.standard_normal((5, 33)) + np.array([[0.0], [80.0], [-80.0], [500.0], [-500.0]])})


def _tokens(_: Component, rng: np.random.Generator) -> Given:
    tokens = rng.integers(1, 8, (2, 6))
    tokens[:, -1] = tokens[:, 0]
    return Given({"tokens": tokens})


def _sublayers() -> Iterator[VectorCase]:
    for activation in ("ReLU", "SiLU"):
        feed_forward = part("PositionwiseFeedForward", d_model=8, d_ff=20, dropout=0.25, activation=part(activation))
        purpose = f"Two linear maps around {activation}, and dropout by a mask that is given."
        yield VectorCase(
            f"feed_forward_{activation.lower()}", purpose, feed_forward, rows(2, 5, 8), seed=1, dropout=True
        )
    yield VectorCase(
        "feed_forward_at_kink",
        "A row of zeros and biases of 0 put entries on ReLU's kink on purpose: rounding decides their side.",
        part("PositionwiseFeedForward", d_model=8, d_ff=20, dropout=0.0),
        _at_a_kink,
        at_kinks=True,
    )
    attention = part("MultiHeadedAttention", num_heads=2, d_model=8, dropout=0.0)
    feed_forward = part("PositionwiseFeedForward", d_model=8, d_ff=20, dropout=0.0, activation=part("GELU"))
    for order in ("Pre", "Post"):
        for name, sublayer, given in (
            ("attention", attention, masked_rows(lengths(6, 6, 4), 2, 6, 8)),
            ("feed_forward", feed_forward, rows(2, 6, 8)),
        ):
            yield VectorCase(
                f"{order.lower()}_norm_{name}",
                f"A residual connection around {name.replace('_', '-')}, {order.lower()}-norm, with dropout.",
                part(f"{order}NormSublayerConnection", sublayer=sublayer, norm=part("LayerNorm", d_model=8)),
                given,
                dropout=True,
            )


def _at_a_kink(component: Component, rng: np.random.Generator) -> Given:
    flatten(component.parameters())["linear1.bias"][:3] = 0
    x = rng.standard_normal((2, 4, 8))
    x[0, 1] = 0
    return Given({"x": x})


def _encoders() -> Iterator[VectorCase]:
    padding = lengths(9, 9, 5)
    for name, norm_first in (("pre_norm", True), ("post_norm", False)):
        for activation in ("relu", "gelu"):
            yield VectorCase(
                f"encoder_layer_{name}_{activation}",
                f"A layer, {name.replace('_', '-')}, with {activation}, dropout and padding.",
                part("EncoderLayer", **SIZES, dropout=0.1, activation=activation, norm_first=norm_first),
                masked_rows(padding, 2, 9, 16),
                dropout=True,
            )
        for storage in STORAGES:
            activation = "relu" if storage in ("float32", "float64") else "gelu_tanh"  # few digits, many kinks
            yield VectorCase(
                f"encoder_{name}_{storage}",
                f"Two layers, {name.replace('_', '-')}, in {storage}, causal and padded.",
                part("Encoder", num_layers=2, **SIZES, dropout=0.0, activation=activation, norm_first=norm_first),
                masked_rows(padding & upper_left(9, 9), 2, 9, 16),
                storage,
            )
    yield VectorCase(
        "encoder_fully_masked",
        "Two layers, and a sequence of length 0, whose rows attend uniformly.",
        part("Encoder", num_layers=2, **SIZES, dropout=0.0, activation="gelu"),
        masked_rows(lengths(9, 9, 0), 2, 9, 16),
    )
    yield VectorCase(
        "encoder_T65",
        "Two layers, and 65 tokens beside tiles of 64.",
        part("Encoder", num_layers=2, d_model=10, num_heads=2, d_ff=12, dropout=0.0, activation="silu"),
        masked_rows(lengths(65, 65), 1, 65, 10),
    )
    yield VectorCase(
        "shared_encoder",
        "One layer applied twice: the gradients of both uses add up.",
        part(
            "SharedEncoder",
            layer=part("EncoderLayer", **SIZES, dropout=0.1, activation="gelu"),
            N=2,
            norm=part("LayerNorm", d_model=16),
        ),
        masked_rows(padding, 2, 9, 16),
        dropout=True,
    )
    yield VectorCase(
        "token_encoder",
        "From tokens with padding to encodings: embeddings, positions and two layers, with dropout.",
        part(
            "TokenEncoder",
            embeddings=part("Embeddings", d_model=16, vocab_size=11),
            positions=part("PositionalEncoding", d_model=16, dropout=0.1, max_len=8),
            encoder=part("Encoder", num_layers=2, **SIZES, dropout=0.1, activation="gelu"),
        ),
        _padded_tokens,
        dropout=True,
    )


def _padded_tokens(_: Component, rng: np.random.Generator) -> Given:
    tokens = rng.integers(1, 11, (2, 8))
    tokens[1, 5:] = 0
    return Given({"tokens": tokens}, {"mask": (tokens != 0)[:, None, None]})
