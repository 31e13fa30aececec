"""The whole bench: every section that is wanted, row by row."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from typing import Any

from npformer.bench.checkpointing import Checkpointing
from npformer.bench.importing import Importing
from npformer.bench.layers import Layers
from npformer.bench.lengths import Lengths
from npformer.bench.machine import describe_machine, format_machine
from npformer.bench.memory import Memory
from npformer.bench.section import Row, Section, Settings

SECTIONS: dict[str, Section] = {
    "layers": Layers(),
    "memory": Memory(),
    "lengths": Lengths(),
    "checkpoint": Checkpointing(),
    "import": Importing(),
}


@dataclass(frozen=True)
class Measurements:
    """The machine; what was asked; by section the rows, and the numbers to remember; how long it took."""

    machine: dict[str, str | int | None]
    settings: Settings
    rows: dict[str, list[Any]]
    summary: dict[str, dict[str, float]]
    seconds: float

    @property
    def faults(self) -> list[str]:
        """Return a sentence for everything in which contestants disagree."""
        return [fault for rows in self.rows.values() for row in rows for fault in row.faults]

    @property
    def agree(self) -> bool | None:
        """Return whether contestants agree, or None if nothing was compared."""
        compared = any(
            getattr(row, "difference_in_eps", None) is not None for rows in self.rows.values() for row in rows
        )
        return not self.faults if compared else None

    def to_dict(self) -> dict[str, Any]:
        """Return dicts and lists, as JSON has them."""
        sections = {
            name: {"rows": [asdict(row) for row in rows], "summary": self.summary[name]}
            for name, rows in self.rows.items()
        }
        return {
            "machine": self.machine,
            "settings": asdict(self.settings),
            **sections,
            "agree": self.agree,
            "seconds": self.seconds,
        }


def run_bench(
    settings: Settings, only: Collection[str] = tuple(SECTIONS), report: Callable[[str], object] = print
) -> Measurements:
    """Measure the sections named, and report line by line while it runs.

    Without PyTorch `settings.with_torch` must be false.

    Raises
    ------
    ProbeError
        If a fresh process fails, such as for lack of memory.
    """
    start = time.perf_counter()
    machine = describe_machine()
    report(format_machine(machine))
    rows: dict[str, list[Row]] = {}
    summary: dict[str, dict[str, float]] = {}
    for name, section in SECTIONS.items():
        if name not in only:
            continue
        report(f"\n{section.title}\n{section.line([column.strip() for column in section.columns])}")
        rows[name] = []
        for row in section.rows(settings):
            rows[name].append(row)
            report(section.line(row.cells()))
            for fault in row.faults:
                report(f"  DISAGREEMENT: {fault}")
        summary[name] = section.summary(rows[name])
        report("")
        for label, number in summary[name].items():
            report(f"{number:10.2f}  {label}")
    measurements = Measurements(machine, settings, rows, summary, time.perf_counter() - start)
    verdicts = {
        True: "All outputs and gradients agree.",
        False: f"{len(measurements.faults)} arrays differ by more than rounding.",
        None: "No outputs or gradients were compared.",
    }
    report(f"\n{verdicts[measurements.agree]} {measurements.seconds:.1f} s")
    return measurements
