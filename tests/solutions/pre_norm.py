"""Other ways to write the backward of the residual connection with the norm first."""

from functools import reduce
from typing import Any

import numpy as np

from npformer.component import Array, Tree, add_trees
from npformer.exercises.tasks.pre_norm import PreNormSublayerConnection
from solutions.registry import solves

Gradients = tuple[Array, Tree]


@solves("pre_norm")
def residual_first(self: PreNormSublayerConnection, grad_output: Array, cache: Tree) -> Gradients:
    grad_x = grad_output.copy()
    grad_update, dropout_grads = self.dropout.backward(grad_output, cache["dropout"])
    grad_normed, sublayer_grads = self.sublayer.backward(grad_update, cache["sublayer"])
    through_norm, norm_grads = self.norm.backward(grad_normed, cache["norm"])
    grad_x += through_norm
    return grad_x, {"norm": norm_grads, "sublayer": sublayer_grads, "dropout": dropout_grads}


@solves("pre_norm")
def a_loop_over_names(self: PreNormSublayerConnection, grad_output: Array, cache: Tree) -> Gradients:
    grads: Tree = {}
    grad = grad_output
    for name in ["dropout", "sublayer", "norm"]:
        grad, grads[name] = getattr(self, name).backward(grad, cache[name])
    return grad + grad_output, grads


@solves("pre_norm")
def folded_over_the_parts(self: PreNormSublayerConnection, grad_output: Array, cache: Tree) -> Gradients:
    def step(so_far: Gradients, name: str) -> Gradients:
        grad, grads = getattr(self, name).backward(so_far[0], cache[name])
        return grad, {name: grads} | so_far[1]

    start: Gradients = (grad_output, {})
    branch, grads = reduce(step, ("dropout", "sublayer", "norm"), start)
    return np.add(grad_output, branch), grads


@solves("pre_norm")
def dropout_written_out(self: PreNormSublayerConnection, grad_output: Array, cache: Tree) -> Gradients:
    grad_update = np.where(cache["dropout"]["mask"], grad_output / (1 - self.dropout.p), 0)
    grad_normed, sublayer_grads = self.sublayer.backward(grad_update, cache["sublayer"])
    through_norm, norm_grads = self.norm.backward(grad_normed, cache["norm"])
    return grad_output + through_norm, {"norm": norm_grads, "sublayer": sublayer_grads}


@solves("pre_norm")
def norm_written_out(self: PreNormSublayerConnection, grad_output: Array, cache: Tree) -> Gradients:
    scaled_mask = cache["dropout"]["mask"] / (1 - self.dropout.p)
    grad_normed, sublayer_grads = self.sublayer.backward(grad_output * scaled_mask, cache["sublayer"])
    x_hat, rstd = cache["norm"]["x_hat"], cache["norm"]["rstd"]
    g = grad_normed * self.norm.weight
    dots = np.einsum("btd,btd->bt", g, x_hat)[..., None] / x_hat.shape[-1]
    grad_x = grad_output + (g - g.mean(-1, keepdims=True) - dots * x_hat) * rstd
    norm_grads = {"weight": np.einsum("btd,btd->d", grad_normed, x_hat), "bias": np.einsum("btd->d", grad_normed)}
    return grad_x, {"dropout": {}, "sublayer": sublayer_grads, "norm": norm_grads}


@solves("pre_norm")
def norm_node_by_node(self: PreNormSublayerConnection, grad_output: Array, cache: Tree) -> Gradients:
    grad_update, _ = self.dropout.backward(grad_output, cache["dropout"])
    grad_normed, sublayer_grads = self.sublayer.backward(grad_update, cache["sublayer"])
    x_hat, rstd = cache["norm"]["x_hat"], cache["norm"]["rstd"]
    grad_x_hat = grad_normed * self.norm.weight
    grad_rstd = (grad_x_hat * x_hat / rstd).sum(-1, keepdims=True)
    grad_var = -0.5 * rstd**3 * grad_rstd
    grad_centred = grad_x_hat * rstd + 2 / x_hat.shape[-1] * grad_var * (x_hat / rstd)
    grad_mean = -grad_centred.sum(-1, keepdims=True)
    through_norm = grad_centred + grad_mean / x_hat.shape[-1]
    norm_grads = {"weight": (grad_normed * x_hat).sum(0).sum(0), "bias": grad_normed.sum(0).sum(0)}
    return through_norm + grad_output, {"sublayer": sublayer_grads, "norm": norm_grads}


