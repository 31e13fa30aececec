"""A whole encoder in a few lines of PyTorch, into which dropout masks, norms and activations can be put by hand.

Parameters, and the places where something is dropped, have npformer's names.
"""

import math
from collections.abc import Callable, Mapping

from torch import Tensor
from torch.nn import functional

Parameters = Mapping[str, Tensor]
Norm = Callable[[Tensor, Tensor, Tensor], Tensor]
Drop = Callable[[str, Tensor], Tensor]


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return functional.layer_norm(x, weight.shape, weight, bias, eps=1e-5)


def annotated_layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    mean, std = x.mean(-1, keepdim=True), x.std(-1, keepdim=True, unbiased=True)
    return weight * (x - mean) / (std + 1e-6) + bias


def keep_all(name: str, x: Tensor) -> Tensor:
    return x


def encoder(
    p: Parameters,
    x: Tensor,
    mask: Tensor,
    *,
    num_layers: int,
    num_heads: int,
    norm_first: bool = True,
    norm: Norm = layer_norm,
    activation: Callable[[Tensor], Tensor] = functional.relu,
    drop: Drop = keep_all,
) -> Tensor:
    """Apply the layers in order, each to the last one's output, then the final norm of pre-norm layers."""

    def linear(name: str, x: Tensor) -> Tensor:
        return functional.linear(x, p[f"{name}.weight"], p[f"{name}.bias"])

    def attend(name: str, x: Tensor) -> Tensor:
        B, T, d_model = x.shape
        q, k, v = (linear(f"{name}.{part}_proj", x).view(B, T, num_heads, -1).transpose(1, 2) for part in "qkv")
        scores = q @ k.transpose(-1, -2) / math.sqrt(d_model // num_heads)
        weights = drop(f"{name}.attention", scores.masked_fill(mask == 0, -1e9).softmax(-1))
        return linear(f"{name}.out_proj", (weights @ v).transpose(1, 2).reshape(B, T, d_model))

    def feed_forward(name: str, x: Tensor) -> Tensor:
        return linear(f"{name}.linear2", drop(name, activation(linear(f"{name}.linear1", x))))

    def connect(name: str, sublayer: Callable[[str, Tensor], Tensor], x: Tensor) -> Tensor:
        weight, bias = p[f"{name}.norm.weight"], p[f"{name}.norm.bias"]
        if norm_first:
            return x + drop(name, sublayer(f"{name}.sublayer", norm(x, weight, bias)))
        return norm(x + drop(name, sublayer(f"{name}.sublayer", x)), weight, bias)

    for index in range(num_layers):
        x = connect(f"layers.{index}.self_attn", attend, x)
        x = connect(f"layers.{index}.feed_forward", feed_forward, x)
    return norm(x, p["norm.weight"], p["norm.bias"]) if norm_first else x
