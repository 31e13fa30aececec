"""The training loop: forward, loss, backward, clip, step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np

from npformer.component import Array, Component, Tree
from npformer.dropout import RandomSource
from npformer.shapes import check_count, check_number, check_part, describe
from npformer.training.clipping import clip_by_global_norm, global_norm
from npformer.training.gradients import NotFiniteError
from npformer.training.optimizer import Optimizer
from npformer.training.schedules import Schedule


@dataclass(frozen=True, eq=False)
class Step:
    """What one step of training was: its number, the loss and output before it, and what it was taken with.

    `grads` are as backward returned them, and `grad_norm` is their norm: both are from before the clipping.
    """

    number: int
    loss: float
    output: Array
    targets: Array
    grads: Tree
    grad_norm: float
    learning_rate: float


def train(
    model: Component,
    loss: Component,
    optimizer: Optimizer,
    batches: Iterable[tuple[Array, Array]],
    schedule: Schedule | None = None,
    max_norm: float | None = None,
    rng: RandomSource | Callable[[int], RandomSource] | None = None,
    first: int = 1,
) -> Iterator[Step]:
    """Train a model on batches, and yield each step after it was taken: whoever reads the steps may stop at any time.

    Parameters
    ----------
    model : Component
        Trained in place. With rng, ``model.forward(inputs, rng=...)`` draws dropout masks; without, dropout is off.
    loss : Component
        ``forward(output, targets)`` gives one number, such as that of `CrossEntropy`.
    optimizer : Optimizer
        Writes into the parameters.
    batches : iterable
        Pairs of inputs and targets, one pair a step.
    schedule : callable, optional
        From the number of the step to its learning rate; without one, the optimizer's stays.
    max_norm : float, optional
        Where the norm of all gradients together is clipped.
    rng : Generator, callable or None
        One source for all steps, or a function from the number of a step to its source: with that, a run that is taken
        up in the middle draws what it would have drawn.
    first : int
        Number of the first step.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be, at once.
    NotFiniteError
        At a step whose loss or gradients are not finite, before anything is written; a kind of ValueError.

    Examples
    --------
    >>> from npformer import CrossEntropy, Linear
    >>> from npformer.training import SGD
    >>> points, classes = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 1])
    >>> steps = train(Linear(2, 2, rng=0), CrossEntropy(), SGD(learning_rate=1.0), [(points, classes)] * 20)
    >>> losses = [step.loss for step in steps]
    >>> losses[-1] < 0.1 < losses[0]
    True
    """
    _check(model, loss, optimizer, batches, schedule, max_norm, rng)
    check_count("first", first)

    def steps() -> Iterator[Step]:
        for number, (inputs, targets) in enumerate(_pairs(batches), first):
            options = {} if rng is None else {"rng": rng(number) if callable(rng) else rng}
            output, cache = model.forward(inputs, **options)
            value, loss_cache = loss.forward(output, targets)
            _check_loss(value, number)

            (grad_output, _), _ = loss.backward(np.ones_like(value), loss_cache)
            _, grads = model.backward(grad_output, cache)

            clipped, norm = (grads, global_norm(grads)) if max_norm is None else clip_by_global_norm(grads, max_norm)
            if schedule is not None:
                optimizer.learning_rate = schedule(number)
            optimizer.step(model.parameters(), clipped)
            yield Step(number, float(value), output, targets, grads, norm, optimizer.learning_rate)

    return steps()


def _pairs(batches: Iterable[Any]) -> Iterator[tuple[Array, Array]]:
    for batch in batches:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            length = f" of length {len(batch)}" if isinstance(batch, Sized) else ""
            raise TypeError(f"batches must give pairs (inputs, targets), but one is {describe(batch)}{length}")
        yield batch[0], batch[1]


def _check_loss(value: Array, number: int) -> None:
    if np.shape(value) != ():
        raise ValueError(f"loss must give one number, but its shape is {np.shape(value)}")
    if not np.isfinite(value):
        raise NotFiniteError(f"loss must be finite, but at step {number} it is {value}; try a lower learning rate")


def _check(
    model: object,
    loss: object,
    optimizer: object,
    batches: object,
    schedule: object,
    max_norm: float | None,
    rng: object,
) -> None:
    check_part("model", model, Component)
    check_part("loss", loss, Component)
    check_part("optimizer", optimizer, Optimizer)
    if not isinstance(batches, Iterable):
        raise TypeError(f"batches must be an iterable of pairs (inputs, targets), but it is {describe(batches)}")
    if schedule is not None and not callable(schedule):
        raise TypeError(
            f"schedule must be a function from step numbers to rates or None, but it is {describe(schedule)}"
        )
    if max_norm is not None:
        check_number("max_norm", max_norm, 0, open_low=True)
    if rng is not None and not callable(rng) and not callable(getattr(rng, "random", None)):
        raise TypeError(
            f"rng must be a generator, a function from step numbers to generators, or None, but it is {describe(rng)}"
        )
