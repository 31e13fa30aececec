"""The optimizers: their formulas by hand, and that they go on from what they remember."""

import math
from pathlib import Path

import numpy as np
import pytest
from optimizer_trees import Make, bits, every_dtype, every_optimizer, numbers, take_steps

from npformer import Linear, flatten
from npformer.component import Array
from npformer.oracle.files import read_arrays, write_arrays
from npformer.training import SGD, Adam, AdamW


def test_momentum_by_hand() -> None:
    weight = np.array([1.0])
    optimizer = SGD(learning_rate=0.5, momentum=0.25)
    path = []
    for gradient in (4.0, 2.0, 0.0):  # velocity: 4, then 1 + 2 = 3, then 0.75; every number is a sum of powers of 2
        optimizer.step({"weight": weight}, {"weight": np.array([gradient])})
        path.append(float(weight[0]))
    assert path == [1 - 2, -1 - 1.5, -2.5 - 0.375]


def test_without_momentum_each_step_is_the_gradient_times_the_rate() -> None:
    weight = np.array([1.0, -3.0])
    optimizer = SGD(learning_rate=0.5)
    for _ in range(2):
        optimizer.step({"weight": weight}, {"weight": np.array([4.0, 2.0])})
    assert weight.tolist() == [1 - 2 * 2, -3 - 2 * 1]


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e5])
@pytest.mark.parametrize("make", [Adam, AdamW])
def test_the_first_step_of_adam_has_the_size_of_the_learning_rate(make: type[Adam], size: float) -> None:
    weight = np.zeros(1000)
    gradient = np.random.default_rng(0).choice([-size, size], 1000)
    make(learning_rate=0.01).step({"weight": weight}, {"weight": gradient})
    # eps makes it shorter by eps / |g|, at most 1e-5
    np.testing.assert_allclose(weight, -0.01 * np.sign(gradient), rtol=1.1e-5)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_adam_is_what_its_averages_say(decay: float) -> None:
    """The averages as sums over all gradients so far, instead of step by step, in Python's own numbers."""
    rate, beta1, beta2, eps = 0.1, 0.8, 0.9, 1e-3
    gradients = np.random.default_rng(0).standard_normal(20).tolist()
    weight = np.array([1.5])
    optimizer = AdamW(rate, (beta1, beta2), eps, decay) if decay else Adam(rate, (beta1, beta2), eps)
    expected = 1.5
    for steps, gradient in enumerate(gradients, 1):
        optimizer.step({"weight": weight}, {"weight": np.array([gradient])})
        seen = list(enumerate(reversed(gradients[:steps])))
        mean = math.fsum(beta1**age * g for age, g in seen) / math.fsum(beta1**age for age, _ in seen)
        square = math.fsum(beta2**age * g**2 for age, g in seen) / math.fsum(beta2**age for age, _ in seen)
        expected += -rate * decay * expected - rate * mean / (math.sqrt(square) + eps)
        # roundings of numbers below 2, in each of at most 20 steps
        assert float(weight[0]) == pytest.approx(expected, rel=0, abs=20 * 4 * 2e-16)


def test_the_decay_of_adamw_is_no_part_of_the_gradient() -> None:
    plain, decayed = np.array([2.0, -4.0]), np.array([2.0, -4.0])
    gradient = np.array([1.0, 1e3])
    Adam(0.1).step({"weight": plain}, {"weight": gradient})
    AdamW(0.1, weight_decay=0.5).step({"weight": decayed}, {"weight": gradient})
    np.testing.assert_allclose(decayed - plain, -0.1 * 0.5 * np.array([2.0, -4.0]), rtol=0, atol=1e-15)


@every_optimizer
def test_the_live_arrays_of_a_component_are_written(make: Make) -> None:
    linear = Linear(3, 2, rng=0)
    arrays, before = flatten(linear.parameters()), bits(linear.parameters())
    make().step(linear.parameters(), {"weight": np.ones((2, 3)), "bias": np.ones(2)})
    assert all(flatten(linear.parameters())[name] is array for name, array in arrays.items())
    assert all(array.tobytes() != before[name] for name, array in arrays.items())


@every_optimizer
@every_dtype
def test_the_dtype_stays_and_gradients_are_only_read(make: Make, dtype: type) -> None:
    optimizer, parameters, grads = make(), numbers(0, dtype), numbers(1, dtype)
    before = bits(grads)
    for _ in range(3):
        optimizer.step(parameters, grads)
    assert bits(grads) == before
    state = optimizer.state()
    assert int(state.pop("steps")) == 3
    assert {array.dtype for array in flatten(parameters | state).values()} == {np.dtype(dtype)}


@every_optimizer
def test_float32_is_float64_but_for_rounding(make: Make) -> None:
    ours = flatten(take_steps(make(), numbers(0, np.float32), range(1, 31), np.float32))
    exact = flatten(take_steps(make(), numbers(0), range(1, 31)))
    for name, array in ours.items():  # some ten roundings of 6e-8 in each of 30 steps; parameters are of order 1
        np.testing.assert_allclose(array, exact[name], rtol=0, atol=2e-5)


@every_optimizer
@every_dtype
def test_what_was_loaded_goes_on_to_the_same_bits(make: Make, dtype: type, tmp_path: Path) -> None:
    whole = take_steps(make(), numbers(0, dtype), range(1, 8), dtype)
    for kept in (0, 1, 3):
        first = make()
        parameters = take_steps(first, numbers(0, dtype), range(1, 1 + kept), dtype)
        state = first.state()
        write_arrays(tmp_path / "state.npz", flatten(state))
        take_steps(first, numbers(0, dtype), range(100, 103), dtype)  # neither the state nor who loads it follows
        for given in (state, flatten(state), read_arrays(tmp_path / "state.npz")):
            second = make()
            second.load_state(given)
            copies = {"linear": {name: array.copy() for name, array in parameters["linear"].items()}}
            copies |= {"dropout": {}, "scale": parameters["scale"].copy()}
            assert bits(take_steps(second, copies, range(1 + kept, 8), dtype)) == bits(whole)
            assert bits(state) == bits(given)


@every_optimizer
def test_a_gradient_may_be_the_array_of_another_parameter(make: Make) -> None:
    """The gradients of x · y are y and x themselves."""
    x, y = np.array([1.0, 2.0]), np.array([3.0, -5.0])
    u, v = x.copy(), y.copy()
    ours, copied = make(), make()
    for _ in range(3):
        ours.step({"x": x, "y": y}, {"x": y, "y": x})
        copied.step({"x": u, "y": v}, {"x": v.copy(), "y": u.copy()})
    assert (x.tolist(), y.tolist()) == (u.tolist(), v.tolist())


@pytest.mark.parametrize("make", [Adam, AdamW])
@every_dtype
def test_gradients_of_zero_and_those_whose_squares_vanish_give_numbers(make: type[Adam], dtype: type) -> None:
    weight: Array = np.ones(2, dtype)
    with np.errstate(all="raise"):  # a step is not left half-way either
        for _ in range(3):
            make(0.1).step({"weight": weight}, {"weight": np.array([0.0, np.finfo(dtype).tiny], dtype)})
    assert np.isfinite(weight).all()
