"""What a check found, for readers, for programs and for test suites."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from npformer.gradcheck.verdict import FAIL, PASS, UNDECIDED, ArrayCheck

# What errors are relative to (see ArrayCheck.yardstick): the mark of such rows in a table, and what it means.
YARDSTICKS = {
    "largest": ("", "their largest entry"),
    "terms": (" *", "the size of the terms that cancel in them"),
    "conditioning": (" **", "what they change when all arrays change in their last bit"),
}


@dataclass(frozen=True)
class Report:
    """The result of check_gradients. Printed, it is a table.

    Attributes
    ----------
    subject : str
        What was checked.
    directions : int or None
        Random directions for each array; None for entry by entry.
    seed : int
        Of the cotangent and the directions.
    checks : tuple of ArrayCheck
        One for each array.
    """

    subject: str
    directions: int | None
    seed: int
    checks: tuple[ArrayCheck, ...]

    @property
    def verdict(self) -> str:
        """FAIL if any array's is, otherwise UNDECIDED if any array's is, otherwise PASS."""
        return worst_verdict(check.verdict for check in self.checks)

    def __str__(self) -> str:
        header = f"{'array':<{self._width()}} {'entries':>9} {'error':>9} {'allowed':>9}  {'verdict':<9}  method"
        lines = [f"{self.subject}: {self.verdict}, {self._how()}", "", header]
        for check in self.checks:
            label = check.name + YARDSTICKS[check.yardstick][0]
            numbers = f"{check.entries:>9,} {check.error:>9.1e} {check.tolerance:>9.1e}"
            lines.append(f"{label:<{self._width()}} {numbers}  {check.verdict:<9}  {check.method}")
        lines += ["", f"Errors are relative to {self._relative_to()}."]
        return "\n".join([*lines, *(f"\n{explain(check)}" for check in self.checks if check.reason)])

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as what JSON can hold; infinities, which it does not have, are None."""
        table = {"subject": self.subject, "verdict": self.verdict, "directions": self.directions, "seed": self.seed}
        finite: dict[str, Any] = without_infinities(table | {"checks": [asdict(check) for check in self.checks]})
        return finite

    def to_json(self) -> str:
        """Return all of it as JSON."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def to_markdown(self) -> str:
        """Return the table in Markdown."""
        lines = [
            f"**{self.subject}: {self.verdict}**, {self._how()}",
            "",
            "| array | entries | error | allowed | verdict | method |",
            "| --- | ---: | ---: | ---: | --- | --- |",
        ]
        for check in self.checks:
            label = f"`{check.name}`{YARDSTICKS[check.yardstick][0].replace('*', chr(92) + '*')}"
            numbers = f"{check.entries:,} | {check.error:.1e} | {check.tolerance:.1e}"
            lines.append(f"| {label} | {numbers} | {check.verdict} | {check.method} |")
        lines += ["", f"Errors are relative to {self._relative_to()}.".replace("*", r"\*")]
        return "\n".join([*lines, *(f"\n{explain(check)}" for check in self.checks if check.reason)])

    def _how(self) -> str:
        along = "entry by entry" if self.directions is None else f"along {self.directions} random directions per array"
        return f"{along}, seed {self.seed}"

    def _width(self) -> int:
        return max(len(check.name) for check in self.checks) + 3

    def _relative_to(self) -> str:
        used = {check.yardstick for check in self.checks}
        chosen = [(mark, meaning) for name, (mark, meaning) in YARDSTICKS.items() if name in used]
        return "; ".join(f"{meaning}{mark and f' ({mark.strip()})'}" for mark, meaning in chosen)


def explain(check: ArrayCheck) -> str:
    """Say in plain words what the verdict on an array rests on, with its wrong entries."""
    sentence = f"{check.name}: {check.verdict}. {check.reason[:1].upper()}{check.reason[1:]}."
    lines = textwrap.wrap(sentence, 100, subsequent_indent="  ", break_long_words=False)
    if check.wrong:
        some = f"At least {len(check.wrong)}" if check.wrong_entries is None else f"{check.wrong_entries:,}"
        lines.append(f"  {some} of its {check.entries:,} entries {'is' if some == '1' else 'are'} wrong:")
        lines.append(f"  {'index':<16} {'yours':>24} {'true':>24}")
        lines += [f"  {each.index!s:<16} {each.ours:>24.15g} {each.true:>24.15g}" for each in check.wrong]
    return "\n".join(lines)


def worst_verdict(verdicts: Iterable[str]) -> str:
    """Return FAIL if it is among them, otherwise UNDECIDED if it is, otherwise PASS."""
    given = set(verdicts)
    return next((verdict for verdict in (FAIL, UNDECIDED) if verdict in given), PASS)


def without_infinities(value: Any) -> Any:
    """Replace what JSON does not have, infinities and NaN, by None."""
    if isinstance(value, dict):
        return {key: without_infinities(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_infinities(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
