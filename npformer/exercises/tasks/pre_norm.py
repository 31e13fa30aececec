"""A residual connection with the norm before the sublayer (Xiong et al. 2020, figure 1b): write its backward.

Forward is

    normed  = norm(x)
    update  = sublayer(normed)
    dropped = dropout(update)
    output  = x + dropped

Backward is given grad_output, the gradient of output, and the cache that forward returned. It returns grad_x and the
tree of the gradients of the parameters, which has the names of the children; dropout has no parameters:

    {"norm": ..., "sublayer": ..., "dropout": {}}

Each child has a right backward, which you call with the gradient of its output and its own part of the cache, such as
cache["norm"]. It returns the gradient of its input and the tree of its parameters' gradients, ready to be put under its
name. Here norm is a layer norm and sublayer is self-attention, but that need not concern you.

Shapes: x, normed, update, dropped, output and their gradients (batch, T, d_model).
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from npformer import Dropout, LayerNorm
from npformer import PreNormSublayerConnection as RightConnection
from npformer.component import Array, Component, Tree
from npformer.exercises.task import BackwardTask, Term
from npformer.gradcheck import Case
from npformer.mistakes.catalogue import Gradients


class PreNormSublayerConnection(Component):
    """Has the attributes norm, sublayer and dropout."""

    norm: LayerNorm
    sublayer: Component
    dropout: Dropout

    def forward(self, x: Array, **options: Any) -> tuple[Array, Tree]:
        cache: Tree = {}
        normed, cache["norm"] = self.norm.forward(x)
        update, cache["sublayer"] = self.sublayer.forward(normed, **options)
        dropped, cache["dropout"] = self.dropout.forward(update, rng=options.get("rng"))
        return x + dropped, cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        """Return grad_x, and the tree of the children's gradients."""
        grads: Tree = {}
        grad_update, grads["dropout"] = self.dropout.backward(grad_output, cache["dropout"])
        grad_normed, grads["sublayer"] = self.sublayer.backward(grad_update, cache["sublayer"])
        grad_through_norm, grads["norm"] = self.norm.backward(grad_normed, cache["norm"])
        return grad_output + grad_through_norm, grads  # x forks into the sum and the norm


def terms(case: Case, cache: Tree, grad_output: Array) -> dict[str, tuple[Term, ...]]:
    connection = cast(RightConnection, case.component)
    grad_update, _ = connection.dropout.backward(grad_output, cache["dropout"])
    grad_normed, _ = connection.sublayer.backward(grad_update, cache["sublayer"])
    through_all, norm_grads = connection.norm.backward(grad_normed, cache["norm"])
    past_sublayer, residual_norm_grads = connection.norm.backward(grad_output, cache["norm"])
    undropped, _ = connection.sublayer.backward(grad_output, cache["sublayer"])
    past_dropout, undropped_norm_grads = connection.norm.backward(undropped, cache["norm"])
    of_norm = {
        f"norm.{kind}": (
            Term("grad_normed", f"norm.{kind} → normed → update → dropped → output", 1, norm_grads[kind]),
            Term("grad_output", f"norm.{kind} → normed → output, past the sublayer", 0, residual_norm_grads[kind]),
            Term("undropped", f"norm.{kind} → normed → update → output, past dropout", 0, undropped_norm_grads[kind]),
        )
        for kind in ("weight", "bias")
    }
    return of_norm | {
        "x": (
            Term("grad_output", "x → output, the residual path", 1, grad_output),
            Term("grad_through_norm", "x → normed → update → dropped → output", 1, through_all),
            Term("grad_normed", "x → update → dropped → output, past the norm", 0, grad_normed),
            Term("grad_output through norm", "x → normed → output, past the sublayer", 0, past_sublayer),
            Term("grad_through_norm, undropped", "x → normed → update → output, past dropout", 0, past_dropout),
        )
    }


def regions(case: Case, cache: Tree) -> dict[str, dict[str, Array]]:
    x = case.inputs[0]
    flat = x.std(-1, keepdims=True) < 0.1 * x.std()
    return {
        "x": {
            "entries whose update was dropped": ~cache["dropout"]["mask"],
            "rows of little variance": np.broadcast_to(flat, x.shape),
        }
    }


def dropout_missing(connection: RightConnection, grad_output: Array, cache: Tree) -> Gradients:
    """The sublayer gets grad_output, without the way back through the dropout."""
    return connection.backward(grad_output, cache | {"dropout": {}})


