"""The norm of the annotated transformer, and whole encoders of its kind, against a few lines of PyTorch."""

import numpy as np
import pytest
import torch
import torch_formulas
from torch import Tensor
from torch_compare import STACK_TOLERANCE, DType, both_dtypes, empty_parameters, run_both
from torch_formulas import annotated_layer_norm

from npformer import (
    AnnotatedLayerNorm,
    Encoder,
    EncoderLayer,
    MultiHeadedAttention,
    PositionwiseFeedForward,
    clones,
    length_mask,
    subsequent_mask,
)
from npformer.component import Array

pytestmark = both_dtypes

B, H, T, D_MODEL, D_FF = 3, 2, 5, 12, 17
MASKS = {
    "open": np.ones((1, 1, 1, T), np.uint8),
    "causal": subsequent_mask(T),
    "padded": length_mask(np.array([2, T, 0]), T),  # the last sequence is empty: its rows are fully masked
    "causal, padded": subsequent_mask(T) & length_mask(np.array([T, 0, 3]), T),
}


def normal(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape)


@pytest.mark.parametrize("size", [1e-4, 1, 30])
@pytest.mark.parametrize("d_model", [3, D_MODEL])
def test_annotated_layer_norm(d_model: int, size: float, dtype: DType) -> None:
    norm = AnnotatedLayerNorm(d_model)
    p = empty_parameters(norm)

    def reference(x: Tensor) -> Tensor:
        return annotated_layer_norm(x, p["weight"], p["bias"])

    run_both(norm, reference, p, [size * normal(B, T, d_model)], dtype).check()


@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("mask_name", MASKS)
def test_annotated_encoder(mask_name: str, num_layers: int, dtype: DType) -> None:
    attention, feed_forward = MultiHeadedAttention(H, D_MODEL), PositionwiseFeedForward(D_MODEL, D_FF)
    layer = EncoderLayer(D_MODEL, attention, feed_forward, norm=AnnotatedLayerNorm(D_MODEL))
    encoder = Encoder(clones(layer, num_layers), AnnotatedLayerNorm(D_MODEL))
    p, mask = empty_parameters(encoder), MASKS[mask_name]

    def reference(x: Tensor) -> Tensor:
        return torch_formulas.encoder(
            p, x, torch.tensor(mask), num_layers=num_layers, num_heads=H, norm=annotated_layer_norm
        )

    run_both(encoder, reference, p, [normal(B, T, D_MODEL)], dtype, mask=mask).check(STACK_TOLERANCE)
