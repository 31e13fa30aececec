"""What somebody who compares a kernel by hand may do wrong, and what compare says then."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from npformer import (
    LayerNorm,
    Linear,
    PositionwiseFeedForward,
    PreNormSublayerConnection,
    ScaledDotProductAttention,
    make_encoder,
)
from npformer.component import Array, Component, Tree, flatten
from npformer.oracle import Expected, compare, expect, trace
from npformer.oracle.comparison import Origin


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


def test_what_was_given_must_be_that_of_the_case() -> None:
    """Inputs, the cotangent and dropout masks; an array that a case hides NaN in may have it."""
    x, grad_output = np.random.default_rng(0).standard_normal((2, 2, 3, 8))
    layer = PreNormSublayerConnection(PositionwiseFeedForward(8, 16, 0.0, rng=0), LayerNorm(8), dropout=0.5)
    expected = expect(layer, x, grad_output=grad_output, rng=np.random.default_rng(1))
    theirs = dict(expected.truth) | flatten(expected.recording.component.parameters())
    assert compare(theirs, expected).passed
    assert compare(theirs, expected).unknown == []
    for name, other in (("x", 2.0), ("grad_output", -1.0), ("dropout.mask", 0.0), ("sublayer.linear1.weight", 1.01)):
        with pytest.raises(ValueError, match=f"^theirs must be computed from the {name} of the case, but it holds an"):
            compare(theirs | {name: other * theirs[name]}, expected)


def test_without_what_is_upstream_nobody_knows_where_it_is_wrong() -> None:
    encoder = make_encoder(2, 8, 2, 16, dropout=0.0, activation="gelu", rng=0)
    parameters = flatten(encoder.parameters())
    x, grad_output = np.random.default_rng(0).standard_normal((2, 2, 5, 8))
    expected = expect(encoder, x, grad_output=grad_output, storage="float64")
    bias = "layers.0.feed_forward.sublayer.linear1.bias"
    run = trace(encoder.with_parameters(parameters | {bias: np.full(16, 0.1)}), x, grad_output=grad_output)
    site = "layers.0.feed_forward.sublayer.linear1.output"
    everything = {name: run[name] for name in expected.tolerances}
    assert compare(everything, expected).conclusion.startswith(f"{site} is the first wrong array, and is wrong there")
    del everything[site]
    first = compare(everything, expected).first_wrong
    assert first is not None
    assert (first.origin, first.missing) == (Origin.HERE_OR_BEFORE, site)


@pytest.mark.parametrize("masked", [False, True])
def test_a_kernel_that_gives_the_masked_gradient_of_the_scores_alone(masked: bool) -> None:
    """It stands in for the unmasked one, which backward goes on with."""
    query, key, value, grad_output = np.random.default_rng(0).standard_normal((4, 2, 3, 5, 4))
    options: dict[str, Any] = {"mask": np.tril(np.ones((5, 5), int))} if masked else {}
    expected = expect(ScaledDotProductAttention(), query, key, value, grad_output=grad_output, **options)
    theirs = dict(expected.truth)
    del theirs["softmax.grad_x"]
    assert compare(theirs, expected).passed
    wrong = theirs | {"grad_scores": 2 * theirs["grad_scores"]}
    wrong |= {name: 2 * theirs[name] for name in ("grad_query", "grad_key")}
    origins = {row.name: row.origin for row in compare(wrong, expected).rows if row.verdict == "FAIL"}
    assert origins == {
        "grad_scores": Origin.HERE,
        "grad_query": Origin.INHERITED,
        "grad_key": Origin.INHERITED,
    }


class MeanOverTokens(Component):
    """A sum along another axis than the last, in a component that npformer does not know."""

    def forward(self, x: Array) -> tuple[Array, Tree]:
        return x.mean(1), {"x": x}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        x = cache["x"]
        return np.repeat(grad_output[:, None] / x.shape[1], x.shape[1], axis=1), {}


class WithoutNames(MeanOverTokens):
    """Its cache is a tuple."""

    def forward(self, x: Array) -> tuple[Array, Any]:
        return x.mean(1), (x,)


def test_a_cache_must_have_names() -> None:
    with pytest.raises(TypeError, match=r"^the cache of WithoutNames must be a dict"):
        trace(WithoutNames(), np.ones((1, 2, 3)))


def test_long_sums_along_any_axis_may_be_added_one_after_the_other() -> None:
    x = 1 + np.random.default_rng(0).standard_normal((2, 16384, 2))
    expected = expect(MeanOverTokens(), x)
    rows = expected.recording.inputs[0].astype(np.float32)
    total = np.add.accumulate(rows, axis=1)[:, -1] / np.float32(rows.shape[1])
    assert compare({"output": total}, expected).passed
    assert not compare({"output": total * 1.001}, expected).passed


def test_patterns_also_match_the_other_names_of_an_array() -> None:
    x, grad_output = np.random.default_rng(0).standard_normal((2, 3, 8))
    expected = expect(PreNormSublayerConnection(Linear(8, 8, rng=0), LayerNorm(8)), x, grad_output=grad_output)
    rows = compare(dict(expected.truth), expected, only=["sublayer.x", "output"]).rows
    assert [row.name for row in rows] == ["norm.output", "output"]
