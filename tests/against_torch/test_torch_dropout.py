"""Dropout against PyTorch's, with the same masks on both sides: first ours in PyTorch, then PyTorch's in ours.

The masks of PyTorch are found by drawing them again from the same seed.
"""

from typing import Any

import numpy as np
import pytest
import torch
import torch_formulas
from torch import Tensor, nn
from torch.nn import functional
from torch_compare import STACK_TOLERANCE, DType, both_dtypes, empty_parameters, run_both, to_numpy
from torch_names import npformer_names

from npformer import (
    Component,
    Dropout,
    Encoder,
    EncoderLayer,
    GivenMasks,
    LayerNorm,
    MultiHeadedAttention,
    PositionwiseFeedForward,
    flatten,
    length_mask,
    make_encoder,
)
from npformer.component import Array

pytestmark = both_dtypes

B, H, T, T_K, D_MODEL, D_FF, SEED = 4, 2, 5, 7, 12, 17, 3
MASK = length_mask(np.array([5, 2, 0, 3]), T)  # the third sequence is empty: its rows are fully masked
RATES = {".attention": 0.3, ".self_attn": 0.15, ".feed_forward.sublayer": 0.4, ".feed_forward": 0.25}
norm_orders = pytest.mark.parametrize("norm_first", [True, False], ids=["pre-norm", "post-norm"])
depths = pytest.mark.parametrize("num_layers", [1, 2])


def normal(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape)


def rate_of(place: str) -> float:
    return next(rate for ending, rate in RATES.items() if place.endswith(ending))


def encoder_with_four_rates(num_layers: int, norm_first: bool) -> Encoder:
    def layer() -> EncoderLayer:
        attention = MultiHeadedAttention(H, D_MODEL, RATES[".attention"])
        feed_forward = PositionwiseFeedForward(D_MODEL, D_FF, RATES[".feed_forward.sublayer"])
        made = EncoderLayer(D_MODEL, attention, feed_forward, RATES[".self_attn"], norm_first)
        made.feed_forward.dropout = Dropout(RATES[".feed_forward"])
        return made

    return Encoder([layer() for _ in range(num_layers)], LayerNorm(D_MODEL) if norm_first else None)


def masks_in(component: Component, x: Array) -> dict[str, Array]:
    """Draw dropout masks with npformer, and return them by the place where they are applied."""
    _, cache = component.forward(x, mask=MASK, rng=np.random.default_rng(SEED))
    leaves = flatten(cache).items()
    return {name.removesuffix(".dropout.mask"): leaf for name, leaf in leaves if name.endswith("dropout.mask")}


@norm_orders
@depths
def test_masks_of_npformer(num_layers: int, norm_first: bool, dtype: DType) -> None:
    encoder = encoder_with_four_rates(num_layers, norm_first)
    p = empty_parameters(encoder)
    x = normal(B, T, D_MODEL)
    masks = masks_in(encoder, x)
    used = []

    def drop(place: str, x: Tensor) -> Tensor:
        used.append(place)
        return x * torch.tensor(masks[place]) / (1 - rate_of(place))

    def reference(x: Tensor) -> Tensor:
        return torch_formulas.encoder(
            p, x, torch.tensor(MASK), num_layers=num_layers, num_heads=H, norm_first=norm_first, drop=drop
        )

    both = run_both(encoder, reference, p, [x], dtype, mask=MASK, rng=np.random.default_rng(SEED))
    both.check(STACK_TOLERANCE)
    assert used == list(masks)
    assert len(used) == 4 * num_layers
    assert all(0 < mask.mean() < 1 for mask in masks.values())


def torch_masks(p: float, *shapes: tuple[int, ...]) -> list[Array]:
    """The masks that PyTorch draws after torch.manual_seed(SEED)."""
    torch.manual_seed(SEED)
    return [to_numpy(functional.dropout(torch.ones(shape, dtype=torch.float64), p)) != 0 for shape in shapes]


def test_dropout(dtype: DType) -> None:
    shape = (B, T, D_MODEL)

    def reference(x: Tensor) -> Tensor:
        torch.manual_seed(SEED)
        return functional.dropout(x, 0.3)

    run_both(Dropout(0.3), reference, {}, [normal(*shape)], dtype, rng=GivenMasks(torch_masks(0.3, shape))).check()


@pytest.mark.parametrize("need_weights", [True, False])
def test_cross_attention_of_torch_in_training(need_weights: bool, dtype: DType) -> None:
    module = nn.MultiheadAttention(D_MODEL, H, dropout=0.4, batch_first=True).double()
    x = normal(B, T + T_K + T_K, D_MODEL)
    inputs = [x[:, :T], x[:, T : T + T_K], x[:, T + T_K :]]

    def reference(*inputs: Tensor) -> Any:
        torch.manual_seed(SEED)
        return module(*inputs, need_weights=need_weights)[0]

    ours, rng = MultiHeadedAttention(H, D_MODEL, dropout=0.4), GivenMasks(torch_masks(0.4, (B, H, T, T_K)))
    run_both(ours, reference, dict(module.named_parameters()), inputs, dtype, npformer_names, rng=rng).check()


@norm_orders
@depths
def test_encoder_of_torch_in_training(num_layers: int, norm_first: bool, dtype: DType) -> None:
    rate = 0.25
    layer = nn.TransformerEncoderLayer(D_MODEL, H, D_FF, rate, batch_first=True, norm_first=norm_first)
    norm = nn.LayerNorm(D_MODEL) if norm_first else None
    module = nn.TransformerEncoder(layer, num_layers, norm, enable_nested_tensor=False).double()

    def reference(x: Tensor) -> Any:
        torch.manual_seed(SEED)
        return module(x)

    shapes = [(B, H, T, T), (T, B, D_MODEL), (B, T, D_FF), (B, T, D_MODEL)] * num_layers
    masks = torch_masks(rate, *shapes)
    masks[1::4] = [mask.swapaxes(0, 1) for mask in masks[1::4]]  # PyTorch's attention returns sequences first
    encoder = make_encoder(num_layers, D_MODEL, H, D_FF, rate, norm_first=norm_first)
    parameters, x = dict(module.named_parameters()), normal(B, T, D_MODEL)
    both = run_both(encoder, reference, parameters, [x], dtype, npformer_names, rng=GivenMasks(masks))
    both.check(STACK_TOLERANCE)
