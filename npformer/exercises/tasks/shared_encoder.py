"""An encoder whose layers share their weights (Dehghani et al. 2019; Lan et al. 2020): write its backward.

Forward applies one layer N times, each time to what the last time gave, and then a norm:

    x₀     = x
    xᵢ₊₁   = layer(xᵢ)      for i = 0, …, N - 1
    output = norm(x_N)

Backward is given grad_output, the gradient of output, and the cache that forward returned: cache["norm"], and
cache["layer"], which has a cache for each use of the layer, under "0", "1", and so on in the order of forward. It
returns grad_x and the tree of the gradients of the parameters. The layer has one set of weights, so it is in it once:

    {"layer": ..., "norm": ...}

layer and norm each have a right backward, which you call with the gradient of its output and the cache of that use. It
returns the gradient of its input and the tree of its parameters' gradients. self.add(left, right) adds two such trees.

Shapes: x, output and their gradients (batch, T, d_model).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import cast

import numpy as np

from npformer import EncoderLayer, LayerNorm
from npformer import SharedEncoder as RightEncoder
from npformer.component import Array, Component, Tree, add_trees, flatten
from npformer.dropout import RandomSource
from npformer.exercises.task import BackwardTask, Term
from npformer.gradcheck import Case, Sizes, make_case
from npformer.mistakes.catalogue import Gradients


class SharedEncoder(Component):
    """Has the attributes layer, N and norm."""

    layer: EncoderLayer
    N: int
    norm: LayerNorm

    def add(self, left: Tree, right: Tree) -> Tree:
        return add_trees(left, right)

    def forward(self, x: Array, mask: Array | None = None, rng: RandomSource | None = None) -> tuple[Array, Tree]:
        cache: Tree = {"layer": {}}
        for use in range(self.N):
            x, cache["layer"][str(use)] = self.layer.forward(x, mask=mask, rng=rng)
        output, cache["norm"] = self.norm.forward(x)
        return output, cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        """Return grad_x, and {"layer": the layer's gradients, "norm": the norm's}."""
        grad_x, norm_grads = self.norm.backward(grad_output, cache["norm"])
        grad_x, layer_grads = self.layer.backward(grad_x, cache["layer"][str(self.N - 1)])
        for use in reversed(range(self.N - 1)):
            grad_x, use_grads = self.layer.backward(grad_x, cache["layer"][str(use)])
            layer_grads = self.add(layer_grads, use_grads)  # every use had the same weights
        return grad_x, {"layer": layer_grads, "norm": norm_grads}


def make(sizes: Sizes, rng: np.random.Generator) -> Case:
    case = make_case("SharedEncoder", sizes, rng)
    encoder = cast(RightEncoder, case.component)
    encoder.N = min(3, sizes.T_q)  # with 3, there is a use that is neither the first nor the last
    return case


def _through_norm(encoder: RightEncoder, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    return cast(LayerNorm, encoder.norm).backward(grad_output, cache["norm"])


def _by_use(
    encoder: RightEncoder, grad: Array, cache: Tree, uses: Iterable[int] | None = None
) -> tuple[list[Array], list[Tree]]:
    """What backward of each use returns, with grad the gradient of the last one's output; the last use comes first."""
    grad_inputs, trees = [], []
    for use in reversed(range(encoder.N)) if uses is None else uses:
        grad, grads = encoder.layer.backward(grad, cache["layer"][str(use)])
        grad_inputs.append(grad)
        trees.append(grads)
    return grad_inputs, trees


def terms(case: Case, cache: Tree, grad_output: Array) -> dict[str, tuple[Term, ...]]:
    encoder = cast(RightEncoder, case.component)
    grad_last, _ = _through_norm(encoder, grad_output, cache)
    grad_inputs, trees = _by_use(encoder, grad_last, cache)
    past_norm, _ = _by_use(encoder, grad_output, cache)
    uses = [f"use {use} of the layer" for use in reversed(range(encoder.N))]
    flat = [flatten(tree) for tree in trees]
    of_layer = {
        f"layer.{name}": tuple(
            Term(f"gradients of {use}", f"weights → {use} → output", 1, grads[name])
            for use, grads in zip(uses, flat, strict=True)
        )
        for name in flat[0]
        if not name.endswith("k_proj.bias")  # it is 0 in every use
    }
    return of_layer | {
        "x": (
            Term("through all uses", "x → every use of the layer → norm → output", 1, grad_inputs[-1]),
            Term("without use 0", "x₁ → the later uses of the layer → norm → output", 0, grad_inputs[-2]),
            Term("without the norm", "x → every use of the layer → output, past the norm", 0, past_norm[-1]),
        )
    }


def regions(case: Case, cache: Tree) -> dict[str, dict[str, Array]]:
    mask = cache["layer"]["0"]["self_attn"]["sublayer"]["attention"]["mask"]
    hidden = ~mask.any(-1)[:, 0, :, None]
    return {"x": {"positions that may attend to nothing": np.broadcast_to(hidden, case.inputs[0].shape)}}


def _back(encoder: RightEncoder, grad_output: Array, cache: Tree) -> tuple[list[Array], list[Tree], Tree]:
    """What each use returns, the last one first, and the right tree of gradients."""
    grad_last, _ = _through_norm(encoder, grad_output, cache)
    return *_by_use(encoder, grad_last, cache), encoder.backward(grad_output, cache)[1]


def last_use_alone(encoder: RightEncoder, grad_output: Array, cache: Tree) -> Gradients:
    """grad_x is right, but the layer's gradients are those of its last use, the first that backward meets."""
    grad_inputs, trees, grads = _back(encoder, grad_output, cache)
    return grad_inputs[-1], grads | {"layer": trees[0]}


