"""Softmax (Bridle 1990): write its backward.

Forward turns each row, that is the last axis of x, into weights that add up to 1:

    output_i = exp(x_i) / Σ_j exp(x_j)

The largest x of the row is subtracted first. It cancels in the quotient, so that backward need not know of it.

Backward is given grad_output, the gradient of output, and the cache that forward returned. It returns grad_x, and {}
since there are no parameters.

Shapes: x, output and their gradients (..., T), with any number of leading axes.
"""

from __future__ import annotations

import numpy as np

from npformer import Softmax as RightSoftmax
from npformer.component import Array, Component, Tree
from npformer.exercises.task import BackwardTask, Term
from npformer.gradcheck import Case
from npformer.mistakes.catalogue import Gradients


class Softmax(Component):
    """Has no attributes."""

    def forward(self, x: Array) -> tuple[Array, Tree]:
        exps = np.exp(x - x.real.max(-1, keepdims=True))  # .real, since the checker takes complex steps
        output = exps / exps.sum(-1, keepdims=True)
        return output, {"output": output}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        """Return grad_x, and {}."""
        y = cache["output"]
        row_sums = (grad_output * y).sum(-1, keepdims=True)
        return y * (grad_output - row_sums), {}


def row_sums(array: Array) -> Array:
    sums: Array = array.sum(-1, keepdims=True)
    return sums


def terms(case: Case, cache: Tree, grad_output: Array) -> dict[str, tuple[Term, ...]]:
    y, g = cache["output"], grad_output
    return {
        "x": (
            Term("y * g", "x → exp(x) → the output of the same place", 1, y * g),
            Term(
                "y * Σ(g * y)", "x → exp(x) → the sum over the row → every output of the row", -1, y * row_sums(g * y)
            ),
            Term("y * Σ g", "x → the sum over the row → every output, not weighted by it", 0, y * row_sums(g)),
            Term("y² * g", "x → the sum over the row → the output of the same place alone", 0, y * y * g),
            Term("g", "x → output, as if they were the same", 0, g),
        )
    }


def regions(case: Case, cache: Tree) -> dict[str, dict[str, Array]]:
    y = cache["output"]
    return {"x": {"the largest of its row": y == y.max(-1, keepdims=True)}}


def row_sum_added(softmax: RightSoftmax, grad_output: Array, cache: Tree) -> Gradients:
    """The sum over the row has the wrong sign: a larger x lowers the other outputs."""
    y = cache["output"]
    return y * (grad_output + row_sums(grad_output * y)), {}


def row_sum_outside_the_product(softmax: RightSoftmax, grad_output: Array, cache: Tree) -> Gradients:
    """The parentheses are missing: y multiplies grad_y, but not the sum that is subtracted from it."""
    y = cache["output"]
    return y * grad_output - row_sums(grad_output * y), {}


def y_outside_missing(softmax: RightSoftmax, grad_output: Array, cache: Tree) -> Gradients:
    """The sum is subtracted, but what is left is not multiplied by y."""
    return grad_output - row_sums(grad_output * cache["output"]), {}


def y_outside_twice(softmax: RightSoftmax, grad_output: Array, cache: Tree) -> Gradients:
    """The sum is multiplied by y² instead of y, as if it were that of the diagonal."""
    y = cache["output"]
    return y * (grad_output - y * row_sums(grad_output * y)), {}


def sum_over_everything(softmax: RightSoftmax, grad_output: Array, cache: Tree) -> Gradients:
    """The sum runs over all rows at once instead of over each row."""
    y = cache["output"]
    return y * (grad_output - (grad_output * y).sum()), {}


def of_the_logarithm(softmax: RightSoftmax, grad_output: Array, cache: Tree) -> Gradients:
    """grad_y - y * Σ grad_y is the backward of the logarithm of softmax."""
    return grad_output - cache["output"] * row_sums(grad_output), {}


def softmax_of_the_output(softmax: RightSoftmax, grad_output: Array, cache: Tree) -> Gradients:
    """The cached output is taken for x and put through softmax a second time."""
    return softmax.backward(grad_output, {"output": softmax(cache["output"])})


def off_the_diagonal_alone(softmax: RightSoftmax, grad_output: Array, cache: Tree) -> Gradients:
    """The entries -y_i y_j of the Jacobian are used, but its diagonal is left 0."""
    y = cache["output"]
    return -y * (row_sums(grad_output * y) - grad_output * y), {}


TASK = BackwardTask(
    name="softmax",
    title="Softmax, backward",
    statement=__doc__,
    solution=Softmax,
    component=RightSoftmax,
    make="Softmax",
    points=3,
    paths={"x": "output → exp(x), and output → the sum over the row → exp(x)"},
    terms=terms,
    regions=regions,
    wrong=(
        row_sum_added,
        row_sum_outside_the_product,
        y_outside_missing,
        y_outside_twice,
        sum_over_everything,
        of_the_logarithm,
        softmax_of_the_output,
        off_the_diagonal_alone,
    ),
    hints=(
        "Raise one x of a row a little. Which outputs of the row change, and in which direction?",
        "x reaches output in two ways: through the exp above the fraction bar, and through the sum below it, in which "
        "every exp of the row stands. The second way leads to all outputs of the row.",
        "Call the output y. Differentiate the quotient: the slope of y_i by x_j is y_i (1 - y_i) if i is j, and "
        "-y_i y_j if not. You need nothing but y, which the cache has.",
        "The gradient of x_j is Σ_i grad_output_i times that slope. Take y_j out of all its terms: what is left "
        "is grad_output_j minus one number, the same for the whole row.",
    ),
    derivation="""
    Call the output y and e_i = exp(x_i), s = Σ_k e_k, so that y_i = e_i / s. x_j stands in e_j and in s:

        ∂y_i/∂x_j = δ_ij e_j / s - e_i e_j / s² = y_i (δ_ij - y_j),      δ_ij = 1 if i is j, else 0

    Each x_j moves all outputs of its row, so with g = grad_output

        grad_x_j = Σ_i g_i y_i (δ_ij - y_j) = g_j y_j - y_j Σ_i g_i y_i

    that is

        grad_x = y * (g - Σ(g * y))          with the sum over the row

    Check: the outputs add up to 1 whatever x is, so if all g of a row are equal, grad_x must be 0. It is.
    """,
)
