"""Images with their classes, and how they are split into those to learn from and those to be judged by."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from npformer.component import Array
from npformer.shapes import (
    check_count,
    check_equal,
    check_floats,
    check_number,
    check_part,
    check_range,
    check_tokens,
    make_generator,
)


@dataclass(frozen=True, eq=False)
class Data:
    """Images to learn from and images to be judged by, each with its class.

    Attributes
    ----------
    name : str
    train_images, test_images : arrays
        Real numbers (N, height, width), in [0, 1]; those that are loaded are float64.
    train_labels, test_labels : arrays
        Integers (N,), each the index of a class; those that are loaded are int64.
    class_names : tuple of str

    Raises
    ------
    TypeError, ValueError
        If the arrays do not fit each other, or hold anything else.

    Examples
    --------
    >>> images, labels = np.zeros((3, 8, 8)), np.array([0, 1, 1])
    >>> Data("dark", images, labels, images[:1], labels[:1], class_names=("cat", "dog"))
    Data(dark: 3 images to learn from, 1 to be judged by, 8 x 8 pixels, 2 classes)
    """

    name: str
    train_images: Array
    train_labels: Array
    test_images: Array
    test_labels: Array
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check that all fits together."""
        check_part("name", self.name, str)
        check_part("class_names", self.class_names, tuple)
        if not self.class_names:
            raise ValueError("class_names must name at least one class, but it is empty")
        for index, class_name in enumerate(self.class_names):
            check_part(f"class_names[{index}]", class_name, str)
        for part in ("train", "test"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            check_floats(f"{part}_images", images, "N, height, width")
            _check_brightness(f"{part}_images", images)
            check_tokens(f"{part}_labels", labels, "N")
            check_equal(f"{part}_labels", "length", len(labels), f"{part}_images", len(images))
            check_range(f"{part}_labels", labels, 0, len(self.class_names) - 1)
        size = self.train_images.shape[1:]
        check_equal("test_images", "height and width", self.test_images.shape[1:], "train_images", size)

    def __repr__(self) -> str:
        train, (test, height, width) = len(self.train_images), self.test_images.shape
        counts = f"{train:,} images to learn from, {test:,} to be judged by"
        return f"Data({self.name}: {counts}, {height} x {width} pixels, {len(self.class_names)} classes)"

    def astype(self, dtype: npt.DTypeLike) -> Self:
        """Return data whose images are cast to float32 or float64; these data themselves if they are that already."""
        if self.train_images.dtype == self.test_images.dtype == dtype:
            return self
        return replace(self, train_images=self.train_images.astype(dtype), test_images=self.test_images.astype(dtype))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of images and labels, of both parts."""
        digest = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(f"{array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def stratified_split(
    labels: Array, fraction: float, rng: np.random.Generator | int | None = None
) -> tuple[Array, Array]:
    """Return the indices of the training part and of the test part, in which all classes have the same share.

    Parameters
    ----------
    labels : array of int
        (N,), the class of each image.
    fraction : float
        Share of the test part, in (0, 1). It has round(fraction N) images, and of each class that share to within one.
    rng : Generator, int or None
        Draws which ones; a seed always draws the same.

    Returns
    -------
    train, test : arrays
        Indices in ascending order; every image is in one of the two.

    Raises
    ------
    ValueError
        If one of the two parts would have no image.

    Examples
    --------
    >>> stratified_split(np.array([7, 7, 7, 7, 5, 5, 5, 5]), 0.25, rng=0)
    (array([0, 1, 2, 4, 5, 7]), array([3, 6]))
    """
    check_tokens("labels", labels, "N")
    check_number("fraction", fraction, 0, 1, open_low=True)
    rng = make_generator(rng)
    N, test_size = len(labels), round(fraction * len(labels))
    if not 0 < test_size < N:
        raise ValueError(f"fraction must leave both parts an image, but {fraction} of {N} is rounded to {test_size}")
    classes, counts = np.unique(labels, return_counts=True)
    shares = fraction * counts
    taken = np.floor(shares).astype(int)
    for_the_rest = np.argsort(taken - shares, kind="stable")[: test_size - taken.sum()]
    taken[for_the_rest] += 1
    in_test = np.zeros(N, bool)
    for label, number in zip(classes, taken, strict=True):
        in_test[rng.permutation(np.flatnonzero(labels == label))[:number]] = True
    return np.flatnonzero(~in_test), np.flatnonzero(in_test)


def hold_out(data: Data, count: int, seed: int) -> Data:
    """Return data whose test images are taken from the training images: to tune without a look at the real ones.

    Parameters
    ----------
    data : Data
    count : int
        How many training images are held out, the same share of each class.
    seed : int
        Which ones.

    Examples
    --------
    >>> images, labels = np.zeros((8, 2, 2)), np.array([0, 1] * 4)
    >>> hold_out(Data("dark", images, labels, images, labels, ("cat", "dog")), 2, seed=0)
    Data(dark, held out: 6 images to learn from, 2 to be judged by, 2 x 2 pixels, 2 classes)
    """
    check_part("data", data, Data)
    N = len(data.train_labels)
    if not 1 <= check_count("count", count) < N:
        raise ValueError(f"count must be below the number of training images, {N}, but it is {count}")
    train, test = stratified_split(data.train_labels, count / N, check_count("seed", seed, least=0))
    return replace(
        data,
        name=f"{data.name}, held out",
        train_images=data.train_images[train],
        train_labels=data.train_labels[train],
        test_images=data.train_images[test],
        test_labels=data.train_labels[test],
    )


def _check_brightness(name: str, images: Array) -> None:
    if images.dtype.kind == "c":
        raise TypeError(f"{name} must be float32 or float64, but its dtype is {images.dtype}")
    low, high = images.min(), images.max()  # both are NaN if any pixel is
    if not (low >= 0 and high <= 1):
        raise ValueError(f"{name} must lie in [0, 1], but they range from {low:g} to {high:g}")
