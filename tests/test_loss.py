"""The losses: values by hand; of the cross-entropy also what does not count, and logits of any size."""

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest

from npformer import CrossEntropy, Linear, MeanSquaredError, Softmax
from npformer.component import Array

V = 5
TARGETS = np.array([[3, 0, 3, 1], [4, 4, 0, 2]])
LOGITS = np.random.default_rng(0).standard_normal((2, 4, V))
ONE = np.array(1.0)


def loss_of(logits: list[float], target: int, smoothing: float) -> float:
    """The formula for one position, to 50 digits."""
    with localcontext(prec=50):
        exponentials = [Decimal(logit).exp() for logit in logits]
        surprisals = [(sum(exponentials) / each).ln() for each in exponentials]
        epsilon = Decimal(smoothing)
        return float((1 - epsilon) * surprisals[target] + epsilon * sum(surprisals) / len(logits))


def gradient(loss: CrossEntropy, logits: Array, targets: Array) -> Array:
    _, cache = loss.forward(logits, targets)
    (grad_logits, grad_targets), grads = loss.backward(ONE, cache)
    assert (grad_targets, grads) == (None, {})
    return grad_logits


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_the_value_is_that_of_the_formula(smoothing: float) -> None:
    rows, targets = LOGITS.reshape(-1, V).tolist(), TARGETS.ravel().tolist()
    expected = [loss_of(row, target, smoothing) for row, target in zip(rows, targets, strict=True)]
    output = CrossEntropy(smoothing)(LOGITS, TARGETS)
    assert (output.shape, output.dtype, type(output)) == ((), np.dtype(np.float64), np.ndarray)
    # a dozen roundings of numbers of the order of 1 for each of 8 positions, which are independent
    assert float(output) == pytest.approx(np.mean(expected), rel=0, abs=4e-15)


def test_equal_logits_cost_the_logarithm_of_the_number_of_classes() -> None:
    for smoothing in (0.0, 0.3):
        assert CrossEntropy(smoothing)(np.full((2, 4, V), 7.0), TARGETS) == pytest.approx(math.log(V), rel=1e-15)


def test_a_gradient_is_probabilities_minus_smoothed_targets() -> None:
    smoothed = 0.9 * (TARGETS[..., None] == np.arange(V)) + 0.1 / V
    # two subtractions of numbers below 1, over 8
    np.testing.assert_allclose(
        gradient(CrossEntropy(0.1), LOGITS, TARGETS), (Softmax()(LOGITS) - smoothed) / 8, rtol=0, atol=1e-16
    )


def test_smoothing_is_spread_over_all_classes_the_target_too() -> None:
    certain = np.log(np.array([0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3]))  # the smoothed target itself: the least loss
    assert np.abs(gradient(CrossEntropy(0.1), certain, np.array(0))).max() < 1e-15  # a few roundings of 1
    others_alone = np.log(np.array([0.9, 0.05, 0.05]))
    assert np.abs(gradient(CrossEntropy(0.1), others_alone, np.array(0))).max() > 0.01


def test_the_cache_has_the_probabilities_of_all_positions_the_targets_and_what_counts() -> None:
    targets = np.where(TARGETS == 3, -1, TARGETS)
    _, cache = CrossEntropy(ignore_index=-1).forward(LOGITS, targets)
    assert list(cache) == ["probabilities", "targets", "counted"]
    np.testing.assert_allclose(cache["probabilities"], Softmax()(LOGITS), rtol=1e-15)
    assert cache["targets"] is targets
    assert cache["counted"].tolist() == (TARGETS != 3).tolist()
    _, cache = CrossEntropy().forward(LOGITS, TARGETS)
    assert cache["counted"].all()


@pytest.mark.parametrize("ignored", [3, -100, 10**30])
def test_ignored_positions_count_neither_in_the_sum_nor_in_the_mean(ignored: int) -> None:
    targets = np.where(TARGETS == 3, ignored, TARGETS) if ignored < 10**18 else TARGETS
    counted = targets != ignored
    loss = CrossEntropy(0.1, ignored)
    alone = CrossEntropy(0.1)
    assert loss(LOGITS, targets) == alone(LOGITS[counted], targets[counted])
    grad_logits = gradient(loss, LOGITS, targets)
    assert not grad_logits[~counted].any()
    assert np.array_equal(grad_logits[counted], gradient(alone, LOGITS[counted], targets[counted]))


