"""Every array that passes between components, by dotted name and in order, without the components knowing."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from npformer.attention import ScaledDotProductAttention
from npformer.checkpoint import without_checkpoints
from npformer.component import Array, Component
from npformer.oracle.kernels import backward_quantities, forward_quantities, kernel_names
from npformer.oracle.recorder import Arrays, Passage, Recorder, join
from npformer.shapes import check_part


@dataclass
class Trace(Mapping[str, Array]):
    """The arrays of one run by dotted name, in order of execution.

    An array that passes several boundaries is one entry, under the shortest name that it has where it is made (a name
    of the whole, such as "x", "output" or "grad_x", comes first); the others are in `aliases`, and can be asked for as
    well.

    Attributes
    ----------
    arrays : dict
        Inputs and options, what each component makes and caches, then gradients, under such names as
        "layers.0.self_attn.norm.output", "….norm.rstd", "….norm.grad_x" and "….norm.grad_weight".
    aliases : dict
        Every other name, and the one in `arrays` that it stands for.
    parts : dict
        The components that ran, by their dotted names; "" is the whole.
    backward_starts : int or None
        How many of the arrays belong to forward, if there was a backward.
    """

    arrays: Arrays
    aliases: dict[str, str] = field(default_factory=dict)
    parts: dict[str, Component] = field(default_factory=dict)
    backward_starts: int | None = None

    def __getitem__(self, name: str) -> Array:
        return self.arrays[self.aliases.get(name, name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)


def trace(component: Component, *inputs: Array, grad_output: Array | None = None, **options: Any) -> Trace:
    """Run a component, and return every array that passes between its parts, by name and in order.

    Parameters
    ----------
    component : Component
        Any; neither it nor its parts are changed.
    *inputs, **options
        What its forward is called with. A generator is copied, so that it does not advance.
    grad_output : array, optional
        Gradient of the output; without it there is no backward.

    Returns
    -------
    Trace
        A mapping of names to arrays. A component that is used more than once, such as the layer of a SharedEncoder,
        has its use in the name: "layer.0.norm.output".

    Examples
    --------
    >>> import numpy as np
    >>> from npformer import PreNormSublayerConnection, LayerNorm, Linear
    >>> connection = PreNormSublayerConnection(Linear(2, 2, rng=0), LayerNorm(2))
    >>> run = trace(connection, np.array([[1.0, 2.0]]), grad_output=np.ones((1, 2)))
    >>> print(*run)
    x norm.x_hat norm.rstd norm.output sublayer.output output grad_output sublayer.grad_weight sublayer.grad_bias \
sublayer.grad_x norm.grad_weight norm.grad_bias norm.grad_x grad_x
    >>> run["sublayer.x"] is run["norm.output"]
    True
    """
    check_part("component", component, Component)
    return Recording(component, inputs, options, grad_output).trace


class Recording:
    """A component with what it is run on, and its clean run, whose names hold for every other run of it.

    Parameters
    ----------
    component, inputs, options, grad_output
        As for trace.

    Attributes
    ----------
    trace : Trace
        The clean run.
    """

    def __init__(
        self, component: Component, inputs: tuple[Array, ...], options: dict[str, Any], grad_output: Array | None
    ):
        self.component = without_checkpoints(component)  # a run that keeps every array recomputes none
        self.inputs, self.options, self.grad_output = inputs, options, grad_output
        recorder = Recorder(Passage())
        self._run(recorder)
        if recorder.used_again:  # a name of its own for each use
            recorder = Recorder(Passage(), recorder.used_again)
            self._run(recorder)
        self._several_uses = recorder.used_again
        self._canonical = recorder.shortest_names()
        self._canonical |= {
            recorder.first_names[name]: other
            for path, part in recorder.parts.items()
            for name, other in kernel_names(path, part).items()
            if name in recorder.first_names
        }
        self.trace = self._traced(recorder)

    def rerun(self, passage: Passage) -> Trace:
        """Run again with the arrays changed on their way; names are those of the clean run."""
        recorder = Recorder(passage, self._several_uses, self._canonical)
        self._run(recorder)
        return self._traced(recorder)

    def _run(self, recorder: Recorder) -> None:
        watched = recorder.watch(self.component, "")
        _, cache = watched.forward(*self.inputs, **copy.deepcopy(self.options))
        if self.grad_output is not None:
            recorder.backward_starts = len(recorder.arrays)
            watched.backward(self.grad_output, cache)

    def _traced(self, recorder: Recorder) -> Trace:
        canonical = self._canonical
        arrays = {canonical[name]: array for name, array in recorder.arrays.items()}
        others = {name: canonical[first] for name, first in recorder.first_names.items()}
        aliases = {name: shortest for name, shortest in others.items() if name != shortest}
        return _with_kernel_quantities(
            Trace(arrays, aliases, recorder.parts, recorder.backward_starts), recorder.passage
        )


def _with_kernel_quantities(run: Trace, passage: Passage) -> Trace:
    """Return the run with what attention kernels save, each in its place in the order."""
    after: dict[str, Arrays] = {}
    for path, part in run.parts.items():
        if not isinstance(part, ScaledDotProductAttention):
            continue
        if join(path, "scores") not in run:  # a core that does without its softmax
            continue
        scores = run[join(path, "scores")]
        scores = passage.into(part, {"scores": scores}, backward=False).get("scores", scores)
        after[join(path, "scores")] = {
            join(path, name): passage.out(part, join(path, name), array)
            for name, array in forward_quantities(scores).items()
        }
        if join(path, "softmax.grad_x") not in run:
            continue
        names = {"output": "output", "grad_output": "grad_output", "grad_unmasked": "softmax.grad_x"}
        given = {argument: run[join(path, name)] for argument, name in names.items()}
        given |= passage.into(part, given, backward=True)
        after[run.aliases.get(join(path, "softmax.grad_x"), join(path, "softmax.grad_x"))] = {
            join(path, name): passage.out(part, join(path, name), array)
            for name, array in backward_quantities(**given, mask=run.get(join(path, "mask"))).items()
        }
    arrays: Arrays = {}
    backward_starts = None
    for index, (name, array) in enumerate(run.arrays.items()):
        if index == run.backward_starts:
            backward_starts = len(arrays)
        arrays |= {name: array} | after.get(name, {})
    return replace(run, arrays=arrays, backward_starts=backward_starts)
