"""Layers and stacks: their order, shared weights, two calls in flight, threads."""

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from npformer import (
    GELU,
    AnnotatedLayerNorm,
    Encoder,
    EncoderLayer,
    LayerNorm,
    MultiHeadedAttention,
    PositionwiseFeedForward,
    PostNormSublayerConnection,
    PreNormSublayerConnection,
    ReLU,
    SharedEncoder,
    SiLU,
    add_trees,
    clones,
    flatten,
    make_encoder,
    subsequent_mask,
)
from npformer.component import Array, Component, Tree
from npformer.gradcheck import check_gradients, randomise

X = np.random.default_rng(0).standard_normal((2, 3, 6))
GRAD = np.random.default_rng(1).standard_normal((2, 3, 6))


def make_layer(norm_first: bool = True) -> EncoderLayer:
    layer = EncoderLayer(6, MultiHeadedAttention(2, 6), PositionwiseFeedForward(6, 10), norm_first=norm_first)
    randomise(layer, np.random.default_rng(2))
    return layer


def both_ways(component: Component, seed: int | None = 3) -> tuple[Array, Array, Tree]:
    """Output, gradient of the input and gradients of the parameters; with dropout if there is a seed."""
    rng = None if seed is None else np.random.default_rng(seed)
    output, cache = component.forward(X, mask=subsequent_mask(3), rng=rng)
    grad_x, grads = component.backward(GRAD, cache)
    return output, grad_x, flatten(grads)


def assert_same(left: tuple[Array, Array, Tree], right: tuple[Array, Array, Tree]) -> None:
    """Equal to the bit."""
    assert np.array_equal(left[0], right[0])
    assert np.array_equal(left[1], right[1])
    assert left[2].keys() == right[2].keys()
    assert all(np.array_equal(left[2][name], right[2][name]) for name in left[2])


@pytest.mark.parametrize("norm_first", [True, False])
def test_where_the_norm_stands(norm_first: bool) -> None:
    layer = make_layer(norm_first)
    attend, feed = layer.self_attn, layer.feed_forward
    if norm_first:
        attended = X + attend.sublayer(attend.norm(X))
        expected = attended + feed.sublayer(feed.norm(attended))
    else:
        attended = attend.norm(X + attend.sublayer(X))
        expected = feed.norm(attended + feed.sublayer(attended))
    assert np.array_equal(layer(X), expected)


def test_each_connection_has_its_own_copy_of_the_norm() -> None:
    prototype = AnnotatedLayerNorm(6)
    layer = EncoderLayer(6, MultiHeadedAttention(2, 6), PositionwiseFeedForward(6, 10), norm=prototype)
    norms: list[Any] = [layer.self_attn.norm, layer.feed_forward.norm]
    assert [type(norm) for norm in norms] == [AnnotatedLayerNorm] * 2
    assert len({id(norm.weight) for norm in [*norms, prototype]}) == 3
    layer.parameters()


@pytest.mark.parametrize(("activation", "kind"), [("relu", ReLU), ("gelu", GELU), ("gelu_tanh", GELU), ("silu", SiLU)])
@pytest.mark.parametrize("norm_first", [True, False])
def test_make_encoder_builds_what_it_says(activation: str, kind: type, norm_first: bool) -> None:
    encoder = make_encoder(3, 6, 2, 10, 0.3, activation, norm_first, eps=1e-3, rng=0)
    layers: list[Any] = encoder.layers
    connection = PreNormSublayerConnection if norm_first else PostNormSublayerConnection
    assert [type(layer.self_attn) for layer in layers] == [connection] * 3
    assert [type(layer.feed_forward.sublayer.activation) for layer in layers] == [kind] * 3
    assert (encoder.norm is not None) == norm_first
    assert {layer.self_attn.norm.eps for layer in layers} == {1e-3}
    first = layers[0]
    dropouts = first.self_attn.dropout, first.feed_forward.dropout, first.feed_forward.sublayer.dropout
    assert [part.p for part in (*dropouts, first.self_attn.sublayer.attention.dropout)] == [0.3] * 4
    assert not np.array_equal(*(layer.feed_forward.sublayer.linear1.weight for layer in layers[:2]))


