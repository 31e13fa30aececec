"""Cross-entropy with label smoothing (Szegedy et al. 2016, section 7): write its backward.

Forward compares the softmax of each position's logits with a smoothed target, and ignores some positions:

    p      = softmax(logits)                                over the V classes
    losses = -(1 - ε) log p_target - ε mean_v(log p_v)      ε is label_smoothing
    output = Σ losses / N                                   over the N positions whose target is not ignore_index

So ε is spread over all V classes, the target's too. If no position counts, output and its gradient are 0.

Backward is given grad_output, the gradient of output, and the cache: probabilities (p), targets and counted (True where
a position counts). It returns (grad_logits, None), since targets are integers and have no gradient, and {} since there
are no parameters.

Shapes: logits, p and grad_logits (..., V); targets and counted (...); output and grad_output (), a single number.
"""

from __future__ import annotations

import numpy as np

from npformer import CrossEntropy as RightCrossEntropy
from npformer.component import Array, Component, Tree
from npformer.exercises.task import BackwardTask, Term
from npformer.gradcheck import Case
from npformer.mistakes.catalogue import Gradients


class CrossEntropy(Component):
    """Has the attributes label_smoothing and ignore_index."""

    label_smoothing: float
    ignore_index: int

    def forward(self, logits: Array, targets: Array) -> tuple[Array, Tree]:
        shifted = logits - logits.real.max(-1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
        counted = targets != self.ignore_index
        classes = np.where(counted, targets, 0)  # ignore_index need not be a class
        log_p_target = np.take_along_axis(log_p, classes[..., None], -1)[..., 0]
        losses = -(1 - self.label_smoothing) * log_p_target - self.label_smoothing * log_p.mean(-1)
        output = np.asarray(losses[counted].sum() / max(counted.sum(), 1))
        return output, {"probabilities": np.exp(log_p), "targets": targets, "counted": counted}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[tuple[Array, None], Tree]:
        """Return (grad_logits, None), and {}."""
        p, targets, counted = cache["probabilities"], cache["targets"], cache["counted"]
        V = p.shape[-1]
        one_hot = targets[..., None] == np.arange(V)
        smoothed = (1 - self.label_smoothing) * one_hot + self.label_smoothing / V
        share = grad_output * counted[..., None] / max(counted.sum(), 1)  # 0 where a position does not count
        return (share * (p - smoothed), None), {}


def one_hot_of(cache: Tree) -> Array:
    """1 at the target of each position."""
    is_target: Array = cache["targets"][..., None] == np.arange(cache["probabilities"].shape[-1])
    return is_target.astype(float)


def share_of(grad_output: Array, cache: Tree) -> Array:
    """What each position takes of grad_output."""
    counted: Array = cache["counted"][..., None]
    share: Array = grad_output * counted / max(counted.sum(), 1)
    return share


def terms(case: Case, cache: Tree, grad_output: Array) -> dict[str, tuple[Term, ...]]:
    p, one_hot, share = cache["probabilities"], one_hot_of(cache), share_of(grad_output, cache)
    smoothing = vars(case.component)["label_smoothing"]
    ignored = grad_output * ~cache["counted"][..., None] / max(cache["counted"].sum(), 1)
    at_target = "logits → p of the target → losses → output"
    at_all = "logits → p of every class → the smoothing's part of losses → output"
    through_sum = "logits → sum of the row → every p → losses → output"
    return {
        "logits": (
            Term("grad_output/N * p", through_sum, 1, share * p),
            Term("grad_output/N * one_hot", at_target, -(1 - smoothing), share * one_hot),
            Term("grad_output/N * 1/V", at_all, -smoothing, share / p.shape[-1] * np.ones_like(p)),
            Term("grad_output/N * p, where ignored", "a path that ignored positions do not have", 0, ignored * p),
            Term("grad_output/N * p * one_hot", f"{through_sum}, of the target's p alone", 0, share * p * one_hot),
        )
    }


def regions(case: Case, cache: Tree) -> dict[str, dict[str, Array]]:
    ignored = np.broadcast_to(~cache["counted"][..., None], cache["probabilities"].shape)
    is_target = one_hot_of(cache).astype(bool) & ~ignored
    return {"logits": {"ignored positions": ignored, "classes that are the target": is_target}}


def weights_exchanged(loss: RightCrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    """ε and 1-ε are in each other's place: the target gets ε, and all classes share the rest."""
    p, smoothing = cache["probabilities"], loss.label_smoothing
    smoothed = smoothing * one_hot_of(cache) + (1 - smoothing) / p.shape[-1]
    return (share_of(grad_output, cache) * (p - smoothed), None), {}


def smoothing_not_divided(loss: RightCrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    """Every class gets ε itself, instead of its part of it, so that the smoothed targets do not add up to 1."""
    smoothed = (1 - loss.label_smoothing) * one_hot_of(cache) + loss.label_smoothing
    return (share_of(grad_output, cache) * (cache["probabilities"] - smoothed), None), {}


def smoothing_part_missing(loss: RightCrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    """Only the part of the target is differentiated: that of mean_v(log p_v) is missing, with its p and its 1/V."""
    difference = cache["probabilities"] - one_hot_of(cache)
    return ((1 - loss.label_smoothing) * share_of(grad_output, cache) * difference, None), {}


def p_missing_in_the_smoothing_part(loss: RightCrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    """The logarithms of the smoothing's part depend on the row's sum too, but there p is not added."""
    p, smoothing = cache["probabilities"], loss.label_smoothing
    difference = (1 - smoothing) * (p - one_hot_of(cache)) - smoothing / p.shape[-1]
    return (share_of(grad_output, cache) * difference, None), {}


def only_the_target(loss: RightCrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    """Only the logit of the target gets a gradient, but the others lower its p through the row's sum."""
    (grad_logits, _), grads = loss.backward(grad_output, cache)
    return (grad_logits * one_hot_of(cache), None), grads


def target_with_the_other_sign(loss: RightCrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient of the target's logit has the other sign, as if it raised the loss like the rest."""
    (grad_logits, _), grads = loss.backward(grad_output, cache)
    return (grad_logits * (1 - 2 * one_hot_of(cache)), None), grads


def smoothing_at_ignored_positions(loss: RightCrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    """Ignored positions have no target, but the smoothing is subtracted there all the same."""
    (grad_logits, _), grads = loss.backward(grad_output, cache)
    counted = cache["counted"][..., None]
    N, V = max(counted.sum(), 1), grad_logits.shape[-1]
    return (grad_logits - grad_output / N * ~counted * loss.label_smoothing / V, None), grads


def mean_of_each_sequence(loss: RightCrossEntropy, grad_output: Array, cache: Tree) -> Gradients:
    """Each sequence is divided by its own count and by the batch, but forward takes one mean over all positions."""
    counted = cache["counted"]
    (grad_logits, _), grads = loss.backward(grad_output * max(counted.sum(), 1) / len(counted), cache)
    return (grad_logits / np.maximum(counted.sum(-1), 1)[..., None, None], None), grads


TASK = BackwardTask(
    name="cross_entropy",
    title="Cross-entropy with label smoothing, backward",
    statement=__doc__,
    solution=CrossEntropy,
    component=RightCrossEntropy,
    make="CrossEntropy",
    points=5,
    paths={"logits": "output → losses → log p of the target and of all classes → logits, directly and through the sum"},
    terms=terms,
    regions=regions,
    wrong=(
        weights_exchanged,
        smoothing_not_divided,
        smoothing_part_missing,
        p_missing_in_the_smoothing_part,
        only_the_target,
        target_with_the_other_sign,
        smoothing_at_ignored_positions,
        mean_of_each_sequence,
    ),
    hints=(
        "Begin with one position, no smoothing and no mean. log p_target = logit_target - log Σ_v exp(logit_v): which "
        "logits does it depend on?",
        "d log p_v / d logit_j has two parts: 1 if v is j, and always one more, from the sum of the row. Which "
        "familiar quantity is the derivative of log Σ exp?",
        "Write losses as -Σ_v q_v log p_v. What is q at the target, what elsewhere, and what do the q of a position "
        "add up to?",
        "The part that comes from the row's sum is the same for every v, so that it is multiplied by Σ_v q_v. What is "
        "left is a difference of two distributions, times what a position that counts has of grad_output.",
    ),
    derivation="""
    losses = -Σ_v q_v log p_v, where q is the smoothed target:

        q_v = (1 - ε) [v = target] + ε/V              Σ_v q_v = (1 - ε) + ε = 1

    log p_v = logit_v - log Σ_u exp(logit_u), and the derivative of the second part is the softmax itself:

        d log p_v / d logit_j = [v = j] - p_j

    so that for one position

        d loss / d logit_j = -Σ_v q_v ([v = j] - p_j) = -q_j + p_j Σ_v q_v = p_j - q_j

    output is the sum over the positions that count, divided by their number. Each of them gets grad_output / N, those
    that are ignored get nothing:

        grad_logits = grad_output / N * (p - q)       0 where a position does not count
    """,
)
