"""Embeddings, positions, and the model from token ids to encodings."""

import numpy as np
import pytest

from npformer import Embeddings, PositionalEncoding, TokenEncoder, flatten, make_encoder, padding_mask

TOKENS = np.array([[1, 5, 3, 2], [4, 1, 1, 0]])


def test_embeddings_are_scaled_by_the_root_of_d_model_unless_told_otherwise() -> None:
    assert np.array_equal(Embeddings(16, 6, rng=0)(TOKENS), 4 * Embeddings(16, 6, scale=1, rng=0)(TOKENS))


def test_the_gradient_of_a_token_adds_up_over_its_uses_and_is_zero_without_any() -> None:
    embeddings = Embeddings(4, 7, rng=0)
    output, cache = embeddings.forward(TOKENS)
    grad_output = np.random.default_rng(1).standard_normal(output.shape)
    grad_tokens, grads = embeddings.backward(grad_output, cache)
    assert grad_tokens is None
    uses = grad_output[0, 0] + grad_output[1, 1] + grad_output[1, 2]
    np.testing.assert_allclose(grads["weight"][1], 2 * uses, rtol=1e-15, atol=1e-15)
    assert not grads["weight"][6].any()


@pytest.mark.parametrize("d_model", [1, 2, 5, 8, 512])
def test_positions_are_sines_and_cosines_of_falling_frequency(d_model: int) -> None:
    table = PositionalEncoding(d_model, max_len=50)(np.zeros((1, 50, d_model)))[0]
    for position in (0, 1, 7, 49):
        for index in range(d_model):
            angle = position / 10000 ** (2 * (index // 2) / d_model)
            expected = np.cos(angle) if index % 2 else np.sin(angle)
            assert abs(table[position, index] - expected) < 1e-13  # angles up to 49 are rounded by 4e-15


def test_positions_are_computed_in_float64_and_cast() -> None:
    positions = PositionalEncoding(512)
    narrow = positions.astype(np.float32)
    assert narrow.table.dtype == np.float64
    output = narrow(np.zeros((1, 5000, 512), np.float32))
    assert output.dtype == np.float32
    assert np.array_equal(output[0], positions.table.astype(np.float32))
    assert "table" not in positions.parameters()


def test_a_model_from_tokens_to_encodings() -> None:
    model = TokenEncoder(Embeddings(8, 6, rng=0), PositionalEncoding(8), make_encoder(2, 8, 2, 16, rng=1))
    mask = padding_mask(TOKENS)
    output, cache = model.forward(TOKENS, mask=mask)
    x = model.positions(model.embeddings(TOKENS))
    assert np.array_equal(output, model.encoder(x, mask=mask))
    grad_tokens, grads = model.backward(np.ones_like(output), cache)
    assert grad_tokens is None
    assert flatten(grads).keys() == flatten(model.parameters()).keys()


def test_dropout_of_positions_and_encoder_come_from_one_generator() -> None:
    model = TokenEncoder(Embeddings(8, 6, rng=0), PositionalEncoding(8, 0.5), make_encoder(1, 8, 2, 16, 0.5, rng=1))
    _, cache = model.forward(TOKENS, rng=np.random.default_rng(2))
    masks = [leaf for name, leaf in flatten(cache).items() if name.endswith("dropout.mask")]
    assert len(masks) == 5
    first = np.random.default_rng(2).random(masks[0].shape) >= 0.5
    assert np.array_equal(cache["positions"]["dropout"]["mask"], first)
