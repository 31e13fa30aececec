"""The encoder layer in its pre-norm form (Vaswani et al. 2017, 3.1; Xiong et al. 2020): write its backward.

Forward is two residual connections, one after the other. With self_attn and feed_forward the two, each of which has the
children norm, sublayer and dropout:

    attended = x        + self_attn.dropout(self_attn.sublayer(self_attn.norm(x)))
    output   = attended + feed_forward.dropout(feed_forward.sublayer(feed_forward.norm(attended)))

Backward is given grad_output, the gradient of output, and the cache that forward returned. It returns grad_x and the
tree of the gradients of the parameters, which has the names of the parts; a dropout has no parameters:

    {"self_attn": {"norm": ..., "sublayer": ..., "dropout": {}}, "feed_forward": {"norm": ..., ...}}

The cache is such a tree too. Each norm, sublayer and dropout has a right backward, which you call with the gradient of
its output and its own part of the cache, such as cache["self_attn"]["norm"]. It returns the gradient of its input and
the tree of its parameters' gradients, ready to be put under its name. (A connection has a backward as well. With it you
would be done in two lines, but here you are to write out what it does.)

Shapes: x, attended, output and their gradients (batch, T, d_model).
"""

from __future__ import annotations

from typing import cast

import numpy as np

from npformer import EncoderLayer as RightLayer
from npformer import PreNormSublayerConnection
from npformer.component import Array, Component, Tree, flatten
from npformer.dropout import RandomSource
from npformer.exercises.task import BackwardTask, Term
from npformer.gradcheck import Case
from npformer.mistakes.catalogue import Gradients


class EncoderLayer(Component):
    """Has the attributes self_attn and feed_forward, each with a norm, a sublayer and a dropout."""

    self_attn: PreNormSublayerConnection
    feed_forward: PreNormSublayerConnection

    def forward(self, x: Array, mask: Array | None = None, rng: RandomSource | None = None) -> tuple[Array, Tree]:
        cache: Tree = {"self_attn": {}, "feed_forward": {}}
        part, kept = self.self_attn, cache["self_attn"]
        normed, kept["norm"] = part.norm.forward(x)
        update, kept["sublayer"] = part.sublayer.forward(normed, mask=mask, rng=rng)
        dropped, kept["dropout"] = part.dropout.forward(update, rng=rng)
        attended = x + dropped
        part, kept = self.feed_forward, cache["feed_forward"]
        normed, kept["norm"] = part.norm.forward(attended)
        update, kept["sublayer"] = part.sublayer.forward(normed, rng=rng)
        dropped, kept["dropout"] = part.dropout.forward(update, rng=rng)
        return attended + dropped, cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        """Return grad_x, and the tree of the parts' gradients."""
        grads: Tree = {"self_attn": {}, "feed_forward": {}}
        part, kept, its = self.feed_forward, cache["feed_forward"], grads["feed_forward"]
        grad_update, its["dropout"] = part.dropout.backward(grad_output, kept["dropout"])
        grad_normed, its["sublayer"] = part.sublayer.backward(grad_update, kept["sublayer"])
        grad_through_norm, its["norm"] = part.norm.backward(grad_normed, kept["norm"])
        grad_attended = grad_output + grad_through_norm
        part, kept, its = self.self_attn, cache["self_attn"], grads["self_attn"]
        grad_update, its["dropout"] = part.dropout.backward(grad_attended, kept["dropout"])
        grad_normed, its["sublayer"] = part.sublayer.backward(grad_update, kept["sublayer"])
        grad_through_norm, its["norm"] = part.norm.backward(grad_normed, kept["norm"])
        return grad_attended + grad_through_norm, grads


def _branch(layer: RightLayer, name: str, grad: Array, cache: Tree, skip: str = "") -> tuple[Array, Tree]:
    """Backward of a connection without its residual path, and perhaps without one of its parts."""
    grads: Tree = {}
    for part in ("dropout", "sublayer", "norm"):
        back, grads[part] = getattr(getattr(layer, name), part).backward(grad, cache[name][part])
        grad = grad if part == skip else back
    return grad, grads


def terms(case: Case, cache: Tree, grad_output: Array) -> dict[str, tuple[Term, ...]]:
    layer = cast(RightLayer, case.component)
    through_network, _ = _branch(layer, "feed_forward", grad_output, cache)
    through_attention, by_residual = _branch(layer, "self_attn", grad_output, cache)
    through_both, by_network = _branch(layer, "self_attn", through_network, cache)
    wrong_order, _ = _branch(layer, "feed_forward", through_attention, cache)
    by_residual, by_network = flatten(by_residual), flatten(by_network)
    of_attention = {
        f"self_attn.{name}": (
            Term("of grad_output", f"{name} → attended → output, the residual path", 1, by_residual[name]),
            Term("of grad_through_network", f"{name} → attended → feed_forward → output", 1, by_network[name]),
        )
        for name in by_residual
        if name != "sublayer.k_proj.bias"  # it is 0 by either path
    }
    by_attention = "x → self_attn → attended"
    return of_attention | {
        "x": (
            Term("grad_output", "x → attended → output, residual twice", 1, grad_output),
            Term("network(grad_output)", "x → attended → feed_forward → output", 1, through_network),
            Term("attention(grad_output)", f"{by_attention} → output, residual", 1, through_attention),
            Term("attention(network(grad_output))", f"{by_attention} → feed_forward → output", 1, through_both),
            Term("network(attention(grad_output))", "x → feed_forward → self_attn → output", 0, wrong_order),
        )
    }


