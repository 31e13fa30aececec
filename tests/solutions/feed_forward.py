"""Other ways to write the backward of the feed-forward network."""

import copy
from functools import reduce

import numpy as np

from npformer.component import Array, Tree, add_trees
from npformer.exercises.tasks.feed_forward import PositionwiseFeedForward
from solutions.registry import solves

Gradients = tuple[Array, Tree]


def kept_values(cache: Tree) -> tuple[Array, Array, Array, Array]:
    """What linear1 and linear2 were given, where hidden > 0, and dropout's mask."""
    return cache["linear1"]["x"], cache["linear2"]["x"], cache["activation"]["positive"], cache["dropout"]["mask"]


def tree(grad_w1: Array, grad_b1: Array, grad_w2: Array, grad_b2: Array) -> Tree:
    """The tree of the gradients."""
    return {"linear1": {"weight": grad_w1, "bias": grad_b1}, "linear2": {"weight": grad_w2, "bias": grad_b2}}


@solves("feed_forward")
def matrices_written_out(self: PositionwiseFeedForward, grad_output: Array, cache: Tree) -> Gradients:
    x, dropped, positive, mask = kept_values(cache)
    rows, x_rows = grad_output.reshape(-1, grad_output.shape[-1]), x.reshape(-1, x.shape[-1])
    grad_dropped = rows @ self.linear2.weight
    grad_activated = grad_dropped * mask.reshape(grad_dropped.shape) / (1 - self.dropout.p)
    grad_hidden = grad_activated * positive.reshape(grad_dropped.shape)
    grad_x = grad_hidden @ self.linear1.weight
    grad_w2 = rows.T @ dropped.reshape(grad_dropped.shape)
    return grad_x.reshape(x.shape), tree(grad_hidden.T @ x_rows, grad_hidden.sum(0), grad_w2, rows.sum(0))


@solves("feed_forward")
def einsum_throughout(self: PositionwiseFeedForward, grad_output: Array, cache: Tree) -> Gradients:
    x, dropped, positive, mask = kept_values(cache)
    factor = mask / (1 - self.dropout.p)
    grad_hidden = np.einsum("bto,of,btf,btf->btf", grad_output, self.linear2.weight, factor, positive.astype(float))
    grads = tree(
        np.einsum("btf,bti->fi", grad_hidden, x),
        np.einsum("btf->f", grad_hidden),
        np.einsum("bto,btf->of", grad_output, dropped),
        np.einsum("bto->o", grad_output),
    )
    return np.einsum("btf,fi->bti", grad_hidden, self.linear1.weight), grads


@solves("feed_forward")
def activation_before_dropout(self: PositionwiseFeedForward, grad_output: Array, cache: Tree) -> Gradients:
    """Both multiply entry by entry, so that their order does not matter."""
    grads: Tree = {}
    grad, grads["linear2"] = self.linear2.backward(grad_output, cache["linear2"])
    grad, grads["activation"] = self.activation.backward(grad, cache["activation"])
    grad, grads["dropout"] = self.dropout.backward(grad, cache["dropout"])
    grad, grads["linear1"] = self.linear1.backward(grad, cache["linear1"])
    return grad, grads


@solves("feed_forward")
def one_slope_for_both(self: PositionwiseFeedForward, grad_output: Array, cache: Tree) -> Gradients:
    _, _, positive, mask = kept_values(cache)
    slope = (positive & mask) / (1 - self.dropout.p)
    grad_dropped, linear2_grads = self.linear2.backward(grad_output, cache["linear2"])
    grad_x, linear1_grads = self.linear1.backward(slope * grad_dropped, cache["linear1"])
    return grad_x, {"linear1": linear1_grads, "activation": {}, "dropout": {}, "linear2": linear2_grads}


@solves("feed_forward")
def slope_from_what_linear2_was_given(self: PositionwiseFeedForward, grad_output: Array, cache: Tree) -> Gradients:
    """What linear2 got is above 0 just where hidden was and dropout kept it."""
    grad_dropped, linear2_grads = self.linear2.backward(grad_output, cache["linear2"])
    grad_hidden = np.where(cache["linear2"]["x"] > 0, grad_dropped / (1 - self.dropout.p), 0)
    grad_x, linear1_grads = self.linear1.backward(grad_hidden, cache["linear1"])
    return grad_x, {"linear1": linear1_grads, "linear2": linear2_grads}


@solves("feed_forward")
def a_loop_over_names(self: PositionwiseFeedForward, grad_output: Array, cache: Tree) -> Gradients:
    grads: Tree = {}
    grad = grad_output
    for name in ("linear2", "dropout", "activation", "linear1"):
        grad, grads[name] = getattr(self, name).backward(grad, cache[name])
    return grad, grads


@solves("feed_forward")
def folded_over_the_steps(self: PositionwiseFeedForward, grad_output: Array, cache: Tree) -> Gradients:
    def step(so_far: Gradients, name: str) -> Gradients:
        grad, grads = getattr(self, name).backward(so_far[0], cache[name])
        return grad, so_far[1] | {name: grads}

    start: Gradients = (grad_output, {})
    return reduce(step, reversed(("linear1", "activation", "dropout", "linear2")), start)


