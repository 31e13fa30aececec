"""Mistakes in the backwards of the cross-entropy and of the mean squared error."""

from __future__ import annotations

import numpy as np

from npformer.activations import Softmax
from npformer.component import Array, Tree
from npformer.loss import CrossEntropy, MeanSquaredError
from npformer.mistakes.catalogue import Gradients, mistake_in


def _one_hot(cache: Tree) -> Array:
    """1 at the target of each position, all 0 where it does not count."""
    is_target: Array = (cache["targets"][..., None] == np.arange(cache["probabilities"].shape[-1])) & _counted(cache)
    return is_target.astype(cache["probabilities"].dtype)


def _counted(cache: Tree) -> Array:
    counted: Array = cache["counted"][..., None]
    return counted


def _weight(grad_output: Array, cache: Tree) -> Array:
    """What each position that counts takes of grad_output, 0 for others."""
    weight: Array = grad_output / max(np.count_nonzero(cache["counted"]), 1) * _counted(cache)
    return weight


@mistake_in(CrossEntropy, case="CrossEntropy")
def label_smoothing_missing(loss: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient is that of hard targets, but forward smoothed them."""
    return CrossEntropy(0.0, loss.ignore_index).backward(grad_output, cache)


@mistake_in(CrossEntropy, case="CrossEntropy")
def smoothing_spread_over_the_wrong_classes(loss: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    """ε is spread over the V-1 other classes, but forward spread it over all V, the target's too."""
    one_hot, smoothing = _one_hot(cache), loss.label_smoothing
    others = smoothing / (one_hot.shape[-1] - 1) * (1 - one_hot)
    return (_weight(grad_output, cache) * (cache["probabilities"] - (1 - smoothing) * one_hot - others), None), {}


@mistake_in(CrossEntropy, case="CrossEntropy")
def target_subtracted_without_smoothing_weight(loss: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    """1 is subtracted at the target as from a one-hot, instead of 1-ε: the smoothed targets then add up to 1+ε."""
    (grad_logits, _), _ = loss.backward(grad_output, cache)
    return (grad_logits - _weight(grad_output, cache) * loss.label_smoothing * _one_hot(cache), None), {}


@mistake_in(CrossEntropy, case="CrossEntropy")
def uniform_part_missing(loss: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    """The target gets 1-ε, but the ε/V that every class gets is not subtracted."""
    difference = cache["probabilities"] - (1 - loss.label_smoothing) * _one_hot(cache)
    return (_weight(grad_output, cache) * difference, None), {}


@mistake_in(CrossEntropy, case="CrossEntropy")
def one_hot_not_subtracted(loss: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    """The probabilities alone are returned: nothing is subtracted for the targets."""
    return (_weight(grad_output, cache) * cache["probabilities"], None), {}


@mistake_in(CrossEntropy, case="CrossEntropy")
def probabilities_missing(loss: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    """Only -q is returned, the gradient of the log-probabilities: the path through softmax's sum is missing."""
    probabilities = cache["probabilities"]
    (grad_logits, _), _ = loss.backward(grad_output, cache)
    return (grad_logits - _weight(grad_output, cache) * probabilities, None), {}


@mistake_in(CrossEntropy, case="CrossEntropy")
def mean_missing(loss: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient is that of the sum over the positions, but forward took the mean."""
    return loss.backward(np.count_nonzero(cache["counted"]) * grad_output, cache)


@mistake_in(CrossEntropy, case="CrossEntropy")
def mean_over_all_positions(loss: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    """It is divided by the number of all positions, though the ignored ones do not count."""
    counted = cache["counted"]
    return loss.backward(np.count_nonzero(counted) / counted.size * grad_output, cache)


@mistake_in(CrossEntropy, case="CrossEntropy")
def mean_over_the_batch_alone(loss: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    """It is divided by the size of the batch, instead of the number of positions in it."""
    counted = cache["counted"]
    return loss.backward(np.count_nonzero(counted) / len(counted) * grad_output, cache)


@mistake_in(CrossEntropy, case="CrossEntropy")
def mean_over_the_classes_too(loss: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    """It is divided by the number of all logits, as if the loss were a mean over the classes as well."""
    return loss.backward(grad_output / cache["probabilities"].shape[-1], cache)


@mistake_in(CrossEntropy, case="CrossEntropy")
def gradient_for_ignored_positions(loss: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    """An ignored position has no target to subtract, but keeps the gradient of its softmax."""
    (grad_logits, _), _ = loss.backward(grad_output, cache)
    share = grad_output / max(np.count_nonzero(cache["counted"]), 1)
    return (grad_logits + share * cache["probabilities"] * ~_counted(cache), None), {}


@mistake_in(CrossEntropy, case="CrossEntropy")
def softmax_passed_twice(loss: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    """p - q is the gradient of the logits already, but it is taken back through softmax once more."""
    (grad_logits, _), _ = loss.backward(grad_output, cache)
    return (Softmax().backward(grad_logits, {"output": cache["probabilities"]})[0], None), {}


@mistake_in(CrossEntropy, case="CrossEntropy")
def softmax_not_passed(loss: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    """-q/p is returned, the gradient of the probabilities: it is not taken back through softmax."""
    probabilities = cache["probabilities"]
    (grad_logits, _), _ = loss.backward(grad_output, cache)
    return ((grad_logits - _weight(grad_output, cache) * probabilities) / probabilities, None), {}


@mistake_in(CrossEntropy, case="CrossEntropy")
def targets_counted_from_one(loss: CrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    """Each target is taken for the class before it, as if the first class were 1."""
    one_hot = _one_hot(cache)
    shifted = (1 - loss.label_smoothing) * (one_hot - np.roll(one_hot, -1, axis=-1))
    (grad_logits, _), _ = loss.backward(grad_output, cache)
    return (grad_logits + _weight(grad_output, cache) * shifted, None), {}


def _both(grad_predictions: Array) -> Gradients:
    return (grad_predictions, -grad_predictions), {}


@mistake_in(MeanSquaredError, case="MeanSquaredError")
def factor_2_dropped(loss: MeanSquaredError, grad_output: Array, cache: Tree) -> Gradients:
    """The derivative of d² is written as d, which is that of a loss with 1/2 in it; forward has none."""
    return loss.backward(0.5 * grad_output, cache)


@mistake_in(MeanSquaredError, case="MeanSquaredError")
def sum_for_the_mean(loss: MeanSquaredError, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient is that of the sum of the squares, but forward took their mean."""
    return loss.backward(cache["difference"].size * grad_output, cache)


@mistake_in(MeanSquaredError, case="MeanSquaredError")
def mean_over_the_first_axis_alone(loss: MeanSquaredError, grad_output: Array, cache: Tree) -> Gradients:
    """It is divided by the size of the batch, instead of the number of all entries in it."""
    difference = cache["difference"]
    return loss.backward(difference.size / len(difference) * grad_output, cache)


@mistake_in(MeanSquaredError, case="MeanSquaredError")
def mean_over_the_rows_alone(loss: MeanSquaredError, grad_output: Array, cache: Tree) -> Gradients:
    """It is divided by the number of rows, as is right for a cross-entropy, instead of that of their entries."""
    return loss.backward(cache["difference"].shape[-1] * grad_output, cache)


@mistake_in(MeanSquaredError, case="MeanSquaredError")
def targets_minus_predictions(loss: MeanSquaredError, grad_output: Array, cache: Tree) -> Gradients:
    """The difference is taken the other way round, which its square hides in forward, so that all signs are wrong."""
    return loss.backward(-grad_output, cache)


@mistake_in(MeanSquaredError, case="MeanSquaredError")
def grad_output_left_out(loss: MeanSquaredError, grad_output: Array, cache: Tree) -> Gradients:
    """grad_output is taken for 1, as if nothing came after the loss, such as a weight or a sum of losses."""
    return loss.backward(np.ones_like(grad_output), cache)


@mistake_in(MeanSquaredError, case="MeanSquaredError")
def targets_taken_for_constants(loss: MeanSquaredError, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient of the targets is 0, though they are an input like the predictions."""
    (grad_predictions, grad_targets), _ = loss.backward(grad_output, cache)
    return (grad_predictions, 0 * grad_targets), {}


@mistake_in(MeanSquaredError, case="MeanSquaredError")
def same_sign_for_the_targets(loss: MeanSquaredError, grad_output: Array, cache: Tree) -> Gradients:
    """The targets get the gradient of the predictions, but d falls where a target rises."""
    (grad_predictions, _), _ = loss.backward(grad_output, cache)
    return (grad_predictions, grad_predictions), {}


@mistake_in(MeanSquaredError, case="MeanSquaredError")
def square_not_differentiated(loss: MeanSquaredError, grad_output: Array, cache: Tree) -> Gradients:
    """Each entry gets its share d²/N of the loss itself, instead of the derivative of that."""
    difference = cache["difference"]
    return _both(grad_output / difference.size * difference * difference)


@mistake_in(MeanSquaredError, case="MeanSquaredError")
def slope_of_the_absolute_error(loss: MeanSquaredError, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient is sign(d)/N, which is that of the mean absolute error."""
    difference = cache["difference"]
    return _both(grad_output / difference.size * np.sign(difference))


@mistake_in(MeanSquaredError, case="MeanSquaredError")
def slope_of_the_root(loss: MeanSquaredError, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient is that of the root of the mean square, which forward does not take."""
    difference = cache["difference"]
    return loss.backward(grad_output / (2 * np.sqrt((difference * difference).mean())), cache)
