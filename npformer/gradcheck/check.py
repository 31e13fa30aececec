"""The check of a backward: its conduct, then the gradient of each array against the true slopes of forward."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np

from npformer.component import Array
from npformer.gradcheck.arguments import check_by_position, check_names, gradient_fault
from npformer.gradcheck.conduct import Conduct, is_flat, observe
from npformer.gradcheck.joint import pass_together
from npformer.gradcheck.judge import judge
from npformer.gradcheck.locate import locate
from npformer.gradcheck.objective import Directions
from npformer.gradcheck.report import Report
from npformer.gradcheck.subject import Subject, silence
from npformer.gradcheck.truth import Truth
from npformer.gradcheck.verdict import FAIL, PASS, UNDECIDED, ArrayCheck
from npformer.shapes import check_count, check_flag

FLAT = "a grad_output that is constant along an axis hides mistakes, such as a softmax without its row sum"
OTHERWISE = "a decision, such as ReLU's x > 0, fell otherwise in float64: an input lies within rounding of it"
SMALL = 500  # entries: arrays up to this size are looked at entry by entry where directions leave something open


@silence()
def check_gradients(
    subject: Any,
    *inputs: Array,
    directions: int | None = None,
    jointly: bool = False,
    grad_output: Array | None = None,
    seed: int = 0,
    only: Collection[str] | None = None,
    **options: Any,
) -> Report:
    """Check the gradient of every floating input and every parameter of a hand-written backward.

    Truth is the complex-step derivative of forward, f(x + ihv).imag / h with h = 1e-200, which no subtraction spoils
    (Squire and Trapp 1998). A central difference stands beside it. Where forward takes real arrays alone, or the
    difference contradicts the complex step because forward is not analytic, extrapolated differences take its place,
    and the tolerance says how much they can tell. float32 is compared with the truth in float64.

    A backward FAILs whatever it returns if it writes into what it is given, does not repeat itself (also after another
    forward), is not linear in its cotangent, or returns NaN or infinity.

    Parameters
    ----------
    subject : Component, object with its protocol, or pair of functions
        The object needs ``forward(*inputs, **options) -> (output, cache)`` and ``backward(grad_output, cache) ->
        (grad_inputs, grads)``, and ``parameters()`` that returns a dict of its live arrays if it has any. The pair is
        ``forward(*arrays, **options) -> array`` and ``backward(grad_output, *arrays, **options) -> arrays``.
    *inputs : arrays
        What forward is called with; integer arrays have no gradient.
    directions : int, optional
        Slopes along this many random directions of length 1 for each array, for large models; entry by entry if not
        given. Wrong entries are found in both cases.
    jointly : bool
        Let all arrays move at once along each direction, so that a model of any number of arrays costs a few forwards;
        arrays that pass together share one error. Only with directions.
    grad_output : array, optional
        The cotangent; random and signed if not given. One with all entries equal hides mistakes, and gets no PASS.
    seed : int
        For the cotangent and the directions.
    only : names, optional
        Check these arrays and no others.
    **options
        Handed to forward, such as mask and rng. Each forward gets a copy, so that all draw the same dropout masks.

    Returns
    -------
    Report
        Its ``verdict`` is PASS, FAIL or UNDECIDED; its ``checks`` are the arrays': inputs first, then parameters, then
        what backward returned beyond them. Printed, it is a table.

    Raises
    ------
    TypeError, ValueError
        If this cannot be checked: an input that is no real and finite array, a parameter called like an input, a
        forward or backward that does not return what it must.

    Examples
    --------
    >>> from npformer import LayerNorm
    >>> report = check_gradients(LayerNorm(3), np.array([[1.0, 2.0, 4.0]]))
    >>> report.verdict, [check.name for check in report.checks]
    ('PASS', ['x', 'weight', 'bias'])
    >>> def forward(x, w):
    ...     return np.tanh(x @ w)
    >>> def backward(grad_output, x, w):  # forgets to square tanh
    ...     g = grad_output * (1 - np.tanh(x @ w))
    ...     return g @ w.T, x.T @ g
    >>> check_gradients((forward, backward), np.ones((1, 2)), np.ones((2, 1))).verdict
    'FAIL'
    """
    random = np.random.default_rng(check_count("seed", seed, least=0))
    checked = Subject(subject, inputs, options)
    arrays = checked.arrays()
    if only is not None:
        check_names("only", only, list(arrays))
    if directions is not None:
        check_count("directions", directions)
    if check_flag("jointly", jointly) and directions is None:
        raise ValueError("jointly must go with a number of directions, but directions is None")

    conduct = observe(checked, grad_output, random)
    check_by_position(options)  # after forward, whose own sentences come first
    truth = Truth(checked, conduct.cotangent, conduct.output)
    chosen = {name: array for name, array in arrays.items() if only is None or name in only}
    settled = _settled_by_conduct(chosen, conduct)
    if jointly and directions is not None:
        open_ones = {name: conduct.gradients[name] for name in chosen.keys() - settled.keys()}
        settled |= pass_together(open_ones, conduct.sizes, truth, directions, random)
    checks = []
    for name in chosen:
        start = time.perf_counter()
        check = settled.get(name) or _check_array(name, conduct, truth, directions, random)
        checks.append(replace(check, seconds=time.perf_counter() - start))
    if grad_output is not None and is_flat(grad_output):
        checks = [
            replace(check, verdict=UNDECIDED, reason=FLAT) if check.verdict == PASS else check for check in checks
        ]
    beyond = sorted(conduct.gradients.keys() - arrays.keys()) if only is None else []
    checks += [ArrayCheck(name, 0, FAIL, reason="backward returned a gradient of what has none") for name in beyond]
    return Report(checked.title, directions and int(directions), int(seed), tuple(checks))


def assert_gradient(
    subject: Any,
    *inputs: Array,
    directions: int | None = None,
    jointly: bool = False,
    grad_output: Array | None = None,
    seed: int = 0,
    only: Collection[str] | None = None,
    **options: Any,
) -> Report:
    """Raise AssertionError unless every gradient is a PASS; for test suites.

    Parameters, what is returned and what else is raised are those of check_gradients.

    Raises
    ------
    AssertionError
        It names the arrays that are wrong or undecided, what was measured, and the wrong entries beside the true ones.

    Examples
    --------
    >>> from npformer import Softmax
    >>> assert_gradient(Softmax(), np.array([[1.0, 2.0, 4.0]])).verdict
    'PASS'
    """
    __tracebackhide__ = True  # pytest shows the line of the test, not this one
    report = check_gradients(
        subject,
        *inputs,
        directions=directions,
        jointly=jointly,
        grad_output=grad_output,
        seed=seed,
        only=only,
        **options,
    )
    if report.verdict != PASS:
        raise AssertionError(f"the gradients are not proven right\n{report}")
    return report


def _settled_by_conduct(arrays: dict[str, Array], conduct: Conduct) -> dict[str, ArrayCheck]:
    """Return the verdicts that need no slopes, since backward misbehaved or a gradient has not the form of one."""
    settled = {}
    for name, array in arrays.items():
        fault = conduct.fault or gradient_fault(conduct.gradients.get(name), array.shape)
        if fault or conduct.excuse:
            verdict = FAIL if fault else UNDECIDED
            settled[name] = ArrayCheck(name, array.size, verdict, reason=fault or conduct.excuse)
    return settled


def _check_array(
    name: str, conduct: Conduct, truth: Truth, directions: int | None, random: np.random.Generator
) -> ArrayCheck:
    gradient = np.asarray(conduct.gradients[name])
    along = Directions(gradient.shape, directions, int(random.integers(2**32)))
    check = judge(name, conduct, along, truth)
    if directions is not None and check.verdict != PASS and gradient.size <= SMALL:
        along = Directions(gradient.shape, None, 0)
        by_entry = judge(name, conduct, along, truth)
        check = by_entry if by_entry.verdict != PASS or check.verdict == UNDECIDED else check
    elif directions is not None and check.verdict == FAIL:
        allowed = check.tolerance * float(np.abs(gradient).max())
        check = replace(check, wrong=locate(name, gradient, truth, allowed, int(random.integers(2**32))))
    decided_otherwise = truth.exact is not None and truth.exact.decisions != conduct.decisions
    if decided_otherwise and check.verdict == FAIL and check.method != "differences":
        return replace(check, verdict=UNDECIDED, reason=OTHERWISE)
    return check
