"""Other ways to copy a component."""

import copy
import io
import pickle
from collections.abc import Iterator
from copy import deepcopy
from functools import reduce
from itertools import repeat

import numpy as np

from npformer import Component
from solutions.registry import solves


@solves("clones")
def loop_and_append(module: Component, N: int) -> list[Component]:
    layers = []
    for _ in range(N):
        layers.append(copy.deepcopy(module))
    return layers


@solves("clones")
def mapped(module: Component, N: int) -> list[Component]:
    return list(map(deepcopy, repeat(module, N)))


@solves("clones")
def placeholders_filled(module: Component, N: int) -> list[Component]:
    copies = [module] * N
    for index in range(N):
        copies[index] = copy.deepcopy(module)
    return copies


@solves("clones")
def generated(module: Component, N: int) -> list[Component]:
    def generate() -> Iterator[Component]:
        for _ in range(N):
            yield copy.deepcopy(module)

    return list(generate())


@solves("clones")
def pickled_and_loaded(module: Component, N: int) -> list[Component]:
    frozen = pickle.dumps(module)
    return [pickle.loads(frozen) for _ in range(N)]


@solves("clones")
def pickled_one_after_the_other(module: Component, N: int) -> list[Component]:
    stream = io.BytesIO()
    for _ in range(N):
        pickle.Pickler(stream).dump(module)
    stream.seek(0)
    return [pickle.load(stream) for _ in range(N)]


@solves("clones")
def copies_of_the_copy_before(module: Component, N: int) -> list[Component]:
    copies = [copy.deepcopy(module)]
    while len(copies) < N:
        copies.append(copy.deepcopy(copies[-1]))
    return copies


@solves("clones")
def deep_copies_with_a_memo_each(module: Component, N: int) -> list[Component]:
    return [copy.deepcopy(module, {}) for _ in range(N)]


@solves("clones")
def attribute_by_attribute(module: Component, N: int) -> list[Component]:
    def copied(component: Component) -> Component:
        twin = object.__new__(type(component))
        for name, value in vars(component).items():
            setattr(twin, name, of_any_kind(value))
        return twin

    def of_any_kind(value: object) -> object:
        if isinstance(value, Component):
            return copied(value)
        if isinstance(value, list):
            return [of_any_kind(part) for part in value]
        return value.copy() if isinstance(value, np.ndarray) else value

    return [copied(module) for _ in range(N)]


@solves("clones")
def recursive(module: Component, N: int) -> list[Component]:
    return [] if N == 0 else [copy.deepcopy(module), *recursive(module, N - 1)]


@solves("clones")
def folded(module: Component, N: int) -> list[Component]:
    empty: list[Component] = []
    return reduce(lambda copies, _: [*copies, deepcopy(module)], range(N), empty)


@solves("clones")
def list_that_is_a_subclass(module: Component, N: int) -> list[Component]:
    class Layers(list[Component]):
        pass

    return Layers(copy.deepcopy(module) for _ in range(N))


@solves("clones")
def halves(module: Component, N: int) -> list[Component]:
    if N == 1:
        return [copy.deepcopy(module)]
    return [*halves(module, N // 2), *halves(module, N - N // 2)]
