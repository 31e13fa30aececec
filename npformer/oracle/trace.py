"""Every array that passes between components, by dotted name and in order, without the components knowing.

A trace is a run on a copy of the component whose parts report what goes into them and what comes out. What has passed
may also be changed on its way (Passage): that is how roundings are simulated and how a kernel's own arrays take the
place of ours.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from npformer.attention import ScaledDotProductAttention
from npformer.component import Array, Component, Tree, flatten
from npformer.gradcheck.subject import input_names
from npformer.oracle.kernels import backward_quantities, forward_quantities, kernel_names
from npformer.shapes import check_part

Arrays = dict[str, Array]
Identity = tuple[int, tuple[int, ...], tuple[int, ...], str]


class Passage:
    """What happens to arrays on their way; this one leaves them alone."""

    def into(self, component: Component, arrays: Arrays, *, backward: bool) -> Arrays:
        """Return what a component's own arithmetic reads in place of its inputs, parameters or cached arrays."""
        return arrays

    def out(self, component: Component, name: str, array: Array) -> Array:
        """Return what takes the place of an array that has just been made under this name."""
        return array


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
        self.component, self.inputs, self.options, self.grad_output = component, inputs, options, grad_output
        recorder = _Recorder(Passage())
        self._run(recorder)
        if recorder.used_again:  # a name of its own for each use
            recorder = _Recorder(Passage(), recorder.used_again)
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
        recorder = _Recorder(passage, self._several_uses, self._canonical)
        self._run(recorder)
        return self._traced(recorder)

    def _run(self, recorder: _Recorder) -> None:
        watched = recorder.watch(self.component, "")
        _, cache = watched.forward(*self.inputs, **copy.deepcopy(self.options))
        if self.grad_output is not None:
            recorder.backward_starts = len(recorder.arrays)
            watched.backward(self.grad_output, cache)

    def _traced(self, recorder: _Recorder) -> Trace:
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
        if _join(path, "scores") not in run:  # a core that does without its softmax
            continue
        scores = run[_join(path, "scores")]
        scores = passage.into(part, {"scores": scores}, backward=False).get("scores", scores)
        after[_join(path, "scores")] = {
            _join(path, name): passage.out(part, _join(path, name), array)
            for name, array in forward_quantities(scores).items()
        }
        if _join(path, "softmax.grad_x") not in run:
            continue
        names = {"output": "output", "grad_output": "grad_output", "grad_unmasked": "softmax.grad_x"}
        given = {argument: run[_join(path, name)] for argument, name in names.items()}
        given |= passage.into(part, given, backward=True)
        after[run.aliases.get(_join(path, "softmax.grad_x"), _join(path, "softmax.grad_x"))] = {
            _join(path, name): passage.out(part, _join(path, name), array)
            for name, array in backward_quantities(**given, mask=run.get(_join(path, "mask"))).items()
        }
    arrays: Arrays = {}
    backward_starts = None
    for index, (name, array) in enumerate(run.arrays.items()):
        if index == run.backward_starts:
            backward_starts = len(arrays)
        arrays |= {name: array} | after.get(name, {})
    return replace(run, arrays=arrays, backward_starts=backward_starts)


