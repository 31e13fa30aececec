"""Jacobian- and Hessian-vector products: exact, symmetric, and never silently zero."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from subjects import absolute, absolute_backward, spread_out, spread_out_backward

from npformer import LayerNorm, Linear, Softmax, flatten, make_encoder, subsequent_mask
from npformer.component import Array, Component
from npformer.gradcheck import CASES, Sizes, hvp, jvp, make_case
from npformer.gradcheck.cases import randomise, signed
from npformer.gradcheck.subject import Subject

Vectors = dict[str, Array]


def random_vectors(component: Component, inputs: tuple[Array, ...], options: dict[str, Any], seed: int) -> Vectors:
    random = np.random.default_rng(seed)
    arrays = Subject(component, inputs, options).arrays()
    return {name: signed(random, array.shape, 0.5, 1.5) for name, array in arrays.items()}


def dot(left: Vectors, right: Vectors) -> float:
    return sum(float((left[name] * right[name]).sum()) for name in left)


def terms_of(left: Vectors, right: Vectors) -> float:
    return sum(float(np.abs(left[name] * right[name]).sum()) for name in left)


def assert_symmetric(component: Component, inputs: tuple[Array, ...], options: dict[str, Any], seed: int) -> None:
    output, _ = component.forward(*inputs, **copy.deepcopy(options))
    grad_output = signed(np.random.default_rng(seed), output.shape, 0.5, 1.5)
    u, v = (random_vectors(component, inputs, options, seed + which) for which in (1, 2))
    of_u, of_v = (hvp(component, *inputs, grad_output=grad_output, along=w, **options) for w in (u, v))
    # 1e-12 is 4,500 roundings of the terms; rows of little variance magnify theirs by 1/std, some 30
    assert dot(u, of_v) == pytest.approx(dot(v, of_u), rel=0, abs=1e-12 * (terms_of(u, of_v) + terms_of(v, of_u)))


@pytest.mark.parametrize("name", CASES)
@given(seed=st.integers(0, 2**32 - 10))
def test_the_hessian_of_every_component_is_symmetric(name: str, seed: int) -> None:
    case = make_case(name, Sizes(), np.random.default_rng(seed))
    assert_symmetric(case.component, case.inputs, case.options, seed)


@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_tanh", "silu"])
@pytest.mark.parametrize("norm_first", [True, False])
def test_the_hessian_of_the_whole_encoder_is_symmetric(activation: str, norm_first: bool) -> None:
    encoder = make_encoder(3, 12, 3, 20, activation=activation, norm_first=norm_first)
    randomise(encoder, np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((2, 6, 12))
    assert_symmetric(encoder, (x,), {"mask": subsequent_mask(6), "rng": np.random.default_rng(2)}, seed=3)


def test_symmetry_tells_a_wrong_second_derivative() -> None:
    def backward(grad_output: Array, x: Array, w: Array) -> tuple[Array, Array]:
        return grad_output * w * w, grad_output * x  # of x w² and of x w: no one function has both

    u, v = ({name: np.random.default_rng(seed).standard_normal(3) for seed, name in enumerate("xw", s)} for s in (0, 5))
    x, w = np.array([1.0, 2.0, 3.0]), np.array([0.5, -1.0, 2.0])
    pair = (lambda x, w: x * w * w, backward)
    of_u, of_v = (hvp(pair, x, w, grad_output=np.ones(3), along=along) for along in (u, v))
    assert abs(dot(u, of_v) - dot(v, of_u)) > 0.1


@pytest.mark.parametrize("name", CASES)
def test_the_jacobian_agrees_with_backward(name: str) -> None:
    """c·Jv = (Jᵀc)·v, with Jᵀc by backward."""
    case = make_case(name, Sizes(), np.random.default_rng(0))
    subject = Subject(case.component, case.inputs, case.options)
    output, cache = subject.forward()
    grad_output = signed(np.random.default_rng(1), output.shape, 0.5, 1.5)
    v = random_vectors(case.component, case.inputs, case.options, 2)
    moved = jvp(case.component, *case.inputs, along=v, **case.options)
    assert (moved.shape, moved.dtype) == (output.shape, np.dtype(np.float64))
    gradients = subject.backward(grad_output, cache)
    by_backward = dot(gradients, v)
    assert float((grad_output * moved).sum()) == pytest.approx(by_backward, rel=0, abs=1e-13 * terms_of(gradients, v))


def test_what_does_not_move_stands_still() -> None:
    linear = Linear(2, 3, rng=0)
    moved = jvp(linear, np.array([[1.0, 2.0]]), along={"bias": np.array([1.0, 0.0, -1.0])})
    assert moved.tolist() == [[1.0, 0.0, -1.0]]
    products = hvp(linear, np.array([[1.0, 2.0]]), grad_output=np.ones((1, 3)), along={"bias": np.ones(3)})
    assert set(products) == {"x", *flatten(linear.parameters())}
    assert not any(product.any() for product in products.values())


@pytest.mark.parametrize(("forward", "backward"), [(absolute, absolute_backward), (spread_out, spread_out_backward)])
def test_what_is_not_analytic_is_an_error_not_zero(forward: Callable[..., Any], backward: Callable[..., Any]) -> None:
    x = np.array([1.0, -2.0, 0.5])
    with pytest.raises(
        ValueError, match=r"^forward must be analytic here, but a complex step and a central difference"
    ):
        jvp((forward, backward), x, along={"x": np.array([1.0, 0.0, 0.5])})
    if forward is spread_out:
        with pytest.raises(ValueError, match=r"^backward must be analytic here, but"):
            hvp((forward, backward), x, grad_output=np.array([1.0, -1.0, 2.0]), along={"x": np.array([1.0, 0.0, 0.5])})


@pytest.mark.parametrize(
    ("along", "sentence"),
    [
        (np.ones(3), "along must be a dict of arrays by name, but it is a ndarray"),
        ({}, "along must have at least one name, but it is empty"),
        ({"y": np.ones(3)}, "along must name inputs or parameters, such as x, but it has 'y'"),
        ({"x": np.full((1, 3), np.nan)}, "along must hold finite arrays, but x in it is not"),
        ({"x": [1.0, 2.0, 3.0]}, "along must hold real arrays, but x in it is a list"),
        (
            {"x": np.ones(2)},
            "along must hold arrays of the shapes of what moves, (1, 3) for x, but its shape is (2,)",
        ),
    ],
)
def test_vectors_that_do_not_fit_are_one_sentence(along: Any, sentence: str) -> None:
    x = np.array([[1.0, 2.0, 3.0]])
    for call in (
        lambda: jvp(Softmax(), x, along=along),
        lambda: hvp(LayerNorm(3), x, grad_output=np.ones((1, 3)), along=along),
    ):
        with pytest.raises((TypeError, ValueError)) as caught:
            call()
        assert str(caught.value) == sentence
