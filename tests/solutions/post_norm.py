"""Other ways to write the backward of the residual connection with the norm last."""

from functools import reduce
from typing import Any

import numpy as np

from npformer.component import Array, Tree, add_trees
from npformer.exercises.tasks.post_norm import PostNormSublayerConnection
from solutions.registry import solves

Gradients = tuple[Array, Tree]


@solves("post_norm")
def added_in_place(self: PostNormSublayerConnection, grad_output: Array, cache: Tree) -> Gradients:
    grad_total, norm_grads = self.norm.backward(grad_output, cache["norm"])
    grad_update, dropout_grads = self.dropout.backward(grad_total, cache["dropout"])
    through_sublayer, sublayer_grads = self.sublayer.backward(grad_update, cache["sublayer"])
    grad_total += through_sublayer  # nobody else holds it
    return grad_total, {"sublayer": sublayer_grads, "dropout": dropout_grads, "norm": norm_grads}


@solves("post_norm")
def a_loop_over_names(self: PostNormSublayerConnection, grad_output: Array, cache: Tree) -> Gradients:
    grads: Tree = {}
    after: list[Array] = []
    grad = grad_output
    for name in reversed(["sublayer", "dropout", "norm"]):
        grad, grads[name] = getattr(self, name).backward(grad, cache[name])
        after.append(grad)
    return after[0] + after[-1], grads


@solves("post_norm")
def dropout_written_out(self: PostNormSublayerConnection, grad_output: Array, cache: Tree) -> Gradients:
    grad_total, norm_grads = self.norm.backward(grad_output, cache["norm"])
    kept = cache["dropout"]["mask"].astype(float)
    through_sublayer, sublayer_grads = self.sublayer.backward(
        grad_total * kept / (1 - self.dropout.p), cache["sublayer"]
    )
    return through_sublayer + grad_total, {"sublayer": sublayer_grads, "norm": norm_grads}


@solves("post_norm")
def norm_written_out(self: PostNormSublayerConnection, grad_output: Array, cache: Tree) -> Gradients:
    x_hat, rstd = cache["norm"]["x_hat"], cache["norm"]["rstd"]
    g = self.norm.weight * grad_output
    g = g - g.mean(axis=-1, keepdims=True)
    grad_total = rstd * (g - x_hat * np.mean(g * x_hat, axis=-1, keepdims=True))  # the mean of x_hat is 0
    norm_grads = {"weight": np.sum(grad_output * x_hat, axis=(0, 1)), "bias": np.sum(grad_output, axis=(0, 1))}
    grad_update, _ = self.dropout.backward(grad_total, cache["dropout"])
    through_sublayer, sublayer_grads = self.sublayer.backward(grad_update, cache["sublayer"])
    return grad_total + through_sublayer, {"norm": norm_grads, "dropout": {}, "sublayer": sublayer_grads}


@solves("post_norm")
def jacobian_of_the_norm(self: PostNormSublayerConnection, grad_output: Array, cache: Tree) -> Gradients:
    x_hat, rstd = cache["norm"]["x_hat"], cache["norm"]["rstd"]
    d = x_hat.shape[-1]
    jacobian = rstd[..., None] * (np.eye(d) - 1 / d - np.einsum("bti,btj->btij", x_hat, x_hat) / d)
    grad_total = np.einsum("bti,i,btij->btj", grad_output, self.norm.weight, jacobian)
    rows = x_hat.reshape(-1, d), grad_output.reshape(-1, d)
    norm_grads = {"weight": np.diagonal(rows[0].T @ rows[1]).copy(), "bias": np.ones(len(rows[1])) @ rows[1]}
    grad_update, _ = self.dropout.backward(grad_total, cache["dropout"])
    through_sublayer, sublayer_grads = self.sublayer.backward(grad_update, cache["sublayer"])
    return through_sublayer + grad_total, {"norm": norm_grads, "sublayer": sublayer_grads}


@solves("post_norm")
def norm_node_by_node(self: PostNormSublayerConnection, grad_output: Array, cache: Tree) -> Gradients:
    x_hat, rstd, n = cache["norm"]["x_hat"], cache["norm"]["rstd"], len(self.norm.weight)
    centred = x_hat / rstd
    grad_x_hat = grad_output * self.norm.weight
    grad_var = (grad_x_hat * centred).sum(-1, keepdims=True) * -(rstd**3) / 2
    grad_centred = grad_x_hat * rstd + grad_var * centred * 2 / n
    grad_total = grad_centred - grad_centred.sum(-1, keepdims=True) / n
    norm_grads = {"weight": (grad_output * x_hat).sum((0, 1)), "bias": grad_output.sum((0, 1))}
    grad_dropped = grad_total
    grad_update = grad_dropped * cache["dropout"]["mask"] * (1 / (1 - self.dropout.p))
    grad_x = grad_total.copy()
    through_sublayer, sublayer_grads = self.sublayer.backward(grad_update, cache["sublayer"])
    grad_x += through_sublayer
    return grad_x, {"norm": norm_grads, "sublayer": sublayer_grads}


