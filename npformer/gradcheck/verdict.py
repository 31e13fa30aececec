"""What a verdict on the gradient of one array consists of."""

from __future__ import annotations

import math
from dataclasses import dataclass

PASS, FAIL, UNDECIDED = "PASS", "FAIL", "UNDECIDED"
OF_LARGEST = 1e-13  # the tolerance of float64, relative to the largest entry; see judge


@dataclass(frozen=True)
class WrongEntry:
    """An entry of a gradient that is wrong: where it stands, what backward returned, and what is true."""

    index: tuple[int, ...]
    ours: float
    true: float


@dataclass(frozen=True)
class ArrayCheck:
    """What was measured for the gradient of one array.

    Attributes
    ----------
    name : str
        Name of an input, or dotted name of a parameter.
    entries : int
        Size of the array.
    verdict : {"PASS", "FAIL", "UNDECIDED"}
        UNDECIDED where the truth could not be established.
    error, tolerance : float
        Largest error of a slope, and what it may be.
    yardstick : {"largest", "terms", "conditioning"}
        What the errors are relative to: the gradient's largest entry; the size of the terms whose sum it is where these
        cancel (as they do for a key projection's bias, whose gradient is 0 in truth); or, where forward is
        ill-conditioned, how much its slopes change when all arrays change in their last bit.
    method : {"complex step", "differences", "one-sided slopes"}
        How the truth was established; with differences the tolerance is the precision that they reached.
    witness : float
        Largest error against the central difference, which stands beside every complex step.
    reason : str
        Why it is no PASS, or what limits one.
    wrong : tuple of WrongEntry
        Entries that are wrong, those of the largest error first; found by halving where the check is directional.
    wrong_entries : int or None
        How many there are; None where only some were looked for.
    seconds : float
        Time that the check took.
    """

    name: str
    entries: int
    verdict: str
    error: float = math.inf
    tolerance: float = OF_LARGEST
    yardstick: str = "largest"
    method: str = "complex step"
    witness: float = math.inf
    reason: str = ""
    wrong: tuple[WrongEntry, ...] = ()
    wrong_entries: int | None = None
    seconds: float = 0.0
