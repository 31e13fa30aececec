"""Activations: their conventions at special points, and accuracy where a naive form has none."""

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

from npformer import GELU, ReLU, SiLU, Softmax, Tanh
from npformer.component import Array, Component

mpmath.mp.dps = 40


def test_relu_has_slope_0_at_the_kink() -> None:
    x = np.array([-1.0, -0.0, 0.0, 1.0])
    output, cache = ReLU().forward(x)
    assert output.tolist() == [0, 0, 0, 1]
    assert ReLU().backward(np.ones(4), cache)[0].tolist() == [0, 0, 0, 1]


def test_relu_decides_a_complex_step_by_the_real_part() -> None:
    assert ReLU()(np.array([-1 + 5j, 0 + 5j, 2 + 5j])).tolist() == [0, 0, 2 + 5j]


@pytest.mark.parametrize("x", [-30.0, -8.0, -3.0, -0.5, 0.5, 3.0])
def test_exact_gelu_and_its_slope_are_accurate_in_the_left_tail(x: float) -> None:
    output, cache = GELU().forward(np.array([x]))
    slope, _ = GELU().backward(np.array([1.0]), cache)
    at = mpmath.mpf(x)
    assert abs(float(output[0] / (at * mpmath.ncdf(at)) - 1)) < 2e-15
    # the slope Φ + xφ is a difference in the tail, where |xφ| / |slope| ≤ 2 for |x| ≥ 1.5
    assert abs(float(slope[0] / (mpmath.ncdf(at) + at * mpmath.npdf(at)) - 1)) < 2e-14


def tanh_gelu(x: Any) -> Any:
    return x * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3))) / 2


def silu(x: Any) -> Any:
    return x / (1 + mpmath.exp(-x))


@pytest.mark.parametrize(("component", "exact"), [(GELU("tanh"), tanh_gelu), (SiLU(), silu)], ids=["gelu_tanh", "silu"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_slopes_are_accurate_on_the_way_to_1(component: Component, exact: Callable[[Any], Any], dtype: type) -> None:
    x: Array = np.linspace(1, 12, 56).astype(dtype)
    _, cache = component.forward(x)
    slopes, _ = component.backward(np.ones_like(x), cache)
    for slope, at in zip(slopes, x, strict=True):
        # σ(x) σ(-x) keeps a few roundings; σ (1 - σ) would be off by up to 42
        assert abs(float(slope / mpmath.diff(exact, mpmath.mpf(float(at))) - 1)) < 6 * np.finfo(dtype).eps


@pytest.mark.parametrize("component", [GELU(), GELU("tanh"), SiLU()], ids=["gelu", "gelu_tanh", "silu"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_far_from_0_they_are_0_and_x_with_slopes_0_and_1(component: Component, dtype: type) -> None:
    x: Array = np.array([-1e4, 1e4], dtype)
    output, cache = component.forward(x)
    assert output.tolist() == [0, 1e4]
    assert component.backward(np.ones(2, dtype), cache)[0].tolist() == [0, 1]


@pytest.mark.parametrize("component", [ReLU(), GELU(), GELU("tanh"), SiLU()], ids=["relu", "gelu", "gelu_tanh", "silu"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_largest_numbers_do_not_overflow(component: Component, dtype: type) -> None:
    x: Array = np.array([-1.0, 1.0], dtype) * np.finfo(dtype).max / 4
    output, cache = component.forward(x)
    assert output.tolist() == [0, x[1]]
    assert component.backward(np.ones(2, dtype), cache)[0].tolist() == [0, 1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_far_from_0_tanh_is_1_with_slope_0(dtype: type) -> None:
    largest = np.finfo(dtype).max
    x: Array = np.array([-largest, -1e3, 1e3, largest], dtype)
    output, cache = Tanh().forward(x)
    assert output.tolist() == [-1, -1, 1, 1]
    assert Tanh().backward(np.ones(4, dtype), cache)[0].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("x", [-3.0, -1e-9, 0.5, 3.0])
def test_tanh_and_its_slope_are_those_of_many_digits(x: float) -> None:
    output, cache = Tanh().forward(np.array([x]))
    slope, _ = Tanh().backward(np.array([1.0]), cache)
    exact = mpmath.tanh(mpmath.mpf(x))
    assert abs(float(output[0] / exact - 1)) < 1e-15
    assert abs(float(slope[0] - (1 - exact**2))) < 5e-16  # of the 1 that y² is taken from


def test_softmax_does_not_overflow() -> None:
    output = Softmax()(np.array([[1e5, 1e5 - 1, -1e5]]))
    np.testing.assert_allclose(output, [[np.e / (1 + np.e), 1 / (1 + np.e), 0]], rtol=1e-14)


def test_softmax_rows_sum_to_1_and_their_gradients_to_0() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4, 5))
    output, cache = Softmax().forward(x)
    grad_x, _ = Softmax().backward(np.random.default_rng(1).standard_normal(x.shape), cache)
    np.testing.assert_allclose(output.sum(-1), 1, rtol=1e-15)
    np.testing.assert_allclose(grad_x.sum(-1), 0, atol=1e-15)
