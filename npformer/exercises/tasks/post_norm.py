"""A residual connection with the norm after the sum (Vaswani et al. 2017, section 3.1): write its backward.

Forward is

    update  = sublayer(x)
    dropped = dropout(update)
    total   = x + dropped
    output  = norm(total)

Backward is given grad_output, the gradient of output, and the cache that forward returned. It returns grad_x and the
tree of the gradients of the parameters, which has the names of the children; dropout has no parameters:

    {"sublayer": ..., "dropout": {}, "norm": ...}

Each child has a right backward, which you call with the gradient of its output and its own part of the cache, such as
cache["norm"]. It returns the gradient of its input and the tree of its parameters' gradients, ready to be put under its
name. Here norm is a layer norm and sublayer is self-attention, but that need not concern you.

Shapes: x, update, dropped, total, output and their gradients (batch, T, d_model).
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from npformer import Dropout, LayerNorm
from npformer import PostNormSublayerConnection as RightConnection
from npformer.component import Array, Component, Tree
from npformer.exercises.task import BackwardTask, Term
from npformer.gradcheck import Case
from npformer.mistakes.catalogue import Gradients


class PostNormSublayerConnection(Component):
    """Has the attributes sublayer, dropout and norm."""

    sublayer: Component
    dropout: Dropout
    norm: LayerNorm

    def forward(self, x: Array, **options: Any) -> tuple[Array, Tree]:
        cache: Tree = {}
        update, cache["sublayer"] = self.sublayer.forward(x, **options)
        dropped, cache["dropout"] = self.dropout.forward(update, rng=options.get("rng"))
        output, cache["norm"] = self.norm.forward(x + dropped)
        return output, cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        """Return grad_x, and the tree of the children's gradients."""
        grads: Tree = {}
        grad_total, grads["norm"] = self.norm.backward(grad_output, cache["norm"])
        grad_update, grads["dropout"] = self.dropout.backward(grad_total, cache["dropout"])
        grad_through_sublayer, grads["sublayer"] = self.sublayer.backward(grad_update, cache["sublayer"])
        return grad_total + grad_through_sublayer, grads  # x forks into the sum and the sublayer


def terms(case: Case, cache: Tree, grad_output: Array) -> dict[str, tuple[Term, ...]]:
    connection = cast(RightConnection, case.component)

    def sublayer(grad_dropped: Array, dropout: Tree) -> Array:
        grad_update, _ = connection.dropout.backward(grad_dropped, dropout)
        grad: Array = connection.sublayer.backward(grad_update, cache["sublayer"])[0]
        return grad

    grad_total, _ = connection.norm.backward(grad_output, cache["norm"])
    through_sublayer = sublayer(grad_total, cache["dropout"])
    past_norm = sublayer(grad_output, cache["dropout"])
    past_dropout = sublayer(grad_total, {})
    return {
        "x": (
            Term("grad_total", "x → total → output, the residual path", 1, grad_total),
            Term("grad_through_sublayer", "x → update → dropped → total → output", 1, through_sublayer),
            Term("grad_output", "x → output, past the norm", 0, grad_output),
            Term("grad_output through sublayer", "x → update → dropped → output, past the norm", 0, past_norm),
            Term("grad_through_sublayer, undropped", "x → update → total → output, past dropout", 0, past_dropout),
        )
    }


def regions(case: Case, cache: Tree) -> dict[str, dict[str, Array]]:
    hidden = ~cache["sublayer"]["attention"]["mask"].any(-1)[:, 0, :, None]
    return {
        "x": {
            "entries whose update was dropped": ~cache["dropout"]["mask"],
            "positions that may attend to nothing": np.broadcast_to(hidden, case.inputs[0].shape),
        }
    }


def dropout_missing(connection: RightConnection, grad_output: Array, cache: Tree) -> Gradients:
    """The sublayer gets the gradient of the sum, without the way back through the dropout."""
    return connection.backward(grad_output, cache | {"dropout": {}})


