"""Other ways to write the backward of an encoder with shared weights."""

import math
from functools import reduce
from typing import Any

import numpy as np

from npformer.component import Array, Tree, add_trees, flatten
from npformer.exercises.tasks.shared_encoder import SharedEncoder
from solutions.registry import solves

Gradients = tuple[Array, Tree]


def each_use(self: SharedEncoder, grad: Array, cache: Tree) -> tuple[Array, list[Tree]]:
    """The gradient of x, and the layer's gradients in each use, the last use first."""
    trees = []
    for use in range(self.N - 1, -1, -1):
        grad, grads = self.layer.backward(grad, cache["layer"][str(use)])
        trees.append(grads)
    return grad, trees


@solves("shared_encoder")
def added_at_the_end(self: SharedEncoder, grad_output: Array, cache: Tree) -> Gradients:
    grad, norm_grads = self.norm.backward(grad_output, cache["norm"])
    grad_x, trees = each_use(self, grad, cache)
    return grad_x, {"layer": reduce(add_trees, trees), "norm": norm_grads}


@solves("shared_encoder")
def first_use_first_in_the_sum(self: SharedEncoder, grad_output: Array, cache: Tree) -> Gradients:
    grad, norm_grads = self.norm.backward(grad_output, cache["norm"])
    grad_x, trees = each_use(self, grad, cache)
    return grad_x, {"norm": norm_grads, "layer": reduce(self.add, reversed(trees))}


@solves("shared_encoder")
def by_dotted_names(self: SharedEncoder, grad_output: Array, cache: Tree) -> Gradients:
    grad, norm_grads = self.norm.backward(grad_output, cache["norm"])
    grad_x, trees = each_use(self, grad, cache)
    flat = [flatten(tree, "layer.") for tree in trees]
    return grad_x, {name: sum(uses[name] for uses in flat) for name in flat[0]} | flatten(norm_grads, "norm.")


@solves("shared_encoder")
def zeros_to_begin_with(self: SharedEncoder, grad_output: Array, cache: Tree) -> Gradients:
    """Added in place into arrays of one's own."""
    total = {name: np.zeros_like(array) for name, array in flatten(self.layer.parameters()).items()}
    grad, norm_grads = self.norm.backward(grad_output, cache["norm"])
    for use in reversed(range(self.N)):
        grad, grads = self.layer.backward(grad, cache["layer"][str(use)])
        for name, array in flatten(grads).items():
            total[name] += array
    return grad, {f"layer.{name}": array for name, array in total.items()} | {"norm": norm_grads}


@solves("shared_encoder")
def recursive(self: SharedEncoder, grad_output: Array, cache: Tree) -> Gradients:
    def back(grad: Array, use: int) -> Gradients:
        grad, grads = self.layer.backward(grad, cache["layer"][str(use)])
        if use == 0:
            return grad, grads
        grad_x, earlier = back(grad, use - 1)
        return grad_x, add_trees(earlier, grads)

    grad_last, norm_grads = self.norm.backward(grad_output, cache["norm"])
    grad_x, layer_grads = back(grad_last, self.N - 1)
    return grad_x, {"layer": layer_grads, "norm": norm_grads}


@solves("shared_encoder")
def a_while_loop(self: SharedEncoder, grad_output: Array, cache: Tree) -> Gradients:
    grads: Tree = {}
    grad_x, grads["norm"] = self.norm.backward(grad_output, cache["norm"])
    use = self.N
    while use > 0:
        use -= 1
        grad_x, of_this_use = self.layer.backward(grad_x, cache["layer"][str(use)])
        grads["layer"] = self.add(grads["layer"], of_this_use) if "layer" in grads else of_this_use
    return grad_x, grads


