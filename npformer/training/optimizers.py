"""Optimizers: loops over parameters and gradients of the same names, which write into the parameters."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

from npformer.component import Array, Tree, flatten
from npformer.shapes import check_count, check_number, check_same_arrays, check_tree, describe
from npformer.training.gradients import check_real, largest_entry, named_gradients

Arrays = Mapping[str, Array]  # by dotted names
SMALLEST_EPS = float(np.finfo(np.float32).tiny)  # a smaller one is 0 in float32


class Optimizer(ABC):
    """What all optimizers have: a learning rate, a number of steps, and arrays that remember past gradients.

    `learning_rate` is a plain attribute: a schedule sets it before each step.
    """

    memory_names: tuple[str, ...] = ()

    def __init__(self, learning_rate: float):
        self.learning_rate = check_number("learning_rate", learning_rate, 0)
        self.steps = 0
        self.memory: dict[str, dict[str, Array]] = {kind: {} for kind in self.memory_names}

    def step(self, parameters: Tree, grads: Tree) -> None:
        """Take one step: write into the live arrays of ``component.parameters()``.

        Raises
        ------
        TypeError, ValueError
            If names, shapes or dtypes differ, a gradient is not finite, a parameter is read-only, or these are not the
            parameters of the steps before. Nothing is written then.
        """
        check_number("learning_rate", self.learning_rate, 0)
        check_tree("parameters", parameters)
        flat_parameters, flat_grads = flatten(parameters), named_gradients(grads)
        self._check(flat_parameters, flat_grads)
        if self.steps == 0:
            zeros = {kind: {name: np.zeros_like(p) for name, p in flat_parameters.items()} for kind in self.memory}
            self.memory = zeros
        self.steps += 1
        self._remember(flat_grads)  # all of it before anything is written: a gradient may be a parameter's own array
        self._write(flat_parameters)

    def state(self) -> Tree:
        """Return what the next step needs, as a copy: "steps", and the arrays of each kind of memory by name."""
        copies = {kind: {name: array.copy() for name, array in kept.items()} for kind, kept in self.memory.items()}
        return {"steps": np.array(self.steps)} | copies

    def load_state(self, state: Tree) -> None:
        """Go on from what `state` returned, given as that tree or under dotted names; the arrays are copied.

        Raises
        ------
        TypeError, ValueError
            If it is not the state of such an optimizer. Nothing is changed then.
        """
        check_tree("state", state)
        given = flatten(state)
        steps = given.pop("steps", None)
        if np.shape(steps) != () or np.asarray(steps).dtype.kind not in "iu":
            raise ValueError(f"state must have a whole number of steps, but steps is {describe(steps)}")
        loaded: dict[str, dict[str, Array]] = {kind: {} for kind in self.memory}
        for name, array in given.items():
            kind, _, parameter = name.partition(".")
            if kind not in loaded or not parameter:
                raise ValueError(f"state must be one of {type(self).__name__}, but {name} is in it")
            check_real(f"state.{name}", array)
            if not np.isfinite(largest_entry(array)) or (kind == "square" and array.min() < 0):
                raise ValueError(f"state.{name} must be numbers that gradients lead to, but they are not")
            loaded[kind][parameter] = array.copy()
        for kind, kept in loaded.items():
            check_same_arrays(f"state.{kind}", kept, loaded[self.memory_names[0]])
        self.steps = check_count("state.steps", int(np.asarray(steps)), least=1 if given else 0)
        self.memory = loaded

    def _check(self, parameters: Arrays, grads: Arrays) -> None:
        for name, parameter in parameters.items():
            check_real(name, parameter)
            if not parameter.flags.writeable:
                raise ValueError(f"{name} must be an array to write into, but it is read-only")
        check_same_arrays("grads", grads, parameters)
        arrays = {f"grads.{name}": grad for name, grad in grads.items()}
        for kind, kept in self.memory.items() if self.steps else ():
            check_same_arrays("parameters", parameters, kept)
            arrays |= {f"{kind}.{name}": array for name, array in kept.items()}
        for name, array in arrays.items():
            dtype = parameters[name.partition(".")[2]].dtype
            if array.dtype != dtype:
                raise TypeError(f"{name} must be {dtype} like the parameter, but its dtype is {array.dtype}")

    @abstractmethod
    def _remember(self, grads: Arrays) -> None:
        """Take the gradients into the memory."""

    @abstractmethod
    def _write(self, parameters: Arrays) -> None:
        """Write into the parameters what the memory says."""


class SGD(Optimizer):
    """Gradient descent with momentum (Polyak 1964; in the form of Sutskever et al. 2013 with the rate outside).

        velocity ← momentum · velocity + g        parameter ← parameter - learning_rate · velocity

    velocity is 0 at first, and without momentum it is g. As in PyTorch, a change of the learning rate acts on the whole
    velocity at once; in the paper each gradient keeps the rate of its own step.

    Parameters
    ----------
    learning_rate : float
        At least 0.
    momentum : float
        In [0, 1).

    Examples
    --------
    >>> weight = np.array([1.0, 2.0])
    >>> optimizer = SGD(learning_rate=0.5, momentum=0.5)
    >>> for _ in range(2):
    ...     optimizer.step({"weight": weight}, {"weight": np.array([1.0, 0.0])})
    ...     print(weight)
    [0.5 2. ]
    [-0.25  2.  ]
    """

    memory_names = ("velocity",)

    def __init__(self, learning_rate: float, momentum: float = 0.0):
        super().__init__(learning_rate)
        self.momentum = check_number("momentum", momentum, 0, 1)

    def _remember(self, grads: Arrays) -> None:
        for name, grad in grads.items():
            velocity = self.memory["velocity"][name]
            velocity *= self.momentum
            velocity += grad

    def _write(self, parameters: Arrays) -> None:
        for name, parameter in parameters.items():
            parameter -= self.learning_rate * self.memory["velocity"][name]


class Adam(Optimizer):
    """Adam: steps of the mean gradient in units of its root mean square (Kingma and Ba 2015, algorithm 1).

        mean   ← β1 · mean   + (1 - β1) · g
        square ← β2 · square + (1 - β2) · g²
        parameter ← parameter - learning_rate · mean' / (√square' + eps)

        mean' = mean / (1 - β1^steps)        square' = square / (1 - β2^steps)

    Both are 0 at first. After n steps the weights of all gradients in `mean` add up to 1 - β1^n, and not to 1: dividing
    by that makes it an average. So the first step has the size of the learning rate wherever \\|g\\| is far above eps.

    Parameters
    ----------
    learning_rate : float
        At least 0.
    betas : tuple of two floats
        β1 and β2, in [0, 1).
    eps : float
        Added to the root, at least 1.2e-38. A gradient far below it moves its parameter by less than the rate.

    Raises
    ------
    ValueError
        By `step`, also where a gradient is so large that its square overflows.

    Examples
    --------
    >>> weight = np.array([1.0, 2.0, 3.0])
    >>> Adam(learning_rate=0.1).step({"weight": weight}, {"weight": np.array([5.0, -0.01, 0.0])})
    >>> weight.round(6)
    array([0.9, 2.1, 3. ])
    """

    memory_names = ("mean", "square")

    def __init__(self, learning_rate: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8):
        super().__init__(learning_rate)
        if not isinstance(betas, tuple) or len(betas) != 2:
            raise TypeError(f"betas must be a tuple of two numbers, but it is {describe(betas)}")
        self.betas = check_number("betas[0]", betas[0], 0, 1), check_number("betas[1]", betas[1], 0, 1)
        self.eps = check_number("eps", eps, SMALLEST_EPS)

    def _check(self, parameters: Arrays, grads: Arrays) -> None:
        super()._check(parameters, grads)
        for name, grad in grads.items():
            limit, largest = math.sqrt(np.finfo(grad.dtype).max), largest_entry(grad)
            if largest > limit:
                raise ValueError(f"grads.{name} must be below {limit:.1e} for its square, but {largest:.1e} is in it")

    def _remember(self, grads: Arrays) -> None:
        beta1, beta2 = self.betas
        for name, grad in grads.items():
            mean, square = self.memory["mean"][name], self.memory["square"][name]
            mean *= beta1
            mean += (1 - beta1) * grad
            square *= beta2
            square += (1 - beta2) * grad * grad

    def _write(self, parameters: Arrays) -> None:
        beta1, beta2 = self.betas
        rate = self.learning_rate / (1 - beta1**self.steps)
        root_of_weights = math.sqrt(1 - beta2**self.steps)
        for name, parameter in parameters.items():
            mean, square = self.memory["mean"][name], self.memory["square"][name]
            parameter -= rate * mean / (np.sqrt(square) / root_of_weights + self.eps)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2).

        parameter ← parameter - learning_rate · weight_decay · parameter

    and then Adam's step. The decay is no part of the gradient: Adam would divide it by the root mean square too. As in
    PyTorch, every array decays, biases and norms as well, and a schedule acts on both parts.

    Parameters
    ----------
    learning_rate, betas, eps
        As for `Adam`.
    weight_decay : float
        At least 0.

    Examples
    --------
    >>> weight = np.array([2.0])
    >>> AdamW(learning_rate=0.1, weight_decay=0.5).step({"weight": weight}, {"weight": np.array([0.0])})
    >>> weight
    array([1.9])
    """

    def __init__(
        self,
        learning_rate: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):
        super().__init__(learning_rate, betas, eps)
        self.weight_decay = check_number("weight_decay", weight_decay, 0)

    def _write(self, parameters: Arrays) -> None:
        for parameter in parameters.values():
            parameter *= 1 - self.learning_rate * self.weight_decay
        super()._write(parameters)
