"""A run is a function of its seed, can stop anywhere, and remembers what happened."""

import itertools
import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import DATA, TINY, bits, few_digits, finish

from npformer.component import Tree, flatten
from npformer.dropout import RandomSource
from npformer.training import DivergedError, History, Run, Settings, Source, load_digits, source
from npformer.training.run import AUGMENTATION, DROPOUT, ORDER, PARAMETERS


@pytest.mark.parametrize(
    "settings",
    [TINY, replace(TINY, dtype="float64", norm_first=False, flip=False, dropout=0.0), replace(TINY, threads=3)],
)
def test_a_run_that_stops_and_goes_on_ends_with_the_same_bits(tmp_path: Path, settings: Settings) -> None:
    whole = bits(finish(Run(DATA, settings)))
    assert len(whole) > 100
    path = tmp_path / "run.npz"
    for stop in (0, 1, 3, 5, 10):  # before the first step, within epochs, at their ends, after the last one
        run = Run(DATA, settings)
        for _ in itertools.islice(run.steps(), stop):
            pass
        run.save(path)
        assert bits(finish(Run.load(path, DATA))) == whole, stop
        assert bits(finish(run)) == whole, stop


def test_the_seed_decides_everything(tmp_path: Path) -> None:
    first, same, other = (bits(finish(Run(DATA, replace(TINY, seed=seed)))) for seed in (0, 0, 1))
    assert first == same
    differing = {name for name in first if first[name] != other[name]}
    assert differing >= first.keys() - {"learning_rate", "score", "optimizer.steps"}


OTHER: dict[str, Any] = {
    "patch_size": 2,
    "num_layers": 1,
    "d_model": 6,
    "num_heads": 4,
    "d_ff": 9,
    "epochs": 1,
    "batch_size": 50,
    "learning_rate": 4e-3,
    "dropout": 0.3,
    "activation": "gelu",
    "norm_first": False,
    "warmup": 0.5,
    "weight_decay": 0.5,
    "label_smoothing": 0.1,
    "max_norm": 0.1,
    "shift": 0,
    "flip": False,
    "dtype": "float64",
    "threads": 2,
    "seed": 1,
}


def test_every_setting_makes_a_difference() -> None:
    assert list(OTHER) == [each.name for each in fields(Settings)]
    ends = {"": bits(finish(Run(DATA, TINY)))}
    ends |= {name: bits(finish(Run(DATA, replace(TINY, **{name: value})))) for name, value in OTHER.items()}
    biases = {end["parameters.head.linear.bias"]: name for name, end in ends.items()}
    assert list(biases.values()) == list(ends)


def test_nothing_that_is_drawn_shares_its_numbers() -> None:
    """Initial weights, order, augmentation and dropout, at different steps: all of them are different streams."""
    run = Run(DATA, TINY)
    drawn = [
        run._generator(purpose, number).random()
        for purpose in (PARAMETERS, ORDER, AUGMENTATION, DROPOUT)
        for number in range(5)
    ]
    assert len(set(drawn)) == len(drawn)


def test_an_epoch_has_every_image_once_and_the_next_another_order() -> None:
    steps = list(Run(DATA, TINY).steps())
    assert [len(step.targets) for step in steps] == [48, 48, 48, 48, 8] * 2
    first, second = (np.concatenate([step.targets for step in epoch]) for epoch in (steps[:5], steps[5:]))
    assert (np.bincount(first) == np.bincount(DATA.train_labels)).all()
    assert (np.sort(first) == np.sort(second)).all()
    assert (first != second).any()


def test_it_learns() -> None:
    run = finish(Run(few_digits(600), replace(TINY, dropout=0.0, flip=False, shift=0, epochs=12)))
    assert run.score() > 0.5  # by chance it is 0.1
    assert run.history.loss[-1] < 1 < 2 < run.history.loss[0]


def test_the_history_has_an_entry_for_each_step_and_norms_that_add_up() -> None:
    run = Run(DATA, TINY)
    steps = list(run.steps())
    history = run.history
    assert len(history) == run.total_steps == len(steps) == 10
    assert history.loss == [step.loss for step in steps]
    assert history.learning_rate == [step.learning_rate for step in steps]
    assert max(history.learning_rate) == pytest.approx(TINY.learning_rate, rel=0.1)
    assert history.accuracy == [float((step.output.argmax(-1) == step.targets).mean()) for step in steps]
    assert list(history.grad_norms) == ["embedding", "layers.0", "layers.1", "norm", "head"]
    for index, total in enumerate(history.grad_norm):
        parts = [norms[index] for norms in history.grad_norms.values()]
        assert math.hypot(*parts) == pytest.approx(total, rel=1e-12)  # both in float64, of some hundred squares


