"""Dropout: which entries are dropped, and by how much the others grow."""

import copy

import numpy as np
import pytest

from npformer import Dropout, GivenMasks, flatten, make_encoder


def test_kept_entries_grow_so_that_the_mean_stays() -> None:
    output = Dropout(0.2)(np.ones((100, 1000)), rng=np.random.default_rng(0))
    assert set(np.unique(output)) == {0.0, 1.25}
    # the standard deviation of the mean is 0.5 / √100,000 = 0.0016
    assert abs(output.mean() - 1) < 5 * 0.0016


def test_every_dtype_drops_the_same_entries_and_draws_as_much() -> None:
    masks, generators = [], []
    for dtype in (np.float32, np.float64, np.complex128):
        rng = np.random.default_rng(0)
        _, cache = Dropout(0.5).forward(np.ones((5, 7), dtype), rng=rng)
        masks.append(cache["mask"].tolist())
        generators.append(rng.random())
    assert masks[0] == masks[1] == masks[2]
    assert len(set(generators)) == 1


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_without_rng_or_rate_it_is_the_identity_and_draws_nothing(rate: float) -> None:
    x = np.ones(3)
    rng = np.random.default_rng(0) if rate == 0 else None
    output, cache = Dropout(rate).forward(x, rng=rng)
    assert output is x
    assert Dropout(rate).backward(x, cache)[0] is x
    assert rng is None or rng.random() == np.random.default_rng(0).random()


def test_one_dropout_in_flight_twice_keeps_both_masks() -> None:
    dropout, x = Dropout(0.5), np.ones(50)
    rng = np.random.default_rng(0)
    first, first_cache = dropout.forward(x, rng=rng)
    second, second_cache = dropout.forward(x, rng=rng)
    assert not np.array_equal(first, second)
    assert np.array_equal(dropout.backward(x, first_cache)[0], first)
    assert np.array_equal(dropout.backward(x, second_cache)[0], second)


def test_masks_drawn_elsewhere_give_the_same_as_the_generator_that_drew_them() -> None:
    encoder = make_encoder(2, 4, 2, 8, dropout=0.3, rng=0)
    x = np.random.default_rng(1).standard_normal((2, 3, 4))
    output, cache = encoder.forward(x, rng=np.random.default_rng(2))
    masks = GivenMasks([leaf for name, leaf in flatten(cache).items() if name.endswith("dropout.mask")])
    assert len(masks.masks) == 2 * 4
    assert np.array_equal(encoder(x, rng=copy.deepcopy(masks)), output)
    assert not np.array_equal(encoder(x, rng=np.random.default_rng(3)), output)
