"""What can be checked: objects with the protocol, pairs of functions, and libraries that take real arrays alone."""

import copy
import ctypes
import ctypes.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from subjects import (
    Layer,
    absolute,
    absolute_backward,
    dense,
    dense_backward,
    dense_wrong_by,
    in_a_loop,
    real_alone,
    spread_out,
    spread_out_backward,
    zeros_backward,
)

from npformer.component import Array, Tree
from npformer.gradcheck import check_gradients

X, W = (np.random.default_rng(seed).standard_normal(shape) for seed, shape in ((1, (4, 3)), (2, (3, 2))))
POINT = np.array([1.0, -2.0, 0.5])


def test_an_object_with_the_protocol_is_checked_with_its_parameters_by_name() -> None:
    layer, x = Layer(), np.random.default_rng(3).standard_normal((5, 2))
    before = copy.deepcopy(layer.weights)
    report = check_gradients(layer, x)
    assert [(check.name, check.verdict) for check in report.checks] == [("x", "PASS"), ("W", "PASS"), ("b", "PASS")]
    assert report.subject == "Layer"
    assert all(np.array_equal(layer.weights[name], array) for name, array in before.items())

    class Wrong(Layer):
        def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
            grad_x, grads = super().backward(grad_output, cache)
            return grad_x, grads | {"W": grads["W"] / len(grad_output)}

    assert [check.verdict for check in check_gradients(Wrong(), x).checks] == ["PASS", "FAIL", "PASS"]


def test_parameters_that_are_copies_are_an_error() -> None:
    class Copies(Layer):
        def parameters(self) -> Tree:
            return {name: array.copy() for name, array in self.weights.items()}

    with pytest.raises(
        TypeError, match=r"parameters\(\) must return the arrays that forward uses, but W is a copy or a view"
    ):
        check_gradients(Copies(), X[:, :2])


@pytest.mark.parametrize("directions", [None, 2])
def test_a_pair_of_functions(directions: int | None) -> None:
    report = check_gradients((dense, dense_backward), X, W, directions=directions)
    assert [(check.name, check.verdict, check.method) for check in report.checks] == [
        ("x", "PASS", "complex step"),
        ("w", "PASS", "complex step"),
    ]
    assert report.subject == "dense and dense_backward"
    wrong = check_gradients((dense, dense_wrong_by(1 + 1e-6)), X, W, directions=directions)
    assert [check.verdict for check in wrong.checks] == ["PASS", "FAIL"]


def test_a_pair_of_functions_with_options_integers_and_a_scalar_output() -> None:
    def loss(logits: Array, labels: Array, rng: np.random.Generator, scale: float = 1.0) -> Any:
        keep = rng.random(len(labels)) < 0.5
        shifted = logits - logits.real.max(-1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
        return -scale * (log_p[np.arange(len(labels)), labels] * keep).sum()

    def loss_backward(
        grad_output: Array, logits: Array, labels: Array, rng: np.random.Generator, scale: float = 1.0
    ) -> list[Array | None]:
        keep = rng.random(len(labels)) < 0.5
        p = np.exp(logits - logits.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        p[np.arange(len(labels)), labels] -= 1
        return [scale * grad_output * p * keep[:, None], None]

    rng = np.random.default_rng(0)
    report = check_gradients((loss, loss_backward), X, np.array([0, 2, 1, 1]), rng=rng, scale=2.0)
    assert [(check.name, check.verdict) for check in report.checks] == [("logits", "PASS")]


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "PASS"), (1 + 1e-6, "FAIL"), (2.0, "FAIL")])
@pytest.mark.parametrize("directions", [None, 2])
def test_a_library_that_takes_float64_alone_is_judged_by_differences(
    factor: float, verdict: str, directions: int | None
) -> None:
    library = real_alone(dense), real_alone_backward(dense_wrong_by(factor))
    report = check_gradients(library, X, W, directions=directions)
    assert [check.verdict for check in report.checks] == ["PASS", verdict]
    for check in report.checks:
        assert check.method == "differences"
        assert "forward does not take complex arrays" in check.reason
        assert check.tolerance < 1e-9  # the precision that the differences reached
    if verdict == "FAIL":
        (found,) = report.checks[1].wrong
        assert found.ours / found.true == pytest.approx(factor, rel=1e-9)


