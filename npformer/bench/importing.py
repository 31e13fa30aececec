"""How long `import npformer` takes after `import numpy`, in fresh processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from npformer.bench.probe import run_python
from npformer.bench.section import Section, Settings, shown

PROGRAM = (
    "import time; start = time.perf_counter(); import numpy; middle = time.perf_counter(); import npformer; "
    "print(middle - start, time.perf_counter() - middle)"
)
USUAL = 11


@dataclass(frozen=True)
class ImportRow:
    """Medians in milliseconds."""

    rounds: int
    numpy: float
    npformer: float

    @property
    def faults(self) -> tuple[str, ...]:
        return ()

    def cells(self) -> list[str]:
        return [str(self.rounds), shown(self.numpy), shown(self.npformer)]


class Importing(Section):
    """What npformer adds to NumPy."""

    title = "Import in a fresh process, medians in ms; npformer is what it adds to NumPy"
    columns = ("rounds", "     numpy", "  npformer")

    def rows(self, settings: Settings) -> Iterator[ImportRow]:
        rounds = settings.rounds or (1 if settings.smoke else USUAL)
        runs = [run_python(["-c", PROGRAM], "the import") for _ in range(1 + rounds)]
        seconds = [tuple(map(float, run.split())) for run in runs[1:]]  # the first may have to compile
        yield ImportRow(rounds, *(median(column) * 1e3 for column in zip(*seconds, strict=True)))

    def summary(self, rows: Sequence[ImportRow]) -> dict[str, float]:
        return {"ms that import npformer adds to import numpy": rows[0].npformer}
