"""The time of one encoder layer and of a stack, beside PyTorch and beside the bare matrix products."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from npformer.bench.agreement import compare, take_sides
from npformer.bench.floor import Floor
from npformer.bench.section import Section, Settings, mean_and_largest, shown
from npformer.bench.sizes import MEANING, SIZES, SMOKE_SIZES, Size
from npformer.bench.steps import Step, draw_arrays, draw_encoder
from npformer.bench.timing import Rounds, race
from npformer.bench.torch_steps import TorchEncoderStep
from npformer.component import flatten
from npformer.encoder import Encoder, EncoderLayer

USUAL = Rounds(least=3, most=200, seconds=4)
MODES = {"forward": "forward", "forward + backward": "forward_backward"}
LARGE = 512  # d_model from which products, not the overhead of calls, are most of a step


@dataclass(frozen=True)
class LayerRow:
    """Medians in milliseconds by contestant, medians of the ratios, and the largest difference between the two."""

    size: Size
    dtype: str
    activation: str
    mode: str
    rounds: int
    milliseconds: dict[str, float | None]
    to_torch: float | None
    to_floor: float | None
    torch_to_floor: float | None
    difference_in_eps: float | None = None
    numbers_at_kinks: int = 0
    faults: tuple[str, ...] = field(default=())

    def cells(self) -> list[str]:
        times = [shown(self.milliseconds[name]) for name in ("npformer", "torch", "floor")]
        ratios = [shown(self.to_torch), shown(self.to_floor)]
        return [
            str(self.size),
            self.dtype,
            self.activation,
            self.mode,
            *times,
            *ratios,
            shown(self.difference_in_eps, 0),
        ]


class Layers(Section):
    """One layer and a stack, forward alone and with backward."""

    title = (
        "Encoder layers, post-norm, dropout 0: medians in ms, and of the ratios npformer/torch and npformer/floor\n"
        f"within a round; difference of npformer and torch in eps. Sizes are {MEANING}"
    )
    columns = (
        f"{'size':<23}", "  dtype", " act", f"{'step':>18}", "npformer", "   torch", "   floor",
        "/torch", "/floor", "diff",
    )  # fmt: skip

    def rows(self, settings: Settings) -> Iterator[LayerRow]:
        sizes = SMOKE_SIZES if settings.smoke else SIZES
        for size, dtype, activation in product(sizes, settings.dtypes, settings.activations):
            yield from _measure(size, dtype, activation, settings)

    def summary(self, rows: Sequence[LayerRow]) -> dict[str, float]:
        found: dict[str, float] = {}
        for activation, mode in product(dict.fromkeys(row.activation for row in rows), MODES):
            chosen = [row for row in rows if (row.activation, row.mode) == (activation, mode)]
            large = [row.to_floor for row in chosen if row.size.d_model >= LARGE]
            label = f"{activation}, {mode}, npformer"
            found |= mean_and_largest(f"{label}/torch", [row.to_torch for row in chosen])
            found |= mean_and_largest(f"{label}/floor, d_model >= {LARGE}", large)
        return found


def _measure(size: Size, dtype: str, activation: str, settings: Settings) -> Iterator[LayerRow]:
    model = draw_encoder(size, dtype, activation)
    x, grad_output = draw_arrays(size.x_shape, 2, dtype)
    ours = Step(model, (x,), grad_output)
    theirs = TorchEncoderStep(model, size, activation, x, grad_output) if settings.with_torch else None
    contestants = {"npformer": ours, "torch": theirs, "floor": Floor(size, dtype)}
    compared = {} if theirs is None else compare_steps(model, ours, theirs, activation)
    for mode, method in MODES.items():
        calls = {name: getattr(step, method) for name, step in contestants.items() if step is not None}
        times = race(calls, settings.limit(USUAL))
        yield LayerRow(
            size,
            dtype,
            activation,
            mode,
            times.rounds,
            {name: times.milliseconds(name) for name in contestants},
            times.ratio("npformer", "torch"),
            times.ratio("npformer", "floor"),
            times.ratio("torch", "floor"),
            **(compared if mode == "forward + backward" else {}),  # once for both: they share an output
        )


def compare_steps(
    model: Encoder | EncoderLayer, ours: Step, theirs: TorchEncoderStep, activation: str
) -> dict[str, Any]:
    """Compare what the very steps that are timed computed, and return the fields of a row.

    If they disagree, it may be that numbers within rounding of ReLU's kink are on different sides: take one side then.
    """
    truth = {"output of forward alone": np.asarray(theirs.forward())} | theirs.results()
    alone = {"output of forward alone": ours.forward()}
    agreement, at_kinks = compare(alone | ours.results(), truth, "torch"), 0
    if agreement.faults and activation == "relu":
        hidden = {f"hidden.{index}": array for index, array in enumerate(theirs.hidden())}
        twin = Step(take_sides(model, list(hidden.values())), ours.inputs, ours.grad_output)
        cache = flatten(twin.component.forward(*twin.inputs)[1])
        found = [array for name, array in cache.items() if name.endswith(".activation.hidden")]
        own_hidden = dict(zip(hidden, found, strict=True))
        at_kinks = sum(int(((own_hidden[name] > 0) != (hidden[name] > 0)).sum()) for name in hidden)
        if at_kinks:  # else the faults have another cause
            agreement = compare(alone | twin.results() | own_hidden, truth | hidden, "torch")
    return {"difference_in_eps": agreement.largest, "numbers_at_kinks": at_kinks, "faults": agreement.faults}
