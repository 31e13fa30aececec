"""A trace has every array that passes between components, by its names and in order, and changes nothing."""

import copy
from typing import Any

import numpy as np
import pytest

from npformer import Dropout, LayerNorm, Linear, ScaledDotProductAttention, SharedEncoder, make_encoder
from npformer.checkpoint import without_checkpoints
from npformer.component import Array, Component, Tree, flatten
from npformer.encoder import EncoderLayer
from npformer.gradcheck import CASES, Sizes, make_case
from npformer.gradcheck.subject import input_names, named_gradients
from npformer.oracle import trace


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("case", CASES)
def test_values_are_those_of_a_plain_run_and_nothing_changes(case: str) -> None:
    subject = make_case(case, Sizes(), np.random.default_rng(0))
    component, inputs, options = subject.component, subject.inputs, subject.options
    before = copy.deepcopy((component.parameters(), inputs, options))
    output, cache = component.forward(*inputs, **copy.deepcopy(options))
    grad_output = random(*output.shape)
    names = input_names(without_checkpoints(component).forward, len(inputs))
    gradients = named_gradients(component, names, grad_output, cache)
    run = trace(component, *inputs, grad_output=grad_output, **options)
    assert run["output"].tobytes() == output.tobytes()
    for name, gradient in gradients.items():
        path, dot, leaf = name.rpartition(".")
        traced = run[f"{path}{dot}grad_{leaf}"]
        assert (traced.shape, traced.tobytes()) == (gradient.shape, gradient.tobytes()), name
    after = component.parameters(), inputs
    assert [x.tobytes() for x in flatten(before[0]).values()] == [x.tobytes() for x in flatten(after[0]).values()]
    assert [x.tobytes() for x in before[1]] == [x.tobytes() for x in inputs]
    if "rng" in options:
        assert before[2]["rng"].bit_generator.state == options["rng"].bit_generator.state


def test_order_is_that_of_execution_and_each_array_has_one_entry() -> None:
    encoder = make_encoder(2, 4, 2, 6, rng=0)
    run = trace(encoder, random(1, 3, 4), grad_output=random(1, 3, 4, seed=1))
    names = list(run)
    order = ["x", "layers.0.self_attn.norm.output", "layers.0.self_attn.sublayer.attention.scores"]
    order += ["layers.0.output", "layers.1.output", "output", "grad_output", "norm.grad_x"]
    order += ["layers.1.grad_x", "layers.0.self_attn.sublayer.q_proj.grad_weight", "grad_x"]
    places = [names.index(run.aliases.get(name, name)) for name in order]
    assert places == sorted(places)
    assert run.backward_starts == names.index("grad_output")
    made = [array for name, array in run.items() if not name.endswith("grad_scores")]  # softmax.grad_x, if unmasked
    addresses = [(array.__array_interface__["data"][0], array.shape, array.strides) for array in made]
    assert len(set(addresses)) == len(addresses)
    for alias, name in run.aliases.items():
        assert run[alias] is run[name]


def test_each_use_of_a_shared_layer_has_its_names() -> None:
    attention = make_encoder(1, 4, 2, 6, rng=0).layers[0]
    assert isinstance(attention, EncoderLayer)
    run = trace(SharedEncoder(attention, 2), random(1, 3, 4), grad_output=random(1, 3, 4, seed=1))
    first, second = (run[f"layer.{use}.self_attn.norm.grad_weight"] for use in (0, 1))
    np.testing.assert_array_equal(run["layer.self_attn.norm.grad_weight"], first + second)
    assert not np.array_equal(run["layer.0.self_attn.norm.output"], run["layer.1.self_attn.norm.output"])


def test_without_a_gradient_there_is_only_forward() -> None:
    run = trace(LayerNorm(4), random(2, 4))
    assert list(run) == ["x", "x_hat", "rstd", "output"]
    assert run.backward_starts is None or run.backward_starts == len(run)


def test_dropout_masks_are_there() -> None:
    run = trace(Dropout(0.5), np.ones((4, 4)), rng=np.random.default_rng(0))
    np.testing.assert_array_equal(run["output"], 2.0 * run["mask"])


class Twice(Component):
    """Written by a user: hands its part a copy of the cache, and calls a function beside."""

    def __init__(self, linear: Linear):
        self.linear = linear

    def forward(self, x: Array) -> tuple[Array, Tree]:
        output, cache = self.linear.forward(x)
        return 2 * output, {"linear": cache, "note": "no array"}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        grad_x, grads = self.linear.backward(2 * grad_output, dict(cache["linear"]))
        return grad_x, {"linear": grads}


def test_a_component_of_a_user_is_traced_without_knowing() -> None:
    run = trace(Twice(Linear(4, 3, rng=0)), random(2, 4), grad_output=random(2, 3, seed=1))
    np.testing.assert_array_equal(run["output"], 2 * run["linear.output"])
    np.testing.assert_array_equal(run["linear.grad_output"], 2 * run["grad_output"])
    assert {"linear.grad_weight", "linear.grad_bias", "grad_x"} <= {*run, *run.aliases}


@pytest.mark.parametrize("low", [1, 2])
def test_whatever_is_not_zero_in_a_mask_may_attend(low: int) -> None:
    mask = np.array([[1, 1, 0], [0, 1, 1], [1, 1, 1]])
    arrays = [random(1, 1, 3, 2, seed=seed) for seed in range(4)]
    expected, run = (
        trace(ScaledDotProductAttention(), *arrays[:3], grad_output=arrays[3], mask=each) for each in (mask, low * mask)
    )
    np.testing.assert_array_equal(run["grad_scores"], expected["grad_scores"])


class WithoutSoftmax(ScaledDotProductAttention):
    """A core whose backward does without the backward of its softmax."""

    def backward(self, grad_output: Array, cache: Tree) -> tuple[tuple[Array, Array, Array], Tree]:
        zeros = tuple(np.zeros_like(cache[name]) for name in ("query", "key", "value"))
        return (zeros[0], zeros[1], zeros[2]), {"softmax": {}, "dropout": {}}


def test_a_core_without_a_softmax_in_backward_has_no_such_quantities() -> None:
    run = trace(WithoutSoftmax(), *[random(1, 1, 3, 2)] * 3, grad_output=random(1, 1, 3, 2))
    assert "row_max" in run
    assert "delta" not in run


def test_what_is_no_component_gets_a_sentence() -> None:
    untyped: Any = trace
    with pytest.raises(TypeError, match="component must be a Component, but it is an int"):
        untyped(3, np.ones(3))
