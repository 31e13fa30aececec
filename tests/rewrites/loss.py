"""The losses in other forms."""

import numpy as np

from npformer import CrossEntropy, MeanSquaredError
from npformer.component import Array, Tree
from rewrites.registry import backward_of, forward_of

Gradients = tuple[tuple[Array, None], Tree]
GradientsOfBoth = tuple[tuple[Array, Array], Tree]


def _smoothed(loss: CrossEntropy, targets: Array, counted: Array, like: Array) -> Array:
    """The distribution of the targets at each position, all 0 where it does not count."""
    one_hot = (targets[..., None] == np.arange(like.shape[-1])).astype(like.real.dtype)
    smoothed = (1 - loss.label_smoothing) * one_hot + loss.label_smoothing / like.shape[-1]
    return np.asarray(smoothed * counted[..., None])


def _number(cache: Tree) -> int:
    return max(int(cache["counted"].sum()), 1)


@backward_of(CrossEntropy)
def smoothed_targets_written_out(loss: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    p, counted = cache["probabilities"], cache["counted"]
    difference = p * counted[..., None] - _smoothed(loss, cache["targets"], counted, p)
    return (difference * (grad_output / _number(cache)), None), {}


@backward_of(CrossEntropy)
def through_log_softmax(loss: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    p, counted = cache["probabilities"], cache["counted"]
    grad_log_p = -grad_output * _smoothed(loss, cache["targets"], counted, p) / _number(cache)
    return (grad_log_p - p * grad_log_p.sum(-1, keepdims=True), None), {}


@backward_of(CrossEntropy)
def hard_and_uniform_targets_apart(loss: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    p, counted, smoothing = cache["probabilities"], cache["counted"], loss.label_smoothing
    one_hot = (cache["targets"][..., None] == np.arange(p.shape[-1])).astype(p.real.dtype)
    mixed = (1 - smoothing) * (p - one_hot) + smoothing * (p - 1 / p.shape[-1])
    return (grad_output * np.where(counted[..., None], mixed, 0) / _number(cache), None), {}


@backward_of(CrossEntropy)
def through_the_jacobian(loss: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    p, counted = cache["probabilities"], cache["counted"]
    identity = np.eye(p.shape[-1], dtype=p.real.dtype)
    of_log_softmax = identity - p[..., None, :]  # (..., v, j): δ_vj - p_j
    smoothed = _smoothed(loss, cache["targets"], counted, p)
    return (-np.einsum("...v,...vj->...j", smoothed, of_log_softmax) * grad_output / _number(cache), None), {}


@backward_of(CrossEntropy)
def position_by_position_in_reverse(loss: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    share = grad_output / _number(cache)
    p, uniform = cache["probabilities"], loss.label_smoothing / cache["probabilities"].shape[-1]
    grad_logits = np.zeros_like(p, dtype=p.dtype)
    for index in reversed(list(zip(*np.nonzero(cache["counted"]), strict=True))):
        grad_logits[index] = share * (p[index] - uniform)
        grad_logits[(*index, cache["targets"][index])] -= share * (1 - loss.label_smoothing)
    return (grad_logits, None), {}


@backward_of(CrossEntropy)
def flat_rows_in_place(loss: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    counted, targets = cache["counted"].ravel(), cache["targets"].ravel()
    grad_rows = cache["probabilities"].reshape(len(counted), -1) * 1.0
    grad_rows -= loss.label_smoothing / grad_rows.shape[-1]
    rows = np.flatnonzero(counted)
    grad_rows[rows, targets[rows]] -= 1 - loss.label_smoothing
    grad_rows[~counted] = 0.0
    grad_rows *= grad_output
    grad_rows /= _number(cache)
    return (grad_rows.reshape(cache["probabilities"].shape), None), {}


@forward_of(CrossEntropy)
def against_smoothed_targets(loss: CrossEntropy, logits: Array, targets: Array) -> tuple[Array, Tree]:
    counted = np.asarray(targets != loss.ignore_index)
    shifted = logits - logits.real.max(-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    losses = -(_smoothed(loss, targets, counted, logits) * log_p).sum(-1)
    cache = {"probabilities": np.exp(log_p), "targets": targets, "counted": counted}
    return np.asarray(losses.sum() / _number(cache)), cache


@forward_of(CrossEntropy)
def from_the_last_logit(loss: CrossEntropy, logits: Array, targets: Array) -> tuple[Array, Tree]:
    """The mean over the classes of -log p is log Σ exp less the mean logit, summed from the last class down."""
    counted = np.asarray(targets != loss.ignore_index)
    exponentials = np.exp(logits - logits.real.max(-1, keepdims=True))
    row_sums = exponentials[..., ::-1].cumsum(-1)[..., -1:]
    log_sums = np.log(row_sums[..., 0]) + logits.real.max(-1)
    classes = np.where(counted, targets, 0)[..., None]
    of_target = np.take_along_axis(logits, classes, -1)[..., 0]
    smoothing = loss.label_smoothing
    losses = (1 - smoothing) * (log_sums - of_target) + smoothing * (log_sums - logits.mean(-1))
    cache = {"probabilities": exponentials / row_sums, "targets": targets, "counted": counted}
    return np.asarray((losses * counted).sum() / _number(cache)), cache


@backward_of(MeanSquaredError)
def by_the_product_rule(loss: MeanSquaredError, grad_output: Array, cache: Tree) -> GradientsOfBoth:
    difference = cache["difference"]
    grad_square = grad_output / difference.size
    grad_difference = grad_square * difference + difference * grad_square
    return (grad_difference, -grad_difference), {}


@backward_of(MeanSquaredError)
def divided_at_the_end(loss: MeanSquaredError, grad_output: Array, cache: Tree) -> GradientsOfBoth:
    doubled = cache["difference"] + cache["difference"]
    return (doubled * grad_output / doubled.size, doubled * -grad_output / doubled.size), {}


@backward_of(MeanSquaredError)
def targets_first(loss: MeanSquaredError, grad_output: Array, cache: Tree) -> GradientsOfBoth:
    difference = cache["difference"]
    grad_targets = (-2.0 * grad_output) * (difference / difference.size)
    return (0.0 - grad_targets, grad_targets), {}


@backward_of(MeanSquaredError)
def through_means_of_one_axis_after_the_other(
    loss: MeanSquaredError, grad_output: Array, cache: Tree
) -> GradientsOfBoth:
    grad_means = 2.0 * grad_output
    for length in cache["difference"].shape:
        grad_means = grad_means / length
    grad_predictions = grad_means * cache["difference"]
    return (grad_predictions, -1.0 * grad_predictions), {}


@backward_of(MeanSquaredError)
def entry_by_entry_in_reverse(loss: MeanSquaredError, grad_output: Array, cache: Tree) -> GradientsOfBoth:
    difference = cache["difference"]
    grad_predictions, grad_targets = np.zeros_like(difference), np.zeros_like(difference)
    for index in reversed(list(np.ndindex(difference.shape))):
        grad_predictions[index] = 2 / difference.size * difference[index] * grad_output
        grad_targets[index] = -2 / difference.size * difference[index] * grad_output
    return (grad_predictions, grad_targets), {}


@forward_of(MeanSquaredError)
def as_a_dot_product(loss: MeanSquaredError, predictions: Array, targets: Array) -> tuple[Array, Tree]:
    flat = predictions.ravel() - targets.ravel()
    return np.asarray(np.dot(flat, flat) / flat.size), {"difference": flat.reshape(predictions.shape)}


@forward_of(MeanSquaredError)
def as_the_mean_of_row_means(loss: MeanSquaredError, predictions: Array, targets: Array) -> tuple[Array, Tree]:
    difference = -(targets - predictions)
    return np.asarray((difference**2).mean(-1).mean()), {"difference": difference}


@forward_of(MeanSquaredError)
def divided_before_the_sum(loss: MeanSquaredError, predictions: Array, targets: Array) -> tuple[Array, Tree]:
    """From the last entry down, and each square is divided by their number before it is added."""
    difference = predictions - targets
    shares = difference * (difference / difference.size)
    return np.asarray(shares.ravel()[::-1].cumsum()[-1]), {"difference": difference}
