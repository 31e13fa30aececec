"""The comparison rejects nothing that is correct: the short form of ``python tests/comparison_alarms.py``."""

from itertools import count, islice

import pytest
from comparison_alarms import draw, draw_and_judge, judge, judgements, main, tally
from implementations import Trial
from reorderings import ORDERS

from npformer.gradcheck import Sizes
from npformer.oracle import compare

CASES_IN_SHORT = 150
SEED = 1
COSTLY = {"Encoder", "SharedEncoder", "TokenEncoder", "BertEncoder"}


def test_no_correct_implementation_is_rejected_and_errors_show(capsys: pytest.CaptureFixture[str]) -> None:
    indices = (index for index in count() if index % 4 == 0 or draw(SEED, index).case not in COSTLY)
    total = tally(judgements(islice(indices, CASES_IN_SHORT), SEED, processes=1))
    assert total.cases.total() == CASES_IN_SHORT
    assert not total.alarms, capsys.readouterr().out
    for where in ("output", "gradients"):
        showed, number = total.shown(where, 3e-3)
        assert number > 50
        assert showed == number


@pytest.mark.parametrize(
    "trial",
    [
        # a kink in the first use of the layer turns a row of two in a norm, and with it what a later ReLU decides
        Trial("SharedEncoder", Sizes(5, 5, 6, 1, 2, 3, 3), 3924572599, "bfloat16", relu=True),
        # a kink lets an entry be off by 3.9 times its tolerance, too little for being counted apart
        Trial(
            "EncoderLayer, post-norm",
            Sizes(1, 1, 3, 4, 12, 64, 50),
            1937710590,
            "bfloat16",
            "pairwise",
            relu=True,
            dropout=False,
        ),
    ],
    ids=lambda trial: trial.case,
)
def test_what_a_kink_may_change_is_no_alarm(trial: Trial) -> None:
    assert trial.comparison().passed


def test_an_error_beyond_the_tolerance_is_what_the_comparison_rejects() -> None:
    """The command counts by the tolerance alone, since that is faster."""
    trial = Trial("LayerNorm")
    expected = trial.expected()
    theirs = trial.theirs(expected)
    for times, passes in ((0.99, True), (1.01, False)):
        wrong = expected.truth["output"].copy()
        wrong[0, 0, 0] += times * expected.tolerances["output"].limit[0, 0, 0]
        assert compare(theirs | {"output": wrong}, expected).passed is passes


def test_a_wrong_implementation_is_an_alarm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(ORDERS, "sequential", lambda left, right: left[..., 1:] @ right[..., 1:, :])  # one term short
    trial = Trial("Linear", order="sequential")
    assert tally([judge(trial)]).alarms == 1
    assert repr(trial) in capsys.readouterr().out


def test_a_trial_is_made_again_from_its_index_and_from_its_repr() -> None:
    judged = draw_and_judge(7, seed=0)
    assert draw_and_judge(7, seed=0).trial == judged.trial
    again = eval(repr(judged.trial), {"Trial": Trial, "Sizes": Sizes})
    assert again.comparison().passed


def test_the_command_counts_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cases", "4", "--seed", "2"]) == 0
    assert "4 correct implementations" in capsys.readouterr().out
