"""The attention core against scaled_dot_product_attention, the multi-headed form against nn.MultiheadAttention.

A mask of npformer says who may attend. So does PyTorch's core, but in its module True means masked.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_compare import TOLERANCE, DType, both_dtypes, run_both, to_numpy, to_torch
from torch_names import npformer_names

from npformer import MultiHeadedAttention, ScaledDotProductAttention, attention, length_mask, subsequent_mask
from npformer.component import Array

pytestmark = both_dtypes


@dataclass(frozen=True)
class Sizes:
    B: int = 2
    T_q: int = 4
    T_k: int = 5
    H: int = 3
    d_head: int = 6

    @property
    def d_model(self) -> int:
        return self.H * self.d_head


different = Sizes()
queries_as_heads = Sizes(T_q=3)
queries_as_batch = Sizes(T_q=2)
keys_as_heads = Sizes(T_k=3)
keys_as_batch = Sizes(T_k=2)
all_sizes = pytest.mark.parametrize(
    "s", [different, queries_as_heads, queries_as_batch, keys_as_heads, keys_as_batch], ids=str
)


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def heads(s: Sizes) -> list[Array]:
    """Query, key and value of the core; the values are wider than the keys."""
    B, H, d = s.B, s.H, s.d_head
    return [normal(0, B, H, s.T_q, d), normal(1, B, H, s.T_k, d), normal(2, B, H, s.T_k, d + 1)]


def sequences(s: Sizes) -> list[Array]:
    """Query, key and value of cross attention."""
    return [normal(seed, s.B, T, s.d_model) for seed, T in enumerate((s.T_q, s.T_k, s.T_k))]


def random_mask(*shape: int) -> Array:
    """A mask in which each query may attend to some key; booleans, with 0 and 1 in about equal numbers."""
    rng = np.random.default_rng(3)
    mask = rng.random(shape) < 0.5
    np.put_along_axis(mask, rng.integers(0, shape[-1], (*shape[:-1], 1)), True, axis=-1)
    return mask


def may_attend(mask: Array, s: Sizes) -> Tensor:
    return torch.tensor(np.broadcast_to(mask != 0, (s.B, s.H, s.T_q, s.T_k)).copy())


def masked(mask: Array, s: Sizes) -> Tensor:
    """The attn_mask of nn.MultiheadAttention, (B * H, T_q, T_k)."""
    return ~may_attend(mask, s).flatten(0, 1)


@all_sizes
@pytest.mark.parametrize("scale", [None, 0.2, -1.5])
def test_core(s: Sizes, scale: float | None, dtype: DType) -> None:
    def reference(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(query, key, value, scale=scale)

    run_both(ScaledDotProductAttention(scale=scale), reference, {}, heads(s), dtype).check()


@all_sizes
@pytest.mark.parametrize("fully_masked", ["uniform", "zero"])
@pytest.mark.parametrize("per_head", [True, False])
def test_core_with_mask(s: Sizes, fully_masked: str, per_head: bool, dtype: DType) -> None:
    mask = random_mask(s.B, s.H if per_head else 1, s.T_q, s.T_k)

    def reference(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=may_attend(mask, s))

    core = ScaledDotProductAttention(fully_masked=fully_masked)
    run_both(core, reference, {}, heads(s), dtype, mask=mask).check()


@all_sizes
def test_fully_masked_rows_that_are_zero(s: Sizes, dtype: DType) -> None:
    mask = random_mask(s.B, s.H, s.T_q, s.T_k)
    mask[0, 1, 0] = mask[1, 0] = False

    def reference(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=may_attend(mask, s))

    both = run_both(ScaledDotProductAttention(fully_masked="zero"), reference, {}, heads(s), dtype, mask=mask)
    both.check()
    for side in (both.ours, both.theirs):
        assert not side["output"][0, 1, 0].any()
        assert not side["grad_inputs.0"][0, 1, 0].any()
        assert not side["grad_inputs.2"][1, 0].any()


@pytest.mark.parametrize("shape", [(4, 6), (3, 4, 6)])
def test_causal_core_with_other_ranks(shape: tuple[int, ...], dtype: DType) -> None:
    def reference(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(query, key, value, is_causal=True)

    inputs = [normal(seed, *shape) for seed in range(3)]
    mask = subsequent_mask(shape[-2])[0]
    run_both(ScaledDotProductAttention(), reference, {}, inputs, dtype, mask=mask).check()


MASKS: dict[str, Callable[[Sizes], Array]] = {
    "for all": lambda s: random_mask(s.T_q, s.T_k),
    "per head": lambda s: random_mask(s.H, s.T_q, s.T_k),
    "per sequence": lambda s: random_mask(s.B, 1, s.T_q, s.T_k).astype(np.uint8),
    "per sequence and head": lambda s: random_mask(s.B, s.H, s.T_q, s.T_k).astype(np.int64) * 7,
}


def both_modules(s: Sizes, bias: bool = True, **options: Any) -> tuple[MultiHeadedAttention, nn.MultiheadAttention]:
    ours = MultiHeadedAttention(s.H, s.d_model, dropout=0, bias=bias)
    return ours, nn.MultiheadAttention(s.d_model, s.H, bias=bias, **{"batch_first": True} | options).double()


@all_sizes
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("mask_name", ["none", *MASKS])
def test_cross_attention(s: Sizes, bias: bool, mask_name: str, dtype: DType) -> None:
    ours, module = both_modules(s, bias)
    mask = MASKS[mask_name](s) if mask_name in MASKS else None

    def reference(query: Tensor, key: Tensor, value: Tensor) -> Any:
        attn_mask = None if mask is None else masked(mask, s)
        return module(query, key, value, attn_mask=attn_mask, need_weights=False)[0]

    parameters = dict(module.named_parameters())
    run_both(ours, reference, parameters, sequences(s), dtype, npformer_names, mask=mask).check()


@pytest.mark.parametrize("T", [5, 3, 2], ids=["T", "T = num_heads", "T = batch"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("mask_name", ["none", *MASKS])
def test_self_attention(T: int, bias: bool, mask_name: str, dtype: DType) -> None:
    s = Sizes(T_q=T, T_k=T)
    ours, module = both_modules(s, bias)
    mask = MASKS[mask_name](s) if mask_name in MASKS else None

    def reference(x: Tensor) -> Any:
        return module(x, x, x, attn_mask=None if mask is None else masked(mask, s))[0]

    x = sequences(s)[:1]
    parameters = dict(module.named_parameters())
    run_both(ours, reference, parameters, x, dtype, npformer_names, mask=mask).check()


@all_sizes
@pytest.mark.parametrize("with_attn_mask", [True, False])
def test_key_padding(s: Sizes, with_attn_mask: bool, dtype: DType) -> None:
    ours, module = both_modules(s)
    mask = length_mask(np.array([s.T_k, 1]), s.T_k)
    options = {"key_padding_mask": torch.tensor(mask[:, 0, 0] == 0)}
    if with_attn_mask:
        attn_mask = random_mask(s.B, s.H, s.T_q, s.T_k)
        attn_mask[..., 0] = True  # the one key that no sequence lacks
        mask = mask & attn_mask
        options["attn_mask"] = masked(attn_mask, s)

    def reference(query: Tensor, key: Tensor, value: Tensor) -> Any:
        return module(query, key, value, **options)[0]

    parameters = dict(module.named_parameters())
    run_both(ours, reference, parameters, sequences(s), dtype, npformer_names, mask=mask).check()


def test_sequence_first(dtype: DType) -> None:
    ours, module = both_modules(different, batch_first=False)

    def reference(*inputs: Tensor) -> Any:
        return module(*(x.transpose(0, 1) for x in inputs))[0].transpose(0, 1)

    parameters = dict(module.named_parameters())
    run_both(ours, reference, parameters, sequences(different), dtype, npformer_names).check()


@all_sizes
def test_attention_weights_of_each_head(s: Sizes, dtype: DType) -> None:
    torch.manual_seed(0)
    ours, module = both_modules(s)  # PyTorch draws its weights in float32, so they are exact in both dtypes
    weights = {name: to_numpy(tensor) for name, tensor in npformer_names(dict(module.named_parameters())).items()}
    query, key, value = (x.astype(dtype) for x in sequences(s))
    mask = random_mask(s.B, s.H, s.T_q, s.T_k)
    _, cache = ours.with_parameters(weights).astype(dtype).forward(query, key, value, mask=mask)
    _, truth = module(*map(to_torch, (query, key, value)), attn_mask=masked(mask, s), average_attn_weights=False)
    assert cache["attention"]["weights"].dtype == dtype
    assert cache["attention"]["weights"].shape == truth.shape
    assert np.abs(cache["attention"]["weights"] - to_numpy(truth)).max() <= TOLERANCE[dtype]


@all_sizes
def test_attention_function(s: Sizes, dtype: DType) -> None:
    query, key, value = (x.astype(dtype) for x in heads(s))
    mask = random_mask(s.B, s.H, s.T_q, s.T_k)
    output, p_attn = attention(query, key, value, mask=mask)
    q, k, v = map(to_torch, (query, key, value))
    identity = torch.eye(s.T_k, dtype=torch.float64).expand(s.B, s.H, -1, -1)
    for ours, values in ((output, v), (p_attn, identity)):  # with the identity as values, the output is the weights
        truth = to_numpy(functional.scaled_dot_product_attention(q, k, values, attn_mask=may_attend(mask, s)))
        assert ours.dtype == dtype
        assert ours.shape == truth.shape
        assert np.abs(ours - truth).max() <= TOLERANCE[dtype] * np.abs(truth).max()
