"""Blockwise attention: the numbers of the plain core, in memory that does not grow with T_q T_k."""

import copy
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npformer import BlockwiseAttention, GivenMasks, MultiHeadedAttention, ScaledDotProductAttention, length_mask
from npformer.component import Array, Component, Tree
from npformer.gradcheck import check_gradients
from npformer.oracle import compare, expect


def run(
    core: Component, inputs: tuple[Array, ...], grad_output: Array, **options: Any
) -> tuple[dict[str, Array], Tree]:
    """Return output and gradients by name, and the cache."""
    output, cache = core.forward(*inputs, **options)
    gradients, grads = core.backward(grad_output, cache)
    assert set(grads) == set(core.parameters())
    return dict(zip(("output", "query", "key", "value"), (output, *gradients), strict=True)), cache


def check_same(ours: dict[str, Array], plain: dict[str, Array]) -> None:
    # Where a row attends to one key alone, the gradients of its scores are 0 but for rounding: there 1, the size of
    # what they are made of, stands in for the largest entry.
    for name, truth in plain.items():
        assert (ours[name].shape, ours[name].dtype) == (truth.shape, truth.dtype), name
        assert np.abs(ours[name] - truth).max() <= 1e-13 * max(1.0, np.abs(truth).max()), name


@st.composite
def mask_shapes(draw: st.DrawFn, scores: tuple[int, ...]) -> tuple[int, ...]:
    """Shapes that broadcast to the scores: some axes 1, some of the first left out."""
    shape = tuple(size if draw(st.booleans()) else 1 for size in scores)
    return shape[draw(st.integers(0, len(scores))) :]


@given(st.data())
@settings(max_examples=400)
def test_it_is_the_plain_core_to_1e_13(data: st.DataObject) -> None:
    some = st.integers(1, 9)
    leading = tuple(data.draw(st.lists(st.integers(1, 3), max_size=2)))
    T_q, T_k, d_k, d_v = (data.draw(some) for _ in range(4))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    inputs = tuple(rng.standard_normal((*leading, T, d)) for T, d in ((T_q, d_k), (T_k, d_k), (T_k, d_v)))
    grad_output = rng.standard_normal((*leading, T_q, d_v))
    mask = None
    if data.draw(st.booleans()):
        mask = rng.integers(0, 2, data.draw(mask_shapes((*leading, T_q, T_k))))
        mask = np.asarray(mask, data.draw(st.sampled_from([bool, np.uint8, np.int64])))
        if mask.ndim > 1:
            mask[..., -1, :] = 0
    options: dict[str, Any] = {
        "dropout": data.draw(st.sampled_from([0.0, 0.4])),
        "fully_masked": data.draw(st.sampled_from(["uniform", "zero"])),
        "scale": data.draw(st.sampled_from([None, 0.3, -1.2])),
    }
    seed = data.draw(st.sampled_from([None, 3]))
    block_size = data.draw(st.tuples(some, some))
    sources = [None if seed is None else np.random.default_rng(seed) for _ in range(2)]
    plain, _ = run(ScaledDotProductAttention(**options), inputs, grad_output, mask=mask, rng=sources[0])
    ours, _ = run(BlockwiseAttention(**options, block_size=block_size), inputs, grad_output, mask=mask, rng=sources[1])
    check_same(ours, plain)
    if sources[0] is not None and sources[1] is not None:
        assert sources[0].bit_generator.state == sources[1].bit_generator.state


def some_inputs(*leading: int, T_q: int = 5, T_k: int = 7) -> tuple[tuple[Array, Array, Array], Array]:
    rng = np.random.default_rng(0)
    query, grad_output = rng.standard_normal((2, *leading, T_q, 4))
    key, value = rng.standard_normal((2, *leading, T_k, 4))
    return (query, key, value), grad_output


