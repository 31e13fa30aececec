"""The Gaussian error linear unit (Hendrycks and Gimpel 2016, eq. 1-2), in its exact form: write its backward.

Forward multiplies each x by the probability that a standard normal number is below it:

    output = x * Φ(x),    Φ(x) = ∫ φ(t) dt from -∞ to x,    φ(t) = exp(-t²/2) / √(2π)

Backward is given grad_output, the gradient of output, and the cache that forward returned, in which cdf is Φ(x). It
returns grad_x, and an empty dict, since there are no parameters.

Shapes: x, cdf, output and their gradients are all of the same shape, whatever it is.
"""

from __future__ import annotations

import math

import numpy as np

from npformer import activations
from npformer.component import Array, Component, Tree
from npformer.exercises.task import BackwardTask, Term
from npformer.gradcheck import Case
from npformer.special import normal_cdf, sigmoid


class GELU(Component):
    """Has no attributes."""

    def forward(self, x: Array) -> tuple[Array, Tree]:
        cdf = normal_cdf(x)
        return np.multiply(x, cdf), {"x": x, "cdf": cdf}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        """Return grad_x, and {}."""
        x, cdf = cache["x"], cache["cdf"]
        pdf = np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
        return grad_output * (cdf + x * pdf), {}


def density(x: Array) -> Array:
    values: Array = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return values


def terms(case: Case, cache: Tree, grad_output: Array) -> dict[str, tuple[Term, ...]]:
    x, cdf = cache["x"], cache["cdf"]
    pdf = density(x)
    return {
        "x": (
            Term("grad_output * Φ(x)", "x → x * Φ(x) → output, straight into the product", 1, grad_output * cdf),
            Term("grad_output * x * φ(x)", "x → Φ(x) → x * Φ(x) → output", 1, grad_output * x * pdf),
            Term("grad_output * φ(x)", "x → Φ(x), without the product that Φ(x) goes into", 0, grad_output * pdf),
            Term("grad_output * x * Φ(x)", "output itself, which is no slope", 0, grad_output * x * cdf),
        )
    }


def regions(case: Case, cache: Tree) -> dict[str, dict[str, Array]]:
    x = cache["x"]
    return {
        "x": {
            "the left tail, x < -2": x < -2,
            "where x < 0": x < 0,
            "where x > 0": x > 0,
            "where x is nearly 0": np.abs(x) < 0.1,
        }
    }


def distribution_term_missing(gelu: activations.GELU, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """x is taken for a constant: of the product rule's two terms only x Φ'(x) is there."""
    return grad_output * cache["x"] * density(cache["x"]), {}


def density_without_x(gelu: activations.GELU, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """Φ'(x) is added without its factor x, as if the output were x + Φ(x) and the product rule half applied."""
    return grad_output * (cache["cdf"] + density(cache["x"])), {}


def density_alone(gelu: activations.GELU, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The slope is that of Φ(x), not that of x Φ(x)."""
    return grad_output * density(cache["x"]), {}


def density_not_normalised(gelu: activations.GELU, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The density has no 1/√(2π), so that it does not integrate to 1."""
    x, cdf = cache["x"], cache["cdf"]
    return grad_output * (cdf + x * np.exp(-x * x / 2)), {}


def constant_of_the_error_function(gelu: activations.GELU, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The density has the constant of erf', 2/√π, over 2: the inner derivative 1/√2 of erf(x/√2) is missing."""
    x, cdf = cache["x"], cache["cdf"]
    return grad_output * (cdf + x * math.sqrt(2) * density(x)), {}


def density_subtracted(gelu: activations.GELU, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The term x Φ'(x) has the wrong sign."""
    x, cdf = cache["x"], cache["cdf"]
    return grad_output * (cdf - x * density(x)), {}


def sigmoid_for_the_distribution(gelu: activations.GELU, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The derivative is that of x σ(1.702 x), which only approximates what forward computed."""
    x = cache["x"]
    gate = sigmoid(1.702 * x)
    return grad_output * gate * (1 + 1.702 * x * (1 - gate)), {}


TASK = BackwardTask(
    name="gelu",
    title="The exact GELU, backward",
    statement=__doc__,
    solution=GELU,
    component=activations.GELU,
    make="GELU",
    points=3,
    paths={"x": "output → x * Φ(x) → x, both straight and through Φ(x)"},
    terms=terms,
    regions=regions,
    wrong=(
        distribution_term_missing,
        density_without_x,
        density_alone,
        density_not_normalised,
        constant_of_the_error_function,
        density_subtracted,
        sigmoid_for_the_distribution,
    ),
    hints=(
        "Each output depends on one x alone, so that grad_x is grad_output times a slope, entry by entry.",
        "x stands in the output twice. Draw the graph: one arrow goes from x straight into the product, another goes "
        "through Φ(x). Two paths are two terms.",
        "Φ is an integral up to x. What is the slope of an integral as its upper end moves? The statement has it.",
        "By the product rule the slope is 1 * Φ(x) + x * Φ'(x), and Φ(x) is in the cache.",
    ),
    derivation="""
    output = x * c with c = Φ(x). Two arrows leave x: one into the product, one into Φ.

        grad_x straight       = grad_output * c
        grad_c                = grad_output * x
        grad_x through Φ      = grad_c * Φ'(x)

    Φ is the integral of φ from -∞ to x, so that Φ'(x) = φ(x) = exp(-x²/2) / √(2π). The two paths add up:

        grad_x = grad_output * (Φ(x) + x * φ(x))

    Take Φ(x) from the cache. Written as (1 + erf(x/√2)) / 2 it would lose its digits in the left tail, where it is the
    small difference of two numbers near 1.
    """,
)