def uses_averaged(encoder: RightEncoder, grad_output: Array, cache: Tree) -> Gradients:
    """The gradients of the uses are averaged, but those of one weight that was used several times add up."""
    grad_inputs, _, grads = _back(encoder, grad_output, cache)
    return grad_inputs[-1], grads | {"layer": _scaled(grads["layer"], 1 / encoder.N)}


def last_use_counted_twice(encoder: RightEncoder, grad_output: Array, cache: Tree) -> Gradients:
    """The sum begins with the gradients of the last use, and the loop adds them again."""
    grad_inputs, trees, grads = _back(encoder, grad_output, cache)
    return grad_inputs[-1], grads | {"layer": add_trees(grads["layer"], trees[0])}


def use_zero_left_out(encoder: RightEncoder, grad_output: Array, cache: Tree) -> Gradients:
    """The loop ends one use too early, so that use 0 is not undone."""
    grad_inputs, trees, grads = _back(encoder, grad_output, cache)
    return grad_inputs[-2], grads | {"layer": reduce(add_trees, trees[:-1])}


def last_use_left_out(encoder: RightEncoder, grad_output: Array, cache: Tree) -> Gradients:
    """The loop begins one use too low, so that the last one is not undone."""
    grad_last, norm_grads = _through_norm(encoder, grad_output, cache)
    grad_inputs, trees = _by_use(encoder, grad_last, cache, reversed(range(encoder.N - 1)))
    return grad_inputs[-1], {"layer": reduce(add_trees, trees), "norm": norm_grads}


def uses_in_forward_order(encoder: RightEncoder, grad_output: Array, cache: Tree) -> Gradients:
    """The caches of the uses are taken in the order of forward, the first use first."""
    numbered = cache["layer"]
    return encoder.backward(
        grad_output, cache | {"layer": dict(zip(numbered, reversed(numbered.values()), strict=True))}
    )


def norm_skipped(encoder: RightEncoder, grad_output: Array, cache: Tree) -> Gradients:
    """The norm's own gradients are right, but the last use gets grad_output, which did not go back through it."""
    grad_inputs, trees = _by_use(encoder, grad_output, cache)
    return grad_inputs[-1], encoder.backward(grad_output, cache)[1] | {"layer": reduce(add_trees, trees)}


def every_use_gets_the_last_gradient(encoder: RightEncoder, grad_output: Array, cache: Tree) -> Gradients:
    """Each use gets the gradient of the last one's output instead of what the use after it returned."""
    grad_last, norm_grads = _through_norm(encoder, grad_output, cache)
    each = [encoder.layer.backward(grad_last, cache["layer"][str(use)]) for use in range(encoder.N)]
    return each[0][0], {"layer": reduce(add_trees, (grads for _, grads in each)), "norm": norm_grads}


def inputs_of_all_uses_added(encoder: RightEncoder, grad_output: Array, cache: Tree) -> Gradients:
    """What the uses return for their inputs is added up for grad_x, but x went into use 0 alone."""
    grad_inputs, _, grads = _back(encoder, grad_output, cache)
    return sum(grad_inputs), grads


def _scaled(tree: Tree, factor: float) -> Tree:
    return {name: _scaled(leaf, factor) if isinstance(leaf, dict) else factor * leaf for name, leaf in tree.items()}


TASK = BackwardTask(
    name="shared_encoder",
    title="An encoder with shared weights, backward",
    statement=__doc__,
    solution=SharedEncoder,
    component=RightEncoder,
    make=make,
    points=6,
    paths={
        "x": "output → x_N → … → x₁ → x",
        "norm.weight": "output → norm.weight",
        "norm.bias": "output → norm.bias",
        **{
            f"layer.{name}.{kind}": f"output → x_N, … → every use of the layer → {name}.{kind}"
            for name in (
                *("self_attn.norm", *(f"self_attn.sublayer.{each}_proj" for each in ("q", "k", "v", "out"))),
                *("feed_forward.norm", "feed_forward.sublayer.linear1", "feed_forward.sublayer.linear2"),
            )
            for kind in ("weight", "bias")
        },
    },
    terms=terms,
    regions=regions,
    wrong=(
        last_use_alone,
        uses_averaged,
        last_use_counted_twice,
        use_zero_left_out,
        last_use_left_out,
        uses_in_forward_order,
        norm_skipped,
        every_use_gets_the_last_gradient,
        inputs_of_all_uses_added,
    ),
    hints=(
        "Write forward for N = 3 without the loop. Which line is the last, and which line does backward begin with?",
        "The layer was used N times, so its backward is called N times, each time with the cache of that use.",
        "There are two things to keep apart: the gradient that travels from each use to the one before it, and the "
        "gradients of the weights, of which each use yields a tree.",
        "One weight that stands in N places of the graph is a fork with N arrows. What happens at a fork?",
    ),
    derivation="""
    Pretend that each use i had weights Wᵢ of its own. Then the encoder is a chain, undone from its end:

        grad_x_N            = norm.backward(grad_output)
        grad_xᵢ, grad_Wᵢ    = layer.backward(grad_xᵢ₊₁)       for i = N - 1, …, 0, with the cache of use i

    and grad_x = grad_x₀. But there is only one W, and every Wᵢ is a copy of it: dWᵢ / dW = 1. The chain rule adds up
    over all the ways in which W reaches output:

        grad_W = Σᵢ grad_Wᵢ
    """,
)
