"""The bench beside PyTorch: both compute the same, and a fast wrong answer cannot win."""

import json
from typing import Any

import numpy as np
import pytest

from npformer.bench import layers, lengths
from npformer.bench.layers import compare_steps
from npformer.bench.probe import Task, measure_peak
from npformer.bench.section import ACTIVATIONS, DTYPES, Settings
from npformer.bench.sizes import SMOKE_SIZES, Size
from npformer.bench.steps import Step, draw_arrays, draw_encoder, layers_of
from npformer.bench.torch_steps import TorchEncoderStep
from npformer.cli import main
from npformer.component import flatten
from npformer.mistakes import MISTAKES, plant


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("size", SMOKE_SIZES, ids=str)
def test_outputs_and_all_gradients_agree(size: Size, activation: str, dtype: str) -> None:
    model = draw_encoder(size, dtype, activation)
    x, grad_output = draw_arrays(size.x_shape, 2, dtype)
    ours, theirs = Step(model, (x,), grad_output), TorchEncoderStep(model, size, activation, x, grad_output)
    assert len(theirs.results()) == 2 + 16 * size.num_layers
    compared = compare_steps(model, ours, theirs, activation)
    assert compared["faults"] == ()
    assert 0 < compared["difference_in_eps"] < 100  # measured: 7
    before = [array.shape for array in theirs.hidden()]
    assert before == [(size.batch, size.T, size.d_ff)] * size.num_layers


def test_attention_of_both_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lengths, "measure_peak", lambda task: None)  # each costs a process that imports PyTorch
    for row in lengths.Lengths().rows(Settings(smoke=True)):
        assert row.faults == ()
        assert row.difference_in_eps is not None
        assert 0 < row.difference_in_eps < 100  # measured: 4
        assert all(row.milliseconds.values())


def test_a_fresh_process_sees_the_activations_of_pytorch() -> None:
    size = Size(2, 64, 256, 4, 1024)
    seen = measure_peak(Task("torch", size, "float64"))
    gradients = 12 * 256**2 * 8
    hidden = 2 * 64 * 1024 * 8
    assert seen is not None
    assert gradients + 2 * hidden < seen < 8 * gradients


class FastAndWrong(Step):
    """Computes nothing, and returns zeros of the right shapes."""

    def forward_backward(self) -> Any:
        zeros = np.zeros_like(self.grad_output)
        return zeros, zeros, {name: np.zeros_like(p) for name, p in flatten(self.component.parameters()).items()}


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_what_is_judged_is_the_step_that_is_timed(activation: str) -> None:
    size = SMOKE_SIZES[0]
    model = draw_encoder(size, "float32", activation)
    x, grad_output = draw_arrays(size.x_shape, 2, "float32")
    theirs = TorchEncoderStep(model, size, activation, x, grad_output)
    assert compare_steps(model, FastAndWrong(model, (x,), grad_output), theirs, activation)["faults"]


def test_a_fast_wrong_answer_is_told_and_has_exit_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(layers, "Step", FastAndWrong)
    arguments = ["bench", "--smoke", "--only", "layers", "--dtype", "float64"]
    assert main(arguments) == 1
    lines = capsys.readouterr().out.splitlines()
    excess = "differs from that of torch by 1.0e+00 of its largest entry, allowed are 9.1e-13"
    assert f"  DISAGREEMENT: output {excess}" in lines
    assert f"  DISAGREEMENT: grads.feed_forward.sublayer.linear1.weight {excess}" in lines
    assert " arrays differ by more than rounding. " in lines[-1]
    assert main([*arguments, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["agree"] is False


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_slow_wrong_gradient_is_told_as_well(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def draw_wrong(*arguments: Any) -> Any:
        model = draw_encoder(*arguments)
        for layer in layers_of(model):
            layer.self_attn.norm = plant(MISTAKES["LayerNorm.eps_dropped"], layer.self_attn.norm)
        return model

    monkeypatch.setattr(layers, "draw_encoder", draw_wrong)
    rows = list(layers.Layers().rows(Settings(dtypes=(dtype,), activations=("relu",), smoke=True)))
    whole = [row for row in rows if row.mode == "forward + backward"]
    assert all(row.faults for row in whole) is (dtype == "float64")  # eps is lost in the rounding of float32
