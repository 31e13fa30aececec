"""Tolerances have the size that rounding has, where that is known."""

import numpy as np
import pytest

from npformer import LayerNorm, Linear, Softmax
from npformer.component import Array
from npformer.oracle import compare, expect
from npformer.oracle.rounding import FORMATS


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("storage", ["float64", "float32"])
@pytest.mark.parametrize("n", [4, 64, 1024])
def test_a_sum_of_n_terms_may_be_off_by_their_root(storage: str, n: int) -> None:
    """Terms of size 1: changed by √n u each, their sum changes by √n √n u; and by √n u of itself.

    The tolerance is 8 deviations, a quarter of a typical one for each of them, and the floor: 3 to 60 times as much.
    """
    linear = Linear(n, 3, rng=0)
    linear.weight = np.sign(random(3, n))
    expected = expect(linear, np.sign(random(2, n, seed=1)), storage=storage)
    scale = np.sqrt(n) * (np.sqrt(n) + np.abs(expected.truth["output"])) * FORMATS[storage].unit
    allowed = expected.tolerances["output"].allowed
    assert (allowed > 3 * scale).all()
    assert (allowed < 60 * scale).all()


@pytest.mark.parametrize(("storage", "ratio"), [("float16", 2.0**13), ("bfloat16", 2.0**16)])
def test_what_is_stored_coarsely_may_be_off_by_its_unit(storage: str, ratio: float) -> None:
    """Against float32 the unit is 2^13 or 2^16 times as large; sums stay in float32, hence the factor of 4 below."""
    fine, coarse = (expect(Softmax(), random(3, 5), storage=each).tolerances["output"] for each in ("float32", storage))
    quotient = np.median(coarse.allowed) / np.median(fine.allowed)
    assert ratio / 4 < quotient < ratio * 2


@pytest.mark.parametrize("size", [1e-200, 1e-300])
def test_tiny_numbers_have_a_tolerance(size: float) -> None:
    """Their squares are 0."""
    expected = expect(Linear(4, 4, rng=0), random(2, 4), grad_output=size * random(2, 4, seed=1), storage="float64")
    allowed = expected.tolerances["grad_x"].allowed
    assert (allowed > 1e-16 * size).all()
    assert (allowed < 1e-13 * size).all()


def test_the_mean_of_a_norm_is_rounded_for_a_whole_row() -> None:
    """A mean of 100 that is off by one rounding moves both entries of x_hat by 2^-24 · 100 / 0.025, 2e-4 of 1."""
    expected = expect(LayerNorm(2), np.array([[100.0, 100.05]]))
    off = expected.truth["x_hat"] + 2.0**-24 * 100 / 0.025
    theirs = {"x_hat": off, "output": off}
    assert compare(theirs, expected).passed


def test_the_same_call_gives_the_same_tolerances() -> None:
    first, second = (expect(LayerNorm(4), random(2, 4), grad_output=random(2, 4, seed=1)) for _ in range(2))
    for name, tolerance in first.tolerances.items():
        np.testing.assert_array_equal(tolerance.limit, second.tolerances[name].limit)


@pytest.mark.parametrize(
    ("storage", "x", "sentence"),
    [
        ("int8", 1.0, 'storage must be "float64" or "float32"'),
        ("float16", 1e6, "input 0 must have finite entries of at most 65504 for float16"),
        ("float32", np.nan, "input 0 must have finite entries"),
    ],
)
def test_bad_input_gets_a_sentence(storage: str, x: float, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        expect(LayerNorm(2), np.array([[x, 1.0]]), storage=storage)