def test_what_stands_at_ignored_positions_does_not_matter() -> None:
    targets = np.where(TARGETS == 3, -100, TARGETS)
    spoiled = np.where((targets == -100)[..., None], np.nan, LOGITS)
    loss = CrossEntropy(0.1, -100)
    assert loss(spoiled, targets) == loss(LOGITS, targets)
    assert np.array_equal(gradient(loss, spoiled, targets), gradient(loss, LOGITS, targets))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_where_all_is_ignored_the_loss_and_its_gradient_are_zero(smoothing: float, dtype: type) -> None:
    loss, targets = CrossEntropy(smoothing, -100), np.full((2, 4), -100)
    output, cache = loss.forward(LOGITS.astype(dtype), targets)
    assert (float(output.real), output.dtype) == (0.0, np.dtype(dtype))
    (grad_logits, _), _ = loss.backward(np.ones((), dtype), cache)
    assert (grad_logits.shape, grad_logits.dtype, grad_logits.any()) == (LOGITS.shape, np.dtype(dtype), np.False_)


def test_the_loss_of_a_batch_is_the_mean_of_its_items_weighted_by_what_counts() -> None:
    loss, targets = CrossEntropy(0.1, 3), TARGETS
    counts = (targets != 3).sum(-1)
    losses = [float(loss(logits, of_item)) for logits, of_item in zip(LOGITS, targets, strict=True)]
    assert float(loss(LOGITS, targets)) == pytest.approx(np.average(losses, weights=counts), rel=1e-15)


@pytest.mark.parametrize(("smoothing", "expected"), [(0.0, 2000.0), (0.1, 1900.0)])
def test_logits_of_any_size_do_not_overflow(smoothing: float, expected: float) -> None:
    logits, targets = np.array([[1000.0, -1000.0]]), np.array([1])
    assert float(CrossEntropy(smoothing)(logits, targets)) == expected
    np.testing.assert_allclose(
        gradient(CrossEntropy(smoothing), logits, targets), [[1 - smoothing / 2, -1 + smoothing / 2]], rtol=1e-15
    )


def test_a_class_that_is_ruled_out_has_a_logit_of_minus_infinity() -> None:
    logits = np.array([[0.0, -np.inf, 0.0]])
    assert float(CrossEntropy()(logits, np.array([0]))) == pytest.approx(math.log(2), rel=1e-15)
    assert gradient(CrossEntropy(), logits, np.array([0])).tolist() == [[-0.5, 0.0, 0.5]]
    assert float(CrossEntropy()(logits, np.array([1]))) == math.inf
    assert float(CrossEntropy(0.1)(logits, np.array([0]))) == math.inf  # some of the target is there


def test_one_position_and_one_class() -> None:
    assert CrossEntropy(0.1)(LOGITS[0, 0], np.array(2)) == pytest.approx(
        loss_of(LOGITS[0, 0].tolist(), 2, 0.1), rel=1e-15
    )
    assert gradient(CrossEntropy(0.1), LOGITS[0, 0], np.array(2)).shape == (V,)
    assert CrossEntropy(0.1)(np.array([[3.0]]), np.array([0])) == 0
    assert np.abs(gradient(CrossEntropy(0.1), np.array([[3.0]]), np.array([0]))).max() < 1e-16  # of 1 - 0.1 - 0.9


@pytest.mark.parametrize("kind", ["uint8", "int8", ">i4", "uint64"])
def test_targets_are_integers_of_any_kind(kind: str) -> None:
    for loss in (CrossEntropy(0.1, -100), CrossEntropy(0.1, 3), CrossEntropy(0.1)):
        assert loss(LOGITS, TARGETS.astype(kind)) == loss(LOGITS, TARGETS)
        assert np.array_equal(gradient(loss, LOGITS, TARGETS.astype(kind)), gradient(loss, LOGITS, TARGETS))


def test_gradient_descent_on_the_logits_finds_the_smoothed_targets() -> None:
    loss, logits = CrossEntropy(0.1), np.zeros((2, 4, V))
    for _ in range(400):
        logits -= 8 * gradient(loss, logits, TARGETS)  # 8 positions share the mean: a step of 1 for each
    smoothed = 0.9 * (TARGETS[..., None] == np.arange(V)) + 0.1 / V
    # the slowest direction shrinks by 1 - 0.02 a step, the least curvature: 0.98^400 = 3e-4
    np.testing.assert_allclose(Softmax()(logits), smoothed, atol=3e-4)


PREDICTIONS = np.array([[1.0, 2.0, 5.0, 4.0], [0.0, -3.0, 0.5, 8.0]])
WANTED = np.array([[1.0, 4.0, 4.0, 4.0], [-1.0, -3.0, 1.0, 6.0]])  # differences 0, -2, 1, 0, 1, 0, -1/2, 2


