"""The catalogue of conformance cases: the edges that break kernels are in it, and layouts agree with padded forms."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from npformer import MultiHeadedAttention, ScaledDotProductAttention
from npformer.component import Array, Component, flatten
from npformer.gradcheck import assert_gradient
from npformer.gradcheck.cases import randomise
from npformer.oracle.vectors.cases import Given, lower_right, upper_left
from npformer.oracle.vectors.component_cases import catalogue
from npformer.oracle.vectors.layouts import (
    PackedAttention,
    PackedMultiHeadedAttention,
    VariableLengthAttention,
    VariableLengths,
)
from npformer.oracle.vectors.recipes import BUILDERS, build

MakeMask = Callable[[int, int], Array]


def assert_close(actual: Array, expected: Array) -> None:
    """Float64, and sums of at most 100 terms of about 1 in another order: 1e-12 is 40 times what they can be off."""
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


def made(name: str) -> tuple[Component, Given]:
    case = catalogue()[name]
    component = build(case.recipe)
    rng = np.random.default_rng(0)
    randomise(component, rng)
    return component, case.given(component, rng)


def built(recipe: object) -> set[str]:
    if not isinstance(recipe, dict):
        return set()
    return {recipe["build"]}.union(*(built(value) for value in recipe["arguments"].values()))


CASES = {name: made(name) for name in catalogue()}
CORES = {name: given for name, (part, given) in CASES.items() if isinstance(part, ScaledDotProductAttention)}


def lengths_of(given: Given) -> tuple[int, int]:
    return given.inputs["query"].shape[-2], given.inputs["key"].shape[-2]


def mask_is(given: Given, make: MakeMask) -> bool:
    return "mask" in given.options and np.array_equal(given.options["mask"], make(*lengths_of(given)))


def test_every_builder_is_used() -> None:
    assert set().union(*(built(case.recipe) for case in catalogue().values())) == set(BUILDERS)


def test_every_storage_norm_order_and_policy() -> None:
    encoders = {
        (case.storage, case.recipe["arguments"]["norm_first"])
        for case in catalogue().values()
        if case.recipe["build"] == "Encoder" and "norm_first" in case.recipe["arguments"]
    }
    assert encoders == {
        (storage, order) for storage in ("float64", "float32", "float16", "bfloat16") for order in (0, 1)
    }
    empty_rows = {
        part.zero_fully_masked
        for part, given in CASES.values()
        if isinstance(part, ScaledDotProductAttention)
        and "mask" in given.options
        and not given.options["mask"].any(-1).all()
    }
    assert empty_rows == {False, True}


@pytest.mark.parametrize("T", [1, 63, 64, 65, 129])
def test_lengths_around_tiles(T: int) -> None:
    assert any(lengths_of(given) == (T, T) for given in CORES.values())


@pytest.mark.parametrize("make", [upper_left, lower_right])
@pytest.mark.parametrize("shorter", ["query", "key"])
def test_causal_masks_of_both_alignments_where_lengths_differ(make: MakeMask, shorter: str) -> None:
    other = lower_right if make is upper_left else upper_left
    found = [given for given in CORES.values() if mask_is(given, make) and not mask_is(given, other)]
    assert any((lengths_of(given)[0] < lengths_of(given)[1]) == (shorter == "query") for given in found)


@pytest.mark.parametrize("d_head", [1, 5, 33, 80])
def test_odd_head_sizes(d_head: int) -> None:
    assert any(given.inputs["query"].shape[-1] == d_head for given in CORES.values())


def test_a_first_tile_fully_masked() -> None:
    masks = [given.options["mask"] for given in CORES.values() if "mask" in given.options]
    assert any(mask.shape[-1] > 64 and not mask[..., :64].any() and mask.any(-1).all() for mask in masks)


def test_scores_near_10000() -> None:
    large = []
    for name, given in CORES.items():
        query, key = given.inputs["query"], given.inputs["key"]
        scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
        if "garbage" not in name and 5e3 < np.abs(scores).max() < 5e4:
            large.append(catalogue()[name].storage)
    assert sorted(large) == ["bfloat16", "float32", "float32", "float64"]


def test_garbage_where_no_query_looks() -> None:
    given = CORES["attention_garbage_in_masked_keys"]
    hidden = ~np.broadcast_to(np.expand_dims(given.options["mask"].any(-2), -1), given.inputs["key"].shape)
    for name in ("key", "value"):
        assert np.abs(given.inputs[name][hidden]).max() > 5e3
        assert np.abs(given.inputs[name][~hidden]).max() < 10


def test_padding_of_unequal_lengths() -> None:
    lengths = CASES["attention_padding"][1].options["mask"].sum(-1)
    assert len(np.unique(lengths)) == 3


def test_packed_attention_is_the_padded_one() -> None:
    part, given = CASES["packed_qkv"]
    assert isinstance(part, PackedAttention)
    qkv, mask = given.inputs["qkv"], given.options["mask"]
    query, key, value = (qkv[:, :, index].swapaxes(1, 2) for index in range(3))
    output, cache = part.forward(qkv, mask=mask)
    expected, core_cache = ScaledDotProductAttention().forward(query, key, value, mask=mask)
    np.testing.assert_array_equal(output, expected.swapaxes(1, 2))
    grad_output = np.random.default_rng(1).standard_normal(output.shape)
    grad_qkv, _ = part.backward(grad_output, cache)
    triple, _ = ScaledDotProductAttention().backward(grad_output.swapaxes(1, 2), core_cache)
    for index, grad in enumerate(triple):
        assert_close(grad_qkv[:, :, index], grad.swapaxes(1, 2))


def test_packed_projection_is_the_three_projections() -> None:
    part, given = CASES["packed_in_proj"]
    assert isinstance(part, PackedMultiHeadedAttention)
    x, mask = given.inputs["x"], given.options["mask"]
    packed = flatten(part.parameters())
    usual = MultiHeadedAttention(part.num_heads, part.d_model, dropout=0.0)
    parameters = {name: packed[name] for name in ("out_proj.weight", "out_proj.bias")}
    for index, name in enumerate(("q_proj", "k_proj", "v_proj")):
        for leaf in ("weight", "bias"):
            parameters[f"{name}.{leaf}"] = np.split(packed[f"in_proj.{leaf}"], 3)[index]
    usual = usual.with_parameters(parameters)
    output, cache = part.forward(x, mask=mask)
    expected, usual_cache = usual.forward(x, mask=mask)
    assert_close(output, expected)
    grad_output = np.random.default_rng(1).standard_normal(output.shape)
    grad_x, grads = part.backward(grad_output, cache)
    usual_grad_x, usual_grads = usual.backward(grad_output, usual_cache)
    assert isinstance(usual_grad_x, np.ndarray)
    assert_close(grad_x, usual_grad_x)
    for leaf in ("weight", "bias"):
        three = np.concatenate([usual_grads[name][leaf] for name in ("q_proj", "k_proj", "v_proj")])
        assert_close(grads["in_proj"][leaf], three)


@pytest.mark.parametrize("name", ["variable_lengths_multi_head", "variable_lengths_encoder"])
def test_rows_without_padding_are_each_sequence_alone(name: str) -> None:
    part, given = CASES[name]
    assert isinstance(part, VariableLengths)
    x, starts = given.inputs["x"], given.options["cu_seqlens"]
    assert starts.dtype == np.int32
    output, cache = part.forward(x, starts)
    grad_output = np.random.default_rng(1).standard_normal(output.shape)
    grad_x, grads = part.backward(grad_output, cache)
    total = {key: np.zeros_like(grad) for key, grad in flatten(grads["inner"]).items()}
    for begin, end in pairwise(starts):
        alone, alone_cache = part.inner.forward(x[None, begin:end])
        assert_close(output[begin:end], alone[0])
        alone_grad, alone_grads = part.inner.backward(grad_output[None, begin:end], alone_cache)
        assert_close(grad_x[begin:end], alone_grad[0])
        for key, grad in flatten(alone_grads).items():
            total[key] += grad
    for key, grad in flatten(grads["inner"]).items():
        assert_close(grad, total[key])


@pytest.mark.parametrize("name", ["variable_lengths_attention", "variable_lengths_attention_causal"])
def test_attention_without_padding_is_each_sequence_alone(name: str) -> None:
    part, given = CASES[name]
    assert isinstance(part, VariableLengthAttention)
    query, key, value = given.inputs.values()
    output, cache = part.forward(query, key, value, **given.options)
    grad_output = np.random.default_rng(1).standard_normal(output.shape)
    grads, _ = part.backward(grad_output, cache)
    starts_q, starts_k = given.options["cu_seqlens_q"], given.options["cu_seqlens_k"]
    assert 0 in np.diff(starts_q)
    core = ScaledDotProductAttention(fully_masked="zero")
    for index in np.flatnonzero(np.diff(starts_q)):
        q = slice(starts_q[index], starts_q[index + 1])
        k = slice(starts_k[index], starts_k[index + 1])
        mask = lower_right(q.stop - q.start, k.stop - k.start) if part.causal else None
        heads_q, heads_k, heads_v = (each.swapaxes(0, 1) for each in (query[q], key[k], value[k]))
        alone, alone_cache = core.forward(heads_q, heads_k, heads_v, mask=mask)
        assert_close(output[q], alone.swapaxes(0, 1))
        alone_grads, _ = core.backward(grad_output[q].swapaxes(0, 1), alone_cache)
        for whole, rows, grad in zip(grads, (q, k, k), alone_grads, strict=True):
            assert_close(whole[rows], grad.swapaxes(0, 1))


def test_gradients_of_the_layouts() -> None:
    rng = np.random.default_rng(0)
    starts = np.array([0, 2, 2, 5])
    rows = rng.standard_normal((5, 2, 3))
    packed = PackedMultiHeadedAttention(2, 4)
    randomise(packed, rng)
    variable = VariableLengths(MultiHeadedAttention(2, 4, rng=0))
    assert_gradient(PackedAttention(), rng.standard_normal((2, 3, 3, 2, 2)))
    assert_gradient(packed, rng.standard_normal((2, 3, 4)))
    assert_gradient(variable, rng.standard_normal((5, 4)), cu_seqlens=starts)
    for causal in (False, True):
        part, key = VariableLengthAttention(causal), rng.standard_normal((5, 2, 3))
        starts_k = np.array([0, 1, 2, 5])
        assert_gradient(part, rows, key, rows[::-1].copy(), cu_seqlens_q=starts, cu_seqlens_k=starts_k)


@pytest.mark.parametrize(
    ("starts", "sentence"),
    [
        (np.array([0, 2]), "cu_seqlens must rise from 0 to the number of rows, 5, but it goes from 0 to 2$"),
        (np.array([1, 5]), "cu_seqlens must rise .* from 1 to 5$"),
        (np.array([0, 4, 3, 5]), "cu_seqlens must rise .* from 0 to 5 and falls on the way$"),
        (np.array([0.0, 5.0]), "cu_seqlens must be integers, but its dtype is float64$"),
        (np.array([5]), "cu_seqlens must rise"),
    ],
)
def test_bad_starts_get_a_sentence(starts: Array, sentence: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{sentence}"):
        VariableLengths(MultiHeadedAttention(2, 4))(np.ones((5, 4)), cu_seqlens=starts)
