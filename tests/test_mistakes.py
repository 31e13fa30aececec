"""The catalogue of mistakes: the checker rejects every one of them in every seed, and planting changes nothing else."""

import copy
import inspect
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest

import npformer
from npformer import Component, Encoder, LayerNorm, Linear, ReLU, SublayerConnection, flatten, training
from npformer.component import Array, Tree
from npformer.gradcheck import CASES, Case, Sizes, check_gradients, make_case
from npformer.gradcheck.cases import signed
from npformer.gradcheck.conduct import fingerprints
from npformer.gradcheck.subject import Subject
from npformer.mistakes import MISTAKES, Mistake, mistake_in, plant
from npformer.mistakes.catalogue import Gradients

# Small, since the time that a check takes grows with the square of the sizes. T_k differs from all others.
SIZES = Sizes(batch=2, T_q=2, T_k=3, num_heads=2, d_head=2, d_ff=5, vocab_size=4)
MARKS = {"FAIL": "x", "PASS": "P", "UNDECIDED": "?"}
WITH_OTHER_NAMES = {
    "Linear.bias_gradient_missing",
    "Linear.bias_gradient_without_a_bias",
    "Embeddings.gradient_for_the_tokens",
}

each_mistake = pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)


def gradients_on(component: Component, case: Case) -> dict[str, Any]:
    """Run a component, or one like it, on private copies of what the case has; return the gradients by name."""
    subject = Subject(component, case.inputs, case.options).cast(None)
    output, kept = subject.forward()
    return subject.backward(signed(np.random.default_rng(0), output.shape, 0.5, 1.5), kept)


def wrong_arrays(planted: Component, case: Case) -> list[str]:
    """Name the arrays whose gradients are wrong, the smallest first."""
    right, wrong = gradients_on(case.component, case), gradients_on(planted, case)
    rounding = 1e-12 * max(np.abs(grad).max() for grad in right.values())
    names = [
        name
        for name, grad in right.items()
        if name not in wrong or wrong[name].shape != grad.shape or not np.abs(wrong[name] - grad).max() <= rounding
    ]
    return sorted(names, key=lambda name: right[name].size)


def verdicts(mistake: Mistake, seed: int, directions: int | None = None) -> tuple[str, str]:
    """Return the verdicts on a mistake and on the right backward in its place.

    A report's verdict is FAIL if that on one array is, so the smallest wrong one is enough. Where the gradients are
    right, as those of a backward that writes into its cache, all arrays are checked.
    """
    case = make_case(mistake.case, SIZES, np.random.default_rng(seed))
    planted = plant(mistake, case.component)
    only = tuple(wrong_arrays(planted, case)[:1]) or None
    report = check_gradients(planted, *case.inputs, directions=directions, seed=seed, only=only, **case.options)
    return report.verdict, verdict_on_the_right_one(mistake.case, seed, directions, only)


@cache
def verdict_on_the_right_one(name: str, seed: int, directions: int | None, only: tuple[str, ...] | None) -> str:
    case = make_case(name, SIZES, np.random.default_rng(seed))
    report = check_gradients(case.component, *case.inputs, directions=directions, seed=seed, only=only, **case.options)
    return report.verdict


def matrix(seeds: range, directions: int | None = None) -> Iterator[tuple[str, str]]:
    """Yield for each mistake its name and a mark for each seed: x where it is rejected, and the right one is not."""
    for name, mistake in MISTAKES.items():
        pairs = [verdicts(mistake, seed, directions) for seed in seeds]
        yield name, "".join(MARKS[wrong] if right == "PASS" else "!" for wrong, right in pairs)


@pytest.mark.parametrize(
    ("directions", "seeds"),
    [*((None, range(first, first + 5)) for first in (0, 5, 10, 15)), (3, range(5))],
    ids=[*(f"entry by entry, seeds {first} to {first + 4}" for first in (0, 5, 10, 15)), "by directions"],
)
def test_every_mistake_is_rejected_in_every_seed(directions: int | None, seeds: range) -> None:
    rows = dict(matrix(seeds, directions))
    print(f"\n{'mistake':<64}{'x = rejected, a column for each seed':<{len(seeds) + 2}}")
    for name, marks in rows.items():
        print(f"{name:<64}{marks}  {marks.count('x')}/{len(seeds)}")
    rejected = sum(marks.count("x") for marks in rows.values())
    print(f"{len(rows)} mistakes, {rejected} of {len(rows) * len(seeds)} rejected")
    assert {name: marks for name, marks in rows.items() if set(marks) != {"x"}} == {}