def dropout_on_both_paths(connection: RightConnection, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient goes through dropout before it forks, so that the residual path is dropped too."""
    grad_x, grads = connection.backward(grad_output, cache)
    grad_update, _ = connection.dropout.backward(grad_output, cache["dropout"])
    return grad_x - grad_output + grad_update, grads


def dropout_without_its_factor(connection: RightConnection, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient is multiplied by dropout's mask, but not by 1 / (1 - p)."""
    return _from_update(connection, grad_output * cache["dropout"]["mask"], grad_output, cache)


def norm_skipped(connection: RightConnection, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient of normed is returned for that of x, without going back through the norm."""
    grad_update, _ = connection.dropout.backward(grad_output, cache["dropout"])
    grad_normed, _ = connection.sublayer.backward(grad_update, cache["sublayer"])
    return grad_output + grad_normed, connection.backward(grad_output, cache)[1]


def sublayer_skipped(connection: RightConnection, grad_output: Array, cache: Tree) -> Gradients:
    """The sublayer's gradients are right, but the norm gets the gradient of update, which the sublayer put out."""
    _, grads = connection.backward(grad_output, cache)
    grad_update, _ = connection.dropout.backward(grad_output, cache["dropout"])
    grad_x, norm_grads = connection.norm.backward(grad_update, cache["norm"])
    return grad_output + grad_x, grads | {"norm": norm_grads}


def order_of_the_post_norm_form(connection: RightConnection, grad_output: Array, cache: Tree) -> Gradients:
    """The norm is undone first, as in the post-norm form, and what comes out of it forks."""
    grads: Tree = {}
    grad_sum, grads["norm"] = connection.norm.backward(grad_output, cache["norm"])
    grad_update, grads["dropout"] = connection.dropout.backward(grad_sum, cache["dropout"])
    grad_x, grads["sublayer"] = connection.sublayer.backward(grad_update, cache["sublayer"])
    return grad_sum + grad_x, grads


def residual_path_subtracted(connection: RightConnection, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient of the residual path is subtracted from that of the sublayer's, but they add up."""
    grad_x, grads = connection.backward(grad_output, cache)
    return grad_x - 2 * grad_output, grads


def paths_averaged(connection: RightConnection, grad_output: Array, cache: Tree) -> Gradients:
    """The gradients of the two paths are averaged, but at a fork they add up."""
    grad_x, grads = connection.backward(grad_output, cache)
    return grad_x / 2, grads


def _from_update(connection: RightConnection, grad_update: Array, grad_output: Array, cache: Tree) -> Gradients:
    grad_normed, sublayer_grads = connection.sublayer.backward(grad_update, cache["sublayer"])
    grad_x, norm_grads = connection.norm.backward(grad_normed, cache["norm"])
    return grad_output + grad_x, {"norm": norm_grads, "sublayer": sublayer_grads, "dropout": {}}


TASK = BackwardTask(
    name="pre_norm",
    title="The residual connection with the norm first, backward",
    statement=__doc__,
    solution=PreNormSublayerConnection,
    component=RightConnection,
    make="PreNormSublayerConnection",
    points=4,
    paths={
        "x": "output → x directly, and output → dropped → update → normed → x",
        "norm.weight": "output → dropped → update → normed → norm.weight",
        "norm.bias": "output → dropped → update → normed → norm.bias",
        **{
            f"sublayer.{name}_proj.{kind}": f"output → dropped → update → sublayer.{name}_proj.{kind}"
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
        sublayer_skipped,
        order_of_the_post_norm_form,
        residual_path_subtracted,
        paths_averaged,
    ),
    hints=(
        "Draw the graph of forward's four lines. Where does an arrow fork, and where do two arrows meet?",
        "A sum hands its gradient on to both of its terms as it is. So begin with two gradients, that of dropped and "
        "one that goes straight to x.",
        "On the sublayer's path, undo dropout, sublayer and norm: the last of forward first. Each one's backward gets "
        "what the one before returned.",
        "x is used twice, by the norm and by the sum. What arrives by the two paths is added up, once, at the end.",
    ),
    derivation="""
    output = x + dropped has the slope 1 for both terms, so each of them gets grad_output. The sublayer's path then is a
    chain, undone from its end:

        grad_update       = dropout.backward(grad_output)
        grad_normed       = sublayer.backward(grad_update)
        grad_through_norm = norm.backward(grad_normed)

    x forks into this path and the residual one. Their gradients add up:

        grad_x = grad_output + grad_through_norm

    The 1 on the residual path is why deep stacks of this form train well: whatever the sublayers do, the gradient of
    the output reaches every layer unchanged.
    """,
)
