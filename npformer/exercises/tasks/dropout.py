"""Inverted dropout (Srivastava et al. 2014, section 10): write its backward.

Forward keeps each entry of x with probability 1 - p, and scales up what it keeps, so that output is x on average:

    mask   = a random number in [0, 1) is at least p        True: kept, False: dropped
    output = x / (1 - p) where mask is True, else 0

Backward is given grad_output, the gradient of output, and the cache that forward returned, with the mask that it drew.
It returns grad_x, and an empty dict, since there are no parameters.

Shapes: x, mask, output and their gradients are all of the same shape, whatever it is.
"""

from __future__ import annotations

import numpy as np

from npformer import Dropout as RightDropout
from npformer.component import Array, Component, Tree
from npformer.exercises.task import BackwardTask, Term
from npformer.gradcheck import Case


class Dropout(Component):
    """Has the attribute p, the probability of dropping an entry."""

    p: float

    def forward(self, x: Array, rng: np.random.Generator) -> tuple[Array, Tree]:
        mask = rng.random(x.shape) >= self.p
        return np.where(mask, x / (1 - self.p), 0), {"mask": mask}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        """Return grad_x, and {}."""
        return grad_output * cache["mask"] / (1 - self.p), {}


def terms(case: Case, cache: Tree, grad_output: Array) -> dict[str, tuple[Term, ...]]:
    (x,), mask = case.inputs, cache["mask"]
    keep = 1 - vars(case.component)["p"]
    return {
        "x": (
            Term("grad_output / (1 - p), kept entries", "x → mask → output", 1, grad_output * mask / keep),
            Term("grad_output / (1 - p), dropped entries", "x past the mask", 0, grad_output * ~mask / keep),
            Term("x * mask / (1 - p)", "output itself, which is no slope", 0, x * mask / keep),
        )
    }


def regions(case: Case, cache: Tree) -> dict[str, dict[str, Array]]:
    return {"x": {"dropped entries": ~cache["mask"], "kept entries": cache["mask"]}}


def divided_by_p(dropout: RightDropout, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """p is the probability of dropping, but it is taken for that of keeping: the gradient is divided by p."""
    return grad_output * cache["mask"] / dropout.p, {}


def scale_twice(dropout: RightDropout, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The gradient is divided by 1 - p twice."""
    return grad_output * cache["mask"] / (1 - dropout.p) ** 2, {}


def scale_upside_down(dropout: RightDropout, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The gradient is multiplied by 1 - p, which forward divides by, as if backward had to undo it."""
    return grad_output * cache["mask"] * (1 - dropout.p), {}


def share_that_was_kept(dropout: RightDropout, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The gradient is divided by the share that this mask happened to keep, instead of the probability 1 - p."""
    return grad_output * cache["mask"] / cache["mask"].mean(), {}


def mask_of_the_first_item(dropout: RightDropout, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The mask of the first item of the batch is used for all items."""
    return grad_output * cache["mask"][:1] / (1 - dropout.p), {}


def dropped_entries_unscaled(dropout: RightDropout, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """Kept entries are right, but dropped ones pass the gradient on as it came instead of 0."""
    return np.where(cache["mask"], grad_output / (1 - dropout.p), grad_output), {}


TASK = BackwardTask(
    name="dropout",
    title="Dropout, backward",
    statement=__doc__,
    solution=Dropout,
    component=RightDropout,
    make="Dropout",
    points=2,
    paths={"x": "output → mask and scale → x"},
    terms=terms,
    regions=regions,
    wrong=(
        divided_by_p,
        scale_twice,
        scale_upside_down,
        share_that_was_kept,
        mask_of_the_first_item,
        dropped_entries_unscaled,
    ),
    hints=(
        "The mask does not depend on x. Once it is drawn, forward multiplies each x by a constant.",
        "Move a dropped x by a little: how much does its output move? Then do the same to one that was kept.",
        "The slope is one number where the entry was kept and another where it was dropped. The mask of this very "
        "forward is in the cache; a new draw would be another one.",
    ),
    derivation="""
    Entry by entry, output = x * m with m = mask / (1 - p), which does not depend on x. So d output / d x = m, and

        grad_x = grad_output * mask / (1 - p)

    Backward is forward with grad_output for x and the same mask: a linear map that is its own transpose.
    """,
)
