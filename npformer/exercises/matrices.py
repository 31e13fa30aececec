"""Small matrices beside each other as text, with wrong entries marked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from npformer.gradcheck.verdict import OF_LARGEST

Matrix = Sequence[Sequence[float]]
Paint = Callable[[str], str]

SHOWN = 8  # rows and columns at most
ROUNDING = 1e-15  # of numbers near 1, whose difference should be 0
GAP = "    "


@dataclass(frozen=True)
class Block:
    """Lines of one width, not counting the codes of colours, and a title above them."""

    title: str
    lines: tuple[str, ...]
    width: int


def compared(yours: Matrix, true: Matrix, paint: Paint = str) -> tuple[list[Block], list[str]]:
    """Return the blocks yours, true and difference, and notes on what they do not show.

    Wrong entries have a `*` behind them. Where the matrices have different sizes, there is no difference.

    Parameters
    ----------
    yours, true : matrices
        Rows of numbers.
    paint : function
        Is applied to the text of each wrong entry.

    Examples
    --------
    >>> blocks, notes = compared([[1.0, 2.5]], [[1.0, 2.0]])
    >>> print("\\n".join(beside(blocks, 80)))
    yours               true              difference
    1.0000   2.5000*    1.0000  2.0000         0   0.5000*
    """
    write = write_number([value for matrix in (yours, true) for row in matrix for value in row])
    if [len(row) for row in yours] != [len(row) for row in true]:
        notes = [f"Yours has {_sized(yours)}, where {_sized(true)} would be right."]
        return [given("yours", yours, write), given("true", true, write)], notes
    wrong = wrong_entries(yours, true)
    rows = _window((row for row, _ in wrong), len(true))
    columns = _window((column for _, column in wrong), size(true)[1])
    places = [[(row, column) for column in columns] for row in rows]
    errors = {(row, column): yours[row][column] - true[row][column] for row, column in wrong}
    write_error = write_number([errors[place] for line in places for place in line if place in errors])
    marks = [[place in wrong for place in line] for line in places]
    nowhere = [[False] * len(columns) for _ in rows]
    differences = [[write_error(errors[place]) if place in errors else "0" for place in line] for line in places]
    blocks = [
        _block("yours", [[write(yours[row][column]) for row, column in line] for line in places], marks, paint),
        _block("true", [[write(true[row][column]) for row, column in line] for line in places], nowhere, paint),
        _block("difference", differences, marks, paint),
    ]
    return blocks, _seen(rows, len(true), "row") + _seen(columns, size(true)[1], "column")


def given(title: str, matrix: Matrix, write: Callable[[float], str] | None = None) -> Block:
    """Return the upper left corner of a matrix as a block."""
    write = write_number([value for row in matrix for value in row]) if write is None else write
    cells = [[write(value) for value in row[:SHOWN]] for row in matrix[:SHOWN]]
    title += " (upper left corner)" if max(size(matrix)) > SHOWN else ""
    return _block(title, cells or [["nothing"]], [[False] * len(row) for row in cells] or [[False]], str)


def beside(blocks: Iterable[Block], width: int) -> list[str]:
    """Return lines with blocks from left to right, and further down where they do not fit into a width."""
    lines: list[str] = []
    shelf: list[Block] = []
    for block in blocks:
        if shelf and sum(each.width + len(GAP) for each in shelf) + block.width > width:
            lines += [*_shelf(shelf), ""]
            shelf = []
        shelf.append(block)
    return lines + _shelf(shelf)


def wrong_entries(yours: Matrix, true: Matrix) -> set[tuple[int, int]]:
    """Return the places (row, column) in which matrices of one size differ by more than roundings.

    Examples
    --------
    >>> wrong_entries([[1.0, float("nan")]], [[1.0 + 1e-15, 2.0]])
    {(0, 1)}
    """
    largest = max((abs(value) for row in true for value in row if math.isfinite(value)), default=0.0)
    allowed = OF_LARGEST * largest + ROUNDING
    pairs = [
        ((row, column), value, right)
        for row, (values, rights) in enumerate(zip(yours, true, strict=True))
        for column, (value, right) in enumerate(zip(values, rights, strict=True))
    ]
    return {place for place, value, right in pairs if value != right and not abs(value - right) <= allowed}


def write_number(values: Iterable[float]) -> Callable[[float], str]:
    """Return how to write numbers so that they can be compared: whole, with some decimals, or with exponents.

    Examples
    --------
    >>> write_number([1.0, 0.0])(1.0), write_number([0.5, 20.0])(20.0), write_number([1e-9, 1.5e-7])(1e-9)
    ('1', '20.0000', '1.00e-09')
    """
    finite = [abs(value) for value in values if math.isfinite(value)]
    largest = max(finite, default=0.0)
    if largest < 1e6 and all(value == int(value) for value in finite):
        return lambda value: f"{value:.0f}"
    if 5e-3 <= largest < 1e5:
        decimals = 4 if largest < 100 else 2
        return lambda value: f"{value:.{decimals}f}"
    extreme = any(value and not 1e-99 <= value < 9.99e99 for value in finite)  # an exponent of three digits is wider
    return lambda value: f"{value:.{1 if extreme else 2}e}"


def size(matrix: Matrix) -> tuple[int, int]:
    """Return the number of rows, and that of columns in the longest."""
    return len(matrix), max((len(row) for row in matrix), default=0)


def _block(title: str, cells: list[list[str]], marked: list[list[bool]], paint: Paint) -> Block:
    wide = max((len(cell) for row in cells for cell in row), default=0)
    star = any(any(row) for row in marked)
    count = max((len(row) for row in cells), default=0)
    width = max(len(title), count * (wide + star + 2) - 2)
    lines = []
    for row, marks in zip(cells, marked, strict=True):
        texts = [
            f"{cell:>{wide}}{('*' if mark else ' ') if star else ''}" for cell, mark in zip(row, marks, strict=True)
        ]
        blank = " " * (width - len("  ".join(texts)))
        lines.append("  ".join(paint(text) if mark else text for text, mark in zip(texts, marks, strict=True)) + blank)
    return Block(title, tuple(lines), width)


def _shelf(blocks: list[Block]) -> list[str]:
    columns = [[f"{block.title:<{block.width}}", *block.lines] for block in blocks]
    height = max(map(len, columns), default=0)
    filled = [lines + [" " * block.width] * (height - len(lines)) for lines, block in zip(columns, blocks, strict=True)]
    return [GAP.join(line).rstrip() for line in zip(*filled, strict=True)]


def _window(wrong: Iterable[int], count: int) -> range:
    """Return which of the rows or columns are shown: the first, unless the first wrong one comes later."""
    start = max(0, min(min(wrong, default=0) - SHOWN // 2, count - SHOWN)) if count > SHOWN else 0
    return range(start, min(start + SHOWN, count))


def _seen(shown: range, count: int, what: str) -> list[str]:
    if len(shown) == count:
        return []
    return [f"Shown are the {what}s {shown.start + 1} to {shown.stop} of {count}."]


def _sized(matrix: Matrix) -> str:
    rows, columns = size(matrix)
    return f"{rows} {'row' if rows == 1 else 'rows'} of {columns}"
