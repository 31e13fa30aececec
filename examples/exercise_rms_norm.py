"""Root-mean-square normalisation (Zhang & Sennrich 2019, eq. 4): write its backward.

Forward divides each row, that is the last axis of x, by the root of its mean square:

    rrms   = 1 / sqrt(mean(x²) + eps)
    output = weight * x * rrms

Backward is given grad_output, the gradient of output, and the cache that forward returned. It returns grad_x and the
gradient of weight.

Shapes: x, output and their gradients (..., d_model), with any number of leading axes; rrms (..., 1); weight and its
gradient (d_model,).
"""

# An exercise that a teacher adds is one file like this one. What stands above is the head of the learner's file: the
# formula of forward, what is asked, and all shapes. Everything goes into TASK, at the end. Learners use it with
#
#     npformer exercise start rms_norm --task-file exercise_rms_norm.py
#     npformer exercise check rms_norm --task-file exercise_rms_norm.py
#
# and a teacher's own test of it is npformer.exercises.assert_solved(RMSNorm, TASK). Whenever the file is loaded, TASK
# is proven: the solution by the gradient checker, the terms by their sum, and each mistake by what it changes. What is
# not right is refused in one sentence.

from __future__ import annotations

import numpy as np

from npformer.component import Array, Component, Tree
from npformer.exercises.task import BackwardTask, Term
from npformer.gradcheck import Case, Sizes, randomise


# The right component. The learner's file is made from the source of this class, with the imports above that it needs,
# and without the body of backward. So what backward calls must be in the class too.
class RMSNorm(Component):
    """Has the attributes weight and eps."""

    parameter_names = ("weight",)

    def __init__(self, d_model: int, eps: float = 1e-5):
        self.weight = np.ones(d_model)
        self.eps = eps

    def forward(self, x: Array) -> tuple[Array, Tree]:
        rrms = 1 / np.sqrt((x**2).mean(-1, keepdims=True) + self.eps)
        return self.weight * x * rrms, {"x": x, "rrms": rrms}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        """Return grad_x, and {"weight": grad_weight}."""
        x, rrms = cache["x"], cache["rrms"]
        g = grad_output * self.weight
        grad_x = rrms * g - rrms**3 * x * (g * x).mean(-1, keepdims=True)
        rows = tuple(range(grad_output.ndim - 1))
        return grad_x, {"weight": (grad_output * x * rrms).sum(rows)}


# What it is tried on. `sizes` are those of several situations in which mistakes show: use them, so that no two axes
# happen to have one size. Random parameters matter: a weight of 1 hides a weight that was forgotten.
def make(sizes: Sizes, rng: np.random.Generator) -> Case:
    norm = RMSNorm(sizes.d_model)
    randomise(norm, rng)
    return Case(norm, (rng.standard_normal((sizes.batch, sizes.T_k, sizes.d_model)),))


# The terms that a gradient is the sum of. The grader fits a wrong gradient to them: which is missing, which has the
# wrong factor? A term of coefficient 0 does not belong there, but people write it. Gradients that have one term only
# need none of this, and neither does a task: then a wrong gradient is recognised by the mistakes below alone.
def terms(case: Case, cache: Tree, grad_output: Array) -> dict[str, tuple[Term, ...]]:
    x, rrms = cache["x"], cache["rrms"]
    g = grad_output * case.component.parameters()["weight"]
    path = "x → mean(x²) → rrms → output"
    return {
        "x": (
            Term("rrms * g", "x → output", 1, rrms * g),
            Term("rrms³ * x * mean(g * x)", path, -1, rrms**3 * x * (g * x).mean(-1, keepdims=True)),
            Term("rrms² * x * mean(g * x)", path, 0, rrms**2 * x * (g * x).mean(-1, keepdims=True)),
        )
    }


# Mistakes that the grader shall know by name: each is a wrong backward. `norm` is the right component. The docstring is
# one line that explains the mistake; learners see it with --spoil.
def mean_square_forgotten(norm: RMSNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """rrms is taken for a constant, though it depends on every x of its row."""
    _, grads = norm.backward(grad_output, cache)
    return cache["rrms"] * grad_output * norm.weight, grads


def mean_term_kept(norm: RMSNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The mean of the gradient is subtracted as in layer normalisation, but here no mean was subtracted from x."""
    grad_x, grads = norm.backward(grad_output, cache)
    g = grad_output * norm.weight
    return grad_x - cache["rrms"] * g.mean(-1, keepdims=True), grads


TASK = BackwardTask(
    name="rms_norm",  # also the name of the learner's file
    title="Root-mean-square normalisation, backward",
    statement=__doc__,
    solution=RMSNorm,
    component=RMSNorm,
    make=make,
    terms=terms,
    paths={"x": "output → x", "weight": "output → weight"},  # shown to whoever got that gradient wrong
    wrong=(mean_square_forgotten, mean_term_kept),
    hints=(  # the first points at where to look, the last nearly gives it away
        "Begin with weight: which entries of output did one entry of it move?",
        "x reaches output in two ways: directly, and through a number that is computed from the whole row.",
        "That number is rrms = (mean(x²) + eps)^(-1/2). Its gradient is one sum over the row, and its slope at each x "
        "is -rrms³ * x / d_model.",
    ),
    derivation="""
    grad_weight = Σ_rows grad_output * x * rrms, since every row used weight.

    With g = grad_output * weight, the gradient of x * rrms, and n = d_model:

        grad_rrms = Σ g * x                            over the row: one number for each
        d rrms / d x = -1/2 * rrms³ * 2 x / n
        grad_x    = g * rrms                           directly
                  - grad_rrms * rrms³ * x / n          through rrms
                  = rrms * g - rrms³ * x * mean(g * x)
    """,
    points=4,
)
