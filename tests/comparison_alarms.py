"""Random correct implementations by the ten thousand: the comparison must reject none of them, and see small errors.

    python tests/comparison_alarms.py --cases 10000 --seed 0

Each case is a component of random sizes, and the arrays that the same component gives in a storage type, computed
otherwise: with sums in another order, by other but equal algebra, with the batch permuted. In the output and in each
gradient of those in float32, single entries are then put off by little, and it is counted how many of these errors are
beyond the tolerance.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product

import false_alarms
import numpy as np
from implementations import Trial
from reorderings import ORDERS

from npformer.component import Array
from npformer.gradcheck.verdict import FAIL
from npformer.oracle import Expected, compare
from npformer.oracle.recorder import Arrays

STORAGES = {"float32": 0.55, "bfloat16": 0.2, "float16": 0.15, "float64": 0.1}
INJECTED = (3e-3, 1e-3, 1e-4)  # of an array's root mean square
NOTHING = 1e-6  # of the largest gradient's root mean square: a smaller one is 0 in truth, as that of a key bias
# have a Linear without an axis T, which rewrites expect
POOLED = ("BertPooler", "BertModel", "FlatHead", "ImageClassifier")
PLACES = ("output", "gradients", "gradients, ill-conditioned", "gradients, at a kink")


@dataclass(frozen=True)
class Error:
    """An error of a single entry.

    Attributes
    ----------
    where : str
        In what: a key of PLACES.
    share : float
        Its size, as a share of the array's root mean square.
    shows : bool
        Whether it is beyond the tolerance.
    """

    where: str
    share: float
    shows: bool


@dataclass(frozen=True)
class Judged:
    """What came out for one trial: the alarm, if there is one, the largest error over tolerance, and errors shown."""

    trial: Trial
    alarm: str
    ratio: float
    errors: Counter[Error]


def root_mean_square(array: Array) -> float:
    """Return the root of the mean of the squares."""
    return float(np.sqrt(np.mean(array**2)))


def judge(trial: Trial) -> Judged:
    """Return what came out, and for float32 which errors show."""
    expected = trial.expected()
    theirs = trial.theirs(expected)
    comparison = compare(theirs, expected)
    ratios = {row.name: row.worst[0].ratio for row in comparison.rows if row.worst}
    alarm = next((str(row) for row in comparison.rows if row.verdict == FAIL), "")
    shown = _shown(trial, expected, theirs) if trial.storage == "float32" and not alarm else Counter()
    return Judged(trial, alarm or " ".join(comparison.lacking), max(ratios.values()), shown)


def _shown(trial: Trial, expected: Expected, theirs: Arrays) -> Counter[Error]:
    """Count the errors of single entries, by whether they are beyond the tolerance."""
    rng = np.random.default_rng(trial.seed)
    sizes = {name: root_mean_square(expected.truth[name]) for name in expected.results()}
    largest = max([size for name, size in sizes.items() if name != "output"], default=0.0)
    counts: Counter[Error] = Counter()
    for name, size in sizes.items():
        if name not in expected.tolerances or size == 0 or (name != "output" and size < NOTHING * largest):
            continue
        tolerance, truth = expected.tolerances[name], expected.truth[name]
        entry = tuple(rng.integers(truth.shape))
        off = theirs[name][entry] - truth[entry]
        where = "output" if name == "output" else _kind_of_gradient(trial, bool(tolerance.apart[entry]))
        for share in INJECTED:
            shows = bool(abs(off + share * size * rng.choice([-1, 1])) > tolerance.limit[entry])
            counts[Error(where, share, shows)] += 1
    return counts


def _kind_of_gradient(trial: Trial, apart: bool) -> str:
    """Return which gradients an entry belongs to."""
    if apart:
        return "gradients, at a kink"
    well = trial.sizes.d_model >= 4 and trial.scale == 1
    return "gradients" if well else "gradients, ill-conditioned"


def draw(seed: int, index: int) -> Trial:
    """Return the trial of this index, whatever was drawn before it."""
    drawn = false_alarms.draw(seed, index)
    rng = np.random.default_rng([seed, index, 1])
    rewrites = drawn.rewrites if drawn.case not in POOLED else ()
    storage = str(rng.choice(list(STORAGES), p=list(STORAGES.values())))
    return Trial(
        drawn.case,
        drawn.sizes,
        drawn.seed,
        storage=storage,
        order=str(rng.choice(list(ORDERS))) if not rewrites and rng.random() < 0.8 else "",
        rewrites=rewrites,
        permuted=bool(rng.random() < 0.3),
        relu=bool(rng.random() < 0.5),
        scale=drawn.scale if storage != "float16" else 1.0,  # else gradients of norms overflow
        dropout=drawn.dropout or drawn.case == "Dropout",  # without it nothing is computed
    )


def draw_and_judge(index: int, seed: int) -> Judged:
    """Draw a trial and judge it."""
    return judge(draw(seed, index))


def judgements(indices: Iterable[int], seed: int, processes: int) -> Iterator[Judged]:
    """Judge the trials of these indices."""
    judge_one = partial(draw_and_judge, seed=seed)
    if processes == 1:
        yield from map(judge_one, indices)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(judge_one, indices, chunksize=20)


@dataclass
class Tally:
    """What many trials came to: how many, the alarms, the largest errors over tolerance, and the errors that showed."""

    cases: Counter[str]
    alarms: int
    ratios: dict[str, list[float]]
    errors: Counter[Error]

    def shown(self, where: str, share: float) -> tuple[int, int]:
        """Return how many errors of this size showed, and of how many."""
        showed, hidden = (self.errors[Error(where, share, shows)] for shows in (True, False))
        return showed, showed + hidden

    def __str__(self) -> str:
        lines = []
        for where, size in product(PLACES, INJECTED):
            showed, number = self.shown(where, size)
            if number:
                lines.append(f"error of {size:g} rms in one entry, {where}: {showed:,} of {number:,} show")
        for storage, ratios in self.ratios.items():
            low, high, top = np.quantile(ratios, [0.5, 0.99, 1.0])
            lines.append(f"largest error/tolerance, {storage}: median {low:.2f}, 99 % {high:.2f}, maximum {top:.2f}")
        of_each = ", ".join(f"{storage} {self.cases[storage]:,}" for storage in STORAGES)
        lines.append(f"{self.cases.total():,} correct implementations ({of_each}): {self.alarms} rejected")
        return "\n".join(lines)


def tally(judged: Iterable[Judged]) -> Tally:
    """Count what came out, and print each alarm."""
    total = Tally(Counter(), 0, {}, Counter())
    for each in judged:
        total.cases[each.trial.storage] += 1
        total.ratios.setdefault(each.trial.storage, []).append(each.ratio)
        total.errors += each.errors
        if each.alarm:
            total.alarms += 1
            again = f"from implementations import Sizes, Trial; print({each.trial}.comparison())"
            print(f"ALARM {each.alarm}\n    {again}", flush=True)
    return total


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status: 1 if a correct implementation was rejected."""
    parser = argparse.ArgumentParser(description="Compare random correct implementations, and count the alarms.")
    parser.add_argument("--cases", type=int, default=10_000, metavar="N", help="how many (default: 10000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="for the choice of cases (default: 0)")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="how many run at once (default: 1)")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    total = tally(judgements(range(options.cases), options.seed, options.processes))
    print(f"{total}, in {time.perf_counter() - start:.0f} s")
    return 1 if total.alarms else 0


if __name__ == "__main__":
    sys.exit(main())
