"""Each usual slip is recognised where it was planted, and nowhere else."""

import numpy as np
import pytest

from npformer import LayerNorm, Linear, MultiHeadedAttention, make_encoder
from npformer.component import Array
from npformer.oracle import Expected, compare, expect

B, T, HEADS, D = 3, 5, 2, 6


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def attention() -> Expected:
    component = MultiHeadedAttention(HEADS, D, dropout=0.0, rng=0)
    return expect(component, random(B, T, D), grad_output=random(B, T, D, seed=1))


def square() -> Expected:
    return expect(Linear(D, D, rng=0), random(B, T, D), grad_output=random(B, T, D, seed=1))


def slip(expected: Expected, name: str, array: Array) -> str:
    """Return what the comparison says of one array in place of a right one."""
    row = compare(dict(expected.truth) | {expected.truth.aliases.get(name, name): array}, expected).first_wrong
    assert row is not None
    return row.slip


def test_a_transposed_weight_gradient() -> None:
    expected = square()
    assert slip(expected, "grad_weight", expected.truth["grad_weight"].T) == "transposed"


def test_heads_that_are_not_merged() -> None:
    expected = attention()
    heads = expected.truth["attention.output"]
    assert slip(expected, "out_proj.x", heads).startswith("the heads are not merged: (batch, heads, T, d_head)")
    merged_wrongly = heads.reshape(B, T, D)
    assert slip(expected, "out_proj.x", merged_wrongly) == "the heads are merged without exchanging heads and T"


def test_a_gradient_that_is_not_summed_over_the_batch() -> None:
    expected = square()
    x, grad = expected.truth["x"], expected.truth["grad_output"]
    of_each = np.einsum("bto,bti->boi", grad, x)
    assert slip(expected, "grad_weight", of_each) == "not summed over the batch"
    assert "not summed over the batch: it is the gradient of item 0 alone" in slip(expected, "grad_weight", of_each[0])
    of_each_row = np.einsum("bto,bti->btoi", grad, x)
    assert slip(expected, "grad_weight", of_each_row) == "not summed over its first 2 axes"


@pytest.mark.parametrize(
    ("factor", "meaning"),
    [(1 / B, f" = 1/{B}"), (np.sqrt(D), f" = √{D}"), (2.0, "factor 2"), (-1.0, ", the wrong sign"), (1.234, "1.234")],
)
def test_a_constant_factor_and_what_it_may_come_from(factor: float, meaning: str) -> None:
    expected = square()
    words = slip(expected, "grad_weight", factor * expected.truth["grad_weight"])
    assert words.startswith("off by the constant factor")
    assert words.endswith(meaning)


def test_q_and_k_exchanged() -> None:
    expected = attention()
    name = expected.truth.aliases.get("k_proj.output", "k_proj.output")
    assert slip(expected, "q_proj.output", expected.truth[name]) == f"it is {name}"


def test_reversed_and_shifted() -> None:
    expected = square()
    assert slip(expected, "output", expected.truth["output"][:, ::-1]) == "reversed along axis 1"
    assert slip(expected, "output", np.roll(expected.truth["output"], 1, 1)) == "shifted by 1 along axis 1"


def test_nothing_but_zeros_or_nan() -> None:
    expected = square()
    assert slip(expected, "grad_bias", np.zeros(D)) == "all its entries are 0"
    assert slip(expected, "grad_bias", np.full(D, np.nan)) == f"{D} of its entries are NaN and 0 infinite"


@pytest.mark.parametrize("seed", range(2, 12))
def test_random_entries_are_no_slip(seed: int) -> None:
    expected = attention()
    for name in ("output", "q_proj.grad_weight", "attention.scores"):
        assert slip(expected, name, random(*expected.truth[name].shape, seed=seed)) == ""


def test_correct_arrays_have_none() -> None:
    encoder = make_encoder(1, D, HEADS, 8, rng=0)
    expected = expect(encoder, random(B, T, D), grad_output=random(B, T, D, seed=1))
    assert all(row.slip == "" for row in compare(expected.truth, expected).rows)


def test_a_wrong_entry_of_a_norm_is_no_slip() -> None:
    expected = expect(LayerNorm(D), random(B, D))
    wrong = expected.truth["output"].copy()
    wrong[0, 0] += 1
    assert slip(expected, "output", wrong) == ""
