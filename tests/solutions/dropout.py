"""Other ways to write the backward of dropout."""

import numpy as np

from npformer.component import Array, Tree
from npformer.exercises.tasks.dropout import Dropout
from solutions.registry import solves

Gradients = tuple[Array, Tree]


@solves("dropout")
def chosen(self: Dropout, grad_output: Array, cache: Tree) -> Gradients:
    return np.where(cache["mask"], grad_output / (1 - self.p), 0), {}


@solves("dropout")
def kept_entries_assigned(self: Dropout, grad_output: Array, cache: Tree) -> Gradients:
    mask, grad_x = cache["mask"], np.zeros_like(grad_output)
    grad_x[mask] = grad_output[mask] / (1 - self.p)
    return grad_x, {}


@solves("dropout")
def dropped_entries_set_to_zero(self: Dropout, grad_output: Array, cache: Tree) -> Gradients:
    grad_x = grad_output.copy()
    grad_x[~cache["mask"]] = 0
    grad_x /= 1 - self.p
    return grad_x, {}


@solves("dropout")
def scale_in_the_mask(self: Dropout, grad_output: Array, cache: Tree) -> Gradients:
    scale = 1 / (1 - self.p)
    return grad_output * (scale * cache["mask"].astype(float)), {}


@solves("dropout")
def entry_by_entry(self: Dropout, grad_output: Array, cache: Tree) -> Gradients:
    grad_x = np.empty_like(grad_output)
    for index in np.ndindex(grad_output.shape):
        grad_x[index] = grad_output[index] / (1 - self.p) if cache["mask"][index] else 0.0
    return grad_x, {}


@solves("dropout")
def diagonal_jacobian(self: Dropout, grad_output: Array, cache: Tree) -> Gradients:
    jacobian = np.diag(cache["mask"].ravel() / (1 - self.p))
    return (jacobian @ grad_output.ravel()).reshape(grad_output.shape), {}


@solves("dropout")
def by_einsum(self: Dropout, grad_output: Array, cache: Tree) -> Gradients:
    return np.einsum("...i,...i,->...i", grad_output, cache["mask"], 1 / (1 - self.p)), {}


@solves("dropout")
def row_after_row(self: Dropout, grad_output: Array, cache: Tree) -> Gradients:
    d = grad_output.shape[-1]
    rows = zip(grad_output.reshape(-1, d), cache["mask"].reshape(-1, d), strict=True)
    return np.array([g * m / (1 - self.p) for g, m in rows]).reshape(grad_output.shape), {}


@solves("dropout")
def copied_where_kept(self: Dropout, grad_output: Array, cache: Tree) -> Gradients:
    grad_x = np.zeros(grad_output.shape)
    np.divide(grad_output, 1 - self.p, out=grad_x, where=cache["mask"])
    return grad_x, {}


@solves("dropout")
def dropped_part_taken_off(self: Dropout, grad_output: Array, cache: Tree) -> Gradients:
    keep = 1 - self.p
    dropped = 1 - cache["mask"].astype(grad_output.dtype)
    return grad_output / keep - grad_output * dropped / keep, {}


@solves("dropout")
def forward_of_the_gradient(self: Dropout, grad_output: Array, cache: Tree) -> Gradients:
    def same_dropout(x: Array) -> Array:
        kept: Array = x * cache["mask"] / (1 - self.p)
        return kept

    return same_dropout(grad_output), {}


@solves("dropout")
def by_flat_indices(self: Dropout, grad_output: Array, cache: Tree) -> Gradients:
    kept = np.flatnonzero(cache["mask"])
    grad_x = np.zeros(grad_output.size)
    np.put(grad_x, kept, np.take(grad_output, kept) * (1.0 / (1.0 - self.p)))
    return grad_x.reshape(grad_output.shape), {}
