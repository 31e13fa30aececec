"""Other ways to write the backward of the encoder layer."""

from functools import reduce

import numpy as np

from npformer import PreNormSublayerConnection
from npformer.component import Array, Tree, add_trees, flatten
from npformer.exercises.tasks.encoder_layer import EncoderLayer
from solutions.registry import solves

Gradients = tuple[Array, Tree]


def branch(connection: PreNormSublayerConnection, grad: Array, cache: Tree) -> Gradients:
    """Back through dropout, sublayer and norm, without the residual path."""
    grads: Tree = {}
    for name in ("dropout", "sublayer", "norm"):
        grad, grads[name] = getattr(connection, name).backward(grad, cache[name])
    return grad, grads


@solves("encoder_layer")
def by_the_connections(self: EncoderLayer, grad_output: Array, cache: Tree) -> Gradients:
    grad_attended, network_grads = self.feed_forward.backward(grad_output, cache["feed_forward"])
    grad_x, attention_grads = self.self_attn.backward(grad_attended, cache["self_attn"])
    return grad_x, {"self_attn": attention_grads, "feed_forward": network_grads}


@solves("encoder_layer")
def a_loop_over_connections(self: EncoderLayer, grad_output: Array, cache: Tree) -> Gradients:
    grads: Tree = {}
    grad = grad_output
    for name, connection in (("feed_forward", self.feed_forward), ("self_attn", self.self_attn)):
        through_parts, grads[name] = branch(connection, grad, cache[name])
        grad = grad + through_parts
    return grad, grads


@solves("encoder_layer")
def four_ways_from_x_to_output(self: EncoderLayer, grad_output: Array, cache: Tree) -> Gradients:
    of_attention, of_network = cache["self_attn"], cache["feed_forward"]
    network, network_grads = branch(self.feed_forward, grad_output, of_network)
    attention, grads_by_residual = branch(self.self_attn, grad_output, of_attention)
    both, grads_by_network = branch(self.self_attn, network, of_attention)
    grads = {"self_attn": add_trees(grads_by_residual, grads_by_network), "feed_forward": network_grads}
    return grad_output + network + attention + both, grads


@solves("encoder_layer")
def updates_added_first(self: EncoderLayer, grad_output: Array, cache: Tree) -> Gradients:
    grads: Tree = {}
    first, grads["feed_forward"] = branch(self.feed_forward, grad_output, cache["feed_forward"])
    second, grads["self_attn"] = branch(self.self_attn, first + grad_output, cache["self_attn"])
    return grad_output + (second + first), grads


@solves("encoder_layer")
def added_in_place(self: EncoderLayer, grad_output: Array, cache: Tree) -> Gradients:
    grad_x = grad_output.copy()
    through_network, network_grads = branch(self.feed_forward, grad_output, cache["feed_forward"])
    grad_x += through_network
    through_attention, attention_grads = branch(self.self_attn, grad_x, cache["self_attn"])
    grad_x = grad_x + through_attention
    return grad_x, {"feed_forward": network_grads, "self_attn": attention_grads}


@solves("encoder_layer")
def dropouts_written_out(self: EncoderLayer, grad_output: Array, cache: Tree) -> Gradients:
    def connection(grad: Array, part: PreNormSublayerConnection, kept: Tree) -> Gradients:
        grad_update = grad * kept["dropout"]["mask"] / (1 - part.dropout.p)
        grad_normed, sublayer_grads = part.sublayer.backward(grad_update, kept["sublayer"])
        through_norm, norm_grads = part.norm.backward(grad_normed, kept["norm"])
        return grad + through_norm, {"sublayer": sublayer_grads, "norm": norm_grads}

    grad_attended, network_grads = connection(grad_output, self.feed_forward, cache["feed_forward"])
    grad_x, attention_grads = connection(grad_attended, self.self_attn, cache["self_attn"])
    return grad_x, {"feed_forward": network_grads, "self_attn": attention_grads}


