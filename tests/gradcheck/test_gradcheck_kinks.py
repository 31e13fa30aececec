"""At a kink: what lies between the one-sided slopes is a subgradient, and what cannot be told is UNDECIDED."""

from typing import Any

import numpy as np
import pytest
from subjects import planted

from npformer import EncoderLayer, Linear, MultiHeadedAttention, PositionwiseFeedForward, ReLU
from npformer.component import Array, Component, Tree
from npformer.gradcheck import check_gradients

X = np.array([[1.0, 0.0, -2.0]])


def with_slope_at_zero(slope: float) -> Component:
    def backward(relu: Any, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        at_zero = np.array([[False, True, False]])
        return np.where(at_zero, slope * grad_output, relu.right(grad_output, cache)[0]), {}

    return planted(ReLU(), backward)


@pytest.mark.parametrize("directions", [None, 3])
@pytest.mark.parametrize(
    ("slope", "verdict"),
    [(0.0, "PASS"), (0.5, "PASS"), (1.0, "PASS"), (-0.001, "FAIL"), (1.001, "FAIL"), (2.0, "FAIL")],
)
def test_what_lies_between_the_slopes_of_relu_passes(slope: float, verdict: str, directions: int | None) -> None:
    (check,) = check_gradients(with_slope_at_zero(slope), X, directions=directions).checks
    assert check.verdict == verdict, check
    assert check.method == "one-sided slopes"
    if verdict == "FAIL":
        assert [entry.index for entry in check.wrong] == [(0, 1)]


def test_the_librarys_own_convention_is_a_slope_of_0_at_0() -> None:
    _, cache = ReLU().forward(X)
    assert ReLU().backward(np.ones((1, 3)), cache)[0].tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize("shares", [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)])
def test_any_share_of_a_tied_maximum_passes(shares: tuple[float, float]) -> None:
    def largest(x: Array) -> Array:
        return np.asarray(x[np.arange(len(x)), x.real.argmax(-1)])

    def backward(grad_output: Array, x: Array) -> Array:
        grad = np.zeros_like(x)
        grad[0, 1:] = np.multiply(shares, grad_output[0])
        return grad

    assert check_gradients((largest, backward), np.array([[1.0, 3.0, 3.0]])).verdict == "PASS"
    wrong = check_gradients((largest, lambda g, x: 2 * backward(g, x)), np.array([[1.0, 3.0, 3.0]]))
    assert wrong.verdict != "PASS"


class FromZero(Component):
    """ReLU(w₁x) - ReLU(-w₂x) and the like: all its kinks meet at x = 0."""

    def __init__(self, weights: list[float]):
        self.weights = np.array(weights)

    def forward(self, x: Array) -> tuple[Array, Tree]:
        hidden = x[:, None] * self.weights
        positive = hidden.real > 0
        return (hidden * positive * np.sign(self.weights)).sum(-1), {"positive": positive}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        return grad_output * (cache["positive"] * np.abs(self.weights)).sum(-1), {}


@pytest.mark.parametrize("directions", [None, 2])
def test_where_kinks_meet_the_convention_of_relu_does_not_fail(directions: int | None) -> None:
    # x = ReLU(x) - ReLU(-x) has the slope 1 at 0, and with ReLU'(0) = 0 its backward returns 0
    report = check_gradients(FromZero([1.0, -1.0]), np.array([0.0, 1.0]), directions=directions)
    assert report.verdict == "UNDECIDED"
    assert "the point lies on kinks" in report.checks[0].reason
    assert check_gradients(FromZero([1.0, 2.0]), np.array([0.0, 1.0]), directions=directions).verdict == "PASS"


def test_a_function_pair_on_a_kink_is_never_a_false_fail() -> None:
    def forward(x: Array) -> Array:
        return np.asarray(x * (x.real > 0) - -x * (-x.real > 0))

    for at_zero in (0.0, 1.0):
        report = check_gradients(
            (forward, lambda g, x, at_zero=at_zero: g * np.where(x == 0, at_zero, 1.0)), np.array([0.0, 1.0])
        )
        assert report.verdict == ("PASS" if at_zero else "UNDECIDED")


def test_a_library_of_real_numbers_on_a_kink() -> None:
    def relu(x: Array) -> Array:
        return np.asarray(np.maximum(np.asarray(x, np.float64), 0))

    for at_zero, verdict in ((0.0, "PASS"), (1.0, "PASS"), (3.0, "UNDECIDED")):
        report = check_gradients((relu, lambda g, x, at_zero=at_zero: g * np.where(x == 0, at_zero, x > 0)), X)
        assert report.verdict == verdict, report


@pytest.mark.parametrize("directions", [None, 2])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_network_at_zero_with_biases_of_zero_does_not_fail(dtype: type, directions: int | None) -> None:
    """As a new model meets a padded row: every hidden unit is on its kink."""
    x = np.random.default_rng(0).standard_normal((1, 3, 4))
    x[0, 1] = 0
    feed_forward = PositionwiseFeedForward(4, 6, rng=0)
    layer = EncoderLayer(4, MultiHeadedAttention(2, 4, rng=1), feed_forward, norm_first=False)
    for component in (feed_forward, layer):
        report = check_gradients(component.astype(dtype), x.astype(dtype), directions=directions)
        assert report.verdict != "FAIL", report


def test_a_wrong_gradient_beside_a_kink_fails() -> None:
    feed_forward = PositionwiseFeedForward(4, 6, rng=0)

    def backward(component: Any, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        grad_x, grads = component.right(grad_output, cache)
        return grad_x * 1.001, grads

    x = np.random.default_rng(0).standard_normal((1, 3, 4))
    x[0, 1] = 0
    report = check_gradients(planted(feed_forward, backward), x)
    assert {check.name: check.verdict for check in report.checks}["x"] == "FAIL"


def test_a_float32_decision_within_rounding_of_the_kink_does_not_fail() -> None:
    linear = Linear(2, 1).astype(np.float32)
    linear.weight = np.array([[1.0, 2.0**-30]], np.float32)
    linear.bias = np.array([-1.0], np.float32)  # 1 + 2^-30 - 1 is 0 in float32

    class Rectified(Component):
        def __init__(self) -> None:
            self.linear = linear

        def forward(self, x: Array) -> tuple[Array, Tree]:
            hidden, cache = self.linear.forward(x)
            return hidden * (hidden.real > 0), {"linear": cache, "positive": hidden.real > 0}

        def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
            grad_x, grads = self.linear.backward(grad_output * cache["positive"], cache["linear"])
            return grad_x, {"linear": grads}

    report = check_gradients(Rectified(), np.ones((1, 2), np.float32))
    assert "FAIL" not in {check.verdict for check in report.checks}, report


@pytest.mark.parametrize("size", [10, 3000])
def test_along_directions_kinks_do_not_hide_what_is_wrong_elsewhere(size: int) -> None:
    """The slopes on the two sides are far apart where many entries are on kinks, and much lies between them."""

    def backward(relu: Any, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        return relu.right(grad_output, cache)[0] * np.where(np.arange(size) == 0, 1.5, 1.0), {}

    x = np.zeros(size)
    x[0] = 1
    for seed in range(5):
        report = check_gradients(planted(ReLU(), backward), x, directions=3, seed=seed)
        assert report.verdict == ("FAIL" if size == 10 else "UNDECIDED"), (seed, report)
        assert check_gradients(ReLU(), x, directions=3, seed=seed).verdict != "FAIL"