def test_a_seed_fixes_the_initial_weights() -> None:
    one, same, other = (flatten(make_encoder(2, 6, 2, 10, rng=seed).parameters()) for seed in (5, 5, 6))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not all(np.array_equal(one[name], other[name]) for name in one)


def test_gelu_tanh_is_not_gelu() -> None:
    outputs = [make_encoder(1, 6, 2, 10, activation=name, rng=0)(X) for name in ("gelu", "gelu_tanh")]
    assert 0 < np.abs(outputs[0] - outputs[1]).max() < 1e-2


def test_a_shared_layer_is_a_stack_of_equal_layers_whose_gradients_add_up() -> None:
    layer = make_layer()
    norm = LayerNorm(6)
    randomise(norm, np.random.default_rng(4))
    shared = both_ways(SharedEncoder(layer, 3, norm))
    stack = both_ways(Encoder(clones(layer, 3), norm))
    assert np.array_equal(shared[0], stack[0])
    assert np.array_equal(shared[1], stack[1])
    assert len(shared[2]) == 16 + 2
    for name in flatten(layer.parameters()):
        # joined from the last use to the first, as backward meets them
        expected = stack[2][f"layers.2.{name}"] + stack[2][f"layers.1.{name}"] + stack[2][f"layers.0.{name}"]
        assert np.array_equal(shared[2][f"layer.{name}"], expected)


def test_gradients_of_a_shared_layer_are_exact() -> None:
    shared = SharedEncoder(make_layer(norm_first=False), 3)
    checks = check_gradients(shared, X, mask=subsequent_mask(3), rng=np.random.default_rng(5)).checks
    assert {check.verdict for check in checks} == {"PASS"}


def test_two_calls_in_flight_do_not_meet() -> None:
    encoder = make_encoder(2, 6, 2, 10, rng=0)
    apart = [both_ways(encoder, seed) for seed in (6, 7)]
    caches = [encoder.forward(X, mask=subsequent_mask(3), rng=np.random.default_rng(seed))[1] for seed in (6, 7)]
    for index in (1, 0):
        grad_x, grads = encoder.backward(GRAD, caches[index])
        assert_same(apart[index], (apart[index][0], grad_x, flatten(grads)))
    assert not np.array_equal(apart[0][1], apart[1][1])


def test_accumulated_gradients_are_those_of_the_sum() -> None:
    encoder = make_encoder(1, 6, 2, 10, dropout=0.0, rng=0)
    halves = []
    for item in (0, 1):
        _, cache = encoder.forward(X[item : item + 1])
        halves.append(encoder.backward(GRAD[item : item + 1], cache)[1])
    _, cache = encoder.forward(X)
    whole = flatten(encoder.backward(GRAD, cache)[1])
    for name, total in flatten(add_trees(*halves)).items():
        # the sums run in other order; k_proj.bias is 0 in truth and of the size of rounding
        np.testing.assert_allclose(total, whole[name], rtol=1e-12, atol=1e-14)


def test_eight_threads_on_one_encoder_agree_with_one() -> None:
    encoder = make_encoder(2, 6, 2, 10, dropout=0.2, rng=0)
    seeds = list(range(64))
    alone = [both_ways(encoder, seed) for seed in seeds]
    with ThreadPoolExecutor(max_workers=8) as pool:
        together = list(pool.map(lambda seed: both_ways(encoder, seed), seeds))
    for left, right in zip(alone, together, strict=True):
        assert_same(left, right)


def test_a_deep_copy_is_an_equal_encoder() -> None:
    encoder = make_encoder(1, 6, 2, 10, activation="gelu", rng=0)
    assert_same(both_ways(encoder), both_ways(copy.deepcopy(encoder)))
