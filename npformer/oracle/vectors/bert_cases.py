"""The cases of BERT: its embeddings, its pooler, and the whole."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from npformer.component import Component
from npformer.oracle.vectors.cases import Given, VectorCase, part, rows

SIZES = {"num_layers": 1, "d_model": 16, "num_heads": 4, "d_ff": 24, "vocab_size": 11, "max_len": 9}


def bert_cases() -> Iterator[VectorCase]:
    """Yield them."""
    yield VectorCase(
        "bert_embeddings",
        "Words, positions and token types are added up and normalised; tokens and types are repeated.",
        part("BertEmbeddings", d_model=16, vocab_size=11, max_len=9, dropout=0.1),
        _tokens_and_types,
        dropout=True,
    )
    purpose = "tanh of a linear map of the first token: every other one gets no gradient."
    yield VectorCase("bert_pooler", purpose, part("BertPooler", d_model=16), rows(3, 5, 16))
    for build, what in (("BertEncoder", "to hidden states"), ("BertModel", "to the pooled vector")):
        yield VectorCase(
            f"bert_{build.removeprefix('Bert').lower()}",
            f"From tokens with padding and token types {what}: one post-norm layer with exact GELU, with dropout.",
            part(build, **SIZES, dropout=0.1),
            _padded,
            dropout=True,
        )


def _tokens_and_types(_: Component, rng: np.random.Generator) -> Given:
    return Given({"tokens": rng.integers(1, 11, (2, 8)), "token_types": rng.integers(0, 2, (2, 8))})


def _padded(component: Component, rng: np.random.Generator) -> Given:
    given = _tokens_and_types(component, rng)
    given.inputs["tokens"][1, 5:] = 0
    return Given(given.inputs, {"mask": (given.inputs["tokens"] != 0)[:, None, None]})