class _Recorder:
    """Takes note of the arrays at each boundary of one run.

    Parameters
    ----------
    passage : Passage
        What happens to them.
    used_again : set of str
        The parts that run more than once, where that is known.
    canonical : dict, optional
        First name of each array of the clean run, and what it is called. In other runs only these are looked at: an
        array that was changed on its way into an identity, such as dropout that is off, comes out as a new one.
    """

    def __init__(self, passage: Passage, used_again: Set[str] = frozenset(), canonical: dict[str, str] | None = None):
        self.passage = passage
        self.used_again = set(used_again)
        self.canonical = canonical
        self.arrays: Arrays = {}
        self.first_names: dict[str, str] = {}
        self.made: set[str] = set()
        self.parts: dict[str, Component] = {}
        self.backward_starts: int | None = None
        self._passed: dict[Identity, tuple[str, Array]] = {}
        self._held: list[Any] = []  # what stays here keeps its address
        self._uses: Counter[str] = Counter()
        self._path_of_cache: dict[int, str] = {}
        self._running: list[tuple[str, str]] = []  # place in the tree, and dotted name of this use

    def shortest_names(self) -> dict[str, str]:
        """Return for the first name of each array its name: one of the whole, then one where it is made, the shortest.

        The shortest has the fewest dots, and is the first of these.
        """
        names: dict[str, list[str]] = {}
        for name, first in self.first_names.items():
            names.setdefault(first, []).append(name)
        return {
            first: min(each, key=lambda n: ("." in n, n not in self.made, n.count(".")))
            for first, each in names.items()
        }

    def watch(self, component: Component, place: str) -> Component:
        """Return a copy of a component that reports to this recorder, as do its parts."""
        twin = copy.copy(component)
        for name, child in component._children().items():
            where = _join(place, name)
            if isinstance(child, list):
                vars(twin)[name] = [self.watch(item, f"{where}.{index}") for index, item in enumerate(child)]
            else:
                vars(twin)[name] = self.watch(child, where)
        forward, backward = twin.forward, twin.backward
        # on the instance, so that type, name and messages stay those of the component
        vars(twin)["forward"] = lambda *inputs, **options: self._forward(twin, forward, place, inputs, options)
        vars(twin)["backward"] = lambda grad_output, cache: self._backward(
            twin, backward, place, input_names(forward, 9), grad_output, cache
        )
        return twin

    def _forward(
        self,
        part: Component,
        forward: Callable[..., tuple[Array, Tree]],
        place: str,
        inputs: tuple[Any, ...],
        options: dict[str, Any],
    ) -> tuple[Array, Tree]:
        path = self._path_of_use(place)
        self.parts[path] = part
        self._running.append((place, path))
        given = dict(zip(input_names(forward, len(inputs)), inputs, strict=True)) | options
        given = {name: self._pass(part, name, value, made=False) for name, value in given.items()}
        given |= self.passage.into(part, _floats(given), backward=False)
        arguments = [given.pop(name) for name in input_names(forward, len(inputs))]
        output, cache = forward(*arguments, **given)
        cache = {name: self._pass(part, name, value, made=True) for name, value in cache.items()}
        output = self._pass(part, "output", output, made=True)
        self._running.pop()
        self._held.append(cache)
        self._path_of_cache[id(cache)] = path
        return output, cache

    def _backward(
        self,
        part: Component,
        backward: Callable[..., tuple[Any, Tree]],
        place: str,
        names: list[str],
        grad_output: Array,
        cache: Tree,
    ) -> tuple[Any, Tree]:
        self._running.append((place, self._path_of_cache[id(cache)]))
        given = cache | {"grad_output": self._pass(part, "grad_output", grad_output, made=False)}
        given |= self.passage.into(part, _floats(given), backward=True)
        grad_inputs, grads = backward(given.pop("grad_output"), given)
        several = isinstance(grad_inputs, tuple)
        each = grad_inputs if several else (grad_inputs,)
        own = {name: self._pass(part, f"grad_{name}", grads[name], made=True) for name in part._own()}
        for dotted, grad in flatten(grads | own).items():  # a parent makes the sums over the uses of a part
            inside, _, name = dotted.rpartition(".")
            self._pass(part, _join(inside, f"grad_{name}"), grad, made=True)
        each = tuple(self._pass(part, f"grad_{name}", grad, made=True) for name, grad in zip(names, each, strict=False))
        self._running.pop()
        return (each if several else each[0]), grads | own

    def _path_of_use(self, place: str) -> str:
        """Return the dotted name of a part that begins to run, with the number of its use if there are several."""
        outer_place, outer_path = self._running[-1] if self._running else ("", "")
        path = _join(outer_path, place.removeprefix(outer_place).removeprefix("."))
        use = self._uses[path]
        self._uses[path] += 1
        if use and self.canonical is None:
            self.used_again.add(place)
        return f"{path}.{use}" if place in self.used_again else path

    def _pass(self, part: Component, name: str, value: Any, *, made: bool) -> Any:
        """Take note of an array at a boundary, where it was given or made, and return what takes its place."""
        if isinstance(value, np.generic):
            value = np.asarray(value)
        if not isinstance(value, np.ndarray):
            return value
        name = _join(self._running[-1][1], name)
        if made:
            self.made.add(name)
        if _identity(value) in self._passed:
            first, replacement = self._passed[_identity(value)]
            self.first_names.setdefault(name, first)
            return replacement
        if name in self.arrays or (self.canonical is not None and name not in self.canonical):
            return value  # such as an input that was changed on its way in, and is cached
        self._held.append(value)
        outside = not made and len(self._running) == 1
        replacement = value if outside else self.passage.out(part, (self.canonical or {}).get(name, name), value)
        self.arrays[name] = replacement
        self.first_names[name] = name
        self._passed[_identity(value)] = self._passed[_identity(replacement)] = (name, replacement)
        return replacement


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


def _floats(arrays: Mapping[str, Any]) -> Arrays:
    return {name: value for name, value in arrays.items() if isinstance(value, np.ndarray) and value.dtype.kind in "fc"}


def _identity(array: Array) -> Identity:
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str
