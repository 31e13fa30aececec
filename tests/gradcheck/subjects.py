"""Small subjects of checks: right and wrong backwards, forwards that are not analytic, libraries of real numbers."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from npformer import flatten
from npformer.component import Array, Component, Tree

Backward = Callable[[Any, Array, Tree], tuple[Any, Tree]]


def planted(component: Component, backward: Backward) -> Component:
    """Return a copy of a component with another backward in place of its own, which it can call as `.right`."""
    kind = type(component)
    twin = copy.copy(component)
    twin.__class__ = type(kind.__name__, (kind,), {"backward": backward, "right": kind.backward})
    return twin


def damaged(entry: int, factor: float) -> Backward:
    """Multiply one entry of every gradient, among those above a thousandth of its largest in the first call."""
    chosen: list[int] = []

    def backward(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
        grad_inputs, grads = copy.deepcopy(component.right(grad_output, cache))
        all_grads = [*(grad_inputs if isinstance(grad_inputs, tuple) else [grad_inputs]), *flatten(grads).values()]
        arrays = [grad for grad in all_grads if grad is not None]
        if not chosen:
            large = [np.flatnonzero(np.abs(grad) >= 1e-3 * np.abs(grad).max()) for grad in arrays]
            chosen.extend(int(indices[entry % len(indices)]) for indices in large)
        for grad, index in zip(arrays, chosen, strict=True):
            grad.flat[index] *= factor
        return grad_inputs, grads

    return backward


class Triple(Component):
    """3x, with whatever backward and whatever forward does beside it."""

    def __init__(self, backward: Callable[[Array], Any], beside: Callable[[Array], object] = np.shape):
        self.of = backward
        self.beside = beside

    def forward(self, x: Array) -> tuple[Array, Tree]:
        self.beside(x)
        return 3 * x, {"x": x}

    def backward(self, grad_output: Array, cache: Tree) -> Any:
        return self.of(grad_output)


class Accumulator:
    """Keeps a gradient on itself, as some do."""

    def __init__(self) -> None:
        self.total = np.zeros(2)

    def __call__(self, grad_output: Array) -> tuple[Array, Tree]:
        self.total += 3 * grad_output
        return self.total, {}


class StateOnSelf(Component):
    """x², with the input of the last forward on itself in place of a cache."""

    def forward(self, x: Array) -> tuple[Array, Tree]:
        self.x = x
        return x * x, {}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        return 2 * self.x * grad_output, {}


class Layer:
    """tanh(x Wᵀ + b), an object that is no Component and keeps its parameters in a dict."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.weights = {"W": random.standard_normal((3, 2)), "b": random.standard_normal(3)}

    def parameters(self) -> Tree:
        return self.weights

    def forward(self, x: Array) -> tuple[Array, Tree]:
        y = np.tanh(x @ self.weights["W"].T + self.weights["b"])
        return y, {"x": x, "y": y}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        g = grad_output * (1 - cache["y"] ** 2)
        return g @ self.weights["W"], {"W": g.T @ cache["x"], "b": g.sum(0)}


def dense(x: Array, w: Array) -> Array:
    return np.asarray(np.tanh(x @ w))


def dense_backward(grad_output: Array, x: Array, w: Array) -> tuple[Array, Array]:
    g = grad_output * (1 - np.tanh(x @ w) ** 2)
    return g @ w.T, x.T @ g


def dense_wrong_by(factor: float) -> Callable[..., tuple[Array, Array]]:
    """The backward of dense with one entry of grad_w off by a factor."""

    def backward(grad_output: Array, x: Array, w: Array) -> tuple[Array, Array]:
        grad_x, grad_w = dense_backward(grad_output, x, w)
        grad_w[1, 1] *= factor
        return grad_x, grad_w

    return backward


def real_alone(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a library of a function: like one in C, it takes float64 or float32 arrays alone."""

    def library(x: Array, w: Array) -> Any:
        if {x.dtype, w.dtype} - {np.dtype(np.float64), np.dtype(np.float32)}:
            raise TypeError("float arrays only")
        return function(x, w)

    return library


def absolute(x: Array) -> Array:
    return np.abs(x)


def absolute_backward(grad_output: Array, x: Array) -> Array:
    return grad_output * np.sign(x)


def zeros_backward(grad_output: Array, x: Array) -> Array:
    return np.zeros_like(x)


def in_a_loop(x: Array) -> Array:
    """3x by a loop into an array of real numbers, which drops a complex step with a warning."""
    output = np.zeros(len(x))
    for index, entry in enumerate(x):
        output[index] = 3 * entry
    return output


def spread_out(x: Array) -> Array:
    """Σ (x - mean)² / n by ndarray.var, which takes the absolute square."""
    return np.asarray(x * x.var())


def spread_out_backward(grad_output: Array, x: Array) -> Array:
    return np.asarray(grad_output * x.var() + (grad_output * x).sum() * 2 * (x - x.mean()) / x.size)
