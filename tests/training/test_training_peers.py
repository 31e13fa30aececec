"""The short form of ``python tests/peers.py``: all contestants learn, on the same images."""

from dataclasses import replace

import pytest
from peers import PEERS, Contest, contestants, encoder_result
from tiny_runs import TINY, few_digits, finish

from npformer.training import Data, Run


@pytest.mark.parametrize("splits", [True, False])
def test_all_contestants_learn_the_same_images(splits: bool) -> None:
    loaded = []

    def load(seed: int) -> Data:
        loaded.append(seed)
        return few_digits(600)

    settings = replace(TINY, dropout=0.0, flip=False, shift=0, epochs=12)
    results = dict(contestants(Contest(load, settings, range(2), splits)))
    assert list(results) == ["npformer train", *PEERS]
    assert [len(each) for each in results.values()] == ([2, 2, 2, 2] if splits else [2, 1, 2, 1])
    assert loaded == ([0, 1] * 4 if splits else [0, 1, 0, 0, 1, 0])
    for name, each in results.items():
        for score, seconds in each:
            assert 0.5 < score <= 1, name  # by chance it is 0.1
            assert seconds > 0


def test_the_encoder_is_trained_as_the_command_trains_it() -> None:
    data = few_digits()
    assert encoder_result(data, TINY)[0] == finish(Run(data, TINY)).score()
