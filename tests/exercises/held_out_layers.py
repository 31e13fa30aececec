"""Held-out mistakes in the encoder layer and in the shared encoder."""

from __future__ import annotations

from held_out_blocks import SUBLAYER
from held_out_form import held_out

from npformer import EncoderLayer, SharedEncoder
from npformer.component import Array, Tree, add_trees

ATTENTION_CONNECTION = tuple(f"self_attn.{name}" for name in (*SUBLAYER, "norm.weight", "norm.bias"))
LINEARS = ("linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias")
FEED_FORWARD_CONNECTION = (
    *(f"feed_forward.sublayer.{name}" for name in LINEARS),
    *("feed_forward.norm.weight", "feed_forward.norm.bias"),
)
LAYER = (*ATTENTION_CONNECTION, *FEED_FORWARD_CONNECTION)
OF_SHARED = tuple(f"layer.{name}" for name in LAYER)


@held_out(
    EncoderLayer,
    ("x", *LAYER),
    r"order|revers|last first|swap|other way|(feed.?forward|attention).{0,30}first",
    r"feed.?forward|attention|self_attn|connection|sublayer",
)
def layer_in_forward_order(component: EncoderLayer, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The connections are undone in forward's order: attention first, then feed-forward."""
    grads: Tree = {}
    grad_attended, grads["self_attn"] = component.self_attn.backward(grad_output, cache["self_attn"])
    grad_x, grads["feed_forward"] = component.feed_forward.backward(grad_attended, cache["feed_forward"])
    return grad_x, grads


@held_out(
    EncoderLayer,
    ("x",),
    r"residual|skip|identity|grad_output|grad_y",
    r"twice|extra|already|once more|\bagain\b|too much|double|should not|no residual|one too many|surplus",
)
def layer_with_residual_of_its_own(component: EncoderLayer, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """grad_output is added to grad_x once more, though the connections have their residual paths already."""
    grad_x, grads = component.backward(grad_output, cache)
    return grad_x + grad_output, grads


@held_out(
    EncoderLayer,
    ("x", *ATTENTION_CONNECTION),
    r"feed.?forward",
    r"skip|bypass|discard|ignor|left out|miss|forgot|stale|around|past|grad_attended|not (go|pass|taken)|never|"
    r"thrown|lost",
)
def layer_past_the_feed_forward(component: EncoderLayer, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The attention gets grad_output: what came back from the feed-forward connection is thrown away."""
    grads: Tree = {}
    _, grads["feed_forward"] = component.feed_forward.backward(grad_output, cache["feed_forward"])
    grad_x, grads["self_attn"] = component.self_attn.backward(grad_output, cache["self_attn"])
    return grad_x, grads


@held_out(
    EncoderLayer,
    ("x",),
    r"attention|self_attn",
    r"never|bypass|grad_attended|too early|arriv|(skip|past|miss|forgot|left out).{0,40}(attention|self_attn)|"
    r"(attention|self_attn).{0,25}(miss|forgot|left out|not\b|skip)",
)
def layer_returns_too_early(component: EncoderLayer, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """Wrong variable returned: the gradient that arrives at the attention, not the one that comes out of it."""
    _, grads = component.backward(grad_output, cache)
    return component.feed_forward.backward(grad_output, cache["feed_forward"])[0], grads


def _before_norm(component: SharedEncoder, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    if component.norm is None:
        return grad_output, {}
    grad_output, grads = component.norm.backward(grad_output, cache["norm"])
    return grad_output, {"norm": grads}


@held_out(
    SharedEncoder,
    OF_SHARED,
    r"averag|mean (of|over)|divid|half|halv|1/N|factor.{0,30}(0\.5|1/2)|0\.50* ?(times|×)|(times|should be) 2",
)
def shared_uses_averaged(component: SharedEncoder, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The gradients of the uses are averaged; they should add up."""
    grad_x, grads = component.backward(grad_output, cache)
    return grad_x, {**grads, "layer": _divided(grads["layer"], component.N)}


def _divided(tree: Tree, by: int) -> Tree:
    return {name: _divided(value, by) if isinstance(value, dict) else value / by for name, value in tree.items()}


@held_out(
    SharedEncoder,
    ("x", *OF_SHARED),
    r"cache|activation|stored|saved",
    r"(each|every|own|its|first|same|wrong|last|other).{0,20}(use|cache|index|pass)|stale|of the first",
)
def shared_cache_of_first_use(component: SharedEncoder, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """Every use is undone with the cache of the first."""
    return _undone(component, grad_output, cache, [0] * component.N)


@held_out(SharedEncoder, ("x", *OF_SHARED), r"order|revers|last (one |use )?first|backwards|wrong way")
def shared_in_forward_order(component: SharedEncoder, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The uses are undone in forward's order, the first one first."""
    return _undone(component, grad_output, cache, list(range(component.N)))


def _undone(component: SharedEncoder, grad_output: Array, cache: Tree, uses: list[int]) -> tuple[Array, Tree]:
    grad_x, grads = _before_norm(component, grad_output, cache)
    for use in uses:
        grad_x, use_grads = component.layer.backward(grad_x, cache["layer"][str(use)])
        grads["layer"] = add_trees(grads["layer"], use_grads) if "layer" in grads else use_grads
    return grad_x, grads
