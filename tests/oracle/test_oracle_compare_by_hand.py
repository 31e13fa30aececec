"""What somebody who compares a kernel by hand may do wrong, and what compare says then."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from npformer import LayerNorm, Linear, PreNormSublayerConnection, ScaledDotProductAttention
from npformer.component import Array, Component, Tree
from npformer.oracle import Expected, compare, expect


@pytest.fixture
def norm() -> Expected:
    x, grad_output = np.random.default_rng(0).standard_normal((2, 2, 3, 8))
    return expect(LayerNorm(8), x, grad_output=grad_output)


@pytest.mark.parametrize("times", [1.5, 3.0])
def test_a_small_error_is_no_slip(norm: Expected, times: float) -> None:
    theirs = dict(norm.truth)
    theirs["output"] = theirs["output"].copy()
    theirs["output"][0, 0, 0] += times * norm.tolerances["output"].limit[0, 0, 0]
    assert compare(theirs, norm).conclusion == "output is the first wrong array, and is wrong there"


def test_a_factor_near_1_shows_its_digits(norm: Expected) -> None:
    theirs = dict(norm.truth)
    theirs["output"] = theirs["output"] * 1.0001
    assert compare(theirs, norm).conclusion.endswith("off by the constant factor 1.0001")


def test_an_array_under_two_names_must_be_the_same() -> None:
    x, grad_output = np.random.default_rng(0).standard_normal((2, 3, 8))
    expected = expect(PreNormSublayerConnection(Linear(8, 8, rng=0), LayerNorm(8)), x, grad_output=grad_output)
    theirs = dict(expected.truth) | {"sublayer.x": expected.truth["norm.output"]}
    assert compare(theirs, expected).passed
    theirs["sublayer.x"] = theirs["sublayer.x"] + 1
    sentence = "^theirs must hold norm.output once, but sublayer.x is another name of it, and differs$"
    with pytest.raises(ValueError, match=sentence):
        compare(theirs, expected)


def test_infinite_entries_warn_of_nothing_and_are_inherited() -> None:
    query, key, value, grad_output = np.random.default_rng(0).standard_normal((4, 2, 3, 5, 4))
    expected = expect(ScaledDotProductAttention(), query, key, value, grad_output=grad_output)
    theirs = {name: array.copy() for name, array in expected.truth.items()}
    theirs["scores"][0, 0, 0, 0] = theirs["row_max"][0, 0, 0] = np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = {row.name: row for row in compare(theirs, expected).rows}
    assert rows["scores"].origin == "wrong here"
    assert rows["row_max"].origin == "inherited"


class SumOfSquares(Component):
    """Has an output without axes."""

    def forward(self, x: Array) -> tuple[Array, Tree]:
        return np.asarray((x**2).sum()), {"x": x}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        return 2 * grad_output * cache["x"], {}


def test_an_output_without_axes() -> None:
    expected = expect(SumOfSquares(), np.arange(6.0).reshape(2, 3), grad_output=np.array(2.0))
    assert expected.truth["output"] == 55
    assert compare(dict(expected.truth), expected).passed


@pytest.mark.parametrize("only", [[], [3]])
def test_bad_patterns_get_a_sentence(norm: Expected, only: list[str]) -> None:
    with pytest.raises(TypeError, match="only must hold patterns of names, but it is a list"):
        compare(dict(norm.truth), norm, only)


@pytest.mark.parametrize("theirs", [None, 3])
def test_bad_runs_get_a_sentence(norm: Expected, theirs: dict[str, Array]) -> None:
    with pytest.raises(TypeError, match="theirs must be a dict of arrays, or a list of such, but it is "):
        compare(theirs, norm)


def test_a_masked_array_hides_nothing(norm: Expected) -> None:
    wrong = norm.truth["output"] + np.eye(8)[0]
    theirs = dict(norm.truth) | {"output": np.ma.masked_array(wrong, np.arange(8) == np.zeros((2, 3, 1)))}
    with pytest.raises(TypeError, match="theirs must hold NumPy arrays, but output is a MaskedArray"):
        compare(theirs, norm)
