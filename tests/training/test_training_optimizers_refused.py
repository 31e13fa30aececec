"""What optimizers refuse, before anything is written."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from optimizer_trees import Make, bits, every_optimizer, numbers, take_steps

from npformer import flatten
from npformer.component import Tree
from npformer.training import SGD, Adam, AdamW, NotFiniteError, Optimizer


def with_entry(value: float, dtype: type = np.float64) -> Tree:
    grads = numbers(1, dtype)
    grads["linear"]["weight"][1, 2] = value
    return grads


def read_only() -> Tree:
    parameters = numbers(0)
    parameters["scale"].flags.writeable = False  # the last one: those before it must stay too
    return parameters


BAD_STEPS: dict[str, tuple[Callable[[], Tree], Callable[[], Any], str]] = {
    "nan": (lambda: numbers(0), lambda: with_entry(np.nan), "grads.linear.weight must be finite, but nan is among"),
    "inf": (lambda: numbers(0), lambda: with_entry(-np.inf), "grads.linear.weight must be finite, but -inf is among"),
    "missing": (lambda: numbers(0), lambda: {"scale": np.array(1.0)}, "grads does not fit: linear.bias is missing"),
    "unknown": (lambda: numbers(0), lambda: numbers(1) | {"b": np.ones(2)}, "grads does not fit: b is unknown"),
    "shape": (lambda: numbers(0), lambda: numbers(1) | {"scale": np.ones(2)}, r"scale has shape \(2,\), expected \(\)"),
    "dtype": (lambda: numbers(0), lambda: numbers(1, np.float32), "must be float64, but its dtype is float32"),
    "complex gradient": (lambda: numbers(0), lambda: numbers(1, complex), "must be float32 or float64, but its dtype"),
    "complex": (lambda: numbers(0, complex), lambda: numbers(1), "linear.weight must be float32 or float64, but its"),
    "list": (lambda: numbers(0), lambda: numbers(1) | {"scale": [1.0]}, "grads.scale must be a NumPy array of"),
    "None": (lambda: numbers(0), lambda: numbers(1) | {"scale": None}, "grads.scale must be a NumPy array of"),
    "no tree": (lambda: numbers(0), lambda: np.ones(3), "grads must be a dict, but it is a"),
    "read-only": (read_only, lambda: numbers(1), "scale must be an array to write into, but it is read-only"),
    "other names": (lambda: {"b": np.ones(2)}, lambda: {"b": np.ones(2)}, "parameters does not fit: b is unknown"),
    "other dtype": (lambda: numbers(0, np.float32), lambda: numbers(1, np.float32), "must be float64, but its dtype"),
}


@every_optimizer
@pytest.mark.parametrize(("parameters", "grads", "sentence"), BAD_STEPS.values(), ids=BAD_STEPS)
def test_a_bad_step_is_refused_before_anything_is_written(
    make: Make, parameters: Callable[[], Tree], grads: Callable[[], Any], sentence: str
) -> None:
    optimizer = make()
    take_steps(optimizer, numbers(0), range(1, 3))
    state, tree, given = bits(optimizer.state()), parameters(), grads()
    before = bits(tree)
    with pytest.raises((TypeError, ValueError), match=sentence) as refused:
        optimizer.step(tree, given)
    assert "\n" not in str(refused.value)
    assert (bits(optimizer.state()), bits(tree)) == (state, before)


@every_optimizer
@pytest.mark.parametrize("rate", [math.nan, -1.0, math.inf, "0.1", None])
def test_the_learning_rate_is_looked_at_in_each_step(make: Make, rate: Any) -> None:
    optimizer, parameters = make(), numbers(0)
    optimizer.learning_rate = rate
    with pytest.raises((TypeError, ValueError), match="learning_rate must"):
        optimizer.step(parameters, numbers(1))
    assert (optimizer.steps, bits(parameters)) == (0, bits(numbers(0)))


@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 1e20), (np.float64, 1e155)])
def test_adam_refuses_a_gradient_whose_square_overflows(dtype: type, size: float) -> None:
    parameters = numbers(0, dtype)
    with pytest.raises(NotFiniteError, match=r"grads.linear.weight must be at most 1\..e\+.*, for its square is taken"):
        Adam().step(parameters, with_entry(-size, dtype))
    assert bits(parameters) == bits(numbers(0, dtype))
    SGD(1e-20).step(parameters, with_entry(-size, dtype))  # which takes no square


def changed(**entries: Any) -> Callable[[Tree], Tree]:
    return lambda state: {name: value for name, value in (flatten(state) | entries).items() if value is not None}


BAD_STATES: dict[str, tuple[Callable[[Tree], Any], str]] = {
    "no tree": (lambda _: [1.0], "state must be a dict, but it is a list"),
    "no steps": (changed(steps=None), "state must be that of AdamW, but steps is missing"),
    "half a step": (changed(steps=np.array(1.5)), "state.steps must be a whole number, but it is a float64"),
    "many steps": (changed(steps=np.array([1, 2])), "state.steps must be a whole number, but it is a ndarray"),
    "negative steps": (changed(steps=np.array(-1)), "state.steps must be at least 1, but it is -1"),
    "no steps taken": (changed(steps=np.array(0)), "state.steps must be at least 1, but it is 0"),
    "no memory": (lambda _: {"steps": np.array(3)}, "state must have a memory of its 3 steps, but mean is missing"),
    "half of it": (lambda _: {"steps": np.array(3), "mean": {}}, "state must have a memory of its 3 steps, but mean"),
    "another's": (lambda _: take_and_tell(SGD(0.1)), "state must be that of AdamW, but velocity.* is unknown"),
    "no name": (changed(mean=np.ones(2)), "state must be that of AdamW, but mean is unknown"),
    "missing": (changed(**{"square.scale": None}), "state.square does not fit: scale is missing"),
    "unknown": (changed(**{"square.b": np.ones(2)}), "state.square does not fit: b is unknown"),
    "shape": (changed(**{"square.scale": np.ones(2)}), r"scale has shape \(2,\), expected \(\)"),
    "dtype": (changed(**{"square.scale": np.array(1, np.float32)}), "scale must be float64, but its dtype is float32"),
    "integers": (changed(**{"mean.scale": np.array(1)}), "state.mean.scale must be float32, float64 or complex128"),
    "nan": (changed(**{"mean.scale": np.array(np.nan)}), "state.mean.scale must be finite, but nan is among"),
    "negative": (changed(**{"square.scale": np.array(-1.0)}), "state.square.scale must not be negative, but -1.0"),
}


def take_and_tell(optimizer: Optimizer) -> Tree:
    take_steps(optimizer, numbers(0), range(1, 3))
    return optimizer.state()


@pytest.mark.parametrize(("change", "sentence"), BAD_STATES.values(), ids=BAD_STATES)
def test_a_bad_state_is_refused_and_changes_nothing(change: Callable[[Tree], Any], sentence: str) -> None:
    state = take_and_tell(AdamW())
    loading = AdamW()
    take_steps(loading, numbers(0), range(5))
    before = bits(loading.state())
    with pytest.raises((TypeError, ValueError), match=sentence):
        loading.load_state(change(state))
    assert bits(loading.state()) == before


def test_the_state_of_a_model_without_parameters_comes_back() -> None:
    optimizer, again = Adam(), Adam()
    optimizer.step({}, {})
    again.load_state(optimizer.state())
    assert again.steps == 1


def test_the_state_of_another_model_is_refused_at_the_next_step() -> None:
    optimizer, weight = Adam(), np.ones(2)
    optimizer.load_state(take_and_tell(Adam()))
    with pytest.raises(ValueError, match=r"parameters does not fit: .*weight is unknown"):
        optimizer.step({"weight": weight}, {"weight": np.ones(2)})
    assert weight.tolist() == [1, 1]


ANYTHING: dict[str, Any] = {"rate": "fast", "betas": 0.9}
BAD_SETTINGS: list[tuple[Callable[[], Any], str]] = [
    (lambda: SGD(-1.0), "learning_rate must lie in"),
    (lambda: SGD(math.nan), "learning_rate must lie in"),
    (lambda: SGD(0.1, momentum=1.0), "momentum must lie in"),
    (lambda: Adam(ANYTHING["rate"]), "learning_rate must be a number, but it is a str"),
    (lambda: Adam(betas=(0.9, 1.0)), r"betas\[1\] must lie in"),
    (lambda: Adam(betas=ANYTHING["betas"]), "betas must be a tuple of two numbers, but it is a float"),
    (lambda: Adam(eps=0.0), "eps must lie in"),
    (lambda: AdamW(weight_decay=-0.1), "weight_decay must lie in"),
]


@pytest.mark.parametrize(("make", "sentence"), BAD_SETTINGS)
def test_bad_settings_are_refused(make: Callable[[], Any], sentence: str) -> None:
    with pytest.raises((TypeError, ValueError), match=sentence):
        make()
