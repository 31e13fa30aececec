"""The components without attention against PyTorch's."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch_compare import DType, both_dtypes, empty_parameters, run_both

from npformer import GELU, Component, Embeddings, LayerNorm, Linear, ReLU, SiLU, Softmax, Tanh
from npformer.component import Array

pytestmark = both_dtypes

B, T, D_IN, D_OUT, VOCAB_SIZE = 3, 4, 5, 7, 6
TOKENS = np.array([[0, 5, 0, 2], [2, 2, 2, 5], [4, 0, 5, 2]])  # all repeat but 4; 1 and 3 do not occur


def normal(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape)


@pytest.mark.parametrize("shape", [(D_IN,), (T, D_IN), (B, T, D_IN)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear(shape: tuple[int, ...], bias: bool, dtype: DType) -> None:
    linear = Linear(D_IN, D_OUT, bias)
    p = empty_parameters(linear)
    run_both(linear, lambda x: functional.linear(x, p["weight"], p.get("bias")), p, [normal(*shape)], dtype).check()


@pytest.mark.parametrize("size", [1e-3, 1, 10])
@pytest.mark.parametrize(
    ("component", "reference"),
    [
        (Softmax(), lambda x: functional.softmax(x, -1)),
        (ReLU(), functional.relu),
        (GELU(), functional.gelu),
        (GELU("tanh"), lambda x: functional.gelu(x, approximate="tanh")),
        (SiLU(), functional.silu),
        (Tanh(), torch.tanh),
    ],
    ids=["Softmax", "ReLU", "GELU", "GELU tanh", "SiLU", "Tanh"],
)
def test_activation(component: Component, reference: Callable[[Tensor], Tensor], size: float, dtype: DType) -> None:
    run_both(component, reference, {}, [size * normal(B, T, D_IN)], dtype).check()


def test_relu_at_zero(dtype: DType) -> None:
    x = np.array([[0.0, -0.0, 1.5], [-2.0, 0.0, 1e-40]])
    run_both(ReLU(), functional.relu, {}, [x], dtype).check()


@pytest.mark.parametrize(("size", "eps"), [(1, 1e-5), (1, 0.5), (1e-3, 1e-5), (1, 1e-12)])
@pytest.mark.parametrize("shape", [(T, D_IN), (B, T, D_IN)])
def test_layer_norm(shape: tuple[int, ...], size: float, eps: float, dtype: DType) -> None:
    norm = LayerNorm(D_IN, eps)
    p = empty_parameters(norm)

    def reference(x: Tensor) -> Tensor:
        return functional.layer_norm(x, (D_IN,), p["weight"], p["bias"], eps)

    run_both(norm, reference, p, [size * normal(*shape)], dtype).check()


@pytest.mark.parametrize("scale", [None, 1, -0.3])
def test_embeddings(scale: float | None, dtype: DType) -> None:
    embeddings = Embeddings(D_IN, VOCAB_SIZE, scale)
    factor = np.sqrt(D_IN) if scale is None else scale
    p = empty_parameters(embeddings)
    run_both(embeddings, lambda tokens: factor * functional.embedding(tokens, p["weight"]), p, [TOKENS], dtype).check()