@solves("pre_norm")
def jacobian_of_the_norm(self: PreNormSublayerConnection, grad_output: Array, cache: Tree) -> Gradients:
    """The residual path is the identity matrix in the Jacobian of each row."""
    grad_update, _ = self.dropout.backward(grad_output, cache["dropout"])
    grad_normed, sublayer_grads = self.sublayer.backward(grad_update, cache["sublayer"])
    _, norm_grads = self.norm.backward(grad_normed, cache["norm"])
    x_hat, rstd = cache["norm"]["x_hat"], cache["norm"]["rstd"]
    d = x_hat.shape[-1]
    centring = np.eye(d) - 1 / d - x_hat[..., :, None] * x_hat[..., None, :] / d
    jacobian = self.norm.weight[:, None] * centring * rstd[..., None]
    residual, branch = (
        np.einsum("bti,ij->btj", grad_output, np.eye(d)),
        np.einsum("bti,btij->btj", grad_normed, jacobian),
    )
    return residual + branch, {"norm": norm_grads, "sublayer": sublayer_grads}


@solves("pre_norm")
def paths_in_a_list(self: PreNormSublayerConnection, grad_output: Array, cache: Tree) -> Gradients:
    grads: Tree = {"dropout": {}}
    paths = [grad_output]
    grad, _ = self.dropout.backward(grad_output, cache["dropout"])
    grad, grads["sublayer"] = self.sublayer.backward(grad, cache["sublayer"])
    grad, grads["norm"] = self.norm.backward(grad, cache["norm"])
    paths.append(grad)
    return np.stack(paths).sum(axis=0), grads


@solves("pre_norm")
def from_the_inside_out(self: PreNormSublayerConnection, grad_output: Array, cache: Tree) -> Gradients:
    normed = self.sublayer.backward(self.dropout.backward(grad_output, cache["dropout"])[0], cache["sublayer"])
    through_norm = self.norm.backward(normed[0], cache["norm"])
    return through_norm[0] + grad_output, {"norm": through_norm[1], "sublayer": normed[1]}


@solves("pre_norm")
def halves_of_grad_output(self: PreNormSublayerConnection, grad_output: Array, cache: Tree) -> Gradients:
    """Backward is linear in grad_output: even and odd entries are taken back apart."""
    even = np.arange(grad_output.shape[-1]) % 2 == 0
    grad_even, grads_even = residual_first(self, grad_output * even, cache)
    grad_odd, grads_odd = residual_first(self, grad_output * ~even, cache)
    return grad_even + grad_odd, add_trees(grads_even, grads_odd)


@solves("pre_norm")
def row_by_row_behind_the_sublayer(self: PreNormSublayerConnection, grad_output: Array, cache: Tree) -> Gradients:
    grad_update, _ = self.dropout.backward(grad_output, cache["dropout"])
    grad_normed, sublayer_grads = self.sublayer.backward(grad_update, cache["sublayer"])
    grad_x = np.empty_like(grad_output)
    rows: list[Tree] = []
    for index in np.ndindex(*grad_output.shape[:2]):
        kept = {name: array[index] for name, array in cache["norm"].items()}
        through_norm, row_grads = self.norm.backward(grad_normed[index], kept)
        grad_x[index] = through_norm + grad_output[index]
        rows.append(row_grads)
    return grad_x, {"norm": reduce(add_trees, rows), "sublayer": sublayer_grads}


@solves("pre_norm")
def dotted_names(self: PreNormSublayerConnection, grad_output: Array, cache: Tree) -> Gradients:
    """The tree may be flat as well."""
    grad_update = grad_output * cache["dropout"]["mask"] / (1 - self.dropout.p)
    grad_normed, of_sublayer = self.sublayer.backward(grad_update, cache["sublayer"])
    through_norm, of_norm = self.norm.backward(grad_normed, cache["norm"])
    flat: dict[str, Any] = {f"norm.{name}": grad for name, grad in of_norm.items()}
    flat |= {f"sublayer.{name}.{kind}": grad for name, part in of_sublayer.items() for kind, grad in part.items()}
    return through_norm + grad_output, flat