def test_mean_squared_error_by_hand() -> None:
    output, cache = MeanSquaredError().forward(PREDICTIONS, WANTED)
    assert (output.shape, output.dtype, type(output)) == ((), np.dtype(np.float64), np.ndarray)
    assert float(output) == (4 + 1 + 1 + 1 / 4 + 4) / 8
    assert cache.keys() == {"difference"}
    (grad_predictions, grad_targets), grads = MeanSquaredError().backward(np.array(3.0), cache)
    slopes = [[0, -1.5, 0.75, 0], [0.75, 0, -0.375, 1.5]]  # 3 · 2d/8, exact in binary
    assert (grad_predictions.tolist(), (-grad_targets).tolist(), grads) == (slopes, slopes, {})
    assert not np.shares_memory(grad_predictions, grad_targets)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 3, 4)])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_the_mean_squared_error_is_that_of_fractions(shape: tuple[int, ...], offset: float) -> None:
    rng = np.random.default_rng(6)
    predictions, targets = (np.asarray(offset + rng.standard_normal(shape)) for _ in range(2))
    pairs = list(zip(predictions.ravel().tolist(), targets.ravel().tolist(), strict=True))
    differences = [Fraction(prediction) - Fraction(target) for prediction, target in pairs]
    output, cache = MeanSquaredError().forward(predictions, targets)
    # nothing cancels: each square is off by three roundings of 1.1e-16, and their sum and its quotient by some more
    assert float(output) == pytest.approx(float(sum(d * d for d in differences) / len(pairs)), rel=1e-15)
    (grad_predictions, grad_targets), _ = MeanSquaredError().backward(ONE, cache)
    exact = np.array([float(2 * d / len(pairs)) for d in differences]).reshape(shape)
    np.testing.assert_allclose(grad_predictions, exact, rtol=5e-16)  # three roundings
    assert np.array_equal(grad_targets, -grad_predictions)


def test_where_predictions_are_right_loss_and_gradients_are_zero() -> None:
    output, cache = MeanSquaredError().forward(WANTED, WANTED.copy())
    (grad_predictions, grad_targets), _ = MeanSquaredError().backward(ONE, cache)
    assert (float(output), grad_predictions.any(), grad_targets.any()) == (0.0, np.False_, np.False_)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_the_mean_squared_error_keeps_the_dtype_and_two_give_the_wider(dtype: type) -> None:
    for targets, wider in ((WANTED.astype(dtype), dtype), (WANTED, np.result_type(dtype, np.float64))):
        output, cache = MeanSquaredError().forward(PREDICTIONS.astype(dtype), targets)
        (grad_predictions, grad_targets), _ = MeanSquaredError().backward(np.ones((), wider), cache)
        assert {output.dtype, grad_predictions.dtype, grad_targets.dtype} == {np.dtype(wider)}


def test_a_complex_step_through_the_mean_squared_error_is_its_slope() -> None:
    """So the square is d·d, and not |d|²; 1e-200 squared is 0, so that the step is exact."""
    (grad_predictions, grad_targets), _ = MeanSquaredError().backward(
        ONE, MeanSquaredError().forward(PREDICTIONS, WANTED)[1]
    )
    for index in np.ndindex(PREDICTIONS.shape):
        step = np.zeros(PREDICTIONS.shape, complex)
        step[index] = 1e-200j
        of_prediction = MeanSquaredError()(PREDICTIONS + step, WANTED).imag / 1e-200
        of_target = MeanSquaredError()(PREDICTIONS, WANTED + step).imag / 1e-200
        slopes = [grad_predictions[index], grad_targets[index]]
        assert [of_prediction, of_target] == pytest.approx(slopes, rel=1e-15)  # 1e-200 is rounded, twice


def test_a_step_of_half_the_number_of_entries_lands_on_the_targets() -> None:
    """The loss of each entry is a parabola of curvature 2/N."""
    (grad_predictions, _), _ = MeanSquaredError().backward(ONE, MeanSquaredError().forward(PREDICTIONS, WANTED)[1])
    assert np.array_equal(PREDICTIONS - WANTED.size / 2 * grad_predictions, WANTED)


def test_at_the_least_squares_fit_the_gradient_of_a_linear_layer_is_zero() -> None:
    rng = np.random.default_rng(8)
    x, targets = rng.standard_normal((20, 3)), rng.standard_normal((20, 2))
    fit = np.linalg.lstsq(np.column_stack([x, np.ones(20)]), targets)[0]
    best = Linear(3, 2, rng=rng).with_parameters({"weight": fit[:3].T, "bias": fit[3]})

    def largest_slope(linear: Linear) -> float:
        output, cache = linear.forward(x)
        (grad_predictions, _), _ = MeanSquaredError().backward(ONE, MeanSquaredError().forward(output, targets)[1])
        _, grads = linear.backward(grad_predictions, cache)
        return float(max(np.abs(grads["weight"]).max(), np.abs(grads["bias"]).max()))

    assert largest_slope(best) < 1e-14  # rounding of sums of 20 terms of the order of 2/40
    assert largest_slope(best.with_parameters({"weight": fit[:3].T, "bias": fit[3] + 0.01})) > 1e-3