def real_alone_backward(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda grad_output, x, w: real_alone(lambda x, w: function(grad_output, x, w))(x, w)


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "PASS"), (1.02, "FAIL"), (2.0, "FAIL")])
@pytest.mark.parametrize("seed", range(5))
def test_a_library_that_takes_float32_alone_is_judged_by_differences(factor: float, verdict: str, seed: int) -> None:
    x, w = X.astype(np.float32), W.astype(np.float32)
    library = real_alone(dense), real_alone_backward(dense_wrong_by(factor))
    report = check_gradients(library, x, w, seed=seed)
    assert [check.verdict for check in report.checks] == ["PASS", verdict]
    assert all(1e-7 < check.tolerance < 1e-2 for check in report.checks)


def test_a_library_in_c() -> None:
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    libm.erf.restype, libm.erf.argtypes = ctypes.c_double, [ctypes.c_double]

    def erf(x: Array) -> Array:
        return np.array([libm.erf(entry) for entry in x])

    def right(grad_output: Array, x: Array) -> Array:
        return np.asarray(grad_output * 2 / np.sqrt(np.pi) * np.exp(-x * x))

    x = np.array([-1.5, -0.1, 0.7, 2.0])
    report = check_gradients((erf, right), x)
    assert report.verdict == "PASS"
    assert report.checks[0].method == "differences"
    assert check_gradients((erf, lambda g, x: (1 + 1e-5) * right(g, x)), x).verdict == "FAIL"


def test_a_library_too_coarse_to_tell_is_undecided() -> None:
    def in_steps(x: Array) -> Array:
        return np.asarray(np.round(np.sin(x).astype(np.float64), 2))

    report = check_gradients((in_steps, lambda g, x: g * np.cos(x)), POINT)
    assert report.verdict == "UNDECIDED"
    assert "differences of forward are too coarse here to tell" in report.checks[0].reason


@pytest.mark.parametrize(
    ("forward", "backward"),
    [(absolute, absolute_backward), (in_a_loop, lambda g, x: 3 * g), (spread_out, spread_out_backward)],
)
def test_a_forward_that_is_not_analytic_is_named_and_a_right_backward_is_not_blamed(
    forward: Callable[..., Any], backward: Callable[..., Any]
) -> None:
    report = check_gradients((forward, backward), POINT)
    (check,) = report.checks
    assert (check.verdict, check.method) == ("PASS", "differences")
    assert "np.abs, np.linalg.norm, .var()" in check.reason
    assert check.tolerance < 1e-9


@pytest.mark.parametrize("forward", [absolute, in_a_loop, spread_out])
def test_a_backward_that_is_zero_where_the_complex_step_is_blind_fails(forward: Callable[..., Any]) -> None:
    (check,) = check_gradients((forward, zeros_backward), POINT).checks
    assert check.verdict == "FAIL"
    assert "np.abs, np.linalg.norm, .var()" in check.reason


def test_a_subject_without_a_backward_and_one_without_arrays_are_errors() -> None:
    with pytest.raises(
        TypeError, match="subject must be a component, an object with forward and backward like one, or"
    ):
        check_gradients(dense, X, W)
    with pytest.raises(ValueError, match="subject must have at least one floating input or parameter, but it has none"):
        check_gradients((lambda tokens: tokens * 1.0, lambda g, tokens: None), np.array([1, 2]))


def test_a_subject_that_cannot_be_copied_is_an_error() -> None:
    class Handle(Layer):
        def __deepcopy__(self, memo: dict[int, Any]) -> Any:
            raise ValueError("a handle")

    with pytest.raises(TypeError, match=r"but a Handle is not \(a handle\); give it as a pair of functions"):
        check_gradients(Handle(), X[:, :2])


@pytest.mark.parametrize("offset", [1e3, 1e6])
def test_a_lost_slope_is_seen_beside_a_large_constant(offset: float) -> None:
    def forward(x: Array) -> Array:
        return np.asarray(absolute(x) + offset)

    assert check_gradients((forward, zeros_backward), POINT).verdict == "FAIL"
    assert check_gradients((forward, absolute_backward), POINT).verdict == "PASS"


def test_integer_parameters_have_no_gradient_and_tied_ones_are_an_error() -> None:
    class Counting(Layer):
        def parameters(self) -> Tree:
            return {**self.weights, "steps": STEPS}

    class Tied(Layer):
        def parameters(self) -> Tree:
            return {**self.weights, "again": self.weights["W"]}

    assert [check.name for check in check_gradients(Counting(), X[:, :2]).checks] == ["x", "W", "b"]
    with pytest.raises(ValueError, match="must have each array under one name, but W and again are one"):
        check_gradients(Tied(), X[:, :2])


STEPS = np.array([3])