@pytest.mark.parametrize("drawn", [1, 10, 10**6])
def test_dropout_is_drawn_in_the_same_order_however_many_rows_at_a_time(
    drawn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("npformer.blockwise.DRAWN", drawn)
    inputs, grad_output = some_inputs(2, 3)
    for bits in (np.random.PCG64, np.random.MT19937, np.random.Philox):
        plain, _ = run(ScaledDotProductAttention(0.5), inputs, grad_output, rng=np.random.Generator(bits(1)))
        ours, _ = run(BlockwiseAttention(0.5, block_size=(2, 3)), inputs, grad_output, rng=np.random.Generator(bits(1)))
        check_same(ours, plain)


def test_backward_draws_again_from_the_cache_and_leaves_it_alone() -> None:
    inputs, grad_output = some_inputs(2)
    core, rng = BlockwiseAttention(0.5, block_size=(2, 2)), np.random.default_rng(1)
    before = rng.bit_generator.state
    _, cache = core.forward(*inputs, rng=rng)
    assert cache["dropout"].keys() == {"rng"}
    assert cache["dropout"]["rng"].bit_generator.state == before
    first, _ = core.backward(grad_output, cache)
    rng.random(100)  # what the caller draws afterwards does not matter
    second, _ = core.backward(grad_output, cache)
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
    assert cache["dropout"]["rng"].bit_generator.state == before


def test_a_source_that_is_no_generator_is_asked_once_for_all() -> None:
    inputs, grad_output = some_inputs(2)
    masks = [np.random.default_rng(2).integers(0, 2, (2, 5, 7))]
    plain, _ = run(ScaledDotProductAttention(0.5), inputs, grad_output, rng=GivenMasks(masks))
    ours, cache = run(BlockwiseAttention(0.5, block_size=(2, 3)), inputs, grad_output, rng=GivenMasks(masks))
    check_same(ours, plain)
    assert np.array_equal(cache["dropout"]["mask"], masks[0] != 0)


def test_the_cache_has_what_kernels_save() -> None:
    (query, key, value), _ = some_inputs(2)
    mask = np.ones((5, 7), int)
    mask[1, :6] = mask[2] = 0
    output, cache = BlockwiseAttention(block_size=(2, 3)).forward(query, key, value, mask=mask)
    assert list(cache) == ["query", "key", "value", "mask", "dropout", "output", "row_max", "row_sum"]
    assert cache["output"] is output
    assert cache["mask"] is mask
    scores = np.where(mask, query @ key.swapaxes(-1, -2) / 2, -1e9)
    np.testing.assert_allclose(cache["row_max"], scores.max(-1), rtol=1e-14)
    sums = np.exp(scores - scores.max(-1, keepdims=True)).sum(-1)
    np.testing.assert_allclose(cache["row_sum"], sums, rtol=1e-13)
    assert np.array_equal(cache["row_max"][:, 2], [-1e9, -1e9])
    assert np.array_equal(cache["row_sum"][:, 2], [7, 7])


@pytest.mark.parametrize("order", ["rising", "falling"])
def test_large_scores_neither_overflow_nor_vanish(order: str) -> None:
    T = 12
    query = np.ones((T, 1))
    key = np.linspace(0, 3000, T)[:: 1 if order == "rising" else -1, None]  # exp(3000) is no float64
    value, grad_output = np.random.default_rng(0).standard_normal((2, T, 3))
    inputs = (query, key, value)
    ours, _ = run(BlockwiseAttention(block_size=(5, 2)), inputs, grad_output)
    plain, _ = run(ScaledDotProductAttention(), inputs, grad_output)
    # The gradients of query and key are what is left of terms as large as the keys, of which nothing is left here.
    assert all(np.abs(ours[name] - truth).max() <= 1e-13 * 3000 for name, truth in plain.items())
    assert np.abs(ours["output"] - value[np.argmax(key)]).max() <= 1e-15


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@pytest.mark.parametrize("fully_masked", ["uniform", "zero"])
def test_everything_masked_gives_no_nan(dtype: type, fully_masked: str) -> None:
    inputs, grad_output = some_inputs(2)
    arrays: list[Array] = [x.astype(dtype) for x in inputs]
    query, key, value = arrays
    core = BlockwiseAttention(fully_masked=fully_masked, block_size=(2, 3))
    ours, _ = run(core, (query, key, value), grad_output.astype(dtype), mask=np.zeros((1, 1, 1), bool))
    mean = value.mean(-2, keepdims=True) * (fully_masked == "uniform")
    np.testing.assert_allclose(ours["output"], np.broadcast_to(mean, ours["output"].shape), rtol=1e-5, atol=1e-6)
    assert not ours["query"].any()
    assert not ours["key"].any()
    assert ours["value"].any() == (fully_masked == "uniform")
    assert {array.dtype for array in ours.values()} == {np.dtype(dtype)}


@pytest.mark.parametrize("block_size", [(1, 1), (2, 3), (3, 2), (64, 64)])
@pytest.mark.parametrize("fully_masked", ["uniform", "zero"])
def test_gradients_are_exact(block_size: tuple[int, int], fully_masked: str) -> None:
    inputs, _ = some_inputs(2)
    mask = np.random.default_rng(3).integers(0, 2, (5, 7))
    mask[1] = 0
    core = BlockwiseAttention(0.3, fully_masked, block_size=block_size)
    report = check_gradients(core, *inputs, mask=mask, rng=np.random.default_rng(4))
    assert [check.verdict for check in report.checks] == ["PASS"] * 3, report


def test_it_serves_multi_headed_attention() -> None:
    x, grad_output = np.random.default_rng(0).standard_normal((2, 2, 7, 6))
    mask = length_mask(np.array([7, 4]), 7)
    plain = MultiHeadedAttention(3, 6, 0.2, rng=0)
    blockwise = copy.copy(plain)
    blockwise.attention = BlockwiseAttention(0.2, block_size=(3, 2))
    results = []
    for component in (plain, blockwise):
        output, cache = component.forward(x, mask=mask, rng=np.random.default_rng(1))
        results.append((output, component.backward(grad_output, cache)[0]))
    for ours, truth in zip(*reversed(results), strict=True):
        assert np.abs(ours - truth).max() <= 1e-13 * np.abs(truth).max()


def test_a_kernel_can_be_compared_with_it() -> None:
    inputs, grad_output = some_inputs(2, 2)
    mask = np.random.default_rng(5).integers(0, 2, (5, 7))
    mask[:, 0] = 1
    expected = expect(BlockwiseAttention(block_size=(2, 3)), *inputs, grad_output=grad_output, mask=mask)
    single = tuple(x.astype(np.float32) for x in inputs)
    theirs, _ = run(ScaledDotProductAttention(), single, grad_output.astype(np.float32), mask=mask)
    named = {name if name == "output" else f"grad_{name}": array for name, array in theirs.items()}
    scores = np.where(mask, single[0] @ single[1].swapaxes(-1, -2) / np.float32(2), np.float32(-1e9))
    row_max = scores.max(-1)
    named |= {"row_max": row_max, "row_sum": np.exp(scores - row_max[..., None]).sum(-1)}
    assert {row.name: row.verdict for row in compare(named, expected).rows} == dict.fromkeys(named, "PASS")
    for name, array in named.items():
        wrong = named | {name: array * np.float32(1.001)}
        verdicts = {row.name: row.verdict for row in compare(wrong, expected).rows}
        assert verdicts[name] == "FAIL", (name, verdicts)


T, D = 2048, 8
SOURCES: dict[str, Callable[[], dict[str, Any]]] = {
    "alone": dict,
    "dropout": lambda: {"rng": np.random.default_rng(0)},
    "full mask": lambda: {"mask": np.tri(T, dtype=np.int8)},
    "length mask": lambda: {"mask": length_mask(np.array([T - 5]), T)[0]},
    "all": lambda: {"mask": np.tri(T, dtype=bool), "rng": np.random.default_rng(0)},
}


def peaks(core: Component, options: dict[str, Any]) -> tuple[int, int]:
    """Peak of what forward, and what backward, allocates at T = 2048 with one head, in bytes."""
    query, key, value, grad_output = np.random.default_rng(0).standard_normal((4, 1, T, D))
    tracemalloc.start()
    try:
        _, cache = core.forward(query, key, value, **options)
        _, forward_peak = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        core.backward(grad_output, cache)
        return forward_peak, tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


QUERIES, KEYS = 128, 256
# Two blocks of scores, and as much as one again in booleans of a block and of dropout for rows of all keys; arrays like
# query: output, the gradients of three, and some rows; and 2**17 random numbers.
BOUND = 8 * (3 * QUERIES * KEYS + 8 * T * D) + QUERIES * T + 8 * 2**17 + 2**17


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("fully_masked", ["uniform", "zero"])
def test_no_matrix_of_all_scores_is_allocated(name: str, fully_masked: str) -> None:
    assert BOUND < 0.1 * 8 * T * T
    assert BOUND < T * T  # not even one of booleans
    core = BlockwiseAttention(0.1, fully_masked, block_size=(QUERIES, KEYS))
    assert max(peaks(core, SOURCES[name]())) <= BOUND


def test_the_plain_core_exceeds_that_bound() -> None:
    assert min(peaks(ScaledDotProductAttention(), {})) > 8 * BOUND


def test_a_first_block_of_scores_that_are_all_minus_infinity_leaves_no_nan() -> None:
    query, key = np.full((1, 3, 1), 1e20, np.float32), np.zeros((1, 8, 1), np.float32)
    key[:, :4] = -1e20  # finite, but the scores overflow
    value = np.arange(8, dtype=np.float32)[None, :, None]
    with np.errstate(over="ignore"):
        for core in (ScaledDotProductAttention(), BlockwiseAttention(block_size=(2, 4))):
            output, cache = core.forward(query, key, value)
            gradients, _ = core.backward(np.ones_like(output), cache)
            assert output.ravel().tolist() == [5.5, 5.5, 5.5]
            assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_a_forward_that_fails_leaves_the_generator_where_it_was() -> None:
    rng, query = np.random.default_rng(0), np.full((1, 4, 2), 1e200)
    before = rng.bit_generator.state
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        BlockwiseAttention(dropout=0.5, block_size=(2, 2)).forward(query, query, query, rng=rng)
    assert rng.bit_generator.state == before