@solves("shared_encoder")
def caches_from_a_stack(self: SharedEncoder, grad_output: Array, cache: Tree) -> Gradients:
    grad, norm_grads = self.norm.backward(grad_output, cache["norm"])
    stack, layer_grads = list(cache["layer"].values()), None
    while stack:
        grad, grads = self.layer.backward(grad, stack.pop())
        layer_grads = grads if layer_grads is None else add_trees(layer_grads, grads)
    return grad, {"layer": layer_grads, "norm": norm_grads}


@solves("shared_encoder")
def stacked_and_summed(self: SharedEncoder, grad_output: Array, cache: Tree) -> Gradients:
    grad, norm_grads = self.norm.backward(grad_output, cache["norm"])
    grad_x, trees = each_use(self, grad, cache)

    def total(leaves: list[Any]) -> Any:
        if isinstance(leaves[0], dict):
            return {name: total([leaf[name] for leaf in leaves]) for name in leaves[0]}
        return np.stack(leaves).sum(axis=0)

    return grad_x, {"layer": total(trees), "norm": norm_grads}


@solves("shared_encoder")
def weights_of_one_in_einsum(self: SharedEncoder, grad_output: Array, cache: Tree) -> Gradients:
    grad, norm_grads = self.norm.backward(grad_output, cache["norm"])
    grad_x, trees = each_use(self, grad, cache)
    flat = [flatten(tree) for tree in trees]
    total = {name: np.einsum("u,u...->...", np.ones(self.N), np.array([use[name] for use in flat])) for name in flat[0]}
    return grad_x, {"layer": total, "norm": norm_grads}


@solves("shared_encoder")
def exact_sums(self: SharedEncoder, grad_output: Array, cache: Tree) -> Gradients:
    grad, norm_grads = self.norm.backward(grad_output, cache["norm"])
    grad_x, trees = each_use(self, grad, cache)
    flat = [flatten(tree) for tree in trees]
    total = {}
    for name, array in flat[0].items():
        entries = zip(*(uses[name].ravel() for uses in flat), strict=True)
        total[name] = np.array([math.fsum(each) for each in entries]).reshape(array.shape)
    return grad_x, {"layer": total, "norm": norm_grads}


@solves("shared_encoder")
def layer_in_its_two_connections(self: SharedEncoder, grad_output: Array, cache: Tree) -> Gradients:
    grad, norm_grads = self.norm.backward(grad_output, cache["norm"])
    layer_grads: Tree = {}
    for use in reversed(range(self.N)):
        kept = cache["layer"][str(use)]
        for name, connection in (("feed_forward", self.layer.feed_forward), ("self_attn", self.layer.self_attn)):
            grad, grads = connection.backward(grad, kept[name])
            layer_grads[name] = add_trees(layer_grads[name], grads) if name in layer_grads else grads
    return grad, {"layer": layer_grads, "norm": norm_grads}


@solves("shared_encoder")
def norm_written_out(self: SharedEncoder, grad_output: Array, cache: Tree) -> Gradients:
    x_hat, rstd = cache["norm"]["x_hat"], cache["norm"]["rstd"]
    g = grad_output * self.norm.weight
    grad_last = rstd * (g - g.mean(-1, keepdims=True) - x_hat * (g * x_hat).mean(-1, keepdims=True))
    norm_grads = {"weight": np.einsum("btd,btd->d", grad_output, x_hat), "bias": grad_output.sum((0, 1))}
    grad_x, trees = each_use(self, grad_last, cache)
    return grad_x, {"layer": reduce(self.add, trees), "norm": norm_grads}


@solves("shared_encoder")
def halves_of_grad_output(self: SharedEncoder, grad_output: Array, cache: Tree) -> Gradients:
    """Backward is linear in grad_output: even and odd entries are taken back apart."""
    even = np.arange(grad_output.shape[-1]) % 2 == 0
    grad_even, grads_even = a_while_loop(self, grad_output * even, cache)
    grad_odd, grads_odd = a_while_loop(self, grad_output * ~even, cache)
    return grad_even + grad_odd, add_trees(grads_even, grads_odd)
