"""Handwritten digits, which come with this package: where they are from stands in digits.txt beside them."""

from __future__ import annotations

import gzip
from importlib.resources import files

import numpy as np

from npformer.shapes import check_count
from npformer.training.data import Data, stratified_split

TEST_SHARE = 0.25
SIDE = 8
BRIGHTEST = 16


def load_digits(seed: int = 0) -> Data:
    """Return 1,797 handwritten digits of 8 x 8 pixels, three quarters of each class to learn from.

    They are the test set of "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998).

    Parameters
    ----------
    seed : int
        Draws which ones are in which part.

    Examples
    --------
    >>> load_digits()
    Data(digits: 1,348 images to learn from, 449 to be judged by, 8 x 8 pixels, 10 classes)
    """
    check_count("seed", seed, least=0)
    with files(__package__).joinpath("digits.csv.gz").open("rb") as packed, gzip.open(packed, "rt") as lines:
        table = np.loadtxt(lines, np.int64, delimiter=",")  # of each row, the last number is the digit
    images = table[:, :-1].reshape(-1, SIDE, SIDE) / BRIGHTEST
    labels = table[:, -1].copy()
    train, test = stratified_split(labels, TEST_SHARE, seed)
    class_names = tuple("0123456789")
    return Data("digits", images[train], labels[train], images[test], labels[test], class_names)
