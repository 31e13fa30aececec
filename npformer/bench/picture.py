"""The picture of cost against length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from npformer.bench.lengths import DTYPE, LengthRow
from npformer.bench.probe import D_HEAD, HEADS
from npformer.bench.section import MIB

NAMES = {"plain": "ScaledDotProductAttention", "blockwise": "BlockwiseAttention", "torch": "PyTorch's SDPA"}
LEAST_MIB = 1 / 8  # a logarithmic axis has no 0, and the kernel counts in pages


def draw_lengths(rows: Sequence[LengthRow], file: BinaryIO, form: str) -> None:
    """Draw time and memory of the attention cores against length, as "png" or "svg"."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.4), layout="constrained")
    times, memory = figure.subplots(1, 2)
    for (contestant, label), marker in zip(NAMES.items(), "osD", strict=True):
        timed = [(row.T, time) for row in rows if (time := row.milliseconds[contestant]) is not None]
        peaks = [(row.T, max(peak / MIB, LEAST_MIB)) for row in rows if (peak := row.memory[contestant]) is not None]
        if timed:
            times.plot(*zip(*timed, strict=True), marker=marker, label=label)
        if peaks:
            memory.plot(*zip(*peaks, strict=True), marker=marker, label=label)
    lengths = [row.T for row in rows]
    for axes, title, unit in (
        (times, "Time of forward + backward", "milliseconds"),
        (memory, "Peak memory beyond inputs, output and gradients", "MiB"),
    ):
        axes.set(title=title, xlabel="length T", ylabel=unit, xscale="log", yscale="log")
        axes.set_xticks(lengths, [f"{T:,}" for T in lengths], fontsize=8)
        axes.minorticks_off()
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(f"Attention of {HEADS} heads of {D_HEAD}, {DTYPE}, batch 1")
    figure.savefig(file, format=form, dpi=150)