def test_the_layers_of_the_history_are_in_order() -> None:
    run = Run(DATA, replace(TINY, num_layers=11, norm_first=False, epochs=1))
    next(run.steps())
    assert list(run.history.grad_norms) == ["embedding", *(f"layers.{n}" for n in range(11)), "head"]


def test_images_are_cast_once_and_computed_with() -> None:
    run = Run(DATA, TINY)
    assert {run.data.train_images.dtype, run.data.test_images.dtype, next(run.steps()).output.dtype} == {
        np.dtype(np.float32)
    }


def test_the_model_sees_images_in_units_of_the_training_images() -> None:
    """Also the test images; the training images here are not moved, so a step on all of them is what they are."""
    settings = replace(TINY, shift=0, flip=False, dtype="float64", batch_size=len(DATA.train_labels))
    run, seen = Run(DATA, settings), []

    class Spy(type(run.model)):  # type: ignore[misc]
        def forward(self, images: np.ndarray, rng: RandomSource | None = None) -> tuple[np.ndarray, Tree]:
            seen.append(images)
            output: tuple[np.ndarray, Tree] = super().forward(images, rng)
            return output

    run.model.__class__ = Spy
    next(run.steps())
    run.score()
    assert abs(seen[0].mean()) < 1e-14  # sums of 12,800 numbers, pairwise
    assert abs(seen[0].std() - 1) < 1e-14
    pixels = DATA.train_images
    assert np.allclose(seen[1], (DATA.test_images - pixels.mean()) / pixels.std(), rtol=0, atol=1e-14)


def test_images_that_are_all_alike_can_be_learned() -> None:
    grey = replace(DATA, train_images=np.full_like(DATA.train_images, 0.5))
    assert np.isfinite(finish(Run(grey, replace(TINY, shift=0))).history.loss).all()


@pytest.mark.parametrize("mirrored", [True, False])
def test_where_training_mirrors_images_their_mirror_images_are_scored_too(mirrored: bool) -> None:
    run = finish(Run(DATA, replace(TINY, flip=mirrored, dtype="float64")))
    pixels = DATA.train_images
    images = (DATA.test_images - pixels.mean()) / pixels.std()
    alone, both = run.model(images), run.model(images) + run.model(images[:, :, ::-1])
    assert (alone.argmax(-1) != both.argmax(-1)).any()
    run.data = replace(run.data, test_labels=(both if mirrored else alone).argmax(-1))
    assert run.score() == 1


def test_a_learning_rate_that_is_too_large_is_one_sentence_with_the_step(tmp_path: Path) -> None:
    run = Run(DATA, replace(TINY, learning_rate=1e30))
    run.save(tmp_path / "run.npz")
    with pytest.raises(DivergedError, match=r"^step \d+ cannot be taken: [^\n]+$"):
        finish(run)


def test_what_is_not_finite_is_neither_saved_nor_scored(tmp_path: Path) -> None:
    run = Run(DATA, TINY)
    path = tmp_path / "run.npz"
    run.save(path)
    before = path.read_bytes()
    flatten(run.model.parameters())["head.linear.bias"][3] = np.nan
    with pytest.raises(DivergedError, match=r"step 0 cannot be saved: head\.linear\.bias is not finite"):
        run.save(path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["run.npz"]
    with pytest.raises(DivergedError, match="the model of step 0 cannot be scored: its outputs are not finite"):
        run.score()


def test_held_out_images_are_scored_and_the_test_images_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The result is the same, whatever the test images and labels are."""
    data = load_digits()
    other = replace(data, test_images=1 - data.test_images[:7], test_labels=(data.test_labels[:7] + 1) % 10)
    ends = []
    for each in (data, other):
        monkeypatch.setattr(source, "load_digits", lambda seed, each=each: each)
        ends.append(bits(finish(Run(Source("digits", hold_out=100).load(0), replace(TINY, epochs=1)))))
    assert ends[0] == ends[1]


def test_a_history_comes_back_as_it_was() -> None:
    history = History([1.0, 0.1], [0.5, 1.0], [0.1, 0.2], [3.0, 4.0], {"head": [1.0, 2.0]})
    assert History.from_arrays(history.arrays()) == history
