"""The losses: cross-entropy of logits and targets, with label smoothing, and the mean of squared errors."""

from __future__ import annotations

import math

import numpy as np

from npformer.component import Array, Component, Tree
from npformer.shapes import check_count, check_equal, check_floats, check_grad, check_number, check_range, check_tokens


class CrossEntropy(Component):
    """Mean cross-entropy of the softmax of logits with smoothed targets (Szegedy et al. 2016, section 7).

        p = softmax(logits)        q_v = (1-ε) [v = target] + ε/V        y = -1/N Σ_positions Σ_v q_v log p_v

    ε is the label smoothing, which is spread over all V classes, the target's too, as in PyTorch. N is the number of
    positions that count, those whose target is not ignore_index. If none counts, y and its gradient are 0.

    Backward, with ∂(log p_v)/∂(logits_j) = δ_vj - p_j, and since the q of a position add up to 1:

        grad_logits_j = -grad_y/N Σ_v q_v (δ_vj - p_j) = grad_y/N (p_j - q_j)        0 where a position does not count

    Targets are integers and have no gradient (None). Where the p of a target is within rounding of 1, so is its loss of
    0 without smoothing.

    Parameters
    ----------
    label_smoothing : float
        ε, in [0, 1).
    ignore_index : int, optional
        Positions with this target do not count, neither in the sum nor in N; it need not be a class.

    `forward(logits, targets)`. Shapes: logits (..., V), targets (...), y (). The cache has "probabilities" (p at all
    positions), "targets" as they came, and "counted" (...), True where a position counts.

    Raises
    ------
    TypeError
        If the targets are no integers: probabilities of classes are not taken.
    ValueError
        If a target that counts is not in 0..V-1, or there is not one for each row of logits.

    Examples
    --------
    >>> loss = CrossEntropy(ignore_index=-100)
    >>> logits = np.log([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5], [0.1, 0.1, 0.8]])
    >>> output, cache = loss.forward(logits, np.array([0, 1, -100]))
    >>> output.round(4), ((np.log(2) + np.log(4)) / 2).round(4)
    (np.float64(1.0397), np.float64(1.0397))
    >>> grad_logits, _ = loss.backward(np.array(1.0), cache)[0]
    >>> grad_logits.round(4)
    array([[-0.25 ,  0.125,  0.125],
           [ 0.125, -0.375,  0.25 ],
           [ 0.   ,  0.   ,  0.   ]])
    """

    def __init__(self, label_smoothing: float = 0.0, ignore_index: int | None = None):
        self.label_smoothing = check_number("label_smoothing", label_smoothing, 0, 1)
        self.ignore_index = None if ignore_index is None else check_count("ignore_index", ignore_index, least=-math.inf)

    def forward(self, logits: Array, targets: Array) -> tuple[Array, Tree]:
        check_floats("logits", logits, "..., num_classes")
        check_tokens("targets", targets, "...")
        check_equal("targets", "shape", targets.shape, "logits without its last axis", logits.shape[:-1])
        counted = self._counted(targets)
        of_counted = targets[counted]
        exception = "" if self.ignore_index is None else f" other than ignore_index={self.ignore_index}"
        check_range(f"targets{exception}", of_counted, 0, logits.shape[-1] - 1)

        shifted = logits - logits.real.max(-1, keepdims=True)
        probabilities = np.exp(shifted)
        row_sums = probabilities.sum(-1, keepdims=True)
        probabilities /= row_sums
        surprisals = (np.log(row_sums) - shifted)[counted]  # -log p; the log of p itself could be that of 0
        N = len(surprisals)
        losses = (1 - self.label_smoothing) * surprisals[np.arange(N), of_counted]
        if self.label_smoothing:  # 0 times the surprisal of a logit of -inf would be NaN
            losses += self.label_smoothing * surprisals.mean(-1)
        output = np.asarray(losses.sum() / max(N, 1))
        return output, {"probabilities": probabilities, "targets": targets, "counted": counted}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[tuple[Array, None], Tree]:
        probabilities, targets, counted = cache["probabilities"], cache["targets"], cache["counted"]
        check_grad(grad_output, ())
        p_minus_q = probabilities[counted]  # a copy
        N, num_classes = p_minus_q.shape
        p_minus_q -= self.label_smoothing / num_classes
        p_minus_q[np.arange(N), targets[counted]] -= 1 - self.label_smoothing
        grad_counted = grad_output / max(N, 1) * p_minus_q
        grad_logits = np.zeros_like(probabilities, dtype=grad_counted.dtype)
        grad_logits[counted] = grad_counted
        return (grad_logits, None), {}

    def _counted(self, targets: Array) -> Array:
        if self.ignore_index is None:
            return np.ones(targets.shape, bool)
        return np.asarray(targets != self.ignore_index)


class MeanSquaredError(Component):
    """Mean of the squared differences of predictions and targets, over all N entries.

        d = predictions - targets        y = 1/N Σ d²

    Backward, with ∂(d²)/∂d = 2d, and since d falls by what a target rises:

        grad_predictions = grad_y 2d/N        grad_targets = -grad_predictions

    N is the number of all entries, not that of the rows, as in PyTorch; half the sum of the squares (Rumelhart et al.
    1986, eq. 3), whose gradient is d, is another convention. Targets have a gradient, since they may be what another
    component returned; those that are data leave it alone.

    `forward(predictions, targets)`. Shapes: predictions and targets (...), the same, y (). Of two dtypes the results
    have the wider. The cache has "difference" (d).

    Raises
    ------
    TypeError
        If one of them has no floating dtype: targets that are integers are cast by the caller.
    ValueError
        If their shapes differ, or they are empty. Nothing is broadcast: (N, 1) with (N,) would be N² differences, and
        their mean would be the loss of something else.

    Examples
    --------
    >>> loss = MeanSquaredError()
    >>> output, cache = loss.forward(np.array([1.0, 2.0, 5.0, 4.0]), np.array([1.0, 4.0, 4.0, 4.0]))
    >>> output
    array(1.25)
    >>> grad_predictions, grad_targets = loss.backward(np.array(1.0), cache)[0]
    >>> grad_predictions
    array([ 0. , -1. ,  0.5,  0. ])
    """

    def forward(self, predictions: Array, targets: Array) -> tuple[Array, Tree]:
        check_floats("predictions", predictions, "...")
        check_floats("targets", targets, "...")
        check_equal(
            "targets", "shape", targets.shape, "predictions, to which it is never broadcast,", predictions.shape
        )
        difference = predictions - targets
        return np.asarray((difference * difference).mean()), {"difference": difference}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[tuple[Array, Array], Tree]:
        difference = cache["difference"]
        check_grad(grad_output, ())
        grad_predictions = grad_output * (2 / difference.size) * difference
        return (grad_predictions, -grad_predictions), {}
