"""What a learner reads: a small case first, then what was found, where it is wrong, and what to do next."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Iterator

from npformer.exercises.grade import BLANK, ERROR, SOLVED, WRONG, ArrayGrade, Finding, Grade, SideBySide
from npformer.exercises.matrices import beside, compared, given
from npformer.gradcheck.verdict import PASS
from npformer.shapes import check_flag, check_part

WIDTH = 100
INDENT = "    "
MOST_PRINTED = 40  # lines of what a learner's code printed
MOST_ARRAYS = 24
LEAST_TITLE = 12  # characters of a title that are left beside a long name
HEADLINES = {SOLVED: "solved", WRONG: "not yet right", BLANK: "still to be written", ERROR: "stopped by an error"}
GREEN, RED, BOLD = "32", "31", "1"
Ink = Callable[[str, str], str]  # a text and the code of its colour


def report(grade: Grade, spoil: bool = False, colour: bool = False, options: str = "") -> str:
    """Return what a learner reads about a grade, in lines of at most 100 columns.

    Parameters
    ----------
    grade : Grade
        What check returned.
    spoil : bool
        Whether to say what is wrong in formulas too.
    colour : bool
        Whether to colour by ANSI codes what stands there without colours as well.
    options : str
        What the commands that it names are to be called with, such as "--dir work".

    Raises
    ------
    TypeError
        If grade is no Grade, or a flag is neither True nor False.

    Examples
    --------
    >>> arrays = (ArrayGrade("x", "PASS"),)
    >>> print(report(Grade("softmax", "Softmax, backward", "solved", "x is right.", arrays, 2.0, 2)))
    Softmax, backward (softmax): solved, 2 of 2 points
    <BLANKLINE>
    x is right.
    <BLANKLINE>
    Arrays
        x  PASS
    """
    check_part("grade", grade, Grade)
    spoil, ink = check_flag("spoil", spoil), _ink(check_flag("colour", colour))
    sections = [
        _headline(grade, ink),
        _message(grade.message),
        _printed(grade.printed),
        _small_case(grade.side_by_side, ink) if grade.side_by_side is not None else [],
        _found(grade, spoil, ink),
        _whereabouts(grade.whereabouts, ink),
        _table(grade.arrays, ink),
        _next(grade, spoil, options),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


def points_of(points: float, out_of: int) -> str:
    """Return how many points of how many, such as "2.5 of 6 points"."""
    return f"{round(points, 2):g} of {out_of} {'point' if out_of == 1 else 'points'}"


def in_words(name: str) -> str:
    """Return a mistake's name as a reader knows it, before the name itself.

    Examples
    --------
    >>> in_words("LayerNorm.mean_term_missing"), in_words("factor 1/T_k")
    ('mean term missing (LayerNorm.mean_term_missing)', 'factor 1/T_k')
    """
    known = re.fullmatch(r"\w+\.(\w+)", name)  # in a catalogue, and not a slip in words
    return f"{known[1].replace('_', ' ')} ({name})" if known else name


def printable(text: str) -> str:
    """Return a text in which nothing moves the cursor, colours or rings: such characters are shown by their numbers."""
    lines = text.expandtabs().replace("\r\n", "\n").split("\n")
    return "\n".join(
        "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in line)
        for line in lines
    )


def clipped(text: str, width: int) -> str:
    """Return a line that is cut where it is wider than that."""
    return text if len(text) <= width else f"{text[: width - 3]}..."


def _ink(colour: bool) -> Ink:
    return (lambda text, code: f"\033[{code}m{text}\033[0m") if colour else (lambda text, code: text)


def _headline(grade: Grade, ink: Ink) -> list[str]:
    status, points = HEADLINES.get(grade.status, grade.status), points_of(grade.points, grade.out_of)
    room = WIDTH - len(f" (): {status}, {points}")
    name = _line(grade.task, room - LEAST_TITLE)
    title = _line(grade.title, room - len(name))  # what is too long is cut from the title, not from the name
    return [f"{ink(f'{title} ({name})', BOLD)}: {ink(status, GREEN if grade.passed else RED)}, {points}"]


def _message(message: str) -> list[str]:
    """Wrap prose, and cut lines that are indented, for these are code."""
    lines: list[str] = []
    for line in printable(message).strip("\n").split("\n"):
        if line[:1] in " >":
            lines.append(clipped(line, WIDTH))
        else:
            lines += _wrapped(line, "")
    return lines if any(lines) else []


def _printed(printed: str) -> list[str]:
    lines = printable(printed).strip("\n").split("\n")
    if not any(line.strip() for line in lines):
        return []
    if len(lines) > MOST_PRINTED:
        half = MOST_PRINTED // 2
        lines = [*lines[:half], f"... ({len(lines) - 2 * half} more lines) ...", *lines[-half:]]
    return ["Your code printed", *(clipped(INDENT + line, WIDTH).rstrip() for line in lines)]


def _small_case(side: SideBySide, ink: Ink) -> list[str]:
    room = WIDTH - len(INDENT)
    lines = [ink(_line(f"A small case: {side.name}, of shape {side.shape}", WIDTH), BOLD)]
    inputs = [given(_line(f"given {name}", room - 24), matrix) for name, matrix in side.given if name]
    blocks, notes = compared(side.yours, side.true, lambda text: ink(text, RED))
    for row in (beside(inputs, room) if inputs else [], beside(blocks, room)):
        lines += [(INDENT + line).rstrip() for line in row]
        lines += [""] if row else []
    marked = any("*" in line for block in blocks for line in block.lines)
    notes = [*(["* is wrong."] if marked else []), *notes]
    return [*lines, INDENT + " ".join(notes)] if notes else lines[:-1]


def _found(grade: Grade, spoil: bool, ink: Ink) -> list[str]:
    if grade.findings:
        lines = [ink("What was found", BOLD)]
        for number, finding in enumerate(grade.findings, start=1):
            lines += _finding(number, finding, spoil, ink)
        return lines
    if grade.status != WRONG:
        return []
    sentence = "Nothing was recognised: no mistake that the grader knows gives these numbers."
    return [ink("What was found", BOLD), *_wrapped(sentence, INDENT)]


def _finding(number: int, finding: Finding, spoil: bool, ink: Ink) -> Iterator[str]:
    where = f" in {_listed(finding.arrays)}" if finding.arrays else ""
    first, *rest = _wrapped(f"{number}. {in_words(finding.name)}{where}", INDENT, "   ")
    yield from (ink(first, BOLD), *rest)
    deeper = INDENT + "   "
    yield from _wrapped(f"{finding.sureness.capitalize()}: {finding.evidence}".removesuffix(": "), deeper)
    if finding.path:
        yield from _wrapped(f"Look at this path: {finding.path}", deeper)
    if spoil and finding.spoiler:
        yield from _wrapped(f"What is wrong: {finding.spoiler}", deeper)


def _whereabouts(whereabouts: tuple[str, ...], ink: Ink) -> list[str]:
    if not whereabouts:
        return []
    return [
        ink("Where it is wrong", BOLD),
        *(part for line in whereabouts for part in _wrapped(f"- {line}", INDENT, "  ")),
    ]


def _table(arrays: tuple[ArrayGrade, ...], ink: Ink) -> list[str]:
    if not arrays:
        return []
    order = sorted(range(len(arrays)), key=lambda index: arrays[index].verdict == PASS)  # the wrong ones first
    shown = [arrays[index] for index in sorted(order[:MOST_ARRAYS])]
    names = [_line(array.name, WIDTH // 2) for array in shown]
    lines = [ink("Arrays", BOLD)]
    for array, name in zip(shown, names, strict=True):
        room = WIDTH - len(INDENT) - max(map(len, names)) - 13
        reason = _line(array.reason, room)
        verdict = ink(array.verdict, GREEN if array.verdict == PASS else RED)
        gap = " " * (11 - len(array.verdict)) if reason else ""
        lines.append(f"{INDENT}{name:<{max(map(len, names))}}  {verdict}{gap}{reason}")
    if order[MOST_ARRAYS:]:
        passing = sum(arrays[index].verdict == PASS for index in order[MOST_ARRAYS:])
        lines.append(f"{INDENT}and {len(arrays) - MOST_ARRAYS} more, of which {passing} PASS")
    return lines


def _next(grade: Grade, spoil: bool, options: str) -> list[str]:
    if grade.passed:
        return []
    again = f" {options}" if options else ""
    lines = ["Next", f"{INDENT}npformer exercise hint {grade.task}{again}    for a hint"]
    if any(finding.spoiler for finding in grade.findings) and not spoil:
        lines.append(f"{INDENT}npformer exercise check {grade.task}{again} --spoil    to be told what is wrong")
    return lines


def _wrapped(text: str, indent: str, hanging: str = "") -> list[str]:
    whole, later = printable(" ".join(text.split())), indent + hanging
    return textwrap.wrap(whole, WIDTH, initial_indent=indent, subsequent_indent=later, break_on_hyphens=False)


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _line(text: str, width: int) -> str:
    return clipped(printable(" ".join(text.split())), width)