@solves("encoder_layer")
def norms_written_out(self: EncoderLayer, grad_output: Array, cache: Tree) -> Gradients:
    grads: Tree = {}
    grad = grad_output
    for name in ("feed_forward", "self_attn"):
        part, kept = getattr(self, name), cache[name]
        grad_update = np.where(kept["dropout"]["mask"], grad / (1 - part.dropout.p), 0)
        grad_normed, sublayer_grads = part.sublayer.backward(grad_update, kept["sublayer"])
        x_hat, rstd = kept["norm"]["x_hat"], kept["norm"]["rstd"]
        g = grad_normed * part.norm.weight
        mean_g, mean_g_x_hat = g.mean(-1, keepdims=True), (g * x_hat).mean(-1, keepdims=True)
        norm_grads = {"weight": (grad_normed * x_hat).sum((0, 1)), "bias": grad_normed.sum((0, 1))}
        grads[name] = {"sublayer": sublayer_grads, "norm": norm_grads}
        grad = rstd * (g - mean_g - x_hat * mean_g_x_hat) + grad
    return grad, grads


@solves("encoder_layer")
def folded_over_the_parts(self: EncoderLayer, grad_output: Array, cache: Tree) -> Gradients:
    def step(so_far: Gradients, name: str) -> Gradients:
        through_parts, grads = branch(getattr(self, name), so_far[0], cache[name])
        return so_far[0] + through_parts, {name: grads} | so_far[1]

    start: Gradients = (grad_output, {})
    return reduce(step, ["feed_forward", "self_attn"], start)


@solves("encoder_layer")
def item_by_item(self: EncoderLayer, grad_output: Array, cache: Tree) -> Gradients:
    """Backward is linear in grad_output: the share of each item of the batch is computed alone."""
    whole = np.zeros_like(grad_output)
    trees = []
    for index in range(len(grad_output)):
        share = np.zeros_like(grad_output)
        share[index] = grad_output[index]
        grad_x, grads = updates_added_first(self, share, cache)
        whole += grad_x
        trees.append(grads)
    return whole, reduce(add_trees, trees)


@solves("encoder_layer")
def dotted_names(self: EncoderLayer, grad_output: Array, cache: Tree) -> Gradients:
    """The tree may be flat as well."""
    through_network, network_grads = branch(self.feed_forward, grad_output, cache["feed_forward"])
    grad_attended = np.add(through_network, grad_output)
    through_attention, attention_grads = branch(self.self_attn, grad_attended, cache["self_attn"])
    flat = flatten(network_grads, "feed_forward.") | flatten(attention_grads, "self_attn.")
    return np.add(through_attention, grad_attended), flat


@solves("encoder_layer")
def feed_forward_network_written_out(self: EncoderLayer, grad_output: Array, cache: Tree) -> Gradients:
    part, kept = self.feed_forward, cache["feed_forward"]
    network, its = part.sublayer, kept["sublayer"]
    inner: Tree = {}
    grad, _ = part.dropout.backward(grad_output, kept["dropout"])
    for name in ("linear2", "dropout", "activation", "linear1"):
        grad, inner[name] = getattr(network, name).backward(grad, its[name])
    grad, norm_grads = part.norm.backward(grad, kept["norm"])
    grad_attended = np.sum(np.stack([grad, grad_output]), axis=0)
    through_attention, attention_grads = branch(self.self_attn, grad_attended, cache["self_attn"])
    grads = {"self_attn": attention_grads, "feed_forward": {"sublayer": inner, "norm": norm_grads}}
    return np.sum(np.stack([through_attention, grad_attended]), axis=0), grads


@solves("encoder_layer")
def residual_paths_as_matrices(self: EncoderLayer, grad_output: Array, cache: Tree) -> Gradients:
    """The Jacobian of a residual path is the identity."""
    identity = np.eye(grad_output.shape[-1])
    through_network, network_grads = branch(self.feed_forward, grad_output, cache["feed_forward"])
    grad_attended = np.einsum("bti,ij->btj", grad_output, identity) + through_network
    through_attention, attention_grads = branch(self.self_attn, grad_attended, cache["self_attn"])
    grads = {"self_attn": attention_grads, "feed_forward": network_grads}
    return grad_attended @ identity + through_attention, grads
