"""Attention: the walk-through's own results, fully masked rows, heads."""

import numpy as np
import pytest

from npformer import (
    Dropout,
    Embeddings,
    MultiHeadedAttention,
    PositionalEncoding,
    ScaledDotProductAttention,
    attention,
    subsequent_mask,
)
from npformer.component import Array
from npformer.gradcheck import check_gradients, randomise

TOKENS = np.array([[1, 5, 3, 2], [4, 1, 6, 0]])


def embedded(d_model: int, rng: int = 0) -> Array:
    """The walk-through's input: (2, 4) tokens, embedded and positioned."""
    return PositionalEncoding(d_model, dropout=0.2)(Embeddings(d_model, 7, rng=rng)(TOKENS))


def test_an_all_zero_mask_gives_equal_weights_and_the_mean_of_the_values() -> None:
    x = embedded(512)
    output, p_attn = attention(x, x, x, mask=np.zeros((2, 4, 4), dtype=int))
    assert np.array_equal(p_attn, np.full((2, 4, 4), 0.25))
    np.testing.assert_allclose(output, np.broadcast_to(x.mean(1, keepdims=True), x.shape), rtol=1e-13, atol=1e-13)


def test_embeddings_far_apart_attend_to_themselves_alone() -> None:
    x = embedded(512)  # scores of a token with itself are about √512 · 22 = 500 above all others
    _, p_attn = attention(x, x, x)
    np.testing.assert_allclose(p_attn, np.broadcast_to(np.eye(4), (2, 4, 4)), rtol=0, atol=1e-100)


def test_multi_headed_attention_keeps_the_shape_and_takes_a_mask_for_each_head() -> None:
    x = embedded(512) / 22  # unscaled embeddings: no weight is so small that it is rounded to 0
    component = MultiHeadedAttention(8, 512, 0.2, rng=0)
    output, cache = component.forward(x, x, x, mask=np.zeros((8, 4, 4), dtype=np.uint8))
    assert output.shape == (2, 4, 512)
    assert np.array_equal(cache["attention"]["weights"], np.full((2, 8, 4, 4), 0.25))

    one_head_is_causal = np.ones((8, 4, 4), dtype=int)
    one_head_is_causal[3] = np.tri(4)
    _, cache = component.forward(x, mask=one_head_is_causal)
    hidden = [head for head in range(8) if not cache["attention"]["weights"][:, head, 0, 1:].any()]
    assert hidden == [3]


def test_the_function_returns_the_weights_after_dropout() -> None:
    x = embedded(8)
    for dropout in (Dropout(0.5), 0.5):
        output, p_attn = attention(x, x, x, dropout=dropout, rng=np.random.default_rng(0))
        assert (p_attn == 0).any()
        assert np.array_equal(output, p_attn @ x)


def test_scores_are_divided_by_the_root_of_d_k_unless_a_scale_is_given() -> None:
    query, key = np.array([[1.0, 1.0, 1.0, 1.0]]), np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    for scale, score in ((None, 2.0), (0.25, 1.0), (0.0, 0.0)):
        weights = ScaledDotProductAttention(scale=scale)(query, key, np.eye(2))
        np.testing.assert_allclose(weights, [[np.exp(score), 1.0]] / (np.exp(score) + 1), rtol=1e-15)


MASK = np.array([[1, 0, 1], [0, 0, 0]])  # the second query is fully masked
QUERY, KEY, VALUE = (np.random.default_rng(4).standard_normal(shape) for shape in ((2, 4), (3, 4), (3, 5)))
GRAD = np.random.default_rng(5).standard_normal((2, 5))


def test_a_fully_masked_row_attends_uniformly_and_only_value_gets_its_gradient() -> None:
    core = ScaledDotProductAttention()
    output, cache = core.forward(QUERY, KEY, VALUE, mask=MASK)
    np.testing.assert_allclose(output[1], VALUE.mean(0), rtol=1e-15)
    only_its_row = GRAD * [[0], [1]]
    (grad_query, grad_key, grad_value), _ = core.backward(only_its_row, cache)
    assert not grad_query.any()
    assert not grad_key.any()
    np.testing.assert_allclose(grad_value, np.broadcast_to(GRAD[1] / 3, (3, 5)), rtol=1e-15)


