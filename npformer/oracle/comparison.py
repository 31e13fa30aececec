"""What a comparison came to, as a table, as a sentence and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from npformer.gradcheck.report import without_infinities
from npformer.gradcheck.verdict import FAIL, PASS

MISSING = "MISSING"


class Origin(StrEnum):
    """Where the error of an array comes from; the surest first."""

    HERE = "wrong here"
    HERE_OR_BEFORE = "wrong here or before"
    INHERITED = "inherited"
    NONE = ""


@dataclass(frozen=True)
class Worst:
    """One of the worst entries: its index, both values, and its error in units in the last place and over tolerance."""

    index: tuple[int, ...]
    theirs: float
    expected: float
    ulps: float
    ratio: float


@dataclass(frozen=True)
class Row:
    """One array of a comparison.

    Attributes
    ----------
    name : str
    verdict : {"PASS", "FAIL", "MISSING"}
    wrong, compared : int
        How many entries are beyond their tolerance, and how many were looked at.
    worst : tuple of Worst
        The entries with the largest error over tolerance.
    at_kinks : int
        How many entries are right because rounding decides their side of a kink.
    origin : Origin
        Of an array that fails.
    missing : str
        If it is wrong here or before: the nearest array upstream that was not given.
    slip : str
        What it looks like, if that is known.
    shape, expected_shape : tuple of int or None
        If the shape is wrong.
    run : int
        Which of several runs this is from.
    """

    name: str
    verdict: str
    wrong: int
    compared: int
    worst: tuple[Worst, ...] = ()
    at_kinks: int = 0
    origin: Origin = Origin.NONE
    missing: str = ""
    slip: str = ""
    shape: tuple[int, ...] | None = None
    expected_shape: tuple[int, ...] | None = None
    run: int = 0

    def with_origin(self, origin: Origin, slip: str = "") -> Row:
        """Return the row with where its error comes from."""
        return replace(self, origin=origin, slip=slip)

    def line(self, width: int) -> str:
        """Return the row of the table, with this much room for the name."""
        if self.verdict == MISSING:
            return f"{self.name:<{width}}  {self.verdict}"
        if self.shape is not None:
            error = f"shape {self.shape}, expected {self.expected_shape}"
        else:
            error = f"{self.worst[0].ratio:>9.2g} {self.worst[0].ulps:>9.2g}"
        notes = [f"{self.wrong:,} of {self.compared:,} entries"] if self.verdict == FAIL and self.shape is None else []
        notes += [f"{self.at_kinks:,} at a kink"] if self.at_kinks else []
        notes += [self.origin] if self.origin else []
        return f"{self.name:<{width}}  {self.verdict:<7} {error}{'  ' if notes else ''}{', '.join(notes)}"


@dataclass(frozen=True)
class Comparison:
    """The arrays of another implementation beside those expected.

    Attributes
    ----------
    rows : list of Row
        One for each array, in order of execution; of several runs, that of the worst.
    runs : int
        How many runs were given.
    unknown : list of str
        Names that they gave and nobody knows.
    lacking : list of str
        Arrays that had to be given, and were not.
    """

    rows: list[Row]
    runs: int
    unknown: list[str]
    lacking: list[str]

    @property
    def passed(self) -> bool:
        """Whether all that was given is right, and nothing lacks."""
        return not self.lacking and all(row.verdict != FAIL for row in self.rows)

    @property
    def first_wrong(self) -> Row | None:
        """The first array that fails."""
        return next((row for row in self.rows if row.verdict == FAIL), None)

    @property
    def conclusion(self) -> str:
        """What came out, in a sentence."""
        first = self.first_wrong
        right = sum(row.verdict == PASS for row in self.rows)
        if first is None:
            if self.lacking:
                return f"{right} arrays are right, but {_listed(self.lacking)} is missing"
            return f"All {right} arrays that were given are right"
        slip = f": {first.slip}" if first.slip else ""
        if first.origin == Origin.HERE:
            return f"{first.name} is the first wrong array, and is wrong there{slip}"
        if first.origin == Origin.HERE_OR_BEFORE:
            return (
                f"{first.name} is the first wrong array{slip}; the mistake is there or before, since {first.missing} "
                "is missing"
            )
        return (
            f"{first.name} is the first wrong array, but follows from the arrays given before it: "
            "no single operation is wrong, their errors add up"
        )

    def __str__(self) -> str:
        width = max(len(row.name) for row in self.rows)
        lines = [f"{'array':<{width}}  verdict error/tol      ULPs", *(row.line(width) for row in self.rows)]
        if self.first_wrong is not None and self.first_wrong.worst:
            lines += ["", f"{self.first_wrong.name}, worst entries"]
            if self.runs > 1:
                lines[-1] += f" (run {self.first_wrong.run + 1} of {self.runs})"
            lines += [f"{'index':<20} {'theirs':>24} {'expected':>24} {'ULPs':>9} {'error/tol':>9}"]
            lines += [
                f"{list(worst.index)!s:<20} {worst.theirs:>24.17g} {worst.expected:>24.17g} "
                f"{worst.ulps:>9.2g} {worst.ratio:>9.2g}"
                for worst in self.first_wrong.worst
            ]
        elsewhere = [row.name for row in self.rows if row.origin == Origin.HERE][1:]
        if elsewhere:
            lines += ["", f"Also wrong where they are made: {', '.join(elsewhere)}"]
        if self.unknown:
            lines += ["", f"Names that are not known, and were not compared: {', '.join(self.unknown)}"]
        return "\n".join([*lines, "", f"{self.conclusion}."])

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        first = self.first_wrong
        return {
            "passed": self.passed,
            "conclusion": self.conclusion,
            "first_wrong": None if first is None else first.name,
            "runs": self.runs,
            "unknown": self.unknown,
            "lacking": self.lacking,
            "rows": [asdict(row) for row in self.rows],
        }

    def to_json(self) -> str:
        """Return it as JSON; what is not finite is null."""
        return json.dumps(without_infinities(self.to_dict()), indent=2, allow_nan=False)


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} with {len(names) - 1} more"
