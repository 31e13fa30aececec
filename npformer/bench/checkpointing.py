"""The peak memory of a stack against its depth, with and without recomputation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from npformer.bench.probe import Task, measure_peak
from npformer.bench.section import MIB, Section, Settings, in_mib, quotient, shown
from npformer.bench.sizes import MINILM, TINY, Size
from npformer.bench.steps import draw_encoder
from npformer.component import flatten

DTYPE = "float32"
DEPTHS = (1, 2, 4, 8, 16, 24)
SMOKE_DEPTHS = (1, 2)


@dataclass(frozen=True)
class CheckpointRow:
    """Peaks in bytes of an encoder as it is, and with Checkpoint around each layer; what the gradients take of each."""

    size: Size
    plain: int | None
    checkpoint: int | None
    gradients: int
    activation: int

    @property
    def faults(self) -> tuple[str, ...]:
        return ()

    def cells(self) -> list[str]:
        sizes = [self.plain, self.checkpoint, self.gradients, self.beyond("plain"), self.beyond("checkpoint")]
        return [str(self.size), *map(in_mib, sizes), shown(quotient(self.checkpoint, self.plain))]

    def beyond(self, contestant: str) -> int | None:
        """Return a peak without the gradients of the parameters."""
        peak = self.plain if contestant == "plain" else self.checkpoint
        return None if peak is None else peak - self.gradients


class Checkpointing(Section):
    """An encoder of 1 to 24 layers."""

    title = (
        f"Recomputation: peak memory in MiB of forward + backward of a stack, ReLU, {DTYPE}, as it is and\n"
        "with Checkpoint around each layer; backward returns the gradients of all parameters at once"
    )
    columns = (
        f"{'size':<24}", "    plain", "checkpoint", "gradients", "plain beyond", "checkpoint beyond", "ratio",
    )  # fmt: skip

    @staticmethod
    def size_of(depth: int, smoke: bool = False) -> Size:
        """Return the size of a stack of so many layers."""
        return replace(TINY if smoke else MINILM, num_layers=depth)

    def rows(self, settings: Settings) -> Iterator[CheckpointRow]:
        size = self.size_of(1, settings.smoke)
        of_layer = sum(array.nbytes for array in flatten(draw_encoder(size, DTYPE, "relu").parameters()).values())
        activation = size.batch * size.T * size.d_model * 4
        for depth in SMOKE_DEPTHS if settings.smoke else DEPTHS:
            deep = self.size_of(depth, settings.smoke)
            plain, checkpoint = (measure_peak(Task(name, deep, DTYPE)) for name in ("plain", "checkpoint"))
            yield CheckpointRow(deep, plain, checkpoint, depth * of_layer, activation)

    def summary(self, rows: Sequence[CheckpointRow]) -> dict[str, float]:
        first, last = rows[0], rows[-1]
        found = {"MiB of one activation (batch, T, d_model)": first.activation / MIB}
        for name in ("plain", "checkpoint"):
            least, most = first.beyond(name), last.beyond(name)
            if least is not None and most is not None and last is not first:
                growth = (most - least) / (last.size.num_layers - first.size.num_layers)
                found[f"MiB a layer beyond its gradients, {name}"] = growth / MIB
        return found