def test_a_fully_masked_row_can_be_zero_with_zero_gradients() -> None:
    core = ScaledDotProductAttention(fully_masked="zero")
    output, cache = core.forward(QUERY, KEY, VALUE, mask=MASK)
    assert not output[1].any()
    assert not cache["weights"][1].any()
    gradients, _ = core.backward(GRAD * [[0], [1]], cache)
    assert not any(gradient.any() for gradient in gradients)

    others = ScaledDotProductAttention().forward(QUERY, KEY, VALUE, mask=MASK)[0]
    assert np.array_equal(output[0], others[0])


@pytest.mark.parametrize("fully_masked", ["uniform", "zero"])
@pytest.mark.parametrize("rng", [None, 1])
def test_gradients_with_fully_masked_rows_are_exact(fully_masked: str, rng: int | None) -> None:
    core = ScaledDotProductAttention(dropout=0.4, fully_masked=fully_masked)
    generator = None if rng is None else np.random.default_rng(rng)
    checks = check_gradients(core, QUERY, KEY, VALUE, mask=MASK, rng=generator).checks
    assert [(check.name, check.verdict) for check in checks] == [(name, "PASS") for name in ("query", "key", "value")]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_everything_masked_gives_no_nan(dtype: type) -> None:
    component = MultiHeadedAttention(2, 4, rng=0).astype(dtype)
    x: Array = np.ones((1, 3, 4), dtype)
    output, cache = component.forward(x, mask=np.zeros((1, 1, 1, 3), dtype=bool))
    grad_x, _ = component.backward(output, cache)
    assert np.isfinite(output).all()
    assert np.isfinite(grad_x).all()


def test_self_attention_returns_the_sum_of_the_three_gradients() -> None:
    component = MultiHeadedAttention(3, 6, dropout=0.0)
    randomise(component, np.random.default_rng(6))
    x: Array = np.random.default_rng(7).standard_normal((2, 3, 6))
    grad_output: Array = np.random.default_rng(8).standard_normal((2, 3, 6))
    alone, cache_alone = component.forward(x)
    as_three, cache_three = component.forward(x, x, x)
    assert np.array_equal(alone, as_three)
    grad_x, _ = component.backward(grad_output, cache_alone)
    gradients, _ = component.backward(grad_output, cache_three)
    assert len(gradients) == 3
    np.testing.assert_allclose(grad_x, sum(gradients), rtol=1e-14, atol=1e-15)


def test_heads_are_consecutive_slices_of_the_projections() -> None:
    component = MultiHeadedAttention(2, 6, rng=9)
    x = np.random.default_rng(10).standard_normal((1, 4, 6))
    _, cache = component.forward(x)
    q = x[0] @ component.q_proj.weight.T + component.q_proj.bias
    k = x[0] @ component.k_proj.weight.T + component.k_proj.bias
    for head, cut in enumerate((slice(0, 3), slice(3, 6))):
        scores = q[:, cut] @ k[:, cut].T / np.sqrt(3)
        weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        np.testing.assert_allclose(cache["attention"]["weights"][0, head], weights, rtol=1e-13)


def test_another_core_can_be_injected() -> None:
    core = ScaledDotProductAttention(scale=0.0)
    component = MultiHeadedAttention(2, 4, attention=core, rng=0)
    _, cache = component.forward(np.random.default_rng(0).standard_normal((1, 5, 4)))
    assert np.array_equal(cache["attention"]["weights"], np.full((1, 2, 5, 5), 0.2))


def test_a_causal_mask_serves_a_batch_of_any_size() -> None:
    component = MultiHeadedAttention(2, 4, rng=0)
    for batch in (1, 2, 3):
        _, cache = component.forward(np.ones((batch, 3, 4)), mask=subsequent_mask(3))
        assert np.array_equal(cache["attention"]["weights"] > 0, np.broadcast_to(np.tri(3) > 0, (batch, 2, 3, 3)))
