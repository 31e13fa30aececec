"""The comparison itself: it must see a planted error, and nothing may pass it by not being compared."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch_formulas
from torch import Tensor
from torch_compare import STACK_TOLERANCE, Comparison, DType, empty_parameters, run_both, to_torch

from npformer import (
    Component,
    Dropout,
    Encoder,
    EncoderLayer,
    LayerNorm,
    Linear,
    MultiHeadedAttention,
    PositionwiseFeedForward,
    PreNormSublayerConnection,
    ReLU,
    ScaledDotProductAttention,
    Softmax,
    flatten,
    make_encoder,
    subsequent_mask,
)
from npformer.component import Array, Tree

NUM_LAYERS, B, H, T, D_MODEL, D_FF, RATE, SEED = 2, 4, 3, 5, 12, 17, 0.25, 3
X = np.random.default_rng(0).standard_normal((B, T, D_MODEL))
NAMES = ["output", "grad_inputs.0"]
NAMES += [f"grads.{name}" for name in flatten(make_encoder(NUM_LAYERS, D_MODEL, H, D_FF).parameters())]


def both_encoders(dtype: DType = np.float64) -> Comparison:
    """A pre-norm encoder with a causal mask and dropout, on both sides."""
    encoder, mask = make_encoder(NUM_LAYERS, D_MODEL, H, D_FF, RATE, rng=0), subsequent_mask(T)
    _, cache = encoder.forward(X, mask=mask, rng=np.random.default_rng(SEED))
    masks, p = flatten(cache), empty_parameters(encoder)

    def drop(place: str, x: Tensor) -> Tensor:
        return x * to_torch(masks[f"{place}.dropout.mask"]) / (1 - RATE)

    def reference(x: Tensor) -> Tensor:
        return torch_formulas.encoder(p, x, to_torch(mask), num_layers=NUM_LAYERS, num_heads=H, drop=drop)

    return run_both(encoder, reference, p, [X], dtype, mask=mask, rng=np.random.default_rng(SEED))


@pytest.fixture(scope="module", params=[np.float64, np.float32])
def both(request: pytest.FixtureRequest) -> Comparison:
    return both_encoders(request.param)


def with_ours(both: Comparison, name: str, array: Array) -> Comparison:
    return replace(both, ours=both.ours | {name: array})


def test_every_array_is_compared(both: Comparison) -> None:
    both.check(STACK_TOLERANCE)
    assert set(both.errors()) == set(both.theirs) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_planted_error(both: Comparison, name: str) -> None:
    array = both.ours[name].copy()
    array.flat[-1] += 1.5 * STACK_TOLERANCE[both.dtype] * both.scale(name)
    with pytest.raises(AssertionError, match=f"^{name} is off by"):
        with_ours(both, name, array).check(STACK_TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda array: np.full_like(array, np.nan), "is off by nan"),
        (lambda array: array.astype(np.float32 if array.dtype == np.float64 else np.float64), "is float"),
        (lambda array: array[..., :1], "expected"),
        (lambda array: array[None], "expected"),
    ],
    ids=["NaN", "dtype", "shape", "rank"],
)
def test_unfit_array(both: Comparison, name: str, change: Callable[[Array], Array], message: str) -> None:
    with pytest.raises(AssertionError, match=f"^{name} .*{message}"):
        with_ours(both, name, change(both.ours[name])).check(STACK_TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_missing_array(both: Comparison, name: str) -> None:
    ours = {other: array for other, array in both.ours.items() if other != name}
    with pytest.raises(AssertionError, match="npformer has"):
        replace(both, ours=ours).check()


def test_nothing_to_compare(both: Comparison) -> None:
    with pytest.raises(AssertionError, match="npformer has"):
        replace(both, ours={}, theirs={}).check()
    output = {"output": both.theirs["output"]}
    with pytest.raises(AssertionError, match="npformer has"):
        replace(both, ours=output, theirs=output).check()


def test_nothing_but_zeros(both: Comparison) -> None:
    zeros = {name: np.zeros_like(array) for name, array in both.ours.items()}
    with pytest.raises(AssertionError, match="cannot be compared"):
        replace(both, ours=zeros, theirs=zeros).check()


class Undecided(Component):
    """The identity, with a decision that float32 takes otherwise."""

    def forward(self, x: Array) -> tuple[Array, Tree]:
        return x, {"positive": np.array([x.dtype == np.float32])}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        return grad_output, {}


def test_number_within_rounding_of_a_kink() -> None:
    run_both(Undecided(), lambda x: 1 * x, {}, [X], np.float64).check()
    with pytest.raises(AssertionError, match="kink"):
        run_both(Undecided(), lambda x: 1 * x, {}, [X], np.float32)


def test_only_key_biases_are_zero_in_truth() -> None:
    for name, truth in both_encoders().theirs.items():
        largest = np.abs(truth).max()
        assert (largest < 1e-13) if name.endswith("k_proj.bias") else (largest > 1e-2)


@pytest.mark.parametrize(
    "kind",
    [
        Dropout,
        Encoder,
        EncoderLayer,
        LayerNorm,
        Linear,
        MultiHeadedAttention,
        PositionwiseFeedForward,
        PreNormSublayerConnection,
        ReLU,
        ScaledDotProductAttention,
        Softmax,
    ],
)
def test_backward_that_is_slightly_wrong(kind: type[Component], monkeypatch: pytest.MonkeyPatch) -> None:
    backward = kind.backward

    def wrong(self: Component, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
        grad_inputs, grads = backward(self, grad_output, cache)
        if isinstance(grad_inputs, tuple):
            return (grad_inputs[0] * (1 + 1e-9), *grad_inputs[1:]), grads
        return grad_inputs * (1 + 1e-9), grads

    monkeypatch.setattr(kind, "backward", wrong)
    with pytest.raises(AssertionError, match="is off by"):
        both_encoders().check()
