"""The cases of attention: lengths around the tiles of kernels, masks, sizes of heads and numbers that break them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from npformer.component import Array, Component
from npformer.oracle.vectors.cases import (
    GARBAGE,
    Given,
    Make,
    VectorCase,
    heads,
    hidden_keys,
    lengths,
    lower_right,
    masked_rows,
    part,
    rows,
    starts,
    upper_left,
)

TILE = 64  # keys that many kernels look at together
CORE = part("ScaledDotProductAttention")
ZERO = part("ScaledDotProductAttention", fully_masked="zero")


def attention_cases() -> Iterator[VectorCase]:
    """Yield the cases of the attention core and of multi-head attention, in all layouts."""
    yield from _lengths()
    yield from _causal()
    yield from _masks()
    yield from _numbers()
    yield from _multi_head()
    yield from _layouts()


def _lengths() -> Iterator[VectorCase]:
    for T in (1, TILE - 1, TILE, TILE + 1, 2 * TILE + 1):
        purpose = f"Self-attention of {T} tokens beside tiles of {TILE}; causal mask"
        given = heads(1, 2, T, T, 8, upper_left(T, T))
        yield VectorCase(f"attention_causal_T{T}", f"{purpose}.", CORE, given)
    yield VectorCase(
        "attention_no_mask_T65", "Self-attention without a mask.", CORE, heads(2, 1, TILE + 1, TILE + 1, 5)
    )
    for storage in ("float64", "float16", "bfloat16"):
        given = heads(1, 2, TILE + 1, TILE + 1, 16, upper_left(TILE + 1, TILE + 1))
        yield VectorCase(f"attention_causal_T65_{storage}", f"Causal mask, in {storage}.", CORE, given, storage)


def _causal() -> Iterator[VectorCase]:
    alignments = {"upper_left": upper_left, "lower_right": lower_right}
    counted = {"upper_left": "the first query and key", "lower_right": "the last query and key"}
    for name, make_mask in alignments.items():
        for T_q, T_k in ((5, TILE + 1), (TILE + 1, 7), (1, 2 * TILE + 1)):
            purpose = f"Causal mask aligned {name.replace('_', '-')}: places count from {counted[name]}"
            if name == "lower_right" and T_q > T_k:
                purpose += "; the first queries see no key, and attend uniformly"
            given = heads(2, 2, T_q, T_k, 8, make_mask(T_q, T_k))
            yield VectorCase(f"attention_causal_{name}_Tq{T_q}_Tk{T_k}", f"{purpose}.", CORE, given)
    given = heads(2, 2, TILE + 1, 7, 8, lower_right(TILE + 1, 7))
    purpose = "Causal mask aligned lower-right; the first queries see no key, and have output 0."
    yield VectorCase("attention_causal_lower_right_Tq65_Tk7_zero", purpose, ZERO, given)


def _masks() -> Iterator[VectorCase]:
    padding = lengths(9, 9, 4, 1)
    yield VectorCase(
        "attention_padding", "Sequences of lengths 9, 4 and 1, padded to 9.", CORE, heads(3, 2, 9, 9, 4, padding)
    )
    some_rows = np.random.default_rng(1).integers(0, 2, (2, 3, 6, 7)).astype(bool)
    some_rows[:, :, 1] = False
    some_rows[:, :, 2] = True
    nobody = lengths(6, 6, 0)
    for policy, recipe in (("uniform", CORE), ("zero", ZERO)):
        what = "attends to all keys equally" if policy == "uniform" else "has output 0 and no gradient"
        purpose = f"A mask for each head with a fully masked row, which {what}."
        yield VectorCase(f"attention_fully_masked_rows_{policy}", purpose, recipe, heads(2, 3, 6, 7, 5, some_rows))
        purpose = f"A sequence of length 0, each row of which {what}."
        yield VectorCase(f"attention_length_0_{policy}", purpose, recipe, heads(2, 2, 6, 6, 4, nobody))
    late = np.ones((3, 2 * TILE + 1), bool)
    late[:, :TILE] = False
    late[0, : 2 * TILE] = False
    yield VectorCase(
        "attention_first_tile_masked",
        f"The first {TILE} keys are masked for every query, and the first two tiles for the first one: "
        "a running maximum that starts with -inf gives NaN here.",
        CORE,
        heads(2, 2, 3, 2 * TILE + 1, 8, late),
    )
    dropout = part("ScaledDotProductAttention", dropout=0.25)
    yield VectorCase(
        "attention_dropout",
        "Weights are dropped by a mask that is given.",
        dropout,
        heads(2, 2, 5, 9, 4, lengths(9, 9, 6)),
        dropout=True,
    )


def _numbers() -> Iterator[VectorCase]:
    for d_head in (1, 5, 33, 80):
        purpose = f"Heads of size {d_head}, which no vector width divides."
        given = heads(2, 3, 7, 9, d_head, lengths(9, 9, 5))
        yield VectorCase(f"attention_head_size_{d_head}", purpose, CORE, given)
    for storage in ("float32", "float64"):
        purpose = f"Scores of 1e4 and a few more or less, in {storage}: exp overflows unless the maximum is taken off."
        given = heads(1, 2, 9, TILE + 1, 16)
        yield VectorCase(f"attention_shifted_scores_{storage}", purpose, CORE, _shifted(given), storage)
    for storage in ("float32", "bfloat16"):
        purpose = (
            f"Scores of about 1e4 and -1e4 in {storage}: each query attends to one key, and exp must not overflow."
        )
        given = heads(1, 2, 9, TILE + 1, 16, size=50 * 2**0.5)
        yield VectorCase(f"attention_large_scores_{storage}", purpose, CORE, given, storage)
    padded = heads(2, 2, 9, TILE + 6, 8, lengths(TILE + 6, TILE + 1, 5))
    yield VectorCase(
        "attention_garbage_in_masked_keys",
        f"Masked keys and values are random numbers up to {GARBAGE:g}: they must not matter.",
        CORE,
        hidden_keys(padded, GARBAGE),
    )
    for storage in ("float32", "float16"):
        yield VectorCase(
            f"attention_nan_in_masked_keys_{storage}",
            "Masked keys and values are NaN in the file, and 0 where truth is computed: outputs must be finite, and "
            "the gradients of those keys and values exactly 0.",
            CORE,
            hidden_keys(padded, np.nan),
            storage,
        )


def _shifted(make: Make) -> Make:
    """Let every score be 1e4 larger, so that weights are as they were."""

    def changed(component: Component, rng: np.random.Generator) -> Given:
        given = make(component, rng)
        for name in ("query", "key"):
            given.inputs[name][..., 0] = 200  # 200 * 200 / sqrt(16)
        return given

    return changed


def _multi_head() -> Iterator[VectorCase]:
    recipe = part("MultiHeadedAttention", num_heads=4, d_model=12, dropout=0.0)
    given = masked_rows(lengths(7, 7, 3), 2, 7, 12)
    yield VectorCase("multi_head_self", "Self-attention: three gradients add up in x.", recipe, _as_query(given))
    yield VectorCase("multi_head_cross", "Queries and keys of different lengths.", recipe, _cross(lengths(9, 9, 4)))
    yield VectorCase(
        "multi_head_T_equals_heads",
        "As many tokens as heads, so that swapped axes keep their shape.",
        recipe,
        _as_query(masked_rows(upper_left(4, 4), 2, 4, 12)),
    )
    dropped = part("MultiHeadedAttention", num_heads=2, d_model=10, dropout=0.25, bias=False)
    yield VectorCase(
        "multi_head_dropout_no_bias",
        "Projections without biases, and weights dropped by a mask that is given.",
        dropped,
        _as_query(rows(2, 6, 10)),
        dropout=True,
    )


def _as_query(make: Make) -> Make:
    def changed(component: Component, rng: np.random.Generator) -> Given:
        given = make(component, rng)
        return Given({"query": given.inputs["x"]}, given.options)

    return changed


def _cross(mask: Array) -> Make:
    def make(_: Component, rng: np.random.Generator) -> Given:
        query, key, value = (rng.standard_normal((len(mask), T, 12)) for T in (5, mask.shape[-1], mask.shape[-1]))
        return Given({"query": query, "key": key, "value": value}, {"mask": mask})

    return make


def _layouts() -> Iterator[VectorCase]:
    def packed(_: Component, rng: np.random.Generator) -> Given:
        return Given({"qkv": rng.standard_normal((2, 9, 3, 2, 5))}, {"mask": lengths(9, 9, 4)})

    def without_padding(_: Component, rng: np.random.Generator) -> Given:
        query, key, value = (rng.standard_normal((total, 2, 8)) for total in (76, 80, 80))
        cu_seqlens = {"cu_seqlens_q": starts(5, 0, TILE + 1, 6), "cu_seqlens_k": starts(9, 0, TILE + 1, 6)}
        return Given({"query": query, "key": key, "value": value}, cu_seqlens)

    def rows_without_padding(_: Component, rng: np.random.Generator) -> Given:
        return Given({"x": rng.standard_normal((18, 12))}, {"cu_seqlens": starts(7, 1, 10)})

    yield VectorCase(
        "packed_qkv", "Query, key and value in one array (batch, T, 3, heads, d_head).", part("PackedAttention"), packed
    )
    yield VectorCase(
        "packed_in_proj",
        "One input projection (3 d_model, d_model) for queries, keys and values, as PyTorch's in_proj_weight.",
        part("PackedMultiHeadedAttention", num_heads=3, d_model=12),
        masked_rows(lengths(9, 9, 4), 2, 9, 12),
    )
    for name, causal in (("", False), ("_causal", True)):
        yield VectorCase(
            f"variable_lengths_attention{name}",
            "Sequences one behind the other without padding, where cu_seqlens say; one has length 0"
            f"{', and the causal mask of each is aligned lower-right' if causal else ''}.",
            part("VariableLengthAttention", causal=causal),
            without_padding,
        )
    for name, inner in (
        ("multi_head", part("MultiHeadedAttention", num_heads=3, d_model=12, dropout=0.0)),
        (
            "encoder",
            part("Encoder", num_layers=2, d_model=12, num_heads=3, d_ff=20, dropout=0.0, activation="gelu"),
        ),
    ):
        yield VectorCase(
            f"variable_lengths_{name}",
            "Sequences one behind the other without padding, where cu_seqlens say.",
            part("VariableLengths", inner=inner),
            rows_without_padding,
        )