def test_the_catalogue_is_large_and_covers_every_component_and_case() -> None:
    assert len(MISTAKES) >= 60
    assert {mistake.case for mistake in MISTAKES.values()} == set(CASES)
    public = [getattr(package, name) for package in (npformer, training) for name in package.__all__]
    components = {each for each in public if inspect.isclass(each) and issubclass(each, Component)}
    assert {mistake.component for mistake in MISTAKES.values()} == components - {SublayerConnection}


@each_mistake
def test_a_mistake_is_explained_in_one_line(mistake: Mistake) -> None:
    assert mistake.name == f"{mistake.component.__name__}.{mistake.backward.__name__}"
    assert 20 <= len(mistake.explanation) <= 115
    assert mistake.explanation.endswith(".")
    assert "\n" not in mistake.explanation


def test_no_two_mistakes_are_the_same() -> None:
    explanations = [mistake.explanation for mistake in MISTAKES.values()]
    assert len(set(explanations)) == len(explanations)
    assert len({mistake.name for mistake in MISTAKES.values()}) == len(MISTAKES)
    assert list(MISTAKES) == [mistake.name for mistake in MISTAKES.values()]


def fails_with(sentence: str) -> Any:
    return pytest.raises((TypeError, ValueError), match=f"^{re.escape(sentence)}$")


@each_mistake
def test_planting_changes_nothing_but_the_backward(mistake: Mistake) -> None:
    case = make_case(mistake.case, SIZES, np.random.default_rng(0))
    planted = plant(mistake, case.component)
    assert isinstance(planted, type(case.component))
    assert repr(planted) == repr(case.component)
    own, copied = flatten(case.component.parameters()), flatten(planted.parameters())
    assert {name: a.tobytes() for name, a in own.items()} == {name: a.tobytes() for name, a in copied.items()}
    assert not any(np.shares_memory(own[name], copied[name]) for name in own)

    (output, _), (same, _) = (Subject(each, case.inputs, case.options).forward() for each in (case.component, planted))
    assert output.tobytes() == same.tobytes()
    right, wrong = gradients_on(case.component, case), gradients_on(planted, case)
    assert (right.keys() == wrong.keys()) == (mistake.name not in WITH_OTHER_NAMES)


@each_mistake
def test_the_original_does_not_notice(mistake: Mistake) -> None:
    case = make_case(mistake.case, SIZES, np.random.default_rng(0))
    before = fingerprints(gradients_on(case.component, case)), set(vars(case.component))
    planted = plant(mistake, case.component)
    output, kept = planted.forward(*copy.deepcopy(case.inputs), **copy.deepcopy(case.options))
    planted.backward(np.ones_like(output), kept)
    assert (fingerprints(gradients_on(case.component, case)), set(vars(case.component))) == before
    assert type(case.component).backward is not type(planted).backward


@pytest.mark.parametrize("case_name", CASES)
@pytest.mark.parametrize("name", [name for name, mistake in MISTAKES.items() if mistake.component is Component])
def test_what_can_happen_anywhere_can_be_planted_anywhere(name: str, case_name: str) -> None:
    case = make_case(case_name, SIZES, np.random.default_rng(0))
    planted = plant(MISTAKES[name], case.component)
    assert gradients_on(planted, case).keys() == gradients_on(case.component, case).keys()


def test_a_mistake_can_be_planted_in_a_part() -> None:
    case = make_case("Encoder", SIZES, np.random.default_rng(0))
    assert isinstance(case.component, Encoder)
    assert isinstance(case.component.norm, LayerNorm)
    right = gradients_on(case.component, case)
    case.component.norm = plant(MISTAKES["LayerNorm.bias_gradient_times_gamma"], case.component.norm)
    wrong = gradients_on(case.component, case)
    assert [name for name in right if wrong[name].tobytes() != right[name].tobytes()] == ["norm.bias"]


def test_a_mistake_belongs_to_its_component() -> None:
    with fails_with("component must be a LayerNorm, but it is a Linear"):
        plant(MISTAKES["LayerNorm.eps_dropped"], Linear(2, 2))
    assert plant(MISTAKES["Component.doubled"], Linear(2, 2)).weight.shape == (2, 2)


def test_a_mistake_needs_a_name_of_its_own_and_an_explanation() -> None:
    def leaky_slope(relu: ReLU, grad_output: Array, kept: Tree) -> Gradients:
        """Another of this name."""
        return grad_output, {}

    def unexplained(relu: ReLU, grad_output: Array, kept: Tree) -> Gradients:
        return grad_output, {}

    with fails_with("a mistake must have a name of its own, but there is a ReLU.leaky_slope already"):
        mistake_in(ReLU, case="ReLU")(leaky_slope)
    with fails_with("ReLU.unexplained must be explained by a docstring of one line, but it is ''"):
        mistake_in(ReLU, case="ReLU")(unexplained)
    assert "ReLU.unexplained" not in MISTAKES
