"""A run does what its settings say: some steps are taken once more by hand, and compared bit by bit."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from tiny_runs import DATA, TINY

from npformer import CrossEntropy, flatten
from npformer.component import Array
from npformer.training import (
    AdamW,
    Data,
    Run,
    Source,
    clip_by_global_norm,
    flip,
    hold_out,
    load_digits,
    make_image_classifier,
    shift,
)
from npformer.training.run import AUGMENTATION, BETAS, DROPOUT, ORDER, PARAMETERS

SEED, PEAK, MAX_NORM, STEPS = 5, 0.03, 1.5, 7  # five are an epoch
SETTINGS = replace(
    TINY,
    epochs=2,
    learning_rate=PEAK,
    warmup=0.35,
    weight_decay=0.5,
    label_smoothing=0.2,
    max_norm=MAX_NORM,
    shift=2,
    seed=SEED,
    dtype="float64",
)
RATES = [*(PEAK * step / 3 for step in (1, 2, 3)), *(PEAK * (1 + math.cos(math.pi * n / 8)) / 2 for n in (1, 2, 3, 4))]


def drawn(purpose: int, number: int) -> np.random.Generator:
    return np.random.default_rng([SEED, purpose, number])


def batches() -> Iterator[tuple[Array, Array]]:
    """Give what the model sees: 4 x 48 images and the last 8, in an order of each epoch, moved and mirrored."""
    pixels = DATA.train_images
    for step in range(1, STEPS + 1):
        epoch, index = divmod(step - 1, 5)
        chosen = drawn(ORDER, epoch).permutation(200)[48 * index : 48 * index + 48]
        rng = drawn(AUGMENTATION, step)
        images = flip(shift(pixels[chosen], 2, rng), rng)
        yield (images - pixels.mean()) / pixels.std(), DATA.train_labels[chosen]


def test_the_steps_of_a_run_are_those_of_its_settings() -> None:
    model = make_image_classifier((8, 8), 4, 10, 2, 8, 2, 8, 0.2, rng=drawn(PARAMETERS, 0))
    loss, optimizer = CrossEntropy(label_smoothing=0.2), AdamW(betas=BETAS, weight_decay=0.5)
    run, norms = Run(DATA, SETTINGS), []
    pairs = zip(itertools.islice(run.steps(), STEPS), batches(), strict=True)
    for number, (step, (images, labels)) in enumerate(pairs, 1):
        logits, cache = model.forward(images, rng=drawn(DROPOUT, number))
        value, loss_cache = loss.forward(logits, labels)
        grads = model.backward(loss.backward(np.ones(()), loss_cache)[0][0], cache)[1]
        clipped, norm = clip_by_global_norm(grads, MAX_NORM)
        optimizer.learning_rate = step.learning_rate
        optimizer.step(model.parameters(), clipped)
        norms.append(norm)
        assert np.array_equal(step.targets, labels), number
        assert (step.loss, step.grad_norm) == (float(value), norm), number
        assert step.learning_rate == pytest.approx(RATES[number - 1], rel=1e-14)  # a few operations and a cosine
        for name, array in flatten(run.model.parameters()).items():
            assert np.array_equal(array, flatten(model.parameters())[name]), (number, name)
    assert min(norms) < MAX_NORM < max(norms)  # some are clipped, some are not


def test_the_longest_warm_up_leaves_one_step() -> None:
    run = Run(DATA, replace(TINY, warmup=math.nextafter(1, 0)))
    rates = [step.learning_rate for step in run.steps()]
    assert rates == [*(TINY.learning_rate * step / 9 for step in range(1, 10)), TINY.learning_rate / 2]


def test_all_test_images_are_scored() -> None:
    """More than are scored at once, and those after that are all wrong."""
    images = np.concatenate([DATA.train_images, DATA.test_images] * 3)
    run = Run(DATA, replace(TINY, flip=False, dtype="float64"))
    pixels = DATA.train_images
    found = run.model((images - pixels.mean()) / pixels.std()).argmax(-1)
    found[500:] = (found[500:] + 1) % 10
    run.data = replace(run.data, test_images=images, test_labels=found)
    assert len(images) == 750
    assert run.score() == 500 / 750


def test_the_seed_draws_which_images_are_held_out() -> None:
    def same(data: Data, other: Data) -> bool:
        return np.array_equal(data.test_images, other.test_images)

    held_out = Source("digits", hold_out=100).load(seed=3)
    assert same(held_out, hold_out(load_digits(3), 100, seed=3))
    assert not same(held_out, hold_out(load_digits(3), 100, seed=0))


def test_an_error_that_is_not_of_the_numbers_is_not_called_divergence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Array:
        raise ValueError("array is too big")

    monkeypatch.setattr("npformer.training.run.shift", fail)
    with pytest.raises(ValueError, match=r"^array is too big$"):
        next(Run(DATA, TINY).steps())
