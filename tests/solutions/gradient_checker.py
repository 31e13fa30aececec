"""Other ways to check a gradient."""

from collections.abc import Callable, Iterator

import numpy as np

from npformer.component import Array
from solutions.registry import solves

Forward = Callable[..., Array]
Backward = Callable[..., tuple[Array, ...]]


def _with(arrays: tuple[Array, ...], index: int, array: Array) -> tuple[Array, ...]:
    return *arrays[:index], array, *arrays[index + 1 :]


@solves("gradient_checker")
def complex_steps(forward: Forward, backward: Backward, *arrays: Array) -> bool:
    output = forward(*arrays)
    grad_output = np.random.default_rng(1).standard_normal(output.shape)
    for index, grad in enumerate(backward(grad_output, *arrays)):
        if np.shape(grad) != arrays[index].shape:
            return False
        slopes = np.empty(arrays[index].shape)
        for entry in np.ndindex(slopes.shape):
            moved = arrays[index].astype(complex)
            moved[entry] += 1e-200j
            slopes[entry] = (grad_output * forward(*_with(arrays, index, moved)).imag).sum() * 1e200
        if not np.abs(grad - slopes).max() <= 1e-9 * np.abs(slopes).max() + 1e-12 * np.abs(output).max():
            return False
    return True


@solves("gradient_checker")
def arrays_moved_in_place(forward: Forward, backward: Backward, *arrays: Array) -> bool:
    rng = np.random.default_rng(2)
    grad_output = rng.uniform(0.5, 1.5, forward(*arrays).shape) * rng.choice([-1, 1], forward(*arrays).shape)
    grads = backward(grad_output, *arrays)
    h = 1e-5
    for array, grad in zip(arrays, grads, strict=True):
        if grad.shape != array.shape:
            return False
        slopes, size = [], 0.0
        for index in range(array.size):
            old = array.flat[index]
            array.flat[index] = old + h
            above = (grad_output * forward(*arrays)).sum()
            array.flat[index] = old - h
            below = (grad_output * forward(*arrays)).sum()
            array.flat[index] = old
            slopes.append((above - below) / (2 * h))
            size = max(size, abs(above), abs(below))
        error = np.abs(grad.ravel() - slopes).max()
        if np.isnan(error) or error > 1e-5 * np.max(np.abs(slopes)) + 1e-9 * size:
            return False
    return True


@solves("gradient_checker")
def five_points(forward: Forward, backward: Backward, *arrays: Array) -> bool:
    grad_output = np.random.default_rng(3).normal(size=forward(*arrays).shape)
    size = np.abs(forward(*arrays)).max()

    def slope(index: int, entry: tuple[int, ...]) -> float:
        total = 0.0
        for step, factor in ((-2, 1), (-1, -8), (1, 8), (2, -1)):
            moved = arrays[index].copy()
            moved[entry] += step * 1e-3
            total += factor * float(np.vdot(grad_output, forward(*_with(arrays, index, moved))))
        return total / 12e-3

    def agree(index: int, grad: Array) -> bool:
        if grad.shape != arrays[index].shape:
            return False
        slopes = np.array([slope(index, entry) for entry in np.ndindex(grad.shape)]).reshape(grad.shape)
        return bool(np.abs(grad - slopes).max() < 1e-6 * np.abs(slopes).max() + 1e-9 * size)

    return all(agree(index, grad) for index, grad in enumerate(backward(grad_output, *arrays)))


@solves("gradient_checker")
def whole_jacobians(forward: Forward, backward: Backward, *arrays: Array) -> bool:
    output = forward(*arrays)
    g = np.random.default_rng(4).standard_normal(output.size)
    grads = backward(g.reshape(output.shape), *arrays)
    for index, (array, grad) in enumerate(zip(arrays, grads, strict=True)):
        columns = []
        for unit in np.eye(array.size):
            step = 1e-5 * unit.reshape(array.shape)
            difference = forward(*_with(arrays, index, array + step)) - forward(*_with(arrays, index, array - step))
            columns.append(difference.ravel() / 2e-5)
        true = (g @ np.stack(columns, axis=1)).reshape(array.shape)
        tolerance = 1e-6 * np.abs(true).max() + 1e-9 * np.abs(output).max()
        if grad.shape != true.shape or not np.allclose(grad, true, rtol=0, atol=tolerance):
            return False
    return True


@solves("gradient_checker")
def jacobian_against_one_hot_cotangents(forward: Forward, backward: Backward, *arrays: Array) -> bool:
    output = forward(*arrays)
    rows = []
    for entry in np.ndindex(output.shape):
        one_hot = np.zeros(output.shape)
        one_hot[entry] = 1
        rows.append(backward(one_hot, *arrays))
    for index, array in enumerate(arrays):
        if any(np.shape(row[index]) != array.shape for row in rows):
            return False
        claimed = np.stack([row[index].ravel() for row in rows])
        true = np.empty((output.size, array.size))
        for column, unit in enumerate(np.eye(array.size)):
            moved = array + 1e-200j * unit.reshape(array.shape)
            true[:, column] = forward(*_with(arrays, index, moved)).imag.ravel() / 1e-200
        if not np.abs(claimed - true).max() <= 1e-8 * np.abs(true).max() + 1e-12 * np.abs(output).max():
            return False
    return True


