"""How large were the terms whose sum a gradient is? Below that size times the rounding error, nothing can be known.

The gradient of a key projection's bias is 0 in truth: what backward returns is what rounding left of terms that
cancel. Its error means nothing relative to itself, and everything relative to those terms. To measure them,
backward is run once on arrays that carry their terms along.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from npformer.component import Array, Component, Tree, flatten
from npformer.gradcheck.arguments import check_pair


class Terms(np.lib.mixins.NDArrayOperatorsMixin):
    """An array that carries the sum of the squares of its terms through the linear steps of a backward.

    Independent rounding errors add up in quadrature. So the squares follow the same sums and products as the
    values: ``square(a + b) = square(a) + square(b)``, ``square(a @ b) = square(a) @ square(b)``. The square is
    never below the value's own; after any other function it starts again from there.

    Attributes
    ----------
    value, square : array
        Of the same shape.

    Examples
    --------
    >>> big = Terms(np.array([1e8]))
    >>> difference = big - np.array([1e8 - 1])
    >>> difference.value, np.sqrt(difference.square).round()
    (array([1.]), array([1.41421356e+08]))
    """

    def __init__(self, value: Array, square: Array | None = None):
        self.value = value
        own = value * value
        self.square = own if square is None else np.maximum(square, own)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        out = options.pop("out", None)
        if ufunc is np.add and method == "at":
            target, index, added = inputs
            np.add.at(target.value, index, _value(added))
            np.add.at(target.square, index, _square(added))
            return None
        operation = getattr(ufunc, method)
        value = operation(*map(_value, inputs), **options)
        rule = LINEAR.get(ufunc) if method in ("__call__", "reduce") else None
        result = Terms(value, rule and getattr(rule, method)(*map(_square, inputs), **options))
        if out is not None:
            out[0].value[...], out[0].square[...] = result.value, result.square
            return out[0]
        return value if value.dtype == bool else result

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        if function is np.clip:
            return Terms(function(*map(_value, arguments), **options))
        if function not in SAME_ON_SQUARES:
            return NotImplemented
        square = function(*map(_square, arguments), **options)
        value = function(*map(_value, arguments), **options)
        return Terms(value, square)

    def __getattr__(self, name: str) -> Any:
        if name in ("shape", "ndim", "size", "dtype"):
            return getattr(self.value, name)
        if name in ("T", "real"):
            return Terms(getattr(self.value, name), getattr(self.square, name))
        if name in ("reshape", "transpose", "swapaxes", "sum"):
            return lambda *arguments, **options: Terms(
                getattr(self.value, name)(*arguments, **options), getattr(self.square, name)(*arguments, **options)
            )
        raise AttributeError(f"Terms has no {name}")

    def __getitem__(self, index: Any) -> Terms:
        return Terms(self.value[index], self.square[index])

    def __len__(self) -> int:
        return len(self.value)

    def mean(self, axis: int, keepdims: bool = False) -> Terms:
        total: Terms = self.sum(axis, keepdims=keepdims)
        mean: Terms = total / float(self.value.shape[axis])
        return mean


def _value(operand: Any) -> Any:
    return operand.value if isinstance(operand, Terms) else operand


def _square(operand: Any) -> Any:
    if isinstance(operand, Terms):
        return operand.square
    return operand * operand if isinstance(operand, np.ndarray | np.number | int | float) else operand


# What happens to squares under the functions that are linear in each operand.
LINEAR: dict[np.ufunc, np.ufunc] = {
    np.add: np.add,
    np.subtract: np.add,
    np.multiply: np.multiply,
    np.divide: np.divide,
    np.matmul: np.matmul,
    np.negative: np.positive,
}
SAME_ON_SQUARES: set[Callable[..., Any]] = {np.einsum, np.zeros_like}


def named_gradients(component: Component, names: Sequence[str], grad_output: Array, cache: Tree) -> dict[str, Array]:
    """Run backward, and return the gradients of the inputs under these names, of the parameters under theirs."""
    grad_inputs, grads = check_pair("backward", component.backward(grad_output, cache))
    of_inputs = list(grad_inputs if isinstance(grad_inputs, tuple) else (grad_inputs,))
    names = [*names, *(f"gradient {index}" for index in range(len(names), len(of_inputs)))]
    named = {name: grad for name, grad in zip(names, of_inputs, strict=False) if grad is not None}
    return named | flatten(grads)


def term_sizes(component: Component, names: Sequence[str], grad_output: Array, cache: Tree) -> dict[str, Array]:
    """Return for each gradient the root of the sum of the squares of its terms, in backward's own form.

    Parameters
    ----------
    component : Component
        Its backward may use arithmetic, @, np.einsum, np.add.at, sums, means and reshapes.
    names : list of str
        What to call the inputs.
    grad_output, cache
        As for ``component.backward(grad_output, cache)``.

    Returns
    -------
    dict
        Arrays of the shapes of the gradients, by name of input or dotted name of parameter.
    """
    wrapped = component.with_parameters({name: Terms(a) for name, a in flatten(component.parameters()).items()})
    gradients: dict[str, Any] = named_gradients(wrapped, names, _wrap(grad_output), _wrap(cache))
    return {name: np.sqrt(_square(terms)) for name, terms in gradients.items()}


def _wrap(cache: Any) -> Any:
    if isinstance(cache, Mapping):
        return {name: _wrap(value) for name, value in cache.items()}
    return Terms(cache) if isinstance(cache, np.ndarray) and cache.dtype.kind == "f" else cache
