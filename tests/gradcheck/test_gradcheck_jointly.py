"""All arrays at once: the verdicts are those of one array after the other, for a few forwards in all."""

from typing import Any

import numpy as np
import pytest
from subjects import absolute, absolute_backward, planted

from npformer import flatten, make_encoder
from npformer.component import Array, Component, Tree
from npformer.gradcheck import CASES, Sizes, check_gradients, make_case, randomise


@pytest.mark.parametrize("name", CASES)
def test_what_is_right_passes_together(name: str) -> None:
    case = make_case(name, Sizes(), np.random.default_rng(0))
    report = check_gradients(case.component, *case.inputs, directions=2, jointly=True, **case.options)
    assert report.verdict == "PASS", report
    alone = [check.name for check in report.checks if check.method != "complex step, jointly"]
    assert len(report.checks) == 1 or all("k_proj.bias" in each for each in alone)


def wrong_in(array: str, by: float) -> Component:
    def backward(encoder: Any, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        grad_x, grads = encoder.right(grad_output, cache)
        entry = flatten(grads)[array]
        entry.flat[entry.size // 2] += by * grad_output.flat[0]
        return grad_x, grads

    encoder = make_encoder(3, 12, 3, 20)
    randomise(encoder, np.random.default_rng(0))
    return planted(encoder, backward)


X = np.random.default_rng(0).standard_normal((2, 6, 12))
ARRAYS = [name for name in flatten(make_encoder(3, 12, 3, 20).parameters()) if name.startswith(("layers.1", "norm"))]


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("by", [1.0, 1e-8])
def test_a_wrong_entry_in_any_array_fails_in_that_array_alone(array: str, by: float) -> None:
    report = check_gradients(wrong_in(array, by), X, directions=1, jointly=True)
    assert [check.name for check in report.checks if check.verdict != "PASS"] == [array]
    (check,) = [check for check in report.checks if check.verdict == "FAIL"]
    assert len(check.wrong) == 1


def test_a_whole_model_costs_a_few_forwards() -> None:
    calls = []

    class Counted(Component):
        def __init__(self) -> None:
            self.encoder = make_encoder(3, 12, 3, 20, rng=0)

        def forward(self, x: Array) -> tuple[Array, Tree]:
            calls.append(x.dtype)
            return self.encoder.forward(x)

        def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
            grad_x, grads = self.encoder.backward(grad_output, cache)
            return grad_x, {"encoder": grads}

    assert check_gradients(Counted(), X, directions=1, jointly=True).verdict == "PASS"
    # 5 to set up, 3 for the joint slope, 3 for each of the three key biases, which are 0 in truth
    assert len(calls) == 5 + 3 + 3 * 3


def test_what_is_not_analytic_is_told_apart() -> None:
    def forward(x: Array, y: Array) -> Array:
        return absolute(x) + y

    def backward(grad_output: Array, x: Array, y: Array) -> tuple[Array, Array]:
        return absolute_backward(grad_output, x), grad_output

    def backward_of_y_alone(grad_output: Array, x: Array, y: Array) -> tuple[Array, Array]:
        return np.zeros_like(x), grad_output

    for wrong_or_right, verdict in ((backward, "PASS"), (backward_of_y_alone, "FAIL")):
        report = check_gradients((forward, wrong_or_right), X[0, 0], X[0, 1] + 0.1, directions=1, jointly=True)
        assert [check.verdict for check in report.checks] == [verdict, "PASS"]


def test_jointly_needs_directions() -> None:
    with pytest.raises(ValueError, match="jointly must go with a number of directions, but directions is None"):
        check_gradients(make_encoder(1, 4, 2, 4), X[..., :4], jointly=True)
