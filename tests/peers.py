"""Test scores of `npformer train` beside scikit-learn's, on the same splits and in one run; needs scikit-learn.

    python tests/peers.py                    # both data sets; most of the time goes to Fashion-MNIST
    python tests/peers.py --data digits

The peers get the pixels in [0, 1] of each image as one row of float32, and have scikit-learn's settings but for those
in PEERS. A time is that of training, with as many threads as a contestant takes by itself; npformer takes one.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

from npformer.component import Array
from npformer.threads import one_thread
from npformer.training import DIGITS, FASHION_MNIST, Data, Run, Settings, load_digits, load_fashion_mnist

Result = tuple[float, float]  # test score, seconds


class Classifier(Protocol):
    """What scikit-learn's classifiers have."""

    def fit(self, images: Array, labels: Array) -> object: ...

    def score(self, images: Array, labels: Array) -> float: ...


@dataclass(frozen=True)
class Contest:
    """A data set with its splits, and the encoder's settings for it.

    Where the seed draws no split, all peers but the MLP do the same each time: they run once.
    """

    load: Callable[[int], Data]
    settings: Settings
    seeds: Sequence[int]
    splits: bool


CONTESTS = {
    "digits": Contest(load_digits, DIGITS, range(5), splits=True),
    "fashion-mnist": Contest(lambda seed: load_fashion_mnist(), FASHION_MNIST, range(3), splits=False),
}
PEERS: dict[str, Callable[[int], Classifier]] = {
    "scikit-learn SVC": lambda seed: SVC(),
    "scikit-learn MLP, 128 hidden units": lambda seed: MLPClassifier((128,), max_iter=500, random_state=seed),
    "scikit-learn logistic regression": lambda seed: LogisticRegression(max_iter=1000),
}


def encoder_result(data: Data, settings: Settings) -> Result:
    """Train an encoder as the command does."""
    with one_thread():
        start = time.perf_counter()
        run = Run(data, settings)
        for _ in run.steps():
            pass
        seconds = time.perf_counter() - start
        return run.score(), seconds


def peer_result(data: Data, classifier: Classifier) -> Result:
    """Train a peer."""
    rows, test_rows = (
        images.reshape(len(images), -1).astype(np.float32) for images in (data.train_images, data.test_images)
    )
    start = time.perf_counter()
    classifier.fit(rows, data.train_labels)
    seconds = time.perf_counter() - start
    return classifier.score(test_rows, data.test_labels), seconds


def contestants(contest: Contest) -> Iterator[tuple[str, list[Result]]]:
    """Yield each contestant with its results, one a seed."""
    load, settings = contest.load, contest.settings
    yield "npformer train", [encoder_result(load(seed), replace(settings, seed=seed)) for seed in contest.seeds]
    for name, make in PEERS.items():
        seeds = contest.seeds if contest.splits or "MLP" in name else contest.seeds[:1]
        yield name, [peer_result(load(seed), make(seed)) for seed in seeds]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=CONTESTS, help="one data set alone")
    chosen = parser.parse_args().data
    print("| data | classifier | runs | mean test accuracy | least to largest | seconds a run, median |")
    print("| --- | --- | ---: | ---: | ---: | ---: |", flush=True)
    for data in CONTESTS if chosen is None else [chosen]:
        for name, results in contestants(CONTESTS[data]):
            scores, seconds = zip(*results, strict=True)
            spread = f"{min(scores):.4f} to {max(scores):.4f}" if len(scores) > 1 else ""
            took = statistics.median(seconds)
            columns = (len(scores), f"{statistics.mean(scores):.4f}", spread, "< 0.1" if took < 0.1 else f"{took:.1f}")
            print(f"| {data} | {name} | {' | '.join(map(str, columns))} |", flush=True)


if __name__ == "__main__":
    main()
