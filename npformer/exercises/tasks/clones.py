"""The layers of a stack start as copies of one layer.

Return a list of N copies of module, a Component, which may have children, and lists of them. Each copy has the values
of the original, and nothing in common with it or with another copy: whoever trains one changes no other.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from npformer import Component, Dropout, Linear, PositionwiseFeedForward, PreNormSublayerConnection, flatten
from npformer.component import Array
from npformer.encoder import make_encoder
from npformer.exercises.quoting import kind_of
from npformer.exercises.task import Call, ForwardTask
from npformer.gradcheck import randomise
from npformer.norm import LayerNorm


def clones(module: Component, N: int) -> list[Component]:
    """Return N independent copies of module."""
    return [copy.deepcopy(module) for _ in range(N)]


class HandedOver(tuple[Any, ...]):
    """Arguments that a function gets as they are, uncopied, so that its results can be compared with them."""

    def __deepcopy__(self, memo: dict[int, Any]) -> HandedOver:
        return self


def calls(seed: int) -> Iterator[tuple[str, Call]]:
    rng = np.random.default_rng(seed)
    norm = LayerNorm(2)
    modules = {
        "2 copies of a Linear": (Linear(2, 3), 2),
        "1 copy of a Linear": (Linear(3, 2), 1),
        "3 copies of a Dropout, which has no parameters": (Dropout(0.5), 3),
        "4 copies of a component with children of children": (
            PreNormSublayerConnection(PositionwiseFeedForward(2, 3), norm),
            4,
        ),
        "2 copies of a component with a list of children": (make_encoder(2, 4, 2, 3), 2),
    }
    for what, (module, count) in modules.items():
        randomise(module, rng)
        yield what, Call(HandedOver((module, count)))


def look(result: Any, module: Component, N: int) -> dict[str, Any]:
    if not isinstance(result, Iterable):
        raise TypeError(f"clones must return a list of components, but it returned {kind_of(result)}")
    copies = list(islice(result, 2 * N + 2))
    for index, each in enumerate(copies):
        if type(each) is not type(module):
            raise TypeError(f"clones must return copies of a {type(module).__name__}, but item {index} is {each!r:.60}")
    others = [each for index, one in enumerate(copies) for each in copies[index + 1 :] if each is not one]
    return {
        "a list": isinstance(result, list),
        "count": len(copies),
        "equal to the original": all(equal(each, module) for each in copies),
        "different objects": len({id(each) for each in (*copies, module)}) == len(copies) + 1,
        "independent of the original": not any(share(each, module) for each in copies),
        "independent of each other": len(others) == len(copies) * (len(copies) - 1) // 2
        and not any(share(one, other) for index, one in enumerate(copies) for other in copies[index + 1 :]),
    }


def equal(one: Component, other: Component) -> bool:
    arrays, others = flatten(one.parameters()), flatten(other.parameters())
    return arrays.keys() == others.keys() and all(np.array_equal(array, others[name]) for name, array in arrays.items())


def share(one: Component, other: Component) -> bool:
    """Whether two components have a component or a parameter's memory in common, however deep."""
    if {id(each) for each in family(one)} & {id(each) for each in family(other)}:
        return True
    return any(np.shares_memory(array, another) for array in arrays_of(one) for another in arrays_of(other))


def family(component: Component) -> Iterator[Component]:
    yield component
    for value in vars(component).values():
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, Component):
                yield from family(part)


def arrays_of(component: Component) -> list[Array]:
    return list(flatten(component.parameters()).values())


def same_object_repeated(module: Component, N: int) -> list[Component]:
    """[module] * N is a list of N references to one component, so that training one trains them all."""
    return [module] * N


def one_copy_repeated(module: Component, N: int) -> list[Component]:
    """One deep copy stands in the list N times."""
    return [copy.deepcopy(module)] * N


def shallow_copies(module: Component, N: int) -> list[Component]:
    """copy.copy makes new components that hold the same arrays and children."""
    return [copy.copy(module) for _ in range(N)]


def children_not_copied(module: Component, N: int) -> list[Component]:
    """The component's own arrays are copied, but its children are the original's."""
    copies = [copy.copy(module) for _ in range(N)]
    for each in copies:
        vars(each).update({name: value.copy() for name, value in vars(each).items() if isinstance(value, np.ndarray)})
    return copies


def shallow_copies_of_a_deep_one(module: Component, N: int) -> list[Component]:
    """They are independent of the original, but hold the same arrays as one another."""
    only = copy.deepcopy(module)
    return [copy.copy(only) for _ in range(N)]


def original_among_the_copies(module: Component, N: int) -> list[Component]:
    """The first of the list is the original itself."""
    return [module, *(copy.deepcopy(module) for _ in range(N - 1))]


def original_beside_the_copies(module: Component, N: int) -> list[Component]:
    """The list has the original as well as N copies."""
    return [module, *(copy.deepcopy(module) for _ in range(N))]


def one_too_few(module: Component, N: int) -> list[Component]:
    """There are N - 1 copies, as if the original were counted."""
    return [copy.deepcopy(module) for _ in range(1, N)]


def one_too_many(module: Component, N: int) -> list[Component]:
    """There are N + 1 copies."""
    return [copy.deepcopy(module) for _ in range(N + 1)]


def fresh_weights(module: Component, N: int) -> list[Component]:
    """Each copy has initial weights of its own instead of the original's values."""
    copies = [copy.deepcopy(module) for _ in range(N)]
    for seed, each in enumerate(copies):
        randomise(each, np.random.default_rng(seed))
    return copies


def not_in_a_list(module: Component, N: int) -> tuple[Component, ...]:
    """The copies come in a tuple or a generator, and a component takes its children from lists alone."""
    return tuple(copy.deepcopy(module) for _ in range(N))


TASK = ForwardTask(
    name="clones",
    title="Copies that have nothing in common",
    statement=__doc__,
    solution=clones,
    blank="clones",
    points=1,
    calls=calls,
    look=look,
    wrong=(
        same_object_repeated,
        one_copy_repeated,
        shallow_copies,
        children_not_copied,
        shallow_copies_of_a_deep_one,
        original_among_the_copies,
        original_beside_the_copies,
        one_too_few,
        one_too_many,
        fresh_weights,
        not_in_a_list,
    ),
    hints=(
        "If you write into the weight of one copy, which other weights may change? None: so count the arrays you need.",
        "A list times a number repeats references to one and the same object. Each copy must be made on its own.",
        "The standard library's module copy has two functions: one copies an object alone, the other all that it holds "
        "as well. A component holds arrays and other components.",
    ),
    derivation="""
    A component holds its parameters and its children, which hold theirs. copy.copy makes a new component that refers to
    the same arrays and the same children; copy.deepcopy copies those too, all the way down. It has to be called once
    for each copy: [copy.deepcopy(module)] * N would be one copy, N times in a list.
    """,
)
