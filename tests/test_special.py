"""The normal distribution and the sigmoid, against mpmath."""

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

from npformer.component import Array
from npformer.special import normal_cdf, normal_pdf, sigmoid

mpmath.mp.dps = 40


def ulps(ours: Array, exact: Callable[[Any], Any], x: Array) -> float:
    """The largest error in units of the last place of the true value."""
    worst = 0.0
    for value, at in zip(ours, x, strict=True):
        truth = exact(mpmath.mpf(float(at)))
        worst = max(worst, float(abs(mpmath.mpf(float(value)) - truth) / float(np.spacing(ours.dtype.type(truth)))))
    return worst


def points(low: float, high: float, dtype: type) -> Array:
    """Evenly spread points, and some at random between them."""
    spread = np.linspace(low, high, 801)
    return np.concatenate([spread, np.random.default_rng(0).uniform(low, high, 400)]).astype(dtype)


# Six products, quotients and exponentials follow each other, each good to about one unit: measured 4 to 6.
@pytest.mark.parametrize(("dtype", "low"), [(np.float64, -37.0), (np.float32, -13.0)])
def test_normal_cdf_keeps_its_relative_accuracy_in_the_left_tail(dtype: type, low: float) -> None:
    x = points(low, 9, dtype)
    assert normal_cdf(x).dtype == dtype
    assert ulps(normal_cdf(x), mpmath.ncdf, x) <= 8


@pytest.mark.parametrize(("dtype", "low"), [(np.float64, -700.0), (np.float32, -80.0)])
def test_sigmoid_keeps_its_relative_accuracy_on_both_sides(dtype: type, low: float) -> None:
    x = points(low, -low, dtype)
    assert sigmoid(x).dtype == dtype
    assert ulps(sigmoid(x), lambda at: 1 / (1 + mpmath.exp(-at)), x) <= 4


@pytest.mark.parametrize("function", [normal_cdf, sigmoid])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_out_they_are_0_and_1(function: Callable[[Array], Array], dtype: type) -> None:
    x: Array = np.array([-np.finfo(dtype).max, -1e4, 1e4, np.finfo(dtype).max], dtype)
    assert function(x).tolist() == [0, 0, 1, 1]


def test_the_complex_extensions_give_the_derivatives() -> None:
    x = points(-20, 9, np.float64)
    stepped = x + 1e-200j
    np.testing.assert_allclose(normal_cdf(stepped).imag / 1e-200, normal_pdf(x), rtol=1e-14)
    slope = sigmoid(x) * sigmoid(-x)
    np.testing.assert_allclose(sigmoid(stepped).imag / 1e-200, slope, rtol=1e-14)
    assert np.array_equal(normal_cdf(stepped).real, normal_cdf(x))
