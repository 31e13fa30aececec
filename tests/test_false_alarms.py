"""The checker rejects nothing that is correct: the short form of ``python tests/false_alarms.py``."""

import copy
from collections.abc import Iterator
from itertools import count, islice

import numpy as np
import pytest
from false_alarms import Trial, draw, judge, judgements, main, tally
from rewrites import REWRITES
from rewrites.registry import parts_by_case

from npformer.gradcheck.subject import named_gradients

CASES_IN_SHORT = 500
SEED = 1
COSTLY = {
    "EncoderLayer, pre-norm",
    "EncoderLayer, post-norm",
    "Encoder",
    "SharedEncoder",
    "TokenEncoder",
    "BertEncoder",
    "BertModel",
}


def indices() -> Iterator[int]:
    """Leave out three in four of those cases that take ten times as long as the others."""
    return (index for index in count() if index % 4 == 0 or draw(SEED, index).case not in COSTLY)


def test_no_random_correct_case_is_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    counts, reasons = tally(judgements(islice(indices(), CASES_IN_SHORT), SEED, processes=1))
    assert counts.total() == CASES_IN_SHORT
    assert not any(verdict == "FAIL" for verdict, _ in counts), capsys.readouterr().out
    assert reasons.total() <= CASES_IN_SHORT // 100, capsys.readouterr().out


@pytest.mark.parametrize("name", REWRITES)
def test_a_rewrite_computes_what_the_component_does(name: str) -> None:
    """Without the checker: its own outputs and gradients, to a few roundings."""
    for case in REWRITES[name].cases:
        own, other = Trial(case, seed=3), Trial(case, (name,), seed=3)
        (output, grads), (same_output, same_grads) = (_output_and_gradients(trial) for trial in (own, other))
        np.testing.assert_allclose(same_output, output, rtol=0, atol=1e-13 * np.abs(output).max())
        assert same_grads.keys() == grads.keys()
        largest = max(np.abs(grad).max() for grad in grads.values())
        for key, grad in grads.items():
            np.testing.assert_allclose(same_grads[key], grad, rtol=0, atol=1e-12 * largest, err_msg=key)


def _output_and_gradients(trial: Trial) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    component, inputs, options = trial.parts()
    output, cache = component.forward(*inputs, **copy.deepcopy(options))
    grad_output = np.random.default_rng(4).standard_normal(output.shape)
    return output, named_gradients(component, ["input 0", "input 1", "input 2"], grad_output, cache)


def test_every_component_has_rewrites_and_there_are_enough() -> None:
    assert len(REWRITES) >= 40
    assert {rewrite.part for rewrite in REWRITES.values()} == set().union(*parts_by_case().values())


def test_a_trial_is_made_again_from_its_index_and_from_its_repr() -> None:
    trial, verdict, _ = judge(7, seed=0)
    assert judge(7, seed=0)[0] == trial
    names = {"Trial": Trial, "Sizes": type(trial.sizes)}
    assert eval(repr(trial), names).report().verdict == verdict


def test_the_command_counts_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cases", "5", "--seed", "2"]) == 0
    assert "5 correct cases: PASS 5" in capsys.readouterr().out
