"""What a grader found, as plain data: it comes back from the process that the learner's code ran in."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from npformer.gradcheck.report import without_infinities
from npformer.gradcheck.verdict import PASS

SOLVED, WRONG, BLANK, ERROR = "solved", "wrong", "blank", "error"
CERTAIN, LIKELY, POSSIBLE = "certain", "likely", "possible"


@dataclass(frozen=True)
class ArrayGrade:
    """The verdict on one array, over all situations.

    Attributes
    ----------
    name : str
        As the learner's code names it: an input, a dotted name of a parameter, or an output.
    verdict : str
        PASS, FAIL or UNDECIDED: the worst over the situations.
    reason : str
        What the verdict rests on, in one line; empty for PASS.
    """

    name: str
    verdict: str
    reason: str = ""


@dataclass(frozen=True)
class SideBySide:
    """A wrong array in a case that is small enough to be read.

    Attributes
    ----------
    name : str
        Of the array.
    given : tuple of (str, matrix)
        What the learner's function was given, as rows of numbers, or "" and no rows where that would be long.
    yours, true : matrix
        Tuples of rows; an array of other rank is shown as the matrix of its last axis.
    shape : tuple of int
        Of the array itself.
    """

    name: str
    given: tuple[tuple[str, tuple[tuple[float, ...], ...]], ...]
    yours: tuple[tuple[float, ...], ...]
    true: tuple[tuple[float, ...], ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Finding:
    """One thing that explains what is wrong.

    Attributes
    ----------
    arrays : tuple of str
        The arrays that it explains.
    name : str
        A mistake of the catalogue, such as "LayerNorm.mean_term_missing", or a generic slip, such as "wrong sign".
    sureness : str
        "certain" (it gives exactly what the learner's code gives, in every situation), "likely" or "possible".
    evidence : str
        What that rests on.
    path : str
        The path of the computation graph that was forgotten or gone wrong, without the formula.
    spoiler : str
        What is wrong, in words and formulas; it is shown only when asked for.
    """

    arrays: tuple[str, ...]
    name: str
    sureness: str
    evidence: str
    path: str
    spoiler: str


@dataclass(frozen=True)
class Grade:
    """What came out of checking a learner's code. Printed, it is a report.

    Attributes
    ----------
    task, title : str
        The exercise.
    status : str
        "solved", "wrong", "blank" (nothing is written yet) or "error" (the code cannot be run to its end).
    message : str
        One line for "solved" and "wrong"; where and why it stopped for "blank" and "error".
    arrays : tuple of ArrayGrade
        One for each gradient, or each output of a function.
    points, out_of : float, int
        Partial credit: each array that is right in every situation has its share.
    side_by_side : SideBySide or None
        A tiny case that shows the first wrong array.
    findings : tuple of Finding
        The surest first.
    whereabouts : tuple of str
        Where the wrong entries are, one line each.
    printed : str
        What the learner's code printed.
    """

    task: str
    title: str
    status: str
    message: str
    arrays: tuple[ArrayGrade, ...] = ()
    points: float = 0.0
    out_of: int = 0
    side_by_side: SideBySide | None = None
    findings: tuple[Finding, ...] = ()
    whereabouts: tuple[str, ...] = ()
    printed: str = ""

    @property
    def passed(self) -> bool:
        """Whether the exercise is solved."""
        return self.status == SOLVED

    @property
    def right(self) -> tuple[str, ...]:
        """The names of the arrays that are right in every situation."""
        return tuple(array.name for array in self.arrays if array.verdict == PASS)

    def __str__(self) -> str:
        from npformer.exercises.report import report  # which reads grades

        return report(self)

    __repr__ = __str__  # what a notebook's cell shows

    def to_dict(self, spoil: bool = False) -> dict[str, Any]:
        """Return it as what JSON can hold: infinities and NaN, which it does not have, are None.

        What is wrong in formulas is there only with spoil.
        """
        findings = self.findings if spoil else tuple(replace(finding, spoiler="") for finding in self.findings)
        finite: dict[str, Any] = without_infinities({"passed": self.passed} | asdict(replace(self, findings=findings)))
        return finite

    def to_json(self, spoil: bool = False) -> str:
        """Return it as JSON, as to_dict does.

        Examples
        --------
        >>> json.loads(Grade("softmax", "Softmax, backward", SOLVED, "x is right.").to_json())["passed"]
        True
        """
        return json.dumps(self.to_dict(spoil), indent=2, allow_nan=False)
