"""The components made of others in other forms: by the linearity of backward, and with sums in other order."""

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from npformer import (
    BertEmbeddings,
    BertEncoder,
    BertModel,
    BertPooler,
    Checkpoint,
    Encoder,
    EncoderLayer,
    MultiHeadedAttention,
    PositionalEncoding,
    PositionwiseFeedForward,
    PostNormSublayerConnection,
    PreNormSublayerConnection,
    SharedEncoder,
    TokenEncoder,
    add_trees,
)
from npformer.component import Array, Component, Tree
from npformer.training import ImageClassifier
from rewrites.registry import Method, backward_of

COMPOSITES: list[type[Component]] = [
    MultiHeadedAttention,
    PositionwiseFeedForward,
    PreNormSublayerConnection,
    PostNormSublayerConnection,
    EncoderLayer,
    Encoder,
    SharedEncoder,
    PositionalEncoding,
    TokenEncoder,
    BertEmbeddings,
    BertEncoder,
    BertPooler,
    BertModel,
    ImageClassifier,
    Checkpoint,
]


def _batch_items(grad_output: Array) -> list[Array]:
    item = np.arange(len(grad_output)).reshape(-1, *[1] * (grad_output.ndim - 1))
    return [grad_output * (item == index) for index in range(len(grad_output))]


def _even_and_odd_entries(grad_output: Array) -> list[Array]:
    even = np.arange(grad_output.shape[-1]) % 2 == 0
    return [grad_output * even, grad_output * ~even]


def _thirds(grad_output: Array) -> list[Array]:
    return [grad_output / 3, grad_output * (2 / 3)]


def _in_parts(part: type[Component], cut: Callable[[Array], list[Array]]) -> Method:
    """Backward of a cotangent cut into parts, whose gradients add up."""

    def backward(component: Component, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
        return reduce(_add_gradients, (part.backward(component, piece, cache) for piece in cut(grad_output)))

    backward.__name__ = f"cotangent_in{cut.__name__}"
    return backward


def _add_gradients(left: tuple[Any, Tree], right: tuple[Any, Tree]) -> tuple[Any, Tree]:
    return _sum(left[0], right[0]), add_trees(left[1], right[1])


def _sum(one: Any, other: Any) -> Any:
    if isinstance(one, tuple):
        return tuple(map(_sum, one, other))
    return None if one is None else one + other


for _part in COMPOSITES:
    for _cut in (_batch_items, _even_and_odd_entries, _thirds):
        backward_of(_part)(_in_parts(_part, _cut))


@backward_of(PositionwiseFeedForward)
def hidden_units_in_halves(network: PositionwiseFeedForward, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    _, grads = PositionwiseFeedForward.backward(network, grad_output, cache)
    first, second = network.linear1.weight, network.linear2.weight
    grad_dropped, _ = network.dropout.backward(grad_output @ second, cache["dropout"])
    grad_hidden, _ = network.activation.backward(grad_dropped, cache["activation"])
    half = len(first) // 2
    return grad_hidden[..., half:] @ first[half:] + grad_hidden[..., :half] @ first[:half], grads


@backward_of(PositionwiseFeedForward)
def position_by_position(network: PositionwiseFeedForward, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """Every leaf of the cache has the axes (batch, T, ...), and positions do not see each other."""
    grad_x = np.empty_like(grad_output)
    sums: Tree = {}
    for b, t in np.ndindex(grad_output.shape[:2]):
        here = np.s_[b : b + 1, t : t + 1]
        grad_x[here], grads = PositionwiseFeedForward.backward(network, grad_output[here], _sliced(cache, here))
        sums = add_trees(sums, grads) if sums else grads
    return grad_x, sums


def _sliced(cache: Tree, index: Any) -> Tree:
    return {name: _sliced(leaf, index) if isinstance(leaf, dict) else leaf[index] for name, leaf in cache.items()}


@backward_of(EncoderLayer)
def residual_last(layer: EncoderLayer, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """In the pre-norm form grad_x = grad_y + update + update, and here the updates are added first."""
    if not isinstance(layer.self_attn, PreNormSublayerConnection):
        return EncoderLayer.backward(layer, grad_output, cache)
    of_feed_forward, ff_grads = _update(layer.feed_forward, grad_output, cache["feed_forward"])
    of_attention, attn_grads = _update(layer.self_attn, grad_output + of_feed_forward, cache["self_attn"])
    return grad_output + (of_feed_forward + of_attention), {"feed_forward": ff_grads, "self_attn": attn_grads}


def _update(connection: Any, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """Backward of a pre-norm connection without its residual path."""
    grads: Tree = {}
    grad, grads["dropout"] = connection.dropout.backward(grad_output, cache["dropout"])
    grad, grads["sublayer"] = connection.sublayer.backward(grad, cache["sublayer"])
    grad, grads["norm"] = connection.norm.backward(grad, cache["norm"])
    return grad, grads


@backward_of(SharedEncoder)
def uses_added_exactly(shared: SharedEncoder, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    grads: Tree = {}
    if shared.norm is not None:
        grad_output, grads["norm"] = shared.norm.backward(grad_output, cache["norm"])
    uses = []
    for use in reversed(range(shared.N)):
        grad_output, use_grads = shared.layer.backward(grad_output, cache["layer"][str(use)])
        uses.append(use_grads)
    return grad_output, grads | {"layer": _exact_sum(uses)}


def _exact_sum(trees: list[Tree]) -> Tree:
    def total(leaves: list[Any]) -> Any:
        if isinstance(leaves[0], dict):
            return {name: total([leaf[name] for leaf in leaves]) for name in leaves[0]}
        sums = [math.fsum(entries) for entries in zip(*(leaf.flat for leaf in leaves), strict=True)]
        return np.array(sums, leaves[0].dtype).reshape(leaves[0].shape)

    return total(trees)  # type: ignore[no-any-return]
