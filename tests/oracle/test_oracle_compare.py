"""What a comparison says of arrays that are missing, wrong, misshapen or not finite, and of kinks."""

import json
from typing import Any

import numpy as np
import pytest

from npformer import LayerNorm, Linear, MultiHeadedAttention, PositionwiseFeedForward, PreNormSublayerConnection
from npformer.component import Array
from npformer.oracle import Expected, compare, expect
from npformer.oracle.comparison import Origin


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def block() -> Expected:
    connection = PreNormSublayerConnection(Linear(4, 4, rng=0), LayerNorm(4), dropout=0.0)
    return expect(connection, random(2, 3, 4), grad_output=random(2, 3, 4, seed=1))


def correct(expected: Expected) -> dict[str, Array]:
    return {name: array.astype(np.float32) for name, array in expected.truth.items()}


def test_results_must_be_given_and_intermediates_may() -> None:
    expected = block()
    theirs = {name: array for name, array in correct(expected).items() if name in expected.results()}
    assert compare(theirs, expected).passed
    del theirs["grad_x"]
    comparison = compare(theirs, expected)
    assert (comparison.passed, comparison.lacking) == (False, ["grad_x"])
    assert "grad_x is missing" in comparison.conclusion


def test_gradients_inside_an_attention_core_need_not_be_given() -> None:
    core = MultiHeadedAttention(2, 4, rng=0).attention
    expected = expect(core, *(random(1, 2, 3, 2, seed=seed) for seed in range(3)), grad_output=random(1, 2, 3, 2))
    assert expected.results() == ["output", "grad_query", "grad_key", "grad_value"]


def test_only_what_matches_is_compared_and_must_be_given() -> None:
    expected = block()
    theirs = correct(expected) | {"output": np.zeros((2, 3, 4))}
    comparison = compare(theirs, expected, only="*.grad_weight")
    assert comparison.passed
    assert [row.name for row in comparison.rows] == ["sublayer.grad_weight", "norm.grad_weight"]
    del theirs["norm.grad_weight"]
    assert compare(theirs, expected, only=["*.grad_weight"]).lacking == ["norm.grad_weight"]


def test_aliases_are_known_and_other_names_are_reported() -> None:
    expected = block()
    theirs = correct(expected)
    theirs["sublayer.x"] = theirs.pop("norm.output") * 2
    theirs["nobody.knows"] = np.zeros(1)
    comparison = compare(theirs, expected)
    assert comparison.first_wrong is not None
    assert comparison.first_wrong.name == "norm.output"
    assert comparison.unknown == ["nobody.knows"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_matches_nothing(value: float) -> None:
    expected = block()
    theirs = correct(expected)
    theirs["output"][0, 0, 0] = value
    first = compare(theirs, expected).first_wrong
    assert first is not None
    assert (first.name, first.origin, first.wrong, first.worst[0].index) == ("output", Origin.HERE, 1, (0, 0, 0))


def test_nan_in_the_truth_matches_nothing() -> None:
    expected = block()
    theirs = correct(expected)
    for array in (expected.truth.arrays["output"], theirs["output"]):
        array[0, 0, 0] = np.nan
    assert not compare(theirs, expected).passed


@pytest.mark.parametrize("garbage", [-np.inf, np.nan, 7.0])
def test_masked_scores_may_be_anything(garbage: float) -> None:
    mask = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 1]])
    attention = MultiHeadedAttention(2, 4, dropout=0.0, rng=0)
    expected = expect(attention, random(2, 3, 4), mask=mask, grad_output=random(2, 3, 4, seed=1))
    theirs = correct(expected)
    theirs["attention.scores"][..., 0, 2] = garbage
    assert compare(theirs, expected).passed
    theirs["attention.scores"][..., 0, 1] = garbage
    assert not compare(theirs, expected).passed


def test_of_several_runs_the_worst_counts() -> None:
    expected = block()
    wrong = correct(expected) | {"grad_x": np.zeros((2, 3, 4))}
    comparison = compare([correct(expected), wrong, correct(expected)], expected)
    assert comparison.first_wrong is not None
    assert (comparison.runs, comparison.first_wrong.name, comparison.first_wrong.run) == (3, "grad_x", 1)
    assert "run 2 of 3" in str(comparison)
    assert compare([correct(expected)] * 3, expected).passed


def test_a_wrong_shape_fails_where_it_is_made() -> None:
    expected = block()
    row = compare(correct(expected) | {"output": np.zeros((3, 4))}, expected).first_wrong
    assert row is not None
    assert (row.shape, row.expected_shape, row.origin) == ((3, 4), (2, 3, 4), Origin.HERE)


