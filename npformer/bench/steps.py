"""What npformer does in a contest: the step of an encoder, and that of an attention core."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from npformer.bench.sizes import Size
from npformer.component import Array, Component, flatten
from npformer.encoder import Encoder, EncoderLayer, make_encoder

EPS = 1e-5


class Step:
    """Forward alone, or forward and backward, of a component on given inputs."""

    def __init__(self, component: Component, inputs: tuple[Array, ...], grad_output: Array):
        self.component = component
        self.inputs = inputs
        self.grad_output = grad_output

    def forward(self) -> Array:
        return self.component(*self.inputs)

    def forward_backward(self) -> tuple[Array, Any, dict[str, Any]]:
        output, cache = self.component.forward(*self.inputs)
        grad_inputs, grads = self.component.backward(self.grad_output, cache)
        return output, grad_inputs, grads

    def results(self) -> dict[str, Array]:
        """Return output and gradients of the whole step by name."""
        output, grad_inputs, grads = self.forward_backward()
        gradients = grad_inputs if isinstance(grad_inputs, tuple) else (grad_inputs,)
        named = {f"grad_inputs.{index}": gradient for index, gradient in enumerate(gradients)}
        return {"output": output} | named | {f"grads.{name}": gradient for name, gradient in flatten(grads).items()}


def draw_encoder(size: Size, dtype: npt.DTypeLike, activation: str) -> Encoder | EncoderLayer:
    """Return a stack, or the layer if it is one; biases and gains are not 0 and 1, which would hide errors."""
    rng = np.random.default_rng(0)
    encoder = make_encoder(
        size.num_layers, size.d_model, size.num_heads, size.d_ff, 0.0, activation, norm_first=False, eps=EPS, rng=rng
    )
    for array in flatten(encoder.parameters()).values():
        if array.ndim == 1:
            array += 0.1 * rng.standard_normal(array.shape)
    encoder = encoder.astype(dtype)
    (layer, *_) = layers_of(encoder)
    return layer if size.num_layers == 1 else encoder


def layers_of(model: Encoder | EncoderLayer) -> list[Any]:
    """Return the layers of a stack, or the layer."""
    return list(model.layers) if isinstance(model, Encoder) else [model]


def draw_arrays(shape: tuple[int, ...], count: int, dtype: npt.DTypeLike) -> list[Array]:
    """Return arrays of normal numbers, which are the same in every dtype but for rounding."""
    rng = np.random.default_rng(1)
    return [rng.standard_normal(shape).astype(dtype) for _ in range(count)]
