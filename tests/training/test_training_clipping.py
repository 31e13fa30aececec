"""The norm of a whole gradient, and gradients that are shortened to a limit."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from npformer import flatten
from npformer.component import Array, Tree
from npformer.training import NotFiniteError, clip_by_global_norm, global_norm

every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
SIZES = st.floats(1e-30, 1e30)
ENTRIES = arrays.arrays(np.float64, (2, 3), elements=st.floats(-1, 1))


def tree_of(matrix: Array, vector: Array) -> Tree:
    return {"layers": {"0": {"weight": matrix}, "1": {}}, "bias": vector}


def test_the_norm_is_that_of_all_numbers_together() -> None:
    assert global_norm(tree_of(np.array([[1.0, -2.0], [4.0, 0.0]]), np.array([-2.0]))) == 5.0
    assert global_norm({"factor": np.float64(-3.0)}) == 3.0  # a component may return a scalar of NumPy's
    assert global_norm({}) == 0.0
    assert global_norm({"bias": np.zeros(3)}) == 0.0


@every_dtype
@pytest.mark.parametrize("size", ["tiny", "max"])
def test_no_square_overflows_or_vanishes(dtype: type, size: str) -> None:
    largest = float(getattr(np.finfo(dtype), size)) / 8
    grads: Tree = {"weight": np.array([3 * largest, 0], dtype), "bias": np.array([-4 * largest], dtype)}
    with np.errstate(all="raise"):
        assert global_norm(grads) == pytest.approx(5 * largest, rel=1e-7 if dtype is np.float32 else 1e-15)
        for max_norm in (1e-3, 1.0):
            clipped, norm = clip_by_global_norm(grads, max_norm)
            assert norm == global_norm(grads)
            if size == "tiny":
                assert clipped is grads
            else:  # rounded to the dtype
                np.testing.assert_allclose(clipped["weight"], [0.6 * max_norm, 0], rtol=3e-7)
                np.testing.assert_allclose(clipped["bias"], [-0.8 * max_norm], rtol=3e-7)


@given(ENTRIES, ENTRIES, SIZES, SIZES)
def test_clipping_keeps_the_direction_and_the_limit(matrix: Array, vector: Array, size: float, max_norm: float) -> None:
    grads = tree_of(size * matrix, size * vector)
    flat = np.concatenate([grads["layers"]["0"]["weight"].ravel(), grads["bias"].ravel()])
    clipped, norm = clip_by_global_norm(grads, max_norm)
    assert norm == pytest.approx(math.hypot(*flat.tolist()), rel=1e-15, abs=0)
    if norm <= max_norm:
        assert clipped is grads
        return
    assert flatten(clipped).keys() == flatten(grads).keys()
    assert clipped["layers"]["1"] == {}
    # the division, the product, their factors, and what each norm is rounded by: some 8 half units of 1.1e-16
    assert global_norm(clipped) == pytest.approx(max_norm, rel=2e-15)
    shortened = np.concatenate([clipped["layers"]["0"]["weight"].ravel(), clipped["bias"].ravel()])
    # what is 1e-200 of the largest may be below the least normal number once it is divided
    np.testing.assert_allclose(shortened, flat / norm * max_norm, rtol=2e-15, atol=1e-200 * max_norm)


@every_dtype
def test_arrays_are_not_written_into_and_keep_their_dtype(dtype: type) -> None:
    grads = tree_of(np.full((2, 3), 2, dtype), np.full(4, -2, dtype))
    clipped, _ = clip_by_global_norm(grads, 1.0)
    assert (grads["bias"] == -2).all()
    assert (grads["layers"]["0"]["weight"] == 2).all()
    assert {array.dtype for array in flatten(clipped).values()} == {np.dtype(dtype)}


def test_a_norm_at_the_limit_is_not_clipped() -> None:
    grads = {"weight": np.array([3.0, -4.0])}
    assert clip_by_global_norm(grads, 5.0)[0] is grads
    assert clip_by_global_norm(grads, math.nextafter(5.0, 0))[0] is not grads


def test_a_large_gradient_of_float64_does_not_spoil_one_of_float32() -> None:
    grads = {"a": np.array([2.0], np.float32), "b": np.array([1e60])}
    with np.errstate(all="raise"):
        clipped, norm = clip_by_global_norm(grads, 9e59)
    assert norm == 1e60
    assert [clipped[name].dtype for name in grads] == [np.float32, np.float64]
    np.testing.assert_allclose(clipped["a"], [1.8], rtol=6e-8)  # rounded to float32 once
    np.testing.assert_allclose(clipped["b"], [9e59], rtol=4e-16)  # a quotient and a product in float64


BAD_GRADS: list[tuple[Any, str]] = [
    (tree_of(np.ones((2, 3)), np.array([1.0, np.nan])), "grads.bias must be finite, but nan is among"),
    (tree_of(np.array([[1.0, -np.inf]]), np.ones(2)), "grads.layers.0.weight must be finite, but -inf is among"),
    (tree_of(np.ones((2, 3)), np.ones(2, complex)), "grads.bias must be float32 or float64, but its dtype is complex"),
    (tree_of(np.ones((2, 3)), np.ones(2, int)), "grads.bias must be float32, float64 or complex128, but its dtype is"),
    ({"bias": [1.0]}, "grads.bias must be a NumPy array of float32"),
    ({"bias": np.full(2, 1.5e308)}, r"grads must have a norm below 1.8e\+308, but it is beyond that"),
    (np.ones(3), "grads must be a dict, but it is a ndarray"),
]


@pytest.mark.parametrize(("grads", "sentence"), BAD_GRADS)
def test_bad_gradients_are_refused(grads: Any, sentence: str) -> None:
    for call in (global_norm, lambda tree: clip_by_global_norm(tree, 1.0)):
        with pytest.raises((TypeError, ValueError), match=sentence):
            call(grads)


@pytest.mark.parametrize("largest", [np.nan, np.inf, 1.5e308])
def test_numbers_that_are_not_finite_have_an_error_of_their_own(largest: float) -> None:
    with pytest.raises(NotFiniteError):
        global_norm({"bias": np.full(2, largest)})


@pytest.mark.parametrize("max_norm", [0, -1.0, math.nan, math.inf, "1", None])
def test_bad_limits_are_refused(max_norm: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="max_norm must"):
        clip_by_global_norm({"bias": np.ones(2)}, max_norm)
