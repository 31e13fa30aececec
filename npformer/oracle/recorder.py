"""A run on a copy of a component whose parts report what goes into them and what comes out.

What passes may also be changed on its way (Passage): that is how roundings are simulated, and how a kernel's own arrays
take the place of ours.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping, Set
from typing import Any

import numpy as np

from npformer.component import Array, Component, Tree, flatten
from npformer.gradcheck.subject import input_names
from npformer.shapes import check_tree

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


class Recorder:
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
            where = join(place, name)
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
        check_tree(f"the cache of {type(part).__name__}", cache)
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
        path = self._path_of_cache.get(id(cache)) or self._path_within(place)  # a parent may hand on a copy of it
        self._running.append((place, path))
        given = cache | {"grad_output": self._pass(part, "grad_output", grad_output, made=False)}
        given |= self.passage.into(part, _floats(given), backward=True)
        grad_inputs, grads = backward(given.pop("grad_output"), given)
        several = isinstance(grad_inputs, tuple)
        each = grad_inputs if several else (grad_inputs,)
        own = {name: self._pass(part, f"grad_{name}", grads[name], made=True) for name in part._own()}
        for dotted, grad in flatten(grads | own).items():  # a parent makes the sums over the uses of a part
            inside, _, name = dotted.rpartition(".")
            self._pass(part, join(inside, f"grad_{name}"), grad, made=True)
        each = tuple(self._pass(part, f"grad_{name}", grad, made=True) for name, grad in zip(names, each, strict=False))
        self._running.pop()
        return (each if several else each[0]), grads | own

    def _path_of_use(self, place: str) -> str:
        """Return the dotted name of a part that begins to run, with the number of its use if there are several."""
        path = self._path_within(place)
        use = self._uses[path]
        self._uses[path] += 1
        if use and self.canonical is None:
            self.used_again.add(place)
        return f"{path}.{use}" if place in self.used_again else path

    def _path_within(self, place: str) -> str:
        """Return the dotted name of a part within the use of its parent that is running."""
        outer_place, outer_path = self._running[-1] if self._running else ("", "")
        return join(outer_path, place.removeprefix(outer_place).removeprefix("."))

    def _pass(self, part: Component, name: str, value: Any, *, made: bool) -> Any:
        """Take note of an array at a boundary, where it was given or made, and return what takes its place."""
        if isinstance(value, np.generic):
            value = np.asarray(value)
        if not isinstance(value, np.ndarray):
            return value
        name = join(self._running[-1][1], name)
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


def join(path: str, name: str) -> str:
    """Return the dotted name of something in a part; the whole has the path ""."""
    return f"{path}.{name}" if path and name else path or name


def _floats(arrays: Mapping[str, Any]) -> Arrays:
    return {name: value for name, value in arrays.items() if isinstance(value, np.ndarray) and value.dtype.kind in "fc"}


def _identity(array: Array) -> Identity:
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str
