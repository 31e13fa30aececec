"""torch.autograd.gradcheck at its defaults beside npformer's checker, on the catalogue of mistakes.

Each mistake is wrapped as an autograd.Function of all floating inputs and parameters of its case, with NumPy's forward
and the wrong backward inside. Its tensors share the memory of the arrays, so that writing into one shows as in torch.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
import pytest
import torch
from test_mistakes import SIZES, verdicts, wrong_arrays
from torch import Tensor

from npformer import Component
from npformer.gradcheck import CASES, Case, check_gradients, make_case
from npformer.gradcheck.subject import Subject
from npformer.mistakes import MISTAKES, plant

torch.set_num_threads(1)  # the tensors are tiny: threads would only cost time

SEEDS, A_FEW_SEEDS = range(20), range(3)
# A Function returns one gradient for each floating tensor and none for others, and autograd itself sums a gradient over
# the axes that its tensor was broadcast along. So these are no mistakes there.
IMPOSSIBLE = {
    "Embeddings.gradient_for_the_tokens",
    "Linear.bias_gradient_not_summed",
    "Linear.bias_gradient_without_a_bias",
}
COMPARED = {name: mistake for name, mistake in MISTAKES.items() if name not in IMPOSSIBLE}

ACCEPTED_IN_ALL_SEEDS = {
    "GELU.slope_by_finite_difference",
    "Component.clipped",
    "Component.rounded_to_float32",
    "Component.one_entry_off_by_a_millionth",
    "Component.written_into_grad_output",
    "Component.cache_kept_on_the_component",
}
ACCEPTED_IN_SOME = {
    "AnnotatedLayerNorm.eps_inside_the_root",
    "AnnotatedLayerNorm.eps_in_the_derivative_of_std",
}
ACCEPTED_IN_ALL_SEEDS_BY_FAST_MODE = ACCEPTED_IN_ALL_SEEDS - {"Component.written_into_grad_output"} | {
    "GELU.tanh_slope_for_erf",
    "GELU.erf_slope_for_tanh",
}
ACCEPTED_IN_SOME_BY_FAST_MODE = ACCEPTED_IN_SOME | {
    "GELU.inner_derivative_missing",
    "GELU.cubic_coefficient_not_tripled",
    "LayerNorm.eps_dropped_in_the_variance_term",
    "PositionwiseFeedForward.linear2_input_before_dropout",
    "CrossEntropy.label_smoothing_missing",
    "CrossEntropy.smoothing_spread_over_the_wrong_classes",
    "CrossEntropy.mean_over_all_positions",
    "Component.one_entry_off_by_one_percent",
}


def accepts(component: Component, case: Case, fast_mode: bool = False, only: Collection[str] | None = None) -> bool:
    """Whether gradcheck accepts a component; an error in backward, such as that of a wrong shape, is a rejection."""
    subject = Subject(component, case.inputs, case.options).cast(None)
    arrays = subject.arrays()

    class Wrapped(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *tensors: Tensor) -> Tensor:
            output, ctx.kept = subject.forward()
            return torch.from_numpy(output.copy())

        @staticmethod
        def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
            gradients = subject.backward(grad_output.numpy(), ctx.kept)
            return tuple(torch.tensor(gradients[name]) if name in gradients else None for name in arrays)

    tensors = [torch.from_numpy(array).requires_grad_(only is None or name in only) for name, array in arrays.items()]
    try:
        return torch.autograd.gradcheck(Wrapped.apply, tensors, fast_mode=fast_mode, raise_exception=False)
    except RuntimeError:
        return False


def is_accepted(name: str, seed: int, fast_mode: bool = False) -> bool:
    mistake = MISTAKES[name]
    case = make_case(mistake.case, SIZES, np.random.default_rng(seed))
    return accepts(plant(mistake, case.component), case, fast_mode)


@pytest.mark.parametrize("name", CASES)
def test_gradcheck_accepts_what_is_right(name: str) -> None:
    case = make_case(name, SIZES, np.random.default_rng(0))
    assert accepts(case.component, case)


def test_gradcheck_rejects_most_mistakes() -> None:
    rejected = [name for name in COMPARED if name not in ACCEPTED_IN_ALL_SEEDS | ACCEPTED_IN_SOME]
    assert (len(COMPARED), len(rejected)) == (185, 177)
    for name in rejected:
        for seed in A_FEW_SEEDS:
            case = make_case(MISTAKES[name].case, SIZES, np.random.default_rng(seed))
            planted = plant(MISTAKES[name], case.component)
            # What is rejected for one array is rejected for all, which would take several times as long.
            only = wrong_arrays(planted, case)[:1] or None
            assert not accepts(planted, case, only=only), (name, seed)


@pytest.mark.parametrize(
    ("fast_mode", "in_all_seeds", "in_some"),
    [
        (False, ACCEPTED_IN_ALL_SEEDS, ACCEPTED_IN_SOME),
        (True, ACCEPTED_IN_ALL_SEEDS_BY_FAST_MODE, ACCEPTED_IN_SOME_BY_FAST_MODE),
    ],
    ids=["by default", "in fast mode"],
)
def test_gradcheck_accepts_some_mistakes(fast_mode: bool, in_all_seeds: set[str], in_some: set[str]) -> None:
    names = [name for name in COMPARED if name in in_all_seeds | in_some]
    counts = {name: sum(is_accepted(name, seed, fast_mode) for seed in SEEDS) for name in names}
    print(f"\ngradcheck({fast_mode=}) accepts these {len(names)} of {len(COMPARED)} mistakes:")
    for name, count in counts.items():
        print(f"{name:<56}in {count} of {len(SEEDS)} seeds")
    assert {name for name, count in counts.items() if count == len(SEEDS)} == in_all_seeds
    assert {name for name, count in counts.items() if 0 < count < len(SEEDS)} == in_some


@pytest.mark.parametrize("name", sorted(ACCEPTED_IN_ALL_SEEDS | ACCEPTED_IN_SOME))
def test_npformer_rejects_what_gradcheck_accepts(name: str) -> None:
    assert {verdicts(MISTAKES[name], seed) for seed in SEEDS} == {("FAIL", "PASS")}


@pytest.mark.parametrize("name", ["LayerNorm.eps_outside_the_root", "LayerNorm.eps_dropped"])
def test_gradcheck_rejects_a_misplaced_eps_only_where_the_variance_is_small(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("npformer.gradcheck.inputs.LITTLE", 1.0)
    for seed in SEEDS:
        case = make_case("LayerNorm", SIZES, np.random.default_rng(seed))
        planted = plant(MISTAKES[name], case.component)
        assert accepts(planted, case)
        assert check_gradients(planted, *case.inputs).verdict == "FAIL"
