"""Digits, splits and augmentation: nothing is lost, nothing is counted twice, a seed decides all."""

import gzip
import hashlib
import re
import subprocess
import sys
import time
import zipfile
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
from hypothesis import given
from hypothesis import strategies as st

from npformer.component import Array
from npformer.training import Data, flip, hold_out, load_digits, shift, stratified_split

ROOT = Path(__file__).parents[2]
DIGITS = "npformer/training/digits.csv.gz"
IMAGES, LABELS = np.linspace(0, 1, 24).reshape(6, 2, 2), np.array([0, 1, 0, 1, 0, 1])


def make(**changes: Any) -> Data:
    """Make small data."""
    fields = {"name": "small", "class_names": ("a", "b"), "train_images": IMAGES, "train_labels": LABELS}
    fields |= {"test_images": IMAGES[:2], "test_labels": LABELS[:2]}
    return Data(**(fields | changes))


def rows(data: Data) -> list[tuple[bytes, int]]:
    """Each image of both parts with its label, sorted."""
    images = np.concatenate([data.train_images, data.test_images])
    labels = np.concatenate([data.train_labels, data.test_labels])
    return sorted((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))


def test_the_digits_are_those_of_scikit_learn() -> None:
    theirs = sklearn.datasets.load_digits()
    pairs = zip(theirs.images / 16, theirs.target, strict=True)
    data = load_digits()
    assert rows(data) == sorted((image.tobytes(), int(label)) for image, label in pairs)
    assert [data.train_images.dtype, data.train_labels.dtype] == [np.dtype(np.float64), np.dtype(np.int64)]
    assert data.class_names == tuple("0123456789")
    assert (data.train_images.shape, data.test_images.shape) == ((1348, 8, 8), (449, 8, 8))


def test_the_file_of_the_digits_is_that_of_scikit_learn_byte_for_byte() -> None:
    theirs = files("sklearn.datasets.data").joinpath("digits.csv.gz").read_bytes()
    assert hashlib.sha256((ROOT / DIGITS).read_bytes()).digest() == hashlib.sha256(theirs).digest()


def test_a_seed_decides_which_digits_are_for_the_test() -> None:
    first, again, other = (load_digits(seed).test_images for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_digits_load_fast() -> None:
    load_digits()
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        load_digits()
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.1  # 0.004 were measured


def test_a_built_wheel_has_the_digits_and_where_they_are_from(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        assert packed.read(DIGITS) == (ROOT / DIGITS).read_bytes()
        source = packed.read("npformer/training/digits.txt").decode()
    for words in ("Alpaydin", "Kaynak", "CC BY 4.0", "licenses/by/4.0", "archive.ics.uci.edu", "Changes     None."):
        assert words in source
    assert len(gzip.decompress((ROOT / DIGITS).read_bytes()).splitlines()) == 1797


@given(
    labels=st.lists(st.integers(-3, 6), min_size=2, max_size=60).map(np.array),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32 - 1),
)
def test_each_part_has_its_share_of_each_class(labels: Array, fraction: float, seed: int) -> None:
    if not 0 < round(fraction * len(labels)) < len(labels):
        with pytest.raises(ValueError, match=r"^fraction must leave both parts an image, but "):
            stratified_split(labels, fraction, seed)
        return
    train, test = stratified_split(labels, fraction, seed)
    assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(len(labels)))  # complete and disjoint
    assert len(test) == round(fraction * len(labels))
    for label in set(labels.tolist()):
        count = np.count_nonzero(labels == label)
        # the largest remainders of at most ten classes are rounded up: the worst is 1 - 1/22
        assert abs(np.count_nonzero(labels[test] == label) - fraction * count) < 0.96
    assert all(
        np.array_equal(*pair) for pair in zip((train, test), stratified_split(labels, fraction, seed), strict=True)
    )
    assert np.all(np.diff(train) > 0)
    assert np.all(np.diff(test) > 0)


def test_every_image_can_be_drawn_for_the_test() -> None:
    labels = np.repeat([0, 1, 2], 4)
    drawn = {int(index) for seed in range(60) for index in stratified_split(labels, 0.25, seed)[1]}
    assert drawn == set(range(12))


def test_data_are_equal_to_themselves_alone_and_can_be_keys() -> None:
    first, second = make(), make()
    assert first != second
    assert {first: 1, second: 2}[first] == 1


def test_what_is_held_out_is_from_the_training_images() -> None:
    data = load_digits()
    held_out = hold_out(data, 300, seed=1)
    training_images_alone = Data(
        "", data.train_images[1:], data.train_labels[1:], data.train_images[:1], data.train_labels[:1], data.class_names
    )
    assert rows(held_out) == rows(training_images_alone)
    assert (len(held_out.train_labels), len(held_out.test_labels)) == (1048, 300)
    for label in range(10):
        share = np.count_nonzero(data.train_labels == label) * 300 / 1348
        assert abs(np.count_nonzero(held_out.test_labels == label) - share) < 1
    again, other = hold_out(data, 300, seed=1), hold_out(data, 300, seed=2)
    assert np.array_equal(held_out.test_images, again.test_images)
    assert not np.array_equal(held_out.test_images, other.test_images)


