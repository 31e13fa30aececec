"""Layer norms: their statistics, and rows that vary little or not at all."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npformer import AnnotatedLayerNorm, LayerNorm
from npformer.gradcheck import check_gradients, randomise

both = pytest.mark.parametrize("norm", [LayerNorm, AnnotatedLayerNorm])


@given(d_model=st.integers(2, 40), seed=st.integers(0, 2**32 - 1))
def test_rows_get_mean_0_and_the_variance_of_each_form(d_model: int, seed: int) -> None:
    x = 3 + 2 * np.random.default_rng(seed).standard_normal((5, d_model))
    tiny = 1e-30  # eps out of the way
    for output, ddof in ((LayerNorm(d_model, tiny)(x), 0), (AnnotatedLayerNorm(d_model, tiny)(x), 1)):
        np.testing.assert_allclose(output.mean(-1), 0, atol=1e-12 / x.std(-1).min())
        np.testing.assert_allclose(output.std(-1, ddof=ddof), 1, rtol=1e-12)


def test_eps_stands_inside_the_root_of_one_and_outside_that_of_the_other() -> None:
    x = np.array([[-1.0, 1.0]])  # biased variance 1, unbiased 2
    np.testing.assert_allclose(LayerNorm(2, eps=3.0)(x), x / np.sqrt(1 + 3.0), rtol=1e-15)
    np.testing.assert_allclose(AnnotatedLayerNorm(2, eps=3.0)(x), x / (np.sqrt(2) + 3.0), rtol=1e-15)


@both
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_a_constant_row_has_output_bias_and_a_finite_gradient(norm: type, dtype: type) -> None:
    component = norm(3)
    randomise(component, np.random.default_rng(0))
    component = component.astype(dtype)
    output, cache = component.forward(np.full((1, 3), 5.0, dtype))
    assert np.array_equal(output[0], component.bias)
    grad_x, _ = component.backward(np.array([[1.0, 2.0, 4.0]], dtype), cache)
    g = np.array([1.0, 2.0, 4.0]) * component.weight
    rise = 1 / np.sqrt(1e-5) if norm is LayerNorm else 1 / 1e-6
    rounding = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(grad_x[0], (g - g.mean()) * rise, rtol=10 * rounding, atol=10 * rounding * rise)


@both
def test_the_gradient_at_a_constant_row_among_others_is_exact(norm: type) -> None:
    x = np.random.default_rng(1).standard_normal((2, 2, 4))
    x[0, 1] = 2.0
    component = norm(4)
    randomise(component, np.random.default_rng(2))
    checks = check_gradients(component, x).checks
    assert [(check.name, check.verdict) for check in checks] == [(name, "PASS") for name in ("x", "weight", "bias")]


@both
@pytest.mark.parametrize(("offset", "deviation"), [(1, 1e-4), (1e4, 1), (1e6, 1), (0, 1e-6), (0, 1e3)])
def test_rows_far_from_0_or_of_low_variance_are_proven(norm: type, offset: float, deviation: float) -> None:
    rng = np.random.default_rng(3)
    x = offset + deviation * rng.standard_normal((3, 5))
    component = norm(5, eps=1e-12)
    randomise(component, rng)
    checks = check_gradients(component, x).checks
    assert [(check.name, check.verdict) for check in checks] == [(name, "PASS") for name in ("x", "weight", "bias")]


@both
def test_an_error_of_a_millionth_shows_on_such_rows_too(norm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    right = norm.backward
    rng = np.random.default_rng(3)
    x = 1e4 + rng.standard_normal((3, 5))
    component = norm(5)
    randomise(component, rng)
    monkeypatch.setattr(norm, "backward", lambda *given: ((1 + 1e-6) * right(*given)[0], right(*given)[1]))
    assert [check.verdict for check in check_gradients(component, x).checks] == ["FAIL", "PASS", "PASS"]
