"""Other ways to write the backward of the cross-entropy."""

import numpy as np

from npformer.component import Array, Tree
from npformer.exercises.tasks.cross_entropy import CrossEntropy
from solutions.registry import solves

Gradients = tuple[tuple[Array, None], Tree]


@solves("cross_entropy")
def written_into_a_copy(self: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    grad, targets, counted = cache["probabilities"].copy(), cache["targets"], cache["counted"]
    positions = np.nonzero(counted)
    grad[(*positions, targets[positions])] -= 1 - self.label_smoothing
    grad -= self.label_smoothing / grad.shape[-1]
    grad[~counted] = 0
    grad *= grad_output / max(np.count_nonzero(counted), 1)
    return (grad, None), {}


@solves("cross_entropy")
def position_by_position(self: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    p, targets, counted = cache["probabilities"], cache["targets"], cache["counted"]
    eps, V = self.label_smoothing, p.shape[-1]
    count = max(int(counted.sum()), 1)
    grad = np.zeros(p.shape)
    for position in np.ndindex(*targets.shape):
        if not counted[position]:
            continue
        for v in range(V):
            wanted = eps / V + (1 - eps if v == targets[position] else 0)
            grad[position][v] = grad_output * (p[position][v] - wanted) / count
    return (grad, None), {}


@solves("cross_entropy")
def through_log_probabilities(self: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    p, targets, counted = cache["probabilities"], cache["targets"], cache["counted"]
    V = p.shape[-1]
    grad_losses = grad_output * counted / max(counted.sum(), 1)
    grad_log_p = np.zeros_like(p)
    classes = np.where(counted, targets, 0)[..., None]
    np.put_along_axis(grad_log_p, classes, -(1 - self.label_smoothing) * grad_losses[..., None], -1)
    grad_log_p -= self.label_smoothing / V * grad_losses[..., None]
    grad_row_sum = -grad_log_p.sum(-1, keepdims=True)  # log of the sum is subtracted from all
    return (grad_log_p + p * grad_row_sum, None), {}


@solves("cross_entropy")
def jacobian_of_log_softmax(self: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    p, targets, counted = cache["probabilities"], cache["targets"], cache["counted"]
    V, eps = p.shape[-1], self.label_smoothing
    q = np.eye(V)[np.where(counted, targets, 0)] * (1 - eps) + eps / V
    jacobian = np.eye(V) - p[..., None, :]  # (..., v, j)
    grad_one = -np.einsum("...v,...vj->...j", q, jacobian)
    weight = np.where(counted, grad_output / max(counted.sum(), 1), 0)
    return (np.einsum("...,...j->...j", weight, grad_one), None), {}


@solves("cross_entropy")
def target_and_smoothing_apart(self: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    p, targets, counted = cache["probabilities"], cache["targets"], cache["counted"]
    one_hot = (np.arange(p.shape[-1]) == targets[..., None]).astype(np.float64)
    of_target = p - one_hot
    of_smoothing = p - np.ones_like(p) / p.shape[-1]
    mixed = of_target + self.label_smoothing * (of_smoothing - of_target)
    return (mixed * (counted[..., None] * grad_output) / max(counted.sum(), 1), None), {}


@solves("cross_entropy")
def flat_rows_that_count(self: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    p, counted = cache["probabilities"], cache["counted"].reshape(-1)
    V = p.shape[-1]
    rows = np.flatnonzero(counted)
    targets = cache["targets"].reshape(-1)[rows]
    difference = p.reshape(-1, V)[rows]
    np.subtract.at(difference, (np.arange(len(rows)), targets), 1 - self.label_smoothing)
    difference = difference - self.label_smoothing / V
    grad = np.zeros((p.size // V, V))
    grad[rows] = difference * grad_output / max(len(rows), 1)
    return (grad.reshape(p.shape), None), {}


@solves("cross_entropy")
def stacked_rows(self: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    p, targets = cache["probabilities"], cache["targets"]
    V = p.shape[-1]
    count = sum(1 for target in targets.flat if target != self.ignore_index)

    def of_row(row: Array, target: int) -> Array:
        if target == self.ignore_index:
            return 0 * row
        q = np.full(V, self.label_smoothing / V)
        q[target] += 1 - self.label_smoothing
        grad: Array = grad_output * (row - q) / max(count, 1)
        return grad

    rows = [of_row(row, target) for row, target in zip(p.reshape(-1, V), targets.flat, strict=True)]
    return (np.stack(rows).reshape(p.shape), None), {}


@solves("cross_entropy")
def table_of_targets(self: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    p, targets, counted = cache["probabilities"], cache["targets"], cache["counted"]
    V = p.shape[-1]
    table = np.full((V, V), self.label_smoothing / V)
    np.fill_diagonal(table, 1 - self.label_smoothing + self.label_smoothing / V)
    q = np.take(table, np.where(counted, targets, 0), axis=0)
    return (np.where(counted[..., None], p - q, 0) * (grad_output / max(counted.sum(), 1)), None), {}


@solves("cross_entropy")
def three_values(self: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    p, targets, counted = cache["probabilities"], cache["targets"], cache["counted"]
    V, low = p.shape[-1], self.label_smoothing / p.shape[-1]
    high = 1 - (V - 1) * low
    is_target = np.arange(V) == targets[..., None]
    grad = np.where(is_target, p - high, p - low)
    return (grad * counted[..., None] * (grad_output / max(np.sum(counted), 1)), None), {}


@solves("cross_entropy")
def through_softmax(self: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    p, targets, counted = cache["probabilities"], cache["targets"], cache["counted"]
    V, eps = p.shape[-1], self.label_smoothing
    q = (1 - eps) * (targets[..., None] == np.arange(V)) + eps / V
    grad_p = -(grad_output / max(counted.sum(), 1)) * counted[..., None] * q / p
    return (p * (grad_p - np.sum(grad_p * p, axis=-1, keepdims=True)), None), {}


@solves("cross_entropy")
def one_hot_as_a_scatter(self: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    p, targets, counted = cache["probabilities"], cache["targets"], cache["counted"]
    N = max(int(np.count_nonzero(counted)), 1)
    scale = np.expand_dims(counted, -1) * (float(grad_output) / N)
    grad = scale * p - scale * (self.label_smoothing / p.shape[-1])
    batch, position = np.where(counted)
    np.add.at(grad, (batch, position, targets[batch, position]), -(1 - self.label_smoothing) * grad_output / N)
    return (grad, None), {}
