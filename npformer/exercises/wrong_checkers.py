"""Gradient checkers with mistakes in them, for the exercise in which one is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from npformer.component import Array

Forward = Callable[..., Array]
Backward = Callable[..., tuple[Array, ...]]


def _random(output: Array) -> Array:
    return np.random.default_rng(0).standard_normal(output.shape)


def _slopes(forward: Forward, grad_output: Array, arrays: tuple[Array, ...], h: float, low: float) -> Iterator[Array]:
    """Yield for each array the difference quotients between an entry + h and the entry + low."""
    for index, array in enumerate(arrays):
        slopes = np.zeros(array.shape)
        for entry in np.ndindex(array.shape):
            above, below = array.copy(), array.copy()
            above[entry] += h
            below[entry] += low
            ends = [forward(*arrays[:index], moved, *arrays[index + 1 :]) for moved in (above, below)]
            slopes[entry] = (grad_output * (ends[0] - ends[1])).sum() / (h - low)
        yield slopes


def _compared(
    forward: Forward,
    backward: Backward,
    arrays: tuple[Array, ...],
    h: float = 1e-5,
    low: float = -1e-5,
    cotangent: Callable[[Array], Array] = _random,
) -> Iterator[tuple[Array, Array, float]]:
    """Yield for each array its gradient, its slopes, and the rounding that they have if their truth is 0."""
    output = forward(*arrays)
    grad_output = cotangent(output)
    rounding = 1e-9 * float(np.abs(output).max())
    for grad, slopes in zip(backward(grad_output, *arrays), _slopes(forward, grad_output, arrays, h, low), strict=True):
        yield grad, slopes, rounding


def _close(grad: Array, slopes: Array, rounding: float, tolerance: float = 1e-6) -> bool:
    allowed = tolerance * np.abs(slopes).max() + rounding
    return grad.shape == slopes.shape and bool(np.abs(grad - slopes).max() <= allowed)


def always_true(forward: Forward, backward: Backward, *arrays: Array) -> bool:
    """Everything is called right."""
    return True


def always_false(forward: Forward, backward: Backward, *arrays: Array) -> bool:
    """Everything is called wrong."""
    return False


def cotangent_of_ones(forward: Forward, backward: Backward, *arrays: Array) -> bool:
    """grad_output is 1 everywhere, which hides what cancels in a sum, as the outputs of softmax do in each row."""
    return all(_close(*each) for each in _compared(forward, backward, arrays, cotangent=np.ones_like))


def cotangent_left_out_of_the_slopes(forward: Forward, backward: Backward, *arrays: Array) -> bool:
    """backward gets a random grad_output, but the slopes are those of the plain sum of the outputs."""
    of_the_sum = (slopes for _, slopes, _ in _compared(forward, backward, arrays, cotangent=np.ones_like))
    given = _compared(forward, backward, arrays)
    return all(_close(grad, slopes, rounding) for (grad, _, rounding), slopes in zip(given, of_the_sum, strict=True))


def first_array_alone(forward: Forward, backward: Backward, *arrays: Array) -> bool:
    """Only the first gradient is compared: those of the parameters, which come after it, are not."""
    return _close(*next(_compared(forward, backward, arrays)))


def first_entry_alone(forward: Forward, backward: Backward, *arrays: Array) -> bool:
    """One entry of each gradient is compared, and the others are not."""
    return all(
        abs(grad.flat[0] - slopes.flat[0]) <= 1e-6 * np.abs(slopes).max() + rounding
        for grad, slopes, rounding in _compared(forward, backward, arrays)
    )


def one_sided_difference(forward: Forward, backward: Backward, *arrays: Array) -> bool:
    """(f(x + h) - f(x)) / h is off by h/2 times the curvature, too much for the tolerance: right ones are rejected."""
    return all(_close(*each) for each in _compared(forward, backward, arrays, low=0))


def step_too_small(forward: Forward, backward: Backward, *arrays: Array) -> bool:
    """With h = 1e-12 the difference is mostly the rounding of forward: right ones are rejected."""
    return all(_close(*each) for each in _compared(forward, backward, arrays, 1e-12, -1e-12))


def step_too_large(forward: Forward, backward: Backward, *arrays: Array) -> bool:
    """With h = 0.1 the difference is not the slope where forward curves: right ones are rejected."""
    return all(_close(*each) for each in _compared(forward, backward, arrays, 0.1, -0.1))


def tolerance_too_loose(forward: Forward, backward: Backward, *arrays: Array) -> bool:
    """An error of a tenth of the largest entry is let through."""
    return all(_close(*each, tolerance=0.1) for each in _compared(forward, backward, arrays))


def absolute_tolerance(forward: Forward, backward: Backward, *arrays: Array) -> bool:
    """1e-5 is allowed whatever the size of the gradient: too much for tiny ones, too little for large ones."""
    return all(_close(grad, slopes, 1e-5, tolerance=0) for grad, slopes, _ in _compared(forward, backward, arrays))


def relative_to_each_entry(forward: Forward, backward: Backward, *arrays: Array) -> bool:
    """The error is divided by each entry, so that the rounding of one that is 0 counts without end."""
    with np.errstate(all="ignore"):
        return all(
            grad.shape == slopes.shape and bool((np.abs(grad - slopes) / np.abs(slopes) <= 1e-5).all())
            for grad, slopes, _ in _compared(forward, backward, arrays)
        )


def norms_alone(forward: Forward, backward: Backward, *arrays: Array) -> bool:
    """The norms of gradient and slopes are compared, and another sign or order of the entries has the same norm."""
    return all(
        abs(np.linalg.norm(grad) - np.linalg.norm(slopes)) <= 1e-6 * np.linalg.norm(slopes) + rounding
        for grad, slopes, rounding in _compared(forward, backward, arrays)
    )


def sums_alone(forward: Forward, backward: Backward, *arrays: Array) -> bool:
    """The sums of gradient and slopes are compared: errors that cancel pass, and so do entries that are swapped."""
    return all(
        abs(grad.sum() - slopes.sum()) <= 1e-6 * np.abs(slopes).max() + rounding
        for grad, slopes, rounding in _compared(forward, backward, arrays)
    )


def nan_let_through(forward: Forward, backward: Backward, *arrays: Array) -> bool:
    """It asks whether the error is larger than allowed, and NaN is larger than nothing."""
    return all(
        _close(grad, slopes, rounding) or bool(np.isnan(grad).any())
        for grad, slopes, rounding in _compared(forward, backward, arrays)
    )


WRONG_CHECKERS: tuple[Callable[..., bool], ...] = (
    always_true,
    always_false,
    cotangent_of_ones,
    cotangent_left_out_of_the_slopes,
    first_array_alone,
    first_entry_alone,
    one_sided_difference,
    step_too_small,
    step_too_large,
    tolerance_too_loose,
    absolute_tolerance,
    relative_to_each_entry,
    norms_alone,
    sums_alone,
    nan_let_through,
)
