"""The floor: the bare matrix products of a step, into arrays that are there already, and nothing else."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from npformer.bench.sizes import Size
from npformer.component import Array


class Product(NamedTuple):
    """``out = left right``; out is no operand of another product, so that all numbers stay as they were drawn."""

    left: Array
    right: Array
    out: Array


class Floor:
    """The matrix products of a post-norm or pre-norm encoder's forward and backward, with the shapes and layouts there.

    A linear map y = x Wᵀ has one product forward, and two backward: grad_yᵀ x and grad_y W. So have scores = q kᵀ and
    weights v. Every layer has arrays of its own, as in the step. The heads are contiguous, which is the cheapest.
    """

    def __init__(self, size: Size, dtype: npt.DTypeLike, seed: int = 0):
        rng = np.random.default_rng(seed)
        layers = [_products_of_layer(size, np.dtype(dtype), rng) for _ in range(size.num_layers)]
        self.products_forward = [product for forward, _ in layers for product in forward]
        self.products_backward = [product for _, backward in reversed(layers) for product in backward]

    def forward(self) -> None:
        for left, right, out in self.products_forward:
            np.matmul(left, right, out=out)

    def forward_backward(self) -> None:
        self.forward()
        for left, right, out in self.products_backward:
            np.matmul(left, right, out=out)


def _products_of_layer(
    size: Size, dtype: np.dtype[Any], rng: np.random.Generator
) -> tuple[list[Product], list[Product]]:
    rows, d_model, d_ff = size.batch * size.T, size.d_model, size.d_ff
    heads = (size.batch, size.num_heads, size.T)

    def draw(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(dtype)

    def multiply(left: Array, right: Array) -> Product:
        return Product(left, right, np.empty((*left.shape[:-1], right.shape[-1]), dtype))

    def linear(x: Array, d_out: int) -> tuple[Product, list[Product]]:
        weight, grad_output = draw(d_out, x.shape[-1]), draw(len(x), d_out)
        return multiply(x, weight.T), [multiply(grad_output.T, x), multiply(grad_output, weight)]

    x = draw(rows, d_model)
    query, key, value, grad_attended = (draw(*heads, d_model // size.num_heads) for _ in range(4))
    weights, grad_scores = draw(*heads, size.T), draw(*heads, size.T)
    scores = multiply(query, key.mT), [multiply(grad_scores, key), multiply(grad_scores.mT, query)]
    attended = multiply(weights, value), [multiply(grad_attended, value.mT), multiply(weights.mT, grad_attended)]
    steps = [
        *(linear(x, d_model) for _ in range(3)),
        scores,
        attended,
        linear(draw(rows, d_model), d_model),
        linear(draw(rows, d_model), d_ff),
        linear(draw(rows, d_ff), d_model),
    ]
    return [forward for forward, _ in steps], [product for _, backward in reversed(steps) for product in backward]
