"""BERT: what its parts compute, by their formulas; gradients are proven on the cases that these parts have."""

import numpy as np
import pytest

from npformer import (
    BertEmbeddings,
    BertEncoder,
    BertModel,
    BertPooler,
    EncoderLayer,
    MultiHeadedAttention,
    PositionwiseFeedForward,
    PostNormSublayerConnection,
    flatten,
    make_bert,
    padding_mask,
)
from npformer.component import Array, Tree

TOKENS = np.array([[1, 5, 3, 2], [4, 1, 1, 0]])
TYPES = np.array([[0, 0, 1, 1], [1, 0, 1, 0]])


def test_embeddings_are_the_normalised_sum_of_three_tables() -> None:
    embeddings = BertEmbeddings(4, 6, max_len=9, type_vocab_size=2, rng=0)
    arrays = flatten(embeddings.parameters())
    assert {name: array.shape for name, array in arrays.items()} == {
        "word_embeddings.weight": (6, 4),
        "position_embeddings.weight": (9, 4),
        "token_type_embeddings.weight": (2, 4),
        "norm.weight": (4,),
        "norm.bias": (4,),
    }
    words, positions, types, weight, bias = arrays.values()
    weight[:], bias[:] = [1, -2, 3, 0.5], [0.1, 0.2, 0.3, 0.4]
    for b, t in np.ndindex(TOKENS.shape):
        total = words[TOKENS[b, t]] + positions[t] + types[TYPES[b, t]]
        expected = weight * (total - total.mean()) / np.sqrt(total.var() + 1e-12) + bias
        np.testing.assert_allclose(embeddings(TOKENS, TYPES)[b, t], expected, rtol=0, atol=1e-14)  # a few roundings


def test_token_types_are_0_if_not_given() -> None:
    embeddings = BertEmbeddings(4, 6, 9, rng=0)
    assert np.array_equal(embeddings(TOKENS), embeddings(TOKENS, np.zeros_like(TOKENS)))
    assert not np.array_equal(embeddings(TOKENS), embeddings(TOKENS, TYPES))


def test_each_use_of_a_row_adds_to_its_gradient_and_integers_have_none() -> None:
    embeddings = BertEmbeddings(4, 7, 9, rng=0)
    output, cache = embeddings.forward(TOKENS, TYPES)
    grad_output = np.random.default_rng(1).standard_normal(output.shape)
    grad_tokens, grads = embeddings.backward(grad_output, cache)
    assert grad_tokens == (None, None)
    grad_sum, _ = embeddings.norm.backward(grad_output, cache["norm"])
    of_positions, of_types, of_words = (
        grads[f"{kind}_embeddings"]["weight"] for kind in ("position", "token_type", "word")
    )
    rounding = 1e-14  # of sums of up to five terms of order 1
    np.testing.assert_allclose(of_positions[:4], grad_sum[0] + grad_sum[1], rtol=0, atol=rounding)
    for kind in (0, 1):
        np.testing.assert_allclose(of_types[kind], grad_sum[kind == TYPES].sum(0), rtol=0, atol=rounding)
    np.testing.assert_allclose(of_words[1], grad_sum[TOKENS == 1].sum(0), rtol=0, atol=rounding)
    assert not of_positions[4:].any()
    assert not of_words[6].any()
    _, cache = embeddings.forward(TOKENS)
    assert embeddings.backward(grad_output, cache)[0] is None


@pytest.mark.parametrize("length", [9, 1])
def test_all_positions_can_be_used(length: int) -> None:
    assert BertEmbeddings(4, 6, max_len=9, rng=0)(np.zeros((2, length), int)).shape == (2, length, 4)


def test_the_pooler_reads_the_first_token_alone() -> None:
    pooler = BertPooler(3, rng=0)
    x = np.random.default_rng(1).standard_normal((2, 4, 3))
    output, cache = pooler.forward(x)
    for b in range(2):
        expected = np.tanh(pooler.dense.weight @ x[b, 0] + pooler.dense.bias)
        np.testing.assert_allclose(output[b], expected, rtol=0, atol=1e-15)
    grad_x, _ = pooler.backward(np.ones((2, 3)), cache)
    assert grad_x[:, 0].all()
    assert not grad_x[:, 1:].any()


def test_the_model_is_its_parts_in_order() -> None:
    model = make_bert(2, 8, 2, 12, vocab_size=6, max_len=9, rng=0)
    assert isinstance(model.encoder, BertEncoder)
    mask = padding_mask(TOKENS)
    hidden = model.encoder.encoder(model.encoder.embeddings(TOKENS, TYPES), mask=mask)
    assert np.array_equal(model.encoder(TOKENS, TYPES, mask=mask), hidden)
    assert np.array_equal(model(TOKENS, TYPES, mask=mask), model.pooler(hidden))