@solves("gradient_checker")
def several_cotangents(forward: Forward, backward: Backward, *arrays: Array) -> bool:
    output = forward(*arrays)

    def slopes(g: Array, index: int) -> Iterator[float]:
        for entry in np.ndindex(arrays[index].shape):
            up, down = arrays[index].copy(), arrays[index].copy()
            up[entry] += 2e-5
            down[entry] -= 2e-5
            ends = forward(*_with(arrays, index, up)), forward(*_with(arrays, index, down))
            yield np.sum(g * ends[0] - g * ends[1]) / 4e-5

    for seed in range(3):
        g = np.random.default_rng(seed).uniform(-1, 1, output.shape)
        for index, grad in enumerate(backward(g, *arrays)):
            true = np.fromiter(slopes(g, index), float).reshape(arrays[index].shape)
            if grad.shape != true.shape or np.isnan(grad).any():
                return False
            if np.abs(grad - true).max() > 2e-6 * np.abs(true).max() + 1e-9 * np.abs(output).max():
                return False
    return True


@solves("gradient_checker")
def many_random_directions(forward: Forward, backward: Backward, *arrays: Array) -> bool:
    rng = np.random.default_rng(5)
    output = forward(*arrays)
    grad_output = rng.standard_normal(output.shape)
    for index, grad in enumerate(backward(grad_output, *arrays)):
        if grad.shape != arrays[index].shape:
            return False
        for _ in range(20):
            direction = rng.standard_normal(grad.shape)
            moved = arrays[index] + 1e-200j * direction
            true = (grad_output * forward(*_with(arrays, index, moved)).imag).sum() / 1e-200
            largest = np.abs(grad).max() + 1e-4 * np.abs(output).max()
            if not abs((grad * direction).sum() - true) <= 1e-8 * largest:
                return False
    return True


@solves("gradient_checker")
def one_long_vector(forward: Forward, backward: Backward, *arrays: Array) -> bool:
    ends = np.cumsum([array.size for array in arrays])

    def unpacked(vector: Array) -> list[Array]:
        parts = np.split(vector, ends[:-1])
        return [part.reshape(array.shape) for part, array in zip(parts, arrays, strict=True)]

    output = forward(*arrays)
    g = np.cos(np.arange(output.size)).reshape(output.shape)
    grads = backward(g, *arrays)
    if [grad.shape for grad in grads] != [array.shape for array in arrays]:
        return False
    start = np.concatenate([array.ravel() for array in arrays])
    steps = 1e-5 * np.eye(len(start))
    slopes = [((forward(*unpacked(start + s)) - forward(*unpacked(start - s))) * g).sum() / 2e-5 for s in steps]
    for grad, true in zip(grads, unpacked(np.array(slopes)), strict=True):
        if not abs(grad - true).max() <= 1e-6 * abs(true).max() + 1e-9 * abs(output).max():
            return False
    return True


@solves("gradient_checker")
def relative_error_with_a_floor(forward: Forward, backward: Backward, *arrays: Array) -> bool:
    def loss(*given: Array) -> float:
        return float((grad_output * forward(*given)).sum())

    size = float(np.abs(forward(*arrays)).max())
    grad_output = np.random.default_rng(6).standard_normal(forward(*arrays).shape)
    worst = 0.0
    for index, grad in enumerate(backward(grad_output, *arrays)):
        if grad.shape != arrays[index].shape or not np.isfinite(grad).all():
            return False
        true = np.zeros_like(grad)
        for flat in range(grad.size):
            h = np.zeros(grad.shape)
            h.flat[flat] = 3e-6
            high, low = _with(arrays, index, arrays[index] + h), _with(arrays, index, arrays[index] - h)
            true.flat[flat] = (loss(*high) - loss(*low)) / 6e-6
        scale = max(np.abs(grad).max(), np.abs(true).max(), 1e-3 * size)
        worst = max(worst, np.abs(grad - true).max() / scale)
    return worst < 1e-6


@solves("gradient_checker")
def extrapolated_differences(forward: Forward, backward: Backward, *arrays: Array) -> bool:
    output = forward(*arrays)
    grad_output = np.random.default_rng(7).laplace(size=output.shape)

    def central(index: int, unit: Array, h: float) -> float:
        high = forward(*_with(arrays, index, arrays[index] + h * unit))
        low = forward(*_with(arrays, index, arrays[index] - h * unit))
        return float(np.tensordot(grad_output, high - low, axes=output.ndim) / (2 * h))

    grads = backward(grad_output, *arrays)
    for index, array in enumerate(arrays):
        units = (unit.reshape(array.shape) for unit in np.eye(array.size))
        slopes = [(4 * central(index, unit, 1e-3) - central(index, unit, 2e-3)) / 3 for unit in units]
        true = np.reshape(slopes, array.shape)
        right = np.shape(grads[index]) == true.shape and np.isclose(
            grads[index], true, rtol=0, atol=1e-6 * np.abs(true).max() + 1e-9 * np.abs(output).max()
        )
        if not np.all(right):
            return False
    return True


@solves("gradient_checker")
def euclidean_norm_of_the_error(forward: Forward, backward: Backward, *arrays: Array) -> bool:
    output = forward(*arrays)
    grad_output = np.random.default_rng(8).standard_t(5, output.shape)
    verdicts = []
    for index, grad in enumerate(backward(grad_output, *arrays)):
        true = np.zeros(arrays[index].shape)
        iterator = np.nditer(true, flags=["multi_index"])
        for _ in iterator:
            moved = arrays[index] * (1 + 0j)
            moved[iterator.multi_index] += 1e-30j
            true[iterator.multi_index] = np.sum(grad_output * forward(*_with(arrays, index, moved))).imag / 1e-30
        if grad.shape != true.shape:
            return False
        error = np.linalg.norm(grad - true)
        verdicts.append(error <= 1e-7 * np.linalg.norm(true) or error <= 1e-12 * np.linalg.norm(output))
    return bool(np.all(verdicts))
