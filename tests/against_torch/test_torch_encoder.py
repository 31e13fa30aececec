"""Whole layers and stacks against nn.TransformerEncoderLayer and nn.TransformerEncoder, and a model from its tokens."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_compare import STACK_TOLERANCE, DType, both_dtypes, run_both
from torch_names import npformer_names

from npformer import (
    Embeddings,
    EncoderLayer,
    LayerNorm,
    MultiHeadedAttention,
    PositionalEncoding,
    PositionwiseFeedForward,
    TokenEncoder,
    length_mask,
    make_encoder,
    padding_mask,
    subsequent_mask,
)
from npformer.component import Array

NUM_LAYERS, B, H, T, D_MODEL, D_FF, VOCAB_SIZE = 3, 4, 2, 5, 12, 17, 7
LENGTHS = np.array([5, 2, 1, 3])

Activation = Callable[[Tensor], Tensor]
ACTIVATIONS: dict[str, Activation] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": functional.silu,
}


def torch_layer(
    norm_first: bool, activation: Activation = functional.relu, eps: float = 1e-5
) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        D_MODEL, H, D_FF, 0.0, activation, layer_norm_eps=eps, batch_first=True, norm_first=norm_first
    ).double()


def torch_encoder(num_layers: int, norm_first: bool, activation: Activation = functional.relu) -> nn.TransformerEncoder:
    norm = nn.LayerNorm(D_MODEL, dtype=torch.float64) if norm_first else None
    layer = torch_layer(norm_first, activation)
    return nn.TransformerEncoder(layer, num_layers, norm, enable_nested_tensor=False)


def x_of(T: int) -> Array:
    return np.random.default_rng(0).standard_normal((B, T, D_MODEL))


def masks(causal: bool, padded: bool, T: int) -> tuple[Array | None, dict[str, Tensor]]:
    """The mask for npformer, and PyTorch's two, in which True means masked."""
    ours, theirs = np.ones((1, 1, 1, T), np.uint8), {}
    if causal:
        ours = ours & subsequent_mask(T)
        theirs["mask"] = torch.ones(T, T, dtype=torch.bool).triu(1)
    if padded:
        lengths = np.minimum(LENGTHS, T)
        ours = ours & length_mask(lengths, T)
        theirs["src_key_padding_mask"] = torch.arange(T) >= torch.tensor(lengths)[:, None]
    return (ours if theirs else None), theirs


@both_dtypes
@pytest.mark.parametrize("padded", [False, True], ids=["full", "padded"])
@pytest.mark.parametrize("causal", [False, True], ids=["open", "causal"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm_first", [True, False], ids=["pre-norm", "post-norm"])
@pytest.mark.parametrize("T", [T, H, B], ids=["T", "T = num_heads", "T = batch"])
def test_encoder(T: int, norm_first: bool, activation: str, causal: bool, padded: bool, dtype: DType) -> None:
    module = torch_encoder(NUM_LAYERS, norm_first, ACTIVATIONS[activation])
    encoder = make_encoder(NUM_LAYERS, D_MODEL, H, D_FF, 0, activation, norm_first)
    mask, options = masks(causal, padded, T)

    def reference(x: Tensor) -> Any:
        return module(x, **options)

    parameters = dict(module.named_parameters())
    run_both(encoder, reference, parameters, [x_of(T)], dtype, npformer_names, mask=mask).check(STACK_TOLERANCE)


@both_dtypes
@pytest.mark.parametrize("eps", [1e-5, 0.3])
@pytest.mark.parametrize("padded", [False, True], ids=["full", "padded"])
@pytest.mark.parametrize("norm_first", [True, False], ids=["pre-norm", "post-norm"])
def test_layer(norm_first: bool, padded: bool, eps: float, dtype: DType) -> None:
    module = torch_layer(norm_first, eps=eps)
    attention, feed_forward = MultiHeadedAttention(H, D_MODEL, 0), PositionwiseFeedForward(D_MODEL, D_FF, 0)
    layer = EncoderLayer(D_MODEL, attention, feed_forward, 0, norm_first, LayerNorm(D_MODEL, eps))
    mask, options = masks(False, padded, T)

    def reference(x: Tensor) -> Any:
        return module(x, **options)

    parameters = dict(module.named_parameters())
    run_both(layer, reference, parameters, [x_of(T)], dtype, npformer_names, mask=mask).check()


class TorchModel(nn.Module):
    """Token ids to encodings: embeddings times √d_model, positions, and PyTorch's encoder."""

    def __init__(self, norm_first: bool):
        super().__init__()
        self.embeddings = nn.Embedding(VOCAB_SIZE, D_MODEL, dtype=torch.float64)
        self.encoder = torch_encoder(NUM_LAYERS, norm_first)

    def forward(self, tokens: Tensor) -> Any:
        frequencies = torch.exp(torch.arange(0, D_MODEL, 2, dtype=torch.float64) * (-math.log(10000.0) / D_MODEL))
        angles = torch.arange(tokens.shape[1])[:, None] * frequencies
        positions = torch.stack([angles.sin(), angles.cos()], -1).flatten(1)
        x = math.sqrt(D_MODEL) * self.embeddings(tokens) + positions
        return self.encoder(x, src_key_padding_mask=tokens == 0)


@both_dtypes
@pytest.mark.parametrize("norm_first", [True, False], ids=["pre-norm", "post-norm"])
def test_model_from_tokens(norm_first: bool, dtype: DType) -> None:
    tokens = np.array([[6, 3, 3, 1, 2], [3, 1, 0, 0, 0], [2, 0, 0, 0, 0], [1, 6, 2, 3, 0]])  # 4 and 5 do not occur
    module = TorchModel(norm_first)
    model = TokenEncoder(
        Embeddings(D_MODEL, VOCAB_SIZE),
        PositionalEncoding(D_MODEL, 0),
        make_encoder(NUM_LAYERS, D_MODEL, H, D_FF, 0, norm_first=norm_first),
    )
    parameters = dict(module.named_parameters())
    both = run_both(model, module, parameters, [tokens], dtype, npformer_names, mask=padding_mask(tokens))
    both.check(STACK_TOLERANCE)
