"""Many arrays at once: those that pass along directions in which all of them move need not be looked at one by one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from npformer.component import Array
from npformer.gradcheck.cases import signed
from npformer.gradcheck.objective import EPS, length
from npformer.gradcheck.truth import OF_WITNESS, Truth, agree
from npformer.gradcheck.verdict import OF_LARGEST, PASS, ArrayCheck

# Gradients below this share of the largest, or of their own terms (which then cancel), are looked at one by one.
OF_CANCELLATION = 1e-6


def pass_together(
    gradients: Mapping[str, Array],
    sizes: Mapping[str, Array],
    truth: Truth,
    directions: int,
    random: np.random.Generator,
) -> dict[str, ArrayCheck]:
    """Return a PASS for each array that passes in company; the others are still open.

    Each array moves by a random vector whose length makes up for the size of its gradient, so that each weighs the
    same, and the errors of all add up in one slope. A group whose slope is off is halved, down to single arrays.
    """
    if truth.exact is None:
        return {}
    largest = {name: float(np.abs(grad).max()) for name, grad in gradients.items()}
    overall = max(largest.values(), default=0.0)
    weights = {
        name: overall / entry
        for name, entry in largest.items()
        if entry > OF_CANCELLATION * max(overall, float(np.max(sizes.get(name, 0.0))))
    }
    pending = [list(weights)]
    passed: dict[str, ArrayCheck] = {}
    while pending:
        names = pending.pop()
        if len(names) < 2:
            continue
        group = {name: gradients[name] for name in names}
        errors = [_error(group, weights, truth, random) / overall for _ in range(directions)]
        tolerance = OF_LARGEST * truth.precision / EPS
        if max(errors) <= tolerance:
            for name in names:
                size = gradients[name].size
                passed[name] = ArrayCheck(name, size, PASS, max(errors), tolerance, method="complex step, jointly")
        else:
            middle = len(names) // 2
            pending += [names[:middle], names[middle:]]
    return passed


def _error(
    gradients: Mapping[str, Array], weights: Mapping[str, float], truth: Truth, random: np.random.Generator
) -> float:
    """The error of one joint slope, or infinity where it cannot be established."""
    direction, ours = {}, 0.0
    for name, gradient in gradients.items():
        vector = signed(random, gradient.shape, 1, 2)
        direction[name] = vector * (weights[name] / length(vector))
        ours += float((gradient * direction[name]).sum())
    assert truth.exact is not None
    true = truth.exact.complex_step(direction)
    witness, bend = truth.real.central_difference(direction, true, OF_WITNESS)
    return abs(ours - true) if np.isfinite(bend) and agree(true, witness) else np.inf