def dropout_on_both_paths(connection: RightConnection, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient goes through dropout before it forks, so that the residual path is dropped too."""
    grad_x, grads = connection.backward(grad_output, cache)
    grad_total, _ = connection.norm.backward(grad_output, cache["norm"])
    grad_update, _ = connection.dropout.backward(grad_total, cache["dropout"])
    return grad_x - grad_total + grad_update, grads


def dropout_without_its_factor(connection: RightConnection, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient is multiplied by dropout's mask, but not by 1 / (1 - p)."""
    grad_total, norm_grads = connection.norm.backward(grad_output, cache["norm"])
    masked = grad_total * cache["dropout"]["mask"]
    grad_x, sublayer_grads = connection.sublayer.backward(masked, cache["sublayer"])
    return grad_total + grad_x, {"norm": norm_grads, "sublayer": sublayer_grads, "dropout": {}}


def norm_skipped(connection: RightConnection, grad_output: Array, cache: Tree) -> Gradients:
    """The norm's own gradients are right, but both paths get grad_output, which did not go back through it."""
    grad_x, sublayer_grads = _from_dropped(connection, grad_output, cache)
    return grad_output + grad_x, connection.backward(grad_output, cache)[1] | {"sublayer": sublayer_grads}


def sublayer_past_the_norm(connection: RightConnection, grad_output: Array, cache: Tree) -> Gradients:
    """The residual path is right, but the sublayer gets grad_output instead of the gradient of the sum."""
    grad_total, norm_grads = connection.norm.backward(grad_output, cache["norm"])
    grad_x, sublayer_grads = _from_dropped(connection, grad_output, cache)
    return grad_total + grad_x, {"norm": norm_grads, "sublayer": sublayer_grads, "dropout": {}}


def residual_path_alone(connection: RightConnection, grad_output: Array, cache: Tree) -> Gradients:
    """x forks into two paths, but only the gradient that passes the sublayer by is returned."""
    return connection.norm.backward(grad_output, cache["norm"])[0], connection.backward(grad_output, cache)[1]


def residual_path_added_twice(connection: RightConnection, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient of the residual path is added in the sublayer and again in the connection."""
    grad_x, grads = connection.backward(grad_output, cache)
    return grad_x + connection.norm.backward(grad_output, cache["norm"])[0], grads


def both_residual_forms(connection: RightConnection, grad_output: Array, cache: Tree) -> Gradients:
    """grad_output is added as in the pre-norm form, on top of the residual path of this one."""
    grad_x, grads = connection.backward(grad_output, cache)
    return grad_x + grad_output, grads


def paths_averaged(connection: RightConnection, grad_output: Array, cache: Tree) -> Gradients:
    """The gradients of the two paths are averaged, but at a fork they add up."""
    grad_x, grads = connection.backward(grad_output, cache)
    return grad_x / 2, grads


def _from_dropped(connection: RightConnection, grad_dropped: Array, cache: Tree) -> Gradients:
    grad_update, _ = connection.dropout.backward(grad_dropped, cache["dropout"])
    return connection.sublayer.backward(grad_update, cache["sublayer"])


TASK = BackwardTask(
    name="post_norm",
    title="The residual connection with the norm last, backward",
    statement=__doc__,
    solution=PostNormSublayerConnection,
    component=RightConnection,
    make="PostNormSublayerConnection",
    points=5,
    paths={
        "x": "output → total → x directly, and output → total → dropped → update → x",
        "norm.weight": "output → norm.weight",
        "norm.bias": "output → norm.bias",
        **{
            f"sublayer.{name}_proj.{kind}": f"output → total → dropped → update → sublayer.{name}_proj.{kind}"
            for name in ("q", "k", "v", "out")
            for kind in ("weight", "bias")
        },
    },
    terms=terms,
    regions=regions,
    wrong=(
        dropout_missing,
        dropout_on_both_paths,
        dropout_without_its_factor,
        norm_skipped,
        sublayer_past_the_norm,
        residual_path_alone,
        residual_path_added_twice,
        both_residual_forms,
        paths_averaged,
    ),
    hints=(
        "Draw the graph of forward's four lines. Which of them was the last to touch everything that reaches output?",
        "Whatever leads from x to output leads through the norm. So its backward comes first, and both paths begin "
        "with what it returns.",
        "A sum hands its gradient on to both of its terms as it is: one of them is x itself, the other is dropped. "
        "From dropped go on to x through dropout and sublayer, the last of forward first.",
        "x is used twice, by the sublayer and by the sum. What arrives by the two paths is added up, once, at the end.",
    ),
    derivation="""
    The norm came last, so it is undone first:

        grad_total = norm.backward(grad_output)

    total = x + dropped has the slope 1 for both terms, so each of them gets grad_total. From dropped it goes on:

        grad_update           = dropout.backward(grad_total)
        grad_through_sublayer = sublayer.backward(grad_update)

    x forks into the sublayer's path and the residual one. Their gradients add up:

        grad_x = grad_total + grad_through_sublayer

    Unlike in the pre-norm form, the residual path's gradient goes through a norm in every layer of a stack, which is
    why deep stacks of this form need a warm-up of the learning rate.
    """,
)
