"""Optimizers: each is two loops, one that takes gradients into a memory, one that writes into the parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from npformer.shapes import check_number, describe
from npformer.training.gradients import NotFiniteError
from npformer.training.optimizer import Arrays, Optimizer

SMALLEST_EPS = float(np.finfo(np.float32).tiny)  # a smaller one would be 0 in float32, and 0 / 0 is no number


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
    never_negative = ("square",)

    def __init__(self, learning_rate: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8):
        super().__init__(learning_rate)
        if not isinstance(betas, tuple) or len(betas) != 2:
            raise TypeError(f"betas must be a tuple of two numbers, but it is {describe(betas)}")
        self.betas = check_number("betas[0]", betas[0], 0, 1), check_number("betas[1]", betas[1], 0, 1)
        self.eps = check_number("eps", eps, SMALLEST_EPS)

    def _check(self, parameters: Arrays, grads: Arrays, largest_entries: Mapping[str, float]) -> None:
        super()._check(parameters, grads, largest_entries)
        for name, largest in largest_entries.items():
            limit = math.sqrt(np.finfo(grads[name].dtype).max)
            if largest > limit:
                raise NotFiniteError(
                    f"grads.{name} must be at most {limit:.1e}, for its square is taken, but {largest:.1e} is in it"
                )

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
    PyTorch, every array decays, biases and norms as well, and the decay is multiplied by the whole learning rate; in
    the paper, by the factor of the schedule alone.

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