def regions(case: Case, cache: Tree) -> dict[str, dict[str, Array]]:
    x = case.inputs[0]
    flat = x.std(-1, keepdims=True) < 0.1 * x.std()
    return {
        "x": {
            "entries whose update by self_attn was dropped": ~cache["self_attn"]["dropout"]["mask"],
            "entries whose update by feed_forward was dropped": ~cache["feed_forward"]["dropout"]["mask"],
            "rows of little variance": np.broadcast_to(flat, x.shape),
        }
    }


def _layer(
    layer: RightLayer, grad_output: Array, cache: Tree, residuals: tuple[int, int], skips: tuple[str, str]
) -> Gradients:
    """Backward with a factor for each residual path, and perhaps without one part of each branch; the network first."""
    back, network_grads = _branch(layer, "feed_forward", grad_output, cache, skips[0])
    grad_attended = residuals[0] * grad_output + back
    back, attention_grads = _branch(layer, "self_attn", grad_attended, cache, skips[1])
    return residuals[1] * grad_attended + back, {"self_attn": attention_grads, "feed_forward": network_grads}


def residual_around_the_network_missing(layer: RightLayer, grad_output: Array, cache: Tree) -> Gradients:
    """attended reaches output past the feed-forward network as well, but that path is left out."""
    return _layer(layer, grad_output, cache, (0, 1), ("", ""))


def residual_around_the_attention_missing(layer: RightLayer, grad_output: Array, cache: Tree) -> Gradients:
    """x reaches attended past the attention as well, but that path is left out."""
    return _layer(layer, grad_output, cache, (1, 0), ("", ""))


def both_residuals_missing(layer: RightLayer, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient goes back through the two sublayers as in a chain, without their residual paths."""
    return _layer(layer, grad_output, cache, (0, 0), ("", ""))


def residual_from_the_output(layer: RightLayer, grad_output: Array, cache: Tree) -> Gradients:
    """grad_output is added at x, where what belongs there is the gradient of attended."""
    grad_x, grads = layer.backward(grad_output, cache)
    return grad_x - _branch(layer, "feed_forward", grad_output, cache)[0], grads


def sublayers_side_by_side(layer: RightLayer, grad_output: Array, cache: Tree) -> Gradients:
    """Both sublayers get grad_output, as if neither had read what the other put out."""
    through_network, network_grads = _branch(layer, "feed_forward", grad_output, cache)
    through_attention, attention_grads = _branch(layer, "self_attn", grad_output, cache)
    grads = {"self_attn": attention_grads, "feed_forward": network_grads}
    return grad_output + through_network + through_attention, grads


def dropout_of_the_network_missing(layer: RightLayer, grad_output: Array, cache: Tree) -> Gradients:
    """The feed-forward network gets grad_output, without the way back through its connection's dropout."""
    return _layer(layer, grad_output, cache, (1, 1), ("dropout", ""))


def dropout_of_the_attention_missing(layer: RightLayer, grad_output: Array, cache: Tree) -> Gradients:
    """The attention gets the gradient of attended, without the way back through its connection's dropout."""
    return _layer(layer, grad_output, cache, (1, 1), ("", "dropout"))


def norm_of_the_network_skipped(layer: RightLayer, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient that comes out of the feed-forward network is not taken back through its norm."""
    return _layer(layer, grad_output, cache, (1, 1), ("norm", ""))


def norm_of_the_attention_skipped(layer: RightLayer, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient that comes out of the attention is not taken back through its norm."""
    return _layer(layer, grad_output, cache, (1, 1), ("", "norm"))


TASK = BackwardTask(
    name="encoder_layer",
    title="The encoder layer, backward",
    statement=__doc__,
    solution=EncoderLayer,
    component=RightLayer,
    make="EncoderLayer, pre-norm",
    points=8,
    paths={
        "x": "output → attended → x, where each arrow is two: past the connection's parts, and through them",
        **{f"feed_forward.norm.{kind}": f"output → feed_forward.norm.{kind}" for kind in ("weight", "bias")},
        **{f"self_attn.norm.{kind}": f"output → attended → self_attn.norm.{kind}" for kind in ("weight", "bias")},
        **{
            f"feed_forward.sublayer.linear{number}.{kind}": f"output → feed_forward.sublayer.linear{number}.{kind}"
            for number in (1, 2)
            for kind in ("weight", "bias")
        },
        **{
            f"self_attn.sublayer.{name}_proj.{kind}": f"output → attended → self_attn.sublayer.{name}_proj.{kind}"
            for name in ("q", "k", "v", "out")
            for kind in ("weight", "bias")
        },
    },
    terms=terms,
    regions=regions,
    wrong=(
        residual_around_the_network_missing,
        residual_around_the_attention_missing,
        both_residuals_missing,
        residual_from_the_output,
        sublayers_side_by_side,
        dropout_of_the_network_missing,
        dropout_of_the_attention_missing,
        norm_of_the_network_skipped,
        norm_of_the_attention_skipped,
    ),
    hints=(
        "These are two exercises like pre_norm in a row. Which of the two connections was the last in forward?",
        "Between the two stands attended. Find its gradient, complete, before you go on to x.",
        "attended reaches output by two paths, and x reaches attended by two: four ways from x to output. Each of them "
        "counts once.",
        "The attention's connection is to get the gradient of attended, and nothing of grad_output besides.",
    ),
    derivation="""
    Write F(g) for the way back through the network's dropout, sublayer and norm, and A(g) for that through the
    attention's. The last connection is undone first, and its two paths are added up:

        grad_attended = grad_output + F(grad_output)

    attended is all that connects x with output, so grad_output is not needed any more. Then the first connection:

        grad_x = grad_attended + A(grad_attended)

    With the first line put into the second, there is a term for each of the four ways from x to output:

        grad_x = grad_output + F(grad_output) + A(grad_output) + A(F(grad_output))
    """,
)
