"""A component as a pair of plain functions of all its arrays, whose backward recomputes everything."""

import copy
from collections.abc import Callable
from typing import Any

from npformer.component import Array, Component, flatten

Functions = tuple[Callable[..., Array], Callable[..., tuple[Array, ...]]]


def as_functions(
    component: Component, inputs: tuple[Array, ...], options: dict[str, Any]
) -> tuple[Functions, tuple[Array, ...]]:
    """Return (forward, backward) and the arrays they take: the inputs that have gradients, then the parameters."""
    constant = {index: x for index, x in enumerate(inputs) if x.dtype.kind != "f"}
    names = list(flatten(component.parameters()))
    count = len(inputs) - len(constant)

    def run(arrays: tuple[Array, ...]) -> tuple[Component, Array, Any]:
        twin = component.with_parameters(dict(zip(names, arrays[count:], strict=True)))
        floating = iter(arrays[:count])
        given = [constant[index] if index in constant else next(floating) for index in range(len(inputs))]
        return twin, *twin.forward(*given, **copy.deepcopy(options))

    def forward(*arrays: Array) -> Array:
        return run(arrays)[1]

    def backward(grad_output: Array, *arrays: Array) -> tuple[Array, ...]:
        twin, _, cache = run(arrays)
        grad_inputs, grads = twin.backward(grad_output, cache)
        of_inputs = grad_inputs if isinstance(grad_inputs, tuple) else (grad_inputs,)
        flat = flatten(grads)
        return *(grad for grad in of_inputs if grad is not None), *(flat[name] for name in names)

    floating = (x for x in inputs if x.dtype.kind == "f")
    return (forward, backward), (*floating, *flatten(component.parameters()).values())
