"""What the tables have in common: settings, rows, and how a line is laid out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

from npformer.bench.timing import Rounds, geometric_mean

DTYPES = ("float32", "float64")
ACTIVATIONS = ("relu", "gelu")
MIB = 2**20


@dataclass(frozen=True)
class Settings:
    """What is measured, in how many rounds (None: by the clock), if in the short form, beside PyTorch, with rests."""

    dtypes: tuple[str, ...] = DTYPES
    activations: tuple[str, ...] = ACTIVATIONS
    rounds: int | None = None
    smoke: bool = False
    with_torch: bool = True
    rest: bool = True

    def limit(self, usual: Rounds) -> Rounds:
        """Return the number of rounds that was asked for, or one in the short form, or the usual."""
        count = 1 if self.smoke and self.rounds is None else self.rounds
        rounds = usual if count is None else Rounds(count, count, 0)
        return replace(rounds, rest=0, warm_up=0) if self.smoke or not self.rest else rounds


class Row(Protocol):
    """A row of a table, a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def faults(self) -> tuple[str, ...]:
        """Return a sentence for everything in which contestants disagree."""

    def cells(self) -> Sequence[str]:
        """Return the text under each column."""


class Section(ABC):
    """One table; `columns` are the headings, as wide as the column."""

    title: str
    columns: tuple[str, ...]

    @abstractmethod
    def rows(self, settings: Settings) -> Iterator[Row]:
        """Measure one row after the other."""

    @abstractmethod
    def summary(self, rows: Sequence[Any]) -> dict[str, float]:
        """Return the numbers to remember by what they are."""

    def line(self, cells: Sequence[str]) -> str:
        """Lay out a row: the first column to the left, the others to the right."""
        first, *others = zip(cells, self.columns, strict=True)
        return "  ".join(
            [first[0].ljust(len(first[1])), *(cell.rjust(len(column)) for cell, column in others)]
        ).rstrip()


def shown(value: float | None, digits: int = 2) -> str:
    """Return a number, or a dash for what was not measured.

    Examples
    --------
    >>> shown(1234.567), shown(None)
    ('1,234.57', '-')
    """
    return "-" if value is None else f"{value:,.{digits}f}"


def in_mib(value: int | None) -> str:
    """Return bytes in MiB."""
    return shown(None if value is None else value / MIB, 1)


def quotient(value: float | None, other: float | None) -> float | None:
    """Return value / other, or None if one was not measured or there is nothing to divide by."""
    return None if value is None or not other else value / other


def mean_and_largest(label: str, ratios: Sequence[float | None]) -> dict[str, float]:
    """Return the geometric mean and the largest of the ratios that were measured."""
    known = [ratio for ratio in ratios if ratio is not None]
    if not known:
        return {}
    return {f"{label}: geometric mean of {len(known)}": geometric_mean(known), f"{label}: largest": max(known)}
