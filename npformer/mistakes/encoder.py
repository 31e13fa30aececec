"""Mistakes in the backwards of the encoder layer and of stacks."""

from __future__ import annotations

from npformer.component import Array, Tree, add_trees
from npformer.encoder import Encoder, EncoderLayer, SharedEncoder
from npformer.mistakes.catalogue import Gradients, mistake_in

PRE, POST = "EncoderLayer, pre-norm", "EncoderLayer, post-norm"


def _back_through_norm(stack: Encoder | SharedEncoder, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The first step of backward: the gradient of the last layer's output, and those of the norm."""
    if stack.norm is None:
        return grad_output, {}
    grad_last, grads = stack.norm.backward(grad_output, cache["norm"])
    return grad_last, {"norm": grads}


def _numbered_backwards(layers: Tree) -> Tree:
    return dict(zip(reversed(layers), layers.values(), strict=True))


@mistake_in(EncoderLayer, case=PRE)
def connections_in_forward_order(layer: EncoderLayer, grad_output: Array, cache: Tree) -> Gradients:
    """The attention is undone before the feed-forward network, though it came first in forward."""
    grad_attended, attn_grads = layer.self_attn.backward(grad_output, cache["self_attn"])
    grad_x, feed_forward_grads = layer.feed_forward.backward(grad_attended, cache["feed_forward"])
    return grad_x, {"self_attn": attn_grads, "feed_forward": feed_forward_grads}


@mistake_in(EncoderLayer, case=PRE)
def one_dropout_mask(layer: EncoderLayer, grad_output: Array, cache: Tree) -> Gradients:
    """Both connections share a Dropout that keeps its mask on itself, so that only the last mask is left."""
    self_attn = cache["self_attn"] | {"dropout": cache["feed_forward"]["dropout"]}
    return layer.backward(grad_output, cache | {"self_attn": self_attn})


@mistake_in(EncoderLayer, case=POST)
def norms_swapped(layer: EncoderLayer, grad_output: Array, cache: Tree) -> Gradients:
    """The gradients of the two norms are returned under each other's names."""
    grad_x, grads = layer.backward(grad_output, cache)
    self_attn, feed_forward = grads["self_attn"], grads["feed_forward"]
    return grad_x, {
        "self_attn": self_attn | {"norm": feed_forward["norm"]},
        "feed_forward": feed_forward | {"norm": self_attn["norm"]},
    }


@mistake_in(EncoderLayer, case=POST)
def norms_taken_for_one(layer: EncoderLayer, grad_output: Array, cache: Tree) -> Gradients:
    """The gradients of the two norms are added up for both, as if they shared their weights."""
    grad_x, grads = layer.backward(grad_output, cache)
    shared = {"norm": add_trees(grads["self_attn"]["norm"], grads["feed_forward"]["norm"])}
    return grad_x, {name: connection | shared for name, connection in grads.items()}


@mistake_in(Encoder, case="Encoder")
def norm_missing(encoder: Encoder, grad_output: Array, cache: Tree) -> Gradients:
    """The final norm gets its gradients, but the layers get grad_y as if there were no norm behind them."""
    _, grads = encoder.backward(grad_output, cache)
    grad_x, layer_grads = Encoder(encoder.layers).backward(grad_output, cache)
    return grad_x, grads | layer_grads


@mistake_in(Encoder, case="Encoder")
def layers_in_forward_order(encoder: Encoder, grad_output: Array, cache: Tree) -> Gradients:
    """The layers are undone from the first to the last."""
    grad, grads = _back_through_norm(encoder, grad_output, cache)
    grads["layers"] = {}
    for index, layer in enumerate(encoder.layers):
        grad, grads["layers"][str(index)] = layer.backward(grad, cache["layers"][str(index)])
    return grad, grads


@mistake_in(Encoder, case="Encoder")
def caches_in_forward_order(encoder: Encoder, grad_output: Array, cache: Tree) -> Gradients:
    """The caches are taken from the wrong end, so that each layer gets that of another."""
    return encoder.backward(grad_output, cache | {"layers": _numbered_backwards(cache["layers"])})


@mistake_in(Encoder, case="Encoder")
def layers_numbered_backwards(encoder: Encoder, grad_output: Array, cache: Tree) -> Gradients:
    """The layers' gradients are listed as backward meets them, last first, and returned in that order."""
    grad_x, grads = encoder.backward(grad_output, cache)
    return grad_x, grads | {"layers": _numbered_backwards(grads["layers"])}


@mistake_in(SharedEncoder, case="SharedEncoder")
def each_use_overwrites(encoder: SharedEncoder, grad_output: Array, cache: Tree) -> Gradients:
    """Each use overwrites the shared gradients of the one before, so that those of the first use are left."""
    grad, grads = _back_through_norm(encoder, grad_output, cache)
    for use in reversed(range(encoder.N)):
        grad, grads["layer"] = encoder.layer.backward(grad, cache["layer"][str(use)])
    return grad, grads


@mistake_in(SharedEncoder, case="SharedEncoder")
def cache_of_the_last_use(encoder: SharedEncoder, grad_output: Array, cache: Tree) -> Gradients:
    """The shared layer keeps its cache on itself, so that every use goes back through that of the last."""
    last = cache["layer"][str(encoder.N - 1)]
    return encoder.backward(grad_output, cache | {"layer": dict.fromkeys(cache["layer"], last)})
