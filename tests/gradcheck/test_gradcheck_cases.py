"""The cases hold what they promise: situations on which wrong gradients show."""

import numpy as np
import pytest

from npformer import flatten
from npformer.gradcheck import CASES, SITUATIONS, Sizes, check_gradients, discriminating_cases, make_case

CORES = ("ScaledDotProductAttention", "BlockwiseAttention")  # without a norm, which little variance is for


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_every_case_is_discriminating(name: str, seed: int) -> None:
    for situation, case in discriminating_cases(name, seed):
        assert situation in SITUATIONS
        for parameter in flatten(case.component.parameters()).values():
            assert np.unique(np.abs(parameter)).size == parameter.size  # no gamma of 1, no bias of 0
            assert parameter.size < 3 or {-1.0, 1.0} >= set(np.sign(parameter.ravel()))
        if "mask" in case.options:
            mask = case.options["mask"]
            open_keys = mask.reshape(-1, mask.shape[-1]).sum(-1)
            assert {0, mask.shape[-1]} <= set(open_keys) or mask.shape[-2] == 1
        for x in case.inputs:
            if x.dtype.kind == "i":
                assert all(len(set(row)) < len(row) for row in x.tolist())  # a token repeats
            elif x.shape[-1] > 1 and not name.startswith(CORES):
                deviations = x.std(-1)
                assert (x is case.inputs[0] and len(case.inputs) > 1) or deviations.min() < 0.1 * deviations.max()


def test_the_sizes_differ_or_coincide_on_purpose() -> None:
    sizes = vars(Sizes())
    assert len(set(sizes.values())) == len(sizes) - 1  # batch and d_head are both 2
    assert Sizes().T_q != Sizes().T_k >= 3
    assert Sizes().num_heads % 2 == 1
    assert SITUATIONS["T equal to num_heads"].T_k == SITUATIONS["T equal to num_heads"].num_heads
    assert SITUATIONS["batch equal to num_heads"].batch == SITUATIONS["batch equal to num_heads"].num_heads


@pytest.mark.parametrize("name", CASES)
def test_right_gradients_pass_in_every_situation(name: str) -> None:
    for situation, case in discriminating_cases(name, seed=1):
        report = check_gradients(case.component, *case.inputs, directions=2, **case.options)
        assert report.verdict == "PASS", (situation, report)


def test_masks_have_open_partly_and_fully_masked_rows() -> None:
    mask = make_case("MultiHeadedAttention, cross", Sizes(), np.random.default_rng(0)).options["mask"]
    assert mask[:, :, 0].all()
    assert not mask[:, :, -1].any()
    between = mask[:, :, 1:-1].sum(-1)
    assert np.all((between > 0) & (between < mask.shape[-1]))


def test_an_unknown_name_is_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"^name must be \"Linear\" or .*, but it is 'Conv'$"):
        make_case("Conv", Sizes(), np.random.default_rng(0))
