"""Gradient checking that gives no false verdict: a hand-written backward judged by the exact slopes of its forward.

The way that data takes: `subject` puts what is checked behind one face; `conduct` runs its backward and watches it;
`terms` says how large the terms were whose sum a gradient is; `objective` has the raw slopes of forward, by complex
step and by differences, and `truth` establishes from them what a slope is; `judge` compares and gives the verdict,
`locate` finds the wrong entries, `check` is the way through all this, and `report` says what came out. `cases` makes
inputs on which wrong gradients show, and `derivatives` has the exact derivatives as tools of their own.
"""

from npformer.gradcheck.cases import CASES, Case, discriminating_cases, make_case, randomise
from npformer.gradcheck.check import assert_gradient, check_gradients
from npformer.gradcheck.derivatives import hvp, jvp
from npformer.gradcheck.report import Report
from npformer.gradcheck.sizes import SITUATIONS, Sizes
from npformer.gradcheck.verdict import ArrayCheck, WrongEntry

__all__ = [
    "CASES",
    "SITUATIONS",
    "ArrayCheck",
    "Case",
    "Report",
    "Sizes",
    "WrongEntry",
    "assert_gradient",
    "check_gradients",
    "discriminating_cases",
    "hvp",
    "jvp",
    "make_case",
    "randomise",
]
