"""A Checkpoint is not seen: names of parameters, other libraries, trace and tolerances are those without it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_checkpoint import D_FF, D_MODEL, GRAD, HEADS, MASKS, PLACES, RATE, X, each_layer, first_layer, layer, run

from npformer import Checkpoint, Component, Encoder, flatten, make_encoder
from npformer.checkpoint import without_checkpoints
from npformer.gradcheck import check_gradients
from npformer.mistakes import MISTAKES, plant
from npformer.oracle import expect, load_parameters, trace
from npformer.oracle.checkpoints import to_convention


def test_parameters_have_the_names_that_they_have_without() -> None:
    plain = make_encoder(2, D_MODEL, HEADS, D_FF, RATE, rng=0)
    for place in PLACES:
        wrapped = place(plain)
        own, same = flatten(plain.parameters()), flatten(wrapped.parameters())
        assert list(own) == list(same)
        assert repr(wrapped).split("(")[1] == repr(plain).split("(")[1]
        doubled = wrapped.with_parameters({name: 2 * array for name, array in own.items()})
        assert all(np.array_equal(flatten(doubled.parameters())[name], 2 * own[name]) for name in own)
        assert flatten(wrapped.astype(np.float32).parameters()).keys() == own.keys()
        assert type(doubled) is type(wrapped)
    alike = first_layer(plain).parameters()
    assert all(own[name] is array for name, array in flatten(alike).items())  # live


@pytest.mark.parametrize("convention", ["npformer", "torch", "annotated"])
def test_parameters_of_other_libraries_load_as_without(convention: str) -> None:
    plain = make_encoder(2, D_MODEL, HEADS, D_FF, RATE, rng=0)
    theirs = to_convention(plain.parameters(), plain, convention)
    loaded = load_parameters(each_layer(make_encoder(2, D_MODEL, HEADS, D_FF, RATE, rng=1)), theirs, convention)
    assert run(loaded, "PCG64", X) == run(plain, "PCG64", X)
    assert [type(part) for part in all_parts(loaded)].count(Checkpoint) == 2
    assert to_convention(loaded.parameters(), loaded, convention).keys() == theirs.keys()


@pytest.mark.parametrize("place", PLACES)
def test_the_oracle_sees_the_same_arrays_by_the_same_names(place: Callable[[Encoder], Component]) -> None:
    plain = make_encoder(2, D_MODEL, HEADS, D_FF, RATE, rng=0)
    runs = [trace(each, X, grad_output=GRAD, rng=np.random.default_rng(1)) for each in (plain, place(plain))]
    assert list(runs[0]) == list(runs[1])
    assert all(runs[0][name].tobytes() == array.tobytes() for name, array in runs[1].items())
    assert runs[0].aliases == runs[1].aliases


def test_tolerances_are_those_without() -> None:
    plain = make_encoder(1, D_MODEL, HEADS, D_FF, RATE, rng=0)
    expected = [expect(each, X, grad_output=GRAD, rng=np.random.default_rng(1)) for each in (plain, each_layer(plain))]
    predicted = [each.tolerances_of(each.predict({})) for each in expected]
    assert predicted[0].keys() == predicted[1].keys()
    assert expected[0].results() == expected[1].results()


def test_without_checkpoints_takes_away_every_one_and_nothing_else() -> None:
    plain = make_encoder(2, D_MODEL, HEADS, D_FF, RATE, rng=0)
    assert without_checkpoints(plain) is plain
    for place in PLACES:
        bare, wrapped = without_checkpoints(place(plain)), place(plain)
        assert "Checkpoint" not in {type(part).__name__ for part in all_parts(bare)}
        assert "Checkpoint" in {type(part).__name__ for part in all_parts(wrapped)}
        assert [type(part) for part in all_parts(bare)] == [type(part) for part in all_parts(plain)]
    wrong = plant(MISTAKES["Checkpoint.recomputed_without_dropout"], Checkpoint(plain))
    assert without_checkpoints(wrong) is wrong  # what computes otherwise is not taken for the right one


def all_parts(component: Component) -> list[Component]:
    """List a component and all that is below it."""
    children = component._children().values()
    below = [part for child in children for part in (child if isinstance(child, list) else [child])]
    return [component, *(deep for part in below for deep in all_parts(part))]


def test_the_checker_sees_a_wrong_recomputation_inside_an_encoder() -> None:
    plain = Encoder([layer(), layer(norm_first=False)])
    options: dict[str, Any] = {"mask": MASKS["random"], "rng": np.random.default_rng(1), "directions": 2, "only": ["x"]}
    wrapped = Encoder([Checkpoint(each) for each in plain.layers])
    assert check_gradients(wrapped, X, **options).verdict == "PASS"
    wrapped.layers[0] = plant(MISTAKES["Checkpoint.recomputed_without_dropout"], wrapped.layers[0])
    assert check_gradients(wrapped, X, **options).verdict == "FAIL"
