"""The protocol: trees, live parameters, copies with other parameters, one place for each array."""

from collections.abc import Callable

import numpy as np
import pytest

from npformer import (
    Dropout,
    Encoder,
    LayerNorm,
    Linear,
    PreNormSublayerConnection,
    add_trees,
    clones,
    flatten,
    make_encoder,
)
from npformer.component import Array


def test_parameters_are_named_by_their_place_in_the_tree() -> None:
    names = list(flatten(make_encoder(2, 4, 2, 8, rng=0).parameters()))
    assert names[:8] == [
        *(f"layers.0.self_attn.sublayer.{part}_proj.{kind}" for part in "qkv" for kind in ("weight", "bias")),
        "layers.0.self_attn.sublayer.out_proj.weight",
        "layers.0.self_attn.sublayer.out_proj.bias",
    ]
    assert names[-2:] == ["norm.weight", "norm.bias"]
    assert len(names) == 2 * 16 + 2


def test_children_without_parameters_are_empty_trees() -> None:
    connection = PreNormSublayerConnection(Linear(2, 2), LayerNorm(2))
    assert connection.parameters()["dropout"] == {}


def test_parameters_are_the_live_arrays() -> None:
    linear = Linear(2, 2, rng=0)
    before = linear(np.ones((1, 2)))
    flatten(linear.parameters())["bias"] += 1
    assert np.array_equal(linear(np.ones((1, 2))), before + 1)


def test_an_assigned_parameter_is_used_and_found() -> None:
    linear = Linear(2, 2)
    weight = np.eye(2)
    linear.weight = weight
    assert linear.parameters()["weight"] is weight
    assert np.array_equal(linear(np.array([[3.0, 4.0]])), [[3.0, 4.0]])


@pytest.mark.parametrize("view", [lambda w: w, lambda w: w.T, lambda w: w[:]], ids=["itself", "transposed", "a view"])
def test_one_array_under_two_names_is_an_error(view: Callable[[Array], Array]) -> None:
    first, second = clones(Linear(3, 3), 2)
    second.weight = view(first.weight)
    with pytest.raises(ValueError, match=r"layers\.0\.weight and layers\.1\.weight are one array"):
        Encoder([first, second]).parameters()


def test_one_component_in_two_places_is_an_error_only_if_it_has_parameters() -> None:
    norm = LayerNorm(2)
    with pytest.raises(ValueError, match=r"layers\.0\.weight and norm\.weight are one array"):
        Encoder([norm], norm).parameters()
    assert Encoder([Dropout(0.1)] * 2).parameters() == {"layers": {"0": {}, "1": {}}}


def test_with_parameters_takes_a_tree_or_dotted_names_and_leaves_the_original() -> None:
    encoder = make_encoder(1, 4, 2, 8, rng=0)
    tree = encoder.parameters()
    doubled = {name: 2 * array for name, array in flatten(tree).items()}
    twin = encoder.with_parameters(doubled)
    assert all(flatten(twin.parameters())[name] is array for name, array in doubled.items())
    assert flatten(encoder.parameters()).keys() == doubled.keys()
    assert all(flatten(encoder.parameters())[name] is array for name, array in flatten(tree).items())
    assert np.array_equal(twin.with_parameters(tree)(np.ones((1, 2, 4))), encoder(np.ones((1, 2, 4))))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_astype_casts_a_copy(dtype: type) -> None:
    encoder = make_encoder(1, 4, 2, 8, rng=0)
    twin = encoder.astype(dtype)
    assert {array.dtype for array in flatten(twin.parameters()).values()} == {np.dtype(dtype)}
    for name, array in flatten(encoder.parameters()).items():
        assert array.dtype == np.float64
        assert not np.shares_memory(array, flatten(twin.parameters())[name])


def test_clones_are_equal_and_independent() -> None:
    layer = Linear(2, 2, rng=0)
    first, second = clones(layer, 2)
    assert np.array_equal(first.weight, layer.weight)
    assert np.array_equal(first.weight, second.weight)
    assert not any(np.shares_memory(a.weight, b.weight) for a, b in [(first, layer), (second, layer), (first, second)])


def test_add_trees_makes_new_arrays() -> None:
    left = {"linear": {"weight": np.ones(2)}, "dropout": {}}
    right = {"linear": {"weight": np.full(2, 3.0)}, "dropout": {}}
    total = add_trees(left, right)
    assert total.keys() == left.keys()
    assert np.array_equal(total["linear"]["weight"], [4.0, 4.0])
    assert np.array_equal(left["linear"]["weight"], [1.0, 1.0])


@pytest.mark.parametrize("parts", [(Linear(1, 1),), {"first": Linear(1, 1)}, [Linear(1, 1), None]], ids=str)
def test_parts_that_would_be_overlooked_are_an_error(parts: object) -> None:
    encoder = Encoder([Linear(1, 1)])
    vars(encoder)["layers"] = parts
    with pytest.raises(TypeError, match="layers must be a Component or a list of nothing else, but it is"):
        encoder.parameters()


def test_a_linear_map_takes_a_complex_step_in_its_bias_alone() -> None:
    linear = Linear(2, 2, rng=0)
    linear.bias = np.array([0.0, 1e-200j])
    assert linear(np.ones((3, 2))).imag.tolist() == [[0.0, 1e-200]] * 3
