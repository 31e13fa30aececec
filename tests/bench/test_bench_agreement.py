"""The comparison of the contestants' results."""

from typing import Any, cast

import numpy as np
import pytest

from npformer.bench.agreement import ALLOWED_EPS, compare, take_sides
from npformer.bench.layers import compare_steps
from npformer.bench.sizes import Size
from npformer.bench.steps import Step, draw_arrays, draw_encoder
from npformer.bench.torch_steps import TorchEncoderStep
from npformer.component import Array, flatten
from npformer.encoder import EncoderLayer

SIZE = Size(2, 5, 8, 2, 16)
TRUTH = {"output": np.array([1.0, -4.0]), "grads.k_proj.bias": np.array([1e-9]), "grads.k_proj.weight": np.array([9.0])}


def test_equal_results_agree() -> None:
    assert compare(TRUTH, TRUTH, "torch") == compare({}, {}, "torch")
    assert compare(TRUTH, TRUTH, "torch").faults == ()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_difference_counts_beside_the_largest_entry(dtype: type) -> None:
    eps = float(np.finfo(dtype).eps)
    truth: dict[str, Array] = {"output": np.array([1.0, 0.0, -4.0], dtype)}
    for factor, faults in ((0.5, 0), (2, 1)):
        ours = {"output": truth["output"] + np.array([0, factor * ALLOWED_EPS * eps * 4, 0], dtype)}
        agreement = compare(ours, truth, "torch")
        assert len(agreement.faults) == faults
        assert agreement.largest == pytest.approx(factor * ALLOWED_EPS)


def test_the_gradient_of_a_key_bias_which_is_0_counts_beside_that_of_its_weight() -> None:
    assert compare(TRUTH | {"grads.k_proj.bias": np.array([-1e-12])}, TRUTH, "torch").faults == (
        "grads.k_proj.bias differs from that of torch by 1.1e-10 of its largest entry, allowed are 9.1e-13",
    )
    assert not compare(TRUTH | {"grads.k_proj.bias": np.array([1e-9 + 1e-12])}, TRUTH, "torch").faults


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        (np.array([1.0, np.nan]), "output differs from that of torch by nan of its largest entry"),
        (np.array([1.0, np.inf]), "output differs from that of torch by inf of its largest entry"),
        (np.zeros(2), "output differs from that of torch by 1.0e+00 of its largest entry"),
        (np.array([[1.0, -4.0]]), "output is float64 (1, 2), that of torch is float64 (2,)"),
        (np.array([1.0, -4.0], np.float32), "output is float32 (2,), that of torch is float64 (2,)"),
    ],
)
def test_what_is_not_the_same_is_said(output: Array, fault: str) -> None:
    (found,) = compare(TRUTH | {"output": output}, TRUTH, "torch").faults
    assert found.startswith(fault)


def test_a_result_on_one_side_alone_is_a_fault() -> None:
    assert compare({}, {"output": np.ones(1)}, "torch").faults == ("output is there on one side only",)
    assert compare({"output": np.ones(1)}, {}, "torch").faults == ("output is there on one side only",)


class OnTheOtherSide:
    """Stands for PyTorch: right, but with one number within rounding of ReLU's kink on the other side of it."""

    def __init__(self, step: Step, numbers: Array) -> None:
        self.numbers = numbers
        self.step = Step(take_sides(model_of(step), [numbers]), step.inputs, step.grad_output)

    def forward(self) -> Array:
        return self.step.forward()

    def results(self) -> dict[str, Array]:
        return self.step.results()

    def hidden(self) -> list[Array]:
        return [self.numbers]


def model_of(step: Step) -> EncoderLayer:
    assert isinstance(step.component, EncoderLayer)
    return step.component


def numbers_before_relu(step: Step) -> Array:
    nothing = np.zeros((SIZE.batch, SIZE.T, SIZE.d_ff))
    cache = flatten(take_sides(model_of(step), [nothing]).forward(step.inputs[0])[1])
    numbers: Array = cache["feed_forward.sublayer.activation.hidden"]
    return numbers.copy()


@pytest.fixture
def step() -> Step:
    """A step that has one number within rounding of the kink."""
    x, grad_output = draw_arrays(SIZE.x_shape, 2, np.float64)
    step = Step(draw_encoder(SIZE, np.float64, "relu"), (x,), grad_output)
    bias: Array = flatten(step.component.parameters())["feed_forward.sublayer.linear1.bias"]
    bias[3] -= numbers_before_relu(step)[0, 1, 3] - 1e-14
    assert 0 < numbers_before_relu(step)[0, 1, 3] < 2e-14
    return step


def compare_with(theirs: OnTheOtherSide, step: Step) -> dict[str, Any]:
    return compare_steps(model_of(step), step, cast(TorchEncoderStep, theirs), "relu")


def test_a_number_within_rounding_of_the_kink_may_be_on_either_side(step: Step) -> None:
    numbers = numbers_before_relu(step)
    numbers[0, 1, 3] *= -1
    theirs = OnTheOtherSide(step, numbers)
    direct = compare(step.results(), theirs.results(), "torch")
    assert direct.largest > 1e-3 / np.finfo(np.float64).eps
    assert direct.faults
    compared = compare_with(theirs, step)
    assert (compared["faults"], compared["numbers_at_kinks"]) == ((), 1)


def test_a_number_on_the_wrong_side_of_the_kink_is_a_fault(step: Step) -> None:
    numbers = numbers_before_relu(step)
    numbers[1, 2, 5] *= -1
    faults = compare_with(OnTheOtherSide(step, numbers), step)["faults"]
    assert any(fault.startswith("hidden.0 differs") for fault in faults)
