"""How large were the terms whose sum a gradient is? Below that size times the rounding error, nothing can be known.

The gradient of a key projection's bias is 0 in truth: what backward returns is what rounding left of terms that
cancel. Its error means nothing relative to itself, and everything relative to those terms. To measure them,
backward is run once on arrays that carry their terms along.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from npformer.component import Array, Component, Tree
from npformer.gradcheck.subject import Subject


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
        own = np.square(value, dtype=np.float64)  # in float32 the squares of small values would be 0
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
        if method not in ("__call__", "reduce"):
            raise TypeError(f"Terms cannot go through {ufunc.__name__}.{method}")
        rule = LINEAR.get(ufunc)
        result = Terms(value, rule and getattr(rule, method)(*map(_square, inputs), **options))
        if out is not None:
            out[0].value[...], out[0].square[...] = result.value, result.square
            return out[0]
        return value if value.dtype == bool else result

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        if function is np.mean:
            return arguments[0].mean(*arguments[1:], **options)
        value = function(*_each(_value, arguments), **_each(_value, options))
        if function in NOT_LINEAR:
            return Terms(value)
        if function not in SAME_ON_SQUARES:  # to start again from the value would make the terms too small
            raise TypeError(f"Terms cannot go through {function.__name__}")
        square = function(*_each(_square, arguments), **_each(_square, options))
        if isinstance(value, list):
            return [Terms(*pair) for pair in zip(value, square, strict=True)]
        return Terms(value, square)

    def __getattr__(self, name: str) -> Any:
        if name in ("shape", "ndim", "size", "dtype"):
            return getattr(self.value, name)
        if name in ("T", "real"):
            return Terms(getattr(self.value, name), getattr(self.square, name))
        if name in METHODS:
            return lambda *arguments, **options: Terms(
                getattr(self.value, name)(*arguments, **options), getattr(self.square, name)(*arguments, **options)
            )
        if name in ("max", "min"):
            return lambda *arguments, **options: Terms(getattr(self.value, name)(*arguments, **options))
        raise AttributeError(f"Terms has no {name}")

    def __array__(self, *arguments: Any, **options: Any) -> Array:
        raise TypeError("an array with terms cannot be made one without")  # NumPy would make one of objects, slowly

    def __getitem__(self, index: Any) -> Terms:
        return Terms(self.value[index], self.square[index])

    def __setitem__(self, index: Any, entries: Any) -> None:
        self.value[index], self.square[index] = _value(entries), _square(entries)

    def __len__(self) -> int:
        return len(self.value)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Terms:
        total: Terms = self.sum(axis=axis, keepdims=keepdims)
        mean: Terms = total / (self.value.size / total.value.size)
        return mean


def _each(take: Callable[[Any], Any], operands: Any) -> Any:
    """Take the values, or the squares, out of the operands of a function, which may be in lists."""
    if isinstance(operands, list | tuple):
        return type(operands)(_each(take, operand) for operand in operands)
    if isinstance(operands, dict):
        return {name: _each(take, operand) for name, operand in operands.items()}
    return take(operands) if isinstance(operands, Terms | np.ndarray | float) else operands


def _value(operand: Any) -> Any:
    return operand.value if isinstance(operand, Terms) else operand


def _square(operand: Any) -> Any:
    if isinstance(operand, Terms):
        return operand.square
    is_number = isinstance(operand, np.ndarray | np.number | int | float)
    return np.square(operand, dtype=np.float64) if is_number else operand


# What happens to squares under the functions that are linear in each operand.
LINEAR: dict[np.ufunc, np.ufunc] = {
    np.add: np.add,
    np.subtract: np.add,
    np.multiply: np.multiply,
    np.divide: np.divide,
    np.matmul: np.matmul,
    np.negative: np.positive,
}
# The functions of NumPy that are linear in each operand, or only move entries about.
SAME_ON_SQUARES: set[Callable[..., Any]] = {
    *(np.sum, np.dot, np.inner, np.outer, np.tensordot, np.einsum, np.trace, np.cumsum),
    *(np.reshape, np.transpose, np.swapaxes, np.moveaxis, np.expand_dims, np.squeeze, np.ravel, np.broadcast_to),
    *(np.split, np.array_split, np.hstack, np.vstack, np.column_stack, np.resize, np.take, np.diagonal),
    *(np.concatenate, np.stack, np.where, np.flip, np.roll, np.repeat, np.tile, np.copy),
}
# Those after which the terms start again.
NOT_LINEAR: set[Callable[..., Any]] = {
    *(np.clip, np.max, np.min, np.linalg.norm),
    *(np.zeros_like, np.ones_like, np.empty_like, np.full_like),
}
METHODS = {"reshape", "transpose", "swapaxes", "ravel", "flatten", "squeeze", "sum", "dot", "copy", "astype", "repeat"}


def term_sizes(subject: Subject, grad_output: Array, cache: Tree) -> dict[str, Array]:
    """Return for each gradient the root of the sum of the squares of its terms, in backward's own form.

    Parameters
    ----------
    subject : Subject
        Its backward may use arithmetic, @, sums, means, reshapes and the NumPy functions of SAME_ON_SQUARES.
    grad_output, cache
        As for its ``backward(grad_output, cache)``.

    Returns
    -------
    dict
        Arrays of the shapes of the gradients, by name of input or dotted name of parameter; empty if backward uses
        what cannot carry terms.
    """
    wrapped = subject.replaced({name: Terms(array) for name, array in subject.parameters().items()})
    try:
        if isinstance(subject.target, Component):  # a backward may run a forward again, as that of Checkpoint does
            for twin, part in zip(_parts(wrapped.target), _parts(subject.target), strict=True):
                vars(twin)["forward"] = functools.partial(_forward_of_values, part)
        gradients = wrapped.backward(_wrap(grad_output), _wrap(cache))
        return {name: np.sqrt(_square(terms)) for name, terms in gradients.items()}
    except Exception:  # code written elsewhere may do anything with what is no array
        return {}


def _parts(component: Component) -> Iterator[Component]:
    yield component
    for child in component._children().values():
        for part in child if isinstance(child, list) else [child]:
            yield from _parts(part)


def _forward_of_values(part: Component, *inputs: Any, **options: Any) -> tuple[Any, Any]:
    """Run forward without terms: they are those of backward alone."""
    output, cache = part.forward(*_each(_value, inputs), **_each(_value, options))
    return _wrap(output), _wrap(cache)


def _wrap(cache: Any) -> Any:
    if isinstance(cache, Mapping):
        return {name: _wrap(value) for name, value in cache.items()}
    return Terms(cache) if isinstance(cache, np.ndarray) and cache.dtype.kind == "f" else cache
