"""Recipes of components: what is no recipe gets a sentence, and nothing is looked up in code."""

from typing import Any

import pytest

from npformer.oracle.vectors.recipes import build


def part(name: str, **arguments: object) -> dict[str, object]:
    return {"build": name, "arguments": arguments}


def nested(depth: int) -> dict[str, object]:
    return part("VariableLengths", inner=nested(depth - 1)) if depth else part("ReLU")


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        (None, "recipe must be a dict, but it is None"),
        ({}, r"recipe must have build and arguments, but has \[\]"),
        (part("eval"), "recipe must build one of LayerNorm, .*, but it builds 'eval'"),
        ({"build": ["LayerNorm"], "arguments": {}}, "recipe must build one of .*, but it builds \\['LayerNorm'\\]"),
        ({"build": "ReLU", "arguments": []}, "arguments must be a dict, but it is a list"),
        (part("LayerNorm"), "recipe must give LayerNorm d_model, eps, but it lacks d_model"),
        (part("ReLU", x=1), "recipe must give ReLU no arguments, but it has 'x'"),
        (part("Linear", d_in=2, d_out=3, rng=0), "recipe must give Linear d_in, d_out, bias, but it has 'rng'"),
        (part("LayerNorm", d_model=[8]), "'d_model' must be a number, a flag or a text, but it is a list"),
        (part("LayerNorm", d_model=1e9), "d_model must be a whole number, but it is a float"),
        (part("LayerNorm", d_model=10**6), "recipe must have sizes of at most 512, but they come to 1000000"),
        (part("Encoder", num_layers=17, d_model=2, num_heads=1, d_ff=2), "recipe must have layers of at most 16"),
        (
            part("SharedEncoder", N=5, layer=part("Encoder", num_layers=4, d_model=2, num_heads=1, d_ff=2)),
            "recipe must have layers of at most 16, but they come to 20",
        ),
        (part("LayerNorm", d_model=part("ReLU")), "'d_model' must be a number, a flag or a text, but it is a dict"),
        (part("MultiHeadedAttention", num_heads=3, d_model=8), "d_model must be a multiple of num_heads"),
        (part("VariableLengths", inner=3), "inner must be a Component, but it is an int"),
        (nested(6), "recipe must have at most 4 recipes inside each other, but it has more"),
    ],
)
def test_bad_recipes_get_a_sentence(recipe: Any, sentence: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{sentence}"):
        build(recipe)