def test_a_loss_of_both_outputs_adds_the_gradients_of_the_hidden_states() -> None:
    model = make_bert(2, 8, 2, 12, vocab_size=6, max_len=9, rng=0)
    rng = np.random.default_rng(2)
    of_hidden, of_pooled = rng.standard_normal((2, 4, 8)), rng.standard_normal((2, 8))
    assert isinstance(model.encoder, BertEncoder)

    def loss(step: Tree) -> complex:
        moved = model.astype(np.complex128)
        for name, array in flatten(moved.parameters()).items():
            array += 1e-200j * step[name]
        hidden: Array = moved.encoder(TOKENS)
        return complex((of_hidden * hidden).sum() + (of_pooled * moved.pooler(hidden)).sum())

    hidden, cache = model.encoder.forward(TOKENS)
    _, pooler_cache = model.pooler.forward(hidden)
    grad_hidden, of_pooler = model.pooler.backward(of_pooled, pooler_cache)
    _, of_encoder = model.encoder.backward(of_hidden + grad_hidden, cache)
    grads = flatten({"encoder": of_encoder, "pooler": of_pooler})
    step = {name: rng.standard_normal(grad.shape) for name, grad in grads.items()}
    slope = sum(float((grad * step[name]).sum()) for name, grad in grads.items())
    size = np.sqrt(sum(float((grad * grad).sum()) for grad in grads.values()))
    assert abs(loss(step).imag / 1e-200 - slope) <= 1e-13 * size  # 450 roundings of the length of the gradient


def test_make_bert_has_the_names_and_the_norms_of_bert() -> None:
    model = make_bert(1, 8, 2, 12, vocab_size=6, max_len=9, type_vocab_size=3, eps=1e-3, rng=0)
    assert repr(model) == "BertModel(764 parameters)"
    names = list(flatten(model.parameters()))
    assert names[0] == "encoder.embeddings.word_embeddings.weight"
    assert "encoder.encoder.layers.0.self_attn.sublayer.q_proj.weight" in names
    assert "encoder.encoder.layers.0.feed_forward.norm.bias" in names
    assert names[-2:] == ["pooler.dense.weight", "pooler.dense.bias"]
    assert not any(name.startswith("encoder.encoder.norm") for name in names)
    layer = first_layer(model)
    assert isinstance(layer.self_attn, PostNormSublayerConnection)
    assert all(vars(norm)["eps"] == 1e-3 for norm in (layer.self_attn.norm, layer.feed_forward.norm))


def first_layer(model: BertModel) -> EncoderLayer:
    layer = vars(vars(model.encoder)["encoder"])["layers"][0]
    assert isinstance(layer, EncoderLayer)
    return layer


@pytest.mark.parametrize(("given", "expected"), [(None, 0.3), (0.0, 0.0), (0.2, 0.2)])
def test_dropout_is_where_bert_has_it(given: float | None, expected: float) -> None:
    model = make_bert(1, 8, 2, 12, vocab_size=6, dropout=0.3, attention_dropout=given, rng=0)
    layer = first_layer(model)
    assert vars(model.encoder)["embeddings"].dropout.p == 0.3
    assert layer.self_attn.dropout.p == layer.feed_forward.dropout.p == 0.3
    assert isinstance(layer.self_attn.sublayer, MultiHeadedAttention)
    assert isinstance(layer.feed_forward.sublayer, PositionwiseFeedForward)
    assert vars(layer.self_attn.sublayer.attention)["dropout"].p == expected
    assert layer.feed_forward.sublayer.dropout.p == 0
    _, cache = model.forward(TOKENS, rng=np.random.default_rng(0))
    masks = [name for name in flatten(cache) if name.endswith("dropout.mask")]
    assert len(masks) == (4 if expected else 3)


def test_one_seed_makes_one_model_and_layers_of_their_own() -> None:
    one, same = (flatten(make_bert(2, 8, 2, 12, 6, rng=3).parameters()) for _ in range(2))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    query = "encoder.encoder.layers.{}.self_attn.sublayer.q_proj.weight"
    assert not np.array_equal(one[query.format(0)], one[query.format(1)])


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu", "silu"])
def test_activations_are_told_by_name(activation: str) -> None:
    output, other = (make_bert(1, 8, 2, 12, 6, activation=name, rng=0)(TOKENS) for name in (activation, "gelu"))
    assert np.array_equal(output, other) == (activation == "gelu")
