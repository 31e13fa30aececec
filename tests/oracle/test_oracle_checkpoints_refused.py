"""Calls that make no sense: each gets one sentence, and nothing is written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from npformer import (
    Dropout,
    EncoderLayer,
    LayerNorm,
    Linear,
    MultiHeadedAttention,
    PositionwiseFeedForward,
    SharedEncoder,
    make_encoder,
)
from npformer.component import Component
from npformer.oracle.checkpoints import (
    from_convention,
    load_gradients,
    load_parameters,
    save_gradients,
    save_parameters,
    to_convention,
)

D_MODEL, H, D_FF = 4, 2, 6


def layer() -> EncoderLayer:
    return EncoderLayer(D_MODEL, MultiHeadedAttention(H, D_MODEL), PositionwiseFeedForward(D_MODEL, D_FF))


def sentence(read: Callable[[], object], error: type[Exception] = ValueError) -> str:
    """Return the error's text after checking that it is one sentence."""
    with pytest.raises(error) as caught:
        read()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dtype", [">f8", "f4,f4", bool, np.longdouble])
def test_other_dtypes_do_not_fit(dtype: str | type) -> None:
    arrays = {"weight": np.zeros(2, dtype), "bias": np.zeros(2)}
    assert "weight has dtype" in sentence(lambda: from_convention(arrays, LayerNorm(2), "torch"))


class Tensor:
    """As of PyTorch, as far as it is recognised."""

    def detach(self) -> None:
        raise AssertionError("it is not for npformer to call this")


@pytest.mark.parametrize(
    ("value", "came"), [(Tensor(), "a Tensor; call .detach().numpy()"), ([1.0, 2.0], "a list"), (None, "None")]
)
@pytest.mark.parametrize("translate", [to_convention, from_convention])
def test_what_is_no_array(translate: Callable[..., object], value: object, came: str) -> None:
    arrays = {"weight": value, "bias": np.zeros(2)}
    text = sentence(lambda: translate(arrays, LayerNorm(2), "torch"), TypeError)
    assert text == f"weight must be a NumPy array, but it is {came}"


def half_biased() -> MultiHeadedAttention:
    attention = MultiHeadedAttention(H, D_MODEL)
    attention.k_proj.bias = None
    return attention


def of_two_dtypes() -> MultiHeadedAttention:
    attention = MultiHeadedAttention(H, D_MODEL)
    attention.q_proj.bias = np.zeros(D_MODEL, np.float32)
    return attention


@pytest.mark.parametrize(
    ("component", "convention", "text"),
    [
        (
            SharedEncoder(layer(), 2),
            "torch",
            "component must have the parameters of Linear, LayerNorm, MultiHeadedAttention, EncoderLayer or Encoder "
            'for the convention "torch", but this SharedEncoder has layer.self_attn.sublayer.q_proj.weight',
        ),
        (make_encoder(1, 4, 2, 6), "bert", 'for the convention "bert", but this Encoder has '),
        (LayerNorm(2), "annotated", 'for the convention "annotated", but this LayerNorm has weight'),
        (half_biased(), "torch", "component must have k_proj.bias beside q_proj.bias to fill in_proj_bias, but it has"),
        (of_two_dtypes(), "torch", "must have one dtype to fill in_proj_bias, but they have float32, float64, float64"),
        (LayerNorm(2), "jax", 'convention must be "npformer" or "torch" or "bert" or "annotated", but it is \'jax\''),
    ],
)
def test_components_and_conventions_that_do_not_go_together(component: Component, convention: str, text: str) -> None:
    assert text in sentence(lambda: to_convention(component.parameters(), component, convention))


def test_a_component_without_parameters_has_no_arrays() -> None:
    assert to_convention({}, Dropout(0.1), "torch") == from_convention({}, Dropout(0.1), "torch") == {}


def bad_calls(call: Callable[..., object], *arguments: object) -> Callable[[], object]:
    return lambda: call(*arguments)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (bad_calls(load_parameters, Linear, {}), "component must be a Component, but it is the class Linear"),
        (bad_calls(load_parameters, Linear(1, 1), 3), "source must be a path or a dict of arrays, but it is an int"),
        (bad_calls(load_gradients, None, {}), "component must be a Component, but it is None"),
        (bad_calls(save_parameters, "a.npz", {}), "component must be a Component, but it is a dict"),
        (bad_calls(save_gradients, "a.npz", [], Linear(1, 1)), "arrays must be a dict, but it is a list"),
        (
            bad_calls(from_convention, {}, Linear(1, 1), "torch", "bias"),
            "ignore must be a list of names, but it is 'bi",
        ),
        (bad_calls(from_convention, {}, Linear(1, 1), "torch", None), "ignore must be a list of names, but it is None"),
        (bad_calls(from_convention, {1: 2}, Linear(1, 1), "torch"), "arrays must have names as keys, but one of them"),
    ],
)
def test_bad_arguments(call: Callable[[], object], text: str) -> None:
    assert sentence(call, TypeError).startswith(text)


def test_gradients_of_another_component_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "grads.npz"
    text = sentence(lambda: save_gradients(path, {"weight": np.zeros(3), "gamma": np.ones(2)}, LayerNorm(2), "torch"))
    assert text == "arrays does not fit: bias is missing; gamma is unknown; weight has shape (3,), expected (2,)"
    assert not path.exists()