@solves("feed_forward")
def position_by_position(self: PositionwiseFeedForward, grad_output: Array, cache: Tree) -> Gradients:
    x, dropped, positive, mask = kept_values(cache)
    w1, w2 = self.linear1.weight, self.linear2.weight
    grad_x = np.zeros(x.shape)
    grad_w1, grad_b1 = np.zeros(w1.shape), np.zeros(len(w1))
    grad_w2, grad_b2 = np.zeros(w2.shape), np.zeros(len(w2))
    for b in range(x.shape[0]):
        for t in range(x.shape[1]):
            g = grad_output[b, t]
            grad_w2 += np.outer(g, dropped[b, t])
            grad_b2 += g
            grad_hidden = (w2.T @ g) * mask[b, t] * positive[b, t] / (1 - self.dropout.p)
            grad_w1 += np.outer(grad_hidden, x[b, t])
            grad_b1 += grad_hidden
            grad_x[b, t] = w1.T @ grad_hidden
    return grad_x, tree(grad_w1, grad_b1, grad_w2, grad_b2)


@solves("feed_forward")
def hidden_unit_by_hidden_unit(self: PositionwiseFeedForward, grad_output: Array, cache: Tree) -> Gradients:
    x, dropped, positive, mask = kept_values(cache)
    grad_x = np.zeros_like(x)
    grad_w1, grad_b1, grad_w2 = [], [], []
    for unit in range(len(self.linear1.weight)):
        grad_unit = (grad_output * self.linear2.weight[:, unit]).sum(-1)
        grad_unit = grad_unit * mask[..., unit] / (1 - self.dropout.p) * positive[..., unit]
        grad_x += grad_unit[..., None] * self.linear1.weight[unit]
        grad_w1.append((grad_unit[..., None] * x).sum((0, 1)))
        grad_b1.append(grad_unit.sum())
        grad_w2.append((dropped[..., unit, None] * grad_output).sum((0, 1)))
    grads = tree(np.stack(grad_w1), np.array(grad_b1), np.stack(grad_w2, axis=1), grad_output.sum((0, 1)))
    return grad_x, grads


@solves("feed_forward")
def tensordot_and_own_arrays_in_place(self: PositionwiseFeedForward, grad_output: Array, cache: Tree) -> Gradients:
    x, dropped, positive, mask = kept_values(cache)
    grad = np.tensordot(grad_output, self.linear2.weight, axes=1)
    grad *= mask
    grad /= 1 - self.dropout.p
    grad *= positive
    rows = ([0, 1], [0, 1])
    grad_w1, grad_w2 = np.tensordot(grad, x, axes=rows), np.tensordot(grad_output, dropped, axes=rows)
    grads = tree(grad_w1, grad.sum(axis=(0, 1)), grad_w2, grad_output.sum(axis=(0, 1)))
    return np.tensordot(grad, self.linear1.weight, axes=1), grads


@solves("feed_forward")
def entries_set_to_zero(self: PositionwiseFeedForward, grad_output: Array, cache: Tree) -> Gradients:
    _, _, positive, mask = kept_values(cache)
    grad_dropped, linear2_grads = self.linear2.backward(grad_output, cache["linear2"])
    grad_hidden = grad_dropped.copy() / (1 - self.dropout.p)
    grad_hidden[~mask] = 0
    grad_hidden[np.logical_not(positive)] = 0
    grad_x, linear1_grads = self.linear1.backward(grad_hidden, cache["linear1"])
    return grad_x, {"linear2": linear2_grads, "linear1": linear1_grads}


@solves("feed_forward")
def biases_as_weights_of_ones(self: PositionwiseFeedForward, grad_output: Array, cache: Tree) -> Gradients:
    x, dropped, positive, mask = kept_values(cache)
    ones = np.ones((*x.shape[:-1], 1))
    grad_hidden = (grad_output @ self.linear2.weight) * (positive * mask * (1 / (1 - self.dropout.p)))
    both1 = np.einsum("bto,bti->oi", grad_hidden, np.concatenate([x, ones], axis=-1))
    both2 = np.einsum("bto,bti->oi", grad_output, np.concatenate([dropped, ones], axis=-1))
    return grad_hidden @ self.linear1.weight, tree(both1[:, :-1], both1[:, -1], both2[:, :-1], both2[:, -1])


@solves("feed_forward")
def item_by_item(self: PositionwiseFeedForward, grad_output: Array, cache: Tree) -> Gradients:
    grad_inputs, trees = [], []
    for b in range(len(grad_output)):
        own = copy.deepcopy(cache)
        for part, array in (("linear1", "x"), ("activation", "positive"), ("dropout", "mask"), ("linear2", "x")):
            own[part][array] = own[part][array][b]
        grad_x, grads = a_loop_over_names(self, grad_output[b], own)
        grad_inputs.append(grad_x)
        trees.append(grads)
    return np.stack(grad_inputs), reduce(add_trees, trees)