def test_shifts_are_all_that_there_are_and_equally_likely() -> None:
    image = np.arange(1.0, 13).reshape(3, 4)
    moved = shift(np.repeat(image[None], 2500, axis=0), 1, np.random.default_rng(0))
    framed = np.pad(image, 1)
    counts = [
        np.count_nonzero((moved == framed[down : down + 3, right : right + 4]).all((1, 2)))
        for down in range(3)
        for right in range(3)
    ]
    assert sum(counts) == 2500
    assert all(abs(count - 2500 / 9) < 5 * 16 for count in counts)  # 16 is the standard deviation of a count


def test_flips_are_half_of_all() -> None:
    image = np.arange(6.0).reshape(2, 3)
    seen = flip(np.repeat(image[None], 1000, axis=0), np.random.default_rng(0))
    mirrored, same = (np.count_nonzero((seen == each).all((1, 2))) for each in (image[:, ::-1], image))
    assert mirrored + same == 1000
    assert abs(same - 500) < 5 * 16  # 16 is the standard deviation


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("augment", [partial(shift, pixels=1), flip])
def test_augmentation_keeps_the_dtype_and_changes_nothing_given(augment: Any, dtype: type) -> None:
    images: Array = np.random.default_rng(0).random((5, 3, 4)).astype(dtype)
    before = images.copy()
    first, again, other = (augment(images, rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (first.dtype, first.shape) == (images.dtype, images.shape)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.shares_memory(first, images)
    assert np.array_equal(images, before)


def test_a_shift_by_no_pixels_is_none() -> None:
    assert np.array_equal(shift(IMAGES, 0, 0), IMAGES)


BAD: dict[str, str] = {
    "make(name=1)": "name must be a str, but it is an int",
    "make(class_names=['a', 'b'])": "class_names must be a tuple, but it is a list",
    "make(class_names=('a',))": "train_labels must lie in 0..0, but 1 is among them",
    "make(class_names=('a', 2))": "class_names[1] must be a str, but it is an int",
    "make(class_names=())": "class_names must name at least one class, but it is empty",
    "make(train_images=IMAGES.tolist())": (
        "train_images must be a NumPy array of float32, float64 or complex128, but it is a list"
    ),
    "make(train_images=IMAGES[0])": "train_images must have the axes (N, height, width), but its shape is (2, 2)",
    "make(train_images=2 * IMAGES)": "train_images must lie in [0, 1], but they range from 0 to 2",
    "make(test_images=-IMAGES[:2])": "test_images must lie in [0, 1], but they range from -0.304348 to -0",
    "make(test_images=IMAGES[:2] * np.nan)": "test_images must lie in [0, 1], but they range from nan to nan",
    "make(train_images=IMAGES * 1j)": "train_images must be float32 or float64, but its dtype is complex128",
    "make(train_labels=LABELS[1:])": "train_labels has length 5, but train_images has length 6",
    "make(train_labels=LABELS / 1)": "train_labels must be integers, but its dtype is float64",
    "make(test_labels=LABELS[:2] - 1)": "test_labels must lie in 0..1, but -1 is among them",
    "make(test_images=IMAGES[:2, :1])": (
        "test_images has height and width (1, 2), but train_images has height and width (2, 2)"
    ),
    "stratified_split([0, 1], 0.5)": "labels must be a NumPy array of integers, but it is a list",
    "stratified_split(LABELS, 0)": "fraction must lie in (0, 1), but it is 0",
    "stratified_split(LABELS, 1.0)": "fraction must lie in (0, 1), but it is 1.0",
    "stratified_split(LABELS, 0.05)": "fraction must leave both parts an image, but 0.05 of 6 is rounded to 0",
    "stratified_split(LABELS, 0.95)": "fraction must leave both parts an image, but 0.95 of 6 is rounded to 6",
    "stratified_split(LABELS, 0.5, '1')": "rng must be a numpy.random.Generator, a seed or None, but it is a str",
    "hold_out(None, 2, 0)": "data must be a Data, but it is None",
    "hold_out(make(), 0, 0)": "count must be at least 1, but it is 0",
    "hold_out(make(), 6, 0)": "count must be below the number of training images, 6, but it is 6",
    "hold_out(make(), 2, None)": "seed must be a whole number, but it is None",
    "load_digits(-1)": "seed must be at least 0, but it is -1",
    "load_digits(0.5)": "seed must be a whole number, but it is a float",
    "shift(IMAGES, -1)": "pixels must be at least 0, but it is -1",
    "shift(IMAGES, 1.5)": "pixels must be a whole number, but it is a float",
    "shift(IMAGES[0], 1)": "images must have the axes (N, height, width), but its shape is (2, 2)",
    "shift(IMAGES, 1, 'a')": "rng must be a numpy.random.Generator, a seed or None, but it is a str",
    "flip(IMAGES[0])": "images must have the axes (N, height, width), but its shape is (2, 2)",
    "flip([1.0])": "images must be a NumPy array of float32, float64 or complex128, but it is a list",
}


@pytest.mark.parametrize("call", BAD)
def test_bad_calls_get_one_sentence(call: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(BAD[call])}$"):
        eval(call)
