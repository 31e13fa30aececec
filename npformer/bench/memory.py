"""The peak memory of one forward and backward, each contestant in a fresh process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from npformer.bench.probe import Task, measure_peak
from npformer.bench.section import Section, Settings, in_mib, mean_and_largest, quotient, shown
from npformer.bench.sizes import MEANING, SIZES, SMOKE_SIZES, Size

LEAST_D_MODEL = 384  # below, a step takes less than what comes with any process
CONTESTANTS = ("plain", "blockwise", "torch")


@dataclass(frozen=True)
class MemoryRow:
    """Peaks in bytes by contestant."""

    size: Size
    dtype: str
    peak: dict[str, int | None]

    @property
    def faults(self) -> tuple[str, ...]:
        return ()

    def to_torch(self, contestant: str) -> float | None:
        """Return a contestant's peak divided by that of PyTorch."""
        return quotient(self.peak[contestant], self.peak["torch"])

    def cells(self) -> list[str]:
        ratios = [shown(self.to_torch(name)) for name in ("plain", "blockwise")]
        return [str(self.size), self.dtype, *(in_mib(self.peak[name]) for name in CONTESTANTS), *ratios]


class Memory(Section):
    """Layers and stacks, with both attention cores."""

    title = (
        "Peak memory in MiB of one forward + backward, ReLU, above imports, parameters and inputs, in a fresh\n"
        "process: npformer with ScaledDotProductAttention (plain) and with BlockwiseAttention.\n"
        f"Sizes are {MEANING}"
    )
    columns = (f"{'size':<23}", "  dtype", "   plain", "blockwise", "   torch", "plain/torch", "blockwise/torch")

    def rows(self, settings: Settings) -> Iterator[MemoryRow]:
        sizes = SMOKE_SIZES[:1] if settings.smoke else [size for size in SIZES if size.d_model >= LEAST_D_MODEL]
        dtypes = settings.dtypes[:1] if settings.smoke else settings.dtypes
        for size, dtype in product(sizes, dtypes):
            there = [name for name in CONTESTANTS if settings.with_torch or name != "torch"]
            peak = {name: measure_peak(Task(name, size, dtype)) if name in there else None for name in CONTESTANTS}
            yield MemoryRow(size, dtype, peak)

    def summary(self, rows: Sequence[MemoryRow]) -> dict[str, float]:
        found: dict[str, float] = {}
        for name in ("plain", "blockwise"):
            found |= mean_and_largest(f"peak memory, {name}/torch", [row.to_torch(name) for row in rows])
        return found
