"""The cost of the attention cores alone against length: time and memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from npformer.bench.agreement import compare
from npformer.bench.probe import D_HEAD, HEADS, Task, attention_core, core_shape, measure_peak
from npformer.bench.section import MIB, Section, Settings, in_mib, shown
from npformer.bench.sizes import Size
from npformer.bench.steps import Step, draw_arrays
from npformer.bench.timing import Rounds, race
from npformer.bench.torch_steps import TorchAttentionStep

DTYPE = "float32"
USUAL = Rounds(least=1, most=10, seconds=10)
LENGTHS = tuple(2**power for power in range(8, 15))  # 256 to 16,384
SMOKE_LENGTHS = (32, 64)
LONGEST_PLAIN = 4096  # a T×T matrix of 8 heads in float32 is half a GiB here, and the plain core holds several
SUMMARISED = (4096, 16384)
CONTESTANTS = ("plain", "blockwise", "torch")
RATIOS = (("blockwise", "plain"), ("blockwise", "torch"))
KEPT = 4  # output and three gradients


@dataclass(frozen=True)
class LengthRow:
    """Medians in milliseconds and peaks in bytes by contestant, medians of the ratios by their names."""

    T: int
    rounds: int
    milliseconds: dict[str, float | None]
    ratios: dict[str, float | None]
    memory: dict[str, int | None]
    difference_in_eps: float | None
    faults: tuple[str, ...]

    def cells(self) -> list[str]:
        times = [shown(self.milliseconds[name], 1) for name in CONTESTANTS]
        memory = [in_mib(self.memory[name]) for name in CONTESTANTS]
        difference = shown(self.difference_in_eps, 0)
        return [f"{self.T:,}", str(self.rounds), *times, *map(shown, self.ratios.values()), *memory, difference]


class Lengths(Section):
    """Attention of 8 heads of 64 in float32, batch 1."""

    title = (
        f"Attention alone against length T, {HEADS} heads of {D_HEAD}, batch 1, {DTYPE}, forward + backward: "
        "medians in ms\nand of the ratios within a round; peak memory in MiB beyond inputs, output and gradients;\n"
        "largest difference from the blockwise core in eps"
    )
    columns = (
        "T     ", "rounds", "   plain", "blockwise", "   torch", "bl./plain", "bl./torch",
        "MiB plain", "blockwise", "   torch", "diff",
    )  # fmt: skip

    def rows(self, settings: Settings) -> Iterator[LengthRow]:
        for T in SMOKE_LENGTHS if settings.smoke else LENGTHS:
            there = [
                name
                for name in CONTESTANTS
                if (T <= LONGEST_PLAIN or name != "plain") and (settings.with_torch or name != "torch")
            ]
            memory = {name: _peak_beyond_results(name, T) if name in there else None for name in CONTESTANTS}
            *inputs, grad_output = draw_arrays(core_shape(T), KEPT, DTYPE)
            steps = {
                name: TorchAttentionStep(tuple(inputs), grad_output)
                if name == "torch"
                else Step(attention_core(name), tuple(inputs), grad_output)
                for name in there
            }
            truth = steps["blockwise"].results()
            agreements = {name: compare(steps[name].results(), truth, "blockwise") for name in there}
            times = race({name: step.forward_backward for name, step in steps.items()}, settings.limit(USUAL))
            yield LengthRow(
                T,
                times.rounds,
                {name: times.milliseconds(name) for name in CONTESTANTS},
                {f"{name}/{other}": times.ratio(name, other) for name, other in RATIOS},
                memory,
                max(each.largest for each in agreements.values()) if len(agreements) > 1 else None,
                tuple(f"{name}, {fault}" for name, each in agreements.items() for fault in each.faults),
            )

    def summary(self, rows: Sequence[LengthRow]) -> dict[str, float]:
        found: dict[str, float] = {}
        for row in rows:
            if row.T in SUMMARISED:
                found |= {f"T {row.T:,}, time of {name}": r for name, r in row.ratios.items() if r is not None}
                peaks = {name: peak for name, peak in row.memory.items() if peak is not None}
                found |= {f"T {row.T:,}, MiB beyond results, {name}": peak / MIB for name, peak in peaks.items()}
        return found


def _peak_beyond_results(contestant: str, T: int) -> int | None:
    size = Size(1, T, HEADS * D_HEAD, HEADS, 1)
    peak = measure_peak(Task(contestant, size, DTYPE, core_alone=True))
    return None if peak is None else peak - KEPT * HEADS * T * D_HEAD * 4
