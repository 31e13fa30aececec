"""A fresh process that does one thing once, and says by how much its memory peaked.

Run as ``python -m npformer.bench.probe JSON``, where the JSON is a Task; it prints one line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from npformer.bench.peak import peak_of
from npformer.bench.sizes import WARM_UP, Size
from npformer.bench.steps import Step, draw_arrays, draw_encoder, layers_of
from npformer.component import Component
from npformer.encoder import Encoder, EncoderLayer

HEADS, D_HEAD = 8, 64  # of the attention cores


class ProbeError(RuntimeError):
    """A fresh process failed; the message is one sentence."""


@dataclass(frozen=True)
class Task:
    """One forward and backward of an encoder of this size, or of an attention core on size.T positions alone.

    contestant is "plain", "blockwise", "checkpoint" or "torch".
    """

    contestant: str
    size: Size
    dtype: str
    core_alone: bool = False


def measure_peak(task: Task) -> int | None:
    """Return the bytes by which a fresh process peaked above its baseline; None where this system does not count.

    Imports, parameters, inputs and a tiny step of another size come before the baseline.

    Raises
    ------
    ProbeError
        If the process fails, such as for lack of memory.
    """
    kind = "attention core" if task.core_alone else "encoder"
    what = f"the memory of {task.contestant}, {kind} {task.size},"
    peak: int | None = json.loads(run_python(["-m", "npformer.bench.probe", json.dumps(asdict(task))], what))
    return peak


def run_python(arguments: list[str], what: str) -> str:
    """Return what a fresh process prints; if it fails, ProbeError says what was not measured and its last line."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise ProbeError(f"{what} was not measured: {reason[0]}")
    return done.stdout


def attention_core(contestant: str) -> Component:
    """Return npformer's attention core of this name."""
    from npformer import BlockwiseAttention, ScaledDotProductAttention

    return BlockwiseAttention() if contestant == "blockwise" else ScaledDotProductAttention()


def core_shape(T: int) -> tuple[int, int, int, int]:
    """Return the shape of query, key, value and output, of batch 1."""
    return 1, HEADS, T, D_HEAD


def _encoder(contestant: str, size: Size, dtype: str) -> Encoder | EncoderLayer:
    from npformer import Checkpoint

    model = draw_encoder(size, dtype, "relu")
    layers = layers_of(model)
    if contestant == "blockwise":
        for layer in layers:
            layer.self_attn.sublayer.attention = attention_core(contestant)
    if contestant == "checkpoint":
        return Encoder([Checkpoint(layer) for layer in layers])
    return model


def _step(task: Task) -> Callable[[], object]:
    size, shape = task.size, core_shape(task.size.T) if task.core_alone else task.size.x_shape
    *inputs, grad_output = draw_arrays(shape, 4 if task.core_alone else 2, task.dtype)
    if task.contestant == "torch":
        from npformer.bench.torch_steps import TorchAttentionStep, TorchEncoderStep

        if task.core_alone:
            return TorchAttentionStep(tuple(inputs), grad_output).forward_backward
        ours = draw_encoder(size, task.dtype, "relu")
        return TorchEncoderStep(ours, size, "relu", inputs[0], grad_output).forward_backward
    component = attention_core(task.contestant) if task.core_alone else _encoder(task.contestant, size, task.dtype)
    return Step(component, tuple(inputs), grad_output).forward_backward


def main() -> None:
    """Print the peak of the task that the command line names."""
    fields = json.loads(sys.argv[1])
    task = Task(**fields | {"size": Size(**fields["size"])})
    step = _step(task)
    _step(replace(task, size=WARM_UP))()
    print(json.dumps(peak_of(step)))


if __name__ == "__main__":
    main()