@solves("post_norm")
def paths_in_a_list(self: PostNormSublayerConnection, grad_output: Array, cache: Tree) -> Gradients:
    grads: Tree = {"dropout": {}}
    residual, grads["norm"] = self.norm.backward(grad_output, cache["norm"])
    update = self.dropout.backward(residual, cache["dropout"])[0]
    branch, grads["sublayer"] = self.sublayer.backward(update, cache["sublayer"])
    return np.sum([residual, branch], axis=0), grads


@solves("post_norm")
def a_nested_function_for_the_branch(self: PostNormSublayerConnection, grad_output: Array, cache: Tree) -> Gradients:
    def branch(grad: Array) -> Gradients:
        grad_update, _ = self.dropout.backward(grad, cache["dropout"])
        grad_x, grads = self.sublayer.backward(grad_update, cache["sublayer"])
        return grad_x, grads

    grad_total, norm_grads = self.norm.backward(grad_output, cache["norm"])
    through_sublayer, sublayer_grads = branch(grad_total)
    return np.add(grad_total, through_sublayer), {"norm": norm_grads, "sublayer": sublayer_grads}


@solves("post_norm")
def item_by_item(self: PostNormSublayerConnection, grad_output: Array, cache: Tree) -> Gradients:
    """Backward is linear in grad_output: the share of each item of the batch is computed alone."""
    shares = []
    for index in range(len(grad_output)):
        share = np.zeros_like(grad_output)
        share[index] = grad_output[index]
        shares.append(paths_in_a_list(self, share, cache))
    return sum(grad for grad, _ in shares), reduce(add_trees, (grads for _, grads in shares))


@solves("post_norm")
def norm_row_by_row(self: PostNormSublayerConnection, grad_output: Array, cache: Tree) -> Gradients:
    grad_total = np.zeros(grad_output.shape)
    grad_weight, grad_bias = np.zeros(len(self.norm.weight)), np.zeros(len(self.norm.bias))
    for b in range(grad_output.shape[0]):
        for t in range(grad_output.shape[1]):
            g, x_hat, rstd = grad_output[b, t], cache["norm"]["x_hat"][b, t], cache["norm"]["rstd"][b, t]
            grad_weight += g * x_hat
            grad_bias += g
            scaled = g * self.norm.weight
            grad_total[b, t] = rstd * (scaled - scaled.mean() - x_hat * (scaled @ x_hat) / len(g))
    grad_update, _ = self.dropout.backward(grad_total, cache["dropout"])
    through_sublayer, sublayer_grads = self.sublayer.backward(grad_update, cache["sublayer"])
    grads = {"norm": {"weight": grad_weight, "bias": grad_bias}, "sublayer": sublayer_grads}
    return grad_total + through_sublayer, grads


@solves("post_norm")
def dropped_entries_set_to_zero(self: PostNormSublayerConnection, grad_output: Array, cache: Tree) -> Gradients:
    grad_total, norm_grads = self.norm.backward(grad_output, cache["norm"])
    grad_update = grad_total / (1 - self.dropout.p)
    grad_update[~cache["dropout"]["mask"]] = 0.0
    through_sublayer, sublayer_grads = self.sublayer.backward(grad_update, cache["sublayer"])
    return through_sublayer + grad_total, {"norm": norm_grads, "sublayer": sublayer_grads}


@solves("post_norm")
def dotted_names(self: PostNormSublayerConnection, grad_output: Array, cache: Tree) -> Gradients:
    """The tree may be flat as well."""
    grad_total, of_norm = self.norm.backward(grad_output, cache["norm"])
    grad_update, _ = self.dropout.backward(grad_total, cache["dropout"])
    through_sublayer, of_sublayer = self.sublayer.backward(grad_update, cache["sublayer"])
    flat: dict[str, Any] = {"norm.weight": of_norm["weight"], "norm.bias": of_norm["bias"]}
    for name, part in of_sublayer.items():
        flat |= {f"sublayer.{name}.{kind}": grad for kind, grad in part.items()}
    return grad_total + through_sublayer, flat
