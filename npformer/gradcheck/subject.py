"""What is checked, behind one face: a component, any object with its protocol, or a pair of plain functions."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from npformer.component import Array, Tree, flatten
from npformer.gradcheck.arguments import check_arrays, check_pair
from npformer.shapes import check_tree, describe

PROTOCOL = (
    "a component, an object with forward and backward like one, or a pair of functions "
    "(forward(*arrays) -> array, backward(grad_output, *arrays) -> arrays)"
)


@contextmanager
def silence() -> Iterator[None]:
    """Hold warnings back in a block or a function: they would go to stderr, and what they tell shows in the numbers."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


class Functions:
    """A pair of plain functions behind the protocol of a component; the cache is what forward was called with."""

    def __init__(self, forward: Callable[..., Any], backward: Callable[..., Any]):
        self.functions = forward, backward

    def forward(self, *inputs: Any, **options: Any) -> tuple[Any, Tree]:
        cache = {"inputs": {str(index): x for index, x in enumerate(inputs)}, "options": options}
        return self.functions[0](*inputs, **copy.deepcopy(options)), cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
        grads = self.functions[1](grad_output, *cache["inputs"].values(), **copy.deepcopy(cache["options"]))
        return tuple(grads) if isinstance(grads, list) else grads, {}


class Subject:
    """The subject of a check, with its inputs and options, as a function of named arrays.

    Parameters
    ----------
    target : object
        Has ``forward`` and ``backward``, and perhaps ``parameters``; or a pair of functions.
    inputs : arrays
        What forward is called with; their names are those of its arguments.
    options : dict
        Handed to forward by name; each call gets a copy, so that all draw the same dropout masks.

    Raises
    ------
    TypeError, ValueError
        If this cannot be checked; the sentence says why.
    """

    def __init__(self, target: Any, inputs: Sequence[Array], options: dict[str, Any]):
        if isinstance(target, tuple) and len(target) == 2 and all(map(callable, target)):
            names = input_names(target[0], len(inputs))
            target = Functions(*target)
        elif isinstance(target, type) or not all(
            callable(getattr(target, each, None)) for each in ("forward", "backward")
        ):
            raise TypeError(f"subject must be {PROTOCOL}, but it is {describe(target)}")
        else:
            names = input_names(target.forward, len(inputs))
        self.target = target
        self.inputs = dict(zip(names, inputs, strict=True))
        self.options = options
        parameters = self.parameters()
        check_arrays(self.inputs, parameters)
        held: dict[int, str] = {}
        for name, array in self.parameters().items():
            if array is not parameters[name]:
                raise TypeError(
                    f"parameters() must return the arrays that forward uses, but {name} is a copy or a view"
                )
            first = held.setdefault(id(array), name)
            if first != name:
                raise ValueError(f"parameters() must have each array under one name, but {first} and {name} are one")
        if not self.arrays():
            raise ValueError("subject must have at least one floating input or parameter, but it has none")

    @property
    def title(self) -> str:
        """What a report calls it."""
        if isinstance(self.target, Functions):
            return " and ".join(getattr(each, "__name__", type(each).__name__) for each in self.target.functions)
        return type(self.target).__name__

    def parameters(self) -> dict[str, Array]:
        """Return the live parameters under dotted names."""
        if not callable(getattr(self.target, "parameters", None)):
            return {}
        tree = self.target.parameters()
        check_tree("what parameters() returns", tree)
        return flatten(tree)

    def arrays(self) -> dict[str, Array]:
        """Return all that has a gradient by name: floating inputs, then parameters."""
        return {name: x for name, x in (self.inputs | self.parameters()).items() if x.dtype.kind in "fc"}

    def forward(self) -> tuple[Array, Tree]:
        """Return output and cache."""
        return check_pair("forward", self.target.forward(*self.inputs.values(), **copy.deepcopy(self.options)))

    def backward(self, grad_output: Any, cache: Tree) -> dict[str, Any]:
        """Return the gradients of the inputs under their names, and those of the parameters under theirs."""
        return named_gradients(self.target, list(self.inputs), grad_output, cache)

    def cast(self, dtype: npt.DTypeLike | None) -> Subject:
        """Return a private copy whose floating arrays have this dtype, or their own."""
        integers = {name: x.copy() for name, x in self.inputs.items()}
        return self.replaced(integers | {name: a.astype(dtype or a.dtype) for name, a in self.arrays().items()})

    def replaced(self, arrays: Mapping[str, Any]) -> Subject:
        """Return a copy of the subject that holds other arrays, wherever it keeps its own."""
        twin = copy.copy(self)
        twin.inputs = {name: arrays.get(name, x) for name, x in self.inputs.items()}
        if isinstance(self.target, Functions):
            return twin
        parameters = self.parameters()
        # deepcopy takes what stands in its memo for an object's copy: so each array is replaced wherever it is held
        memo: dict[int, Any] = {id(array): arrays[name] for name, array in parameters.items() if name in arrays}
        try:
            twin.target = copy.deepcopy(self.target, memo)
        except Exception as error:  # a handle of a library cannot be copied, which matters if there are parameters
            if parameters:
                raise TypeError(
                    f"subject must be such that copy.deepcopy can copy it, but {describe(self.target)} is not "
                    f"({error}); give it as a pair of functions of all its arrays"
                ) from error
        return twin


def named_gradients(target: Any, names: Sequence[str], grad_output: Any, cache: Tree) -> dict[str, Any]:
    """Run backward, and return the gradients of the inputs under these names, of the parameters under theirs."""
    grad_inputs, grads = check_pair("backward", target.backward(grad_output, cache))
    of_inputs = list(grad_inputs if isinstance(grad_inputs, tuple) else (grad_inputs,))
    names = [*names, *(f"gradient {index}" for index in range(len(names), len(of_inputs)))]
    named = {name: grad for name, grad in zip(names, of_inputs, strict=False) if grad is not None}
    of_parameters = {name: grad for name, grad in flatten(grads).items() if grad is not None}
    return named | {
        f"{name} of the parameters" if name in named else name: of_parameters[name] for name in of_parameters
    }


def input_names(forward: Callable[..., Any], count: int) -> list[str]:
    """Return what a function calls its first arguments."""
    try:
        parameters = inspect.signature(forward).parameters
    except (TypeError, ValueError):  # compiled functions may have no signature
        return [f"input {index}" for index in range(count)]
    names: list[str] = []
    for name, parameter in parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{name}[{index}]" for index in range(count - len(names))]
        names.append(name)
    return names[:count]
