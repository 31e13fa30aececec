"""Exact gradient checking: a backward judged by complex-step differentiation of its forward.

`terms` says how large the terms were whose sum a gradient is, `check` compares and judges, and `cases` makes
inputs on which wrong gradients show.
"""

from npformer.gradcheck.cases import CASES, Case, Sizes, make_case, randomise
from npformer.gradcheck.check import ArrayCheck, check_gradients
from npformer.gradcheck.terms import Terms, named_gradients, term_sizes

__all__ = [
    "CASES",
    "ArrayCheck",
    "Case",
    "Sizes",
    "Terms",
    "check_gradients",
    "make_case",
    "named_gradients",
    "randomise",
    "term_sizes",
]
