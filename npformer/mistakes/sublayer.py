"""Mistakes in the backwards of the two residual connections."""

from __future__ import annotations

from npformer.component import Array, Tree
from npformer.mistakes.catalogue import Gradients, mistake_in
from npformer.sublayer import PostNormSublayerConnection as Post
from npformer.sublayer import PreNormSublayerConnection as Pre


@mistake_in(Pre, case="PreNormSublayerConnection")
def residual_path_missing(connection: Pre, grad_output: Array, cache: Tree) -> Gradients:
    """x forks into two paths, but only the gradient that comes through the sublayer is returned."""
    grad_x, grads = connection.backward(grad_output, cache)
    return grad_x - grad_output, grads


@mistake_in(Pre, case="PreNormSublayerConnection")
def residual_path_alone(connection: Pre, grad_output: Array, cache: Tree) -> Gradients:
    """x forks into two paths, but only the gradient that passes the sublayer by is returned."""
    return 1.0 * grad_output, connection.backward(grad_output, cache)[1]


@mistake_in(Pre, case="PreNormSublayerConnection")
def residual_path_added_twice(connection: Pre, grad_output: Array, cache: Tree) -> Gradients:
    """The residual path's gradient is added in the sublayer and again in the connection."""
    grad_x, grads = connection.backward(grad_output, cache)
    return grad_output + grad_x, grads


@mistake_in(Pre, case="PreNormSublayerConnection")
def residual_path_through_the_norm(connection: Pre, grad_output: Array, cache: Tree) -> Gradients:
    """The fork is taken to be behind the norm, as if y were norm(x) + sublayer(norm(x))."""
    grads: Tree = {}
    grad_update, grads["dropout"] = connection.dropout.backward(grad_output, cache["dropout"])
    grad_normed, grads["sublayer"] = connection.sublayer.backward(grad_update, cache["sublayer"])
    grad_x, grads["norm"] = connection.norm.backward(grad_output + grad_normed, cache["norm"])
    return grad_x, grads


@mistake_in(Post, case="PostNormSublayerConnection")
def residual_path_missing_after_the_norm(connection: Post, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient of the sum is taken back through the sublayer, but not added to what comes out there."""
    grad_x, grads = connection.backward(grad_output, cache)
    grad_sum, _ = connection.norm.backward(grad_output, cache["norm"])
    return grad_x - grad_sum, grads


@mistake_in(Post, case="PostNormSublayerConnection")
def residual_path_past_the_norm(connection: Post, grad_output: Array, cache: Tree) -> Gradients:
    """The residual path's gradient is grad_y, as in the pre-norm form, though the norm comes after the sum here."""
    grad_x, grads = connection.backward(grad_output, cache)
    grad_sum, _ = connection.norm.backward(grad_output, cache["norm"])
    return grad_output + grad_x - grad_sum, grads


@mistake_in(Post, case="PostNormSublayerConnection")
def order_of_the_pre_norm_form(connection: Post, grad_output: Array, cache: Tree) -> Gradients:
    """Dropout, sublayer and norm are undone in the order that is right for the pre-norm form."""
    pre_norm = Pre(connection.sublayer, connection.norm, connection.dropout.p)
    return pre_norm.backward(grad_output, cache)