def test_an_error_is_inherited_if_what_it_comes_from_is_given() -> None:
    expected = block()
    theirs = correct(expected)
    doubled = 2 * theirs["norm.output"]
    linear = expected.recording.component.parameters()["sublayer"]
    theirs["norm.output"] = doubled
    theirs["sublayer.output"] = doubled @ linear["weight"].T + linear["bias"]
    theirs["output"] = theirs["x"] + theirs["sublayer.output"]
    origins = {row.name: row.origin for row in compare(theirs, expected).rows}
    assert (origins["norm.output"], origins["sublayer.output"]) == (Origin.HERE, Origin.INHERITED)
    del theirs["norm.output"]
    comparison = compare(theirs, expected)
    origins = {row.name: row.origin for row in comparison.rows}
    assert (origins["sublayer.output"], origins["output"]) == (Origin.HERE_OR_BEFORE, Origin.INHERITED)
    assert comparison.conclusion.endswith("the mistake is there or before, since norm.output is missing")


def at_a_kink(distance: float) -> tuple[Expected, dict[str, Array]]:
    """Return a network with one pre-activation at this distance from 0, and theirs with it on the other side."""
    network = PositionwiseFeedForward(2, 3, dropout=0.0, rng=0)
    x = np.array([[1.0, 0.5]])
    network.linear1.weight = np.array([[1.0, -2.0], [0.5, 0.25], [1.0, 1.0]])
    network.linear1.bias = np.array([distance, 0.0, 0.0])  # the first pre-activation is this alone
    grad_output = np.array([[1.0, -0.7]])
    expected = expect(network, x, grad_output=grad_output)
    network.linear1.bias = np.array([-1e-9, 0.0, 0.0])
    flipped = expect(network, x, grad_output=grad_output)
    return expected, {name: flipped.truth[name] for name in flipped.results()}


def test_an_entry_at_a_kink_may_be_on_either_side() -> None:
    expected, theirs = at_a_kink(1e-9)
    comparison = compare(theirs, expected)
    assert comparison.passed, str(comparison)
    assert {row.name: row.at_kinks for row in comparison.rows}["linear1.grad_bias"] == 1
    assert "at a kink" in str(comparison)


def test_an_entry_far_from_a_kink_may_not() -> None:
    assert not compare(at_a_kink(1e-3)[1], at_a_kink(1e-3)[0]).passed


def test_json_is_valid_and_has_everything() -> None:
    expected = block()
    report = json.loads(compare(correct(expected) | {"output": np.full((2, 3, 4), np.nan)}, expected).to_json())
    assert (report["passed"], report["first_wrong"]) == (False, "output")
    assert report["rows"][-1]["verdict"] == "PASS"
    assert next(row for row in report["rows"] if row["name"] == "output")["worst"][0]["theirs"] is None


@pytest.mark.parametrize(
    ("theirs", "only", "error", "sentence"),
    [
        ({}, None, ValueError, "theirs must hold an array of a known name"),
        ([], None, ValueError, "theirs must hold at least one run, but it is empty"),
        ({"output": [1.0]}, None, TypeError, "theirs must hold NumPy arrays, but output is a list"),
        ({"output": np.ones(3, complex)}, None, TypeError, "real numbers, but output has dtype complex128"),
        ({3: np.ones(3)}, None, TypeError, "theirs must have names as keys, but one of them is an int"),
        ({"output": np.ones(3)}, "nothing*", ValueError, "only must match the name of an array, but none is like"),
        ([3], None, TypeError, "theirs must be a dict, but it is an int"),
    ],
)
def test_bad_input_gets_a_sentence(theirs: object, only: str | None, error: type[Exception], sentence: str) -> None:
    untyped: Any = compare
    with pytest.raises(error, match=sentence.replace("*", ".")) as caught:
        untyped(theirs, block(), only)
    assert "\n" not in str(caught.value)


def test_what_may_overflow_in_float16_is_infinite_of_the_right_sign() -> None:
    x = np.array([[40000.0, 1.0], [-40000.0, 2.0]])
    linear = Linear(2, 1, bias=False)
    linear.weight = np.array([[2.0, 1.0]])
    expected = expect(linear, x, storage="float16")
    assert compare({"output": np.array([[np.inf], [-np.inf]])}, expected).passed
    for wrong in (np.array([[-np.inf], [-np.inf]]), np.array([[0.0], [-np.inf]]), np.array([[np.nan], [-np.inf]])):
        assert not compare({"output": wrong}, expected).passed
    assert not compare({"output": np.array([[np.inf], [-np.inf]])}, expect(linear, x, storage="float32")).passed
