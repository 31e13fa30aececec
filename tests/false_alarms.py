"""Random correct cases by the ten thousand: the checker must reject none of them.

    python tests/false_alarms.py --cases 10000 --seed 0

Each case is a component, half of them with rewrites planted in it, with random sizes, dtype, scale of the inputs,
directions and dropout.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from rewrites import REWRITES, as_functions, plant

from npformer.component import Array, Component, flatten
from npformer.gradcheck import CASES, Report, Sizes, check_gradients, make_case

DTYPES = ("float64", "float32")
ORDINARY = Sizes()
NUMBER = re.compile(r"-?\d[\d.e+-]*")
ENTRIES = 150  # arrays with more in all are checked by directions alone
TOGETHER = 4  # rewrites are planted at the same time at most

Judged = tuple["Trial", str, tuple[str, str]]


@dataclass(frozen=True)
class Trial:
    """One correct case; its repr makes it again.

    Attributes
    ----------
    case : str
        A key of CASES.
    rewrites : tuple of str
        Keys of REWRITES, planted in every part that they belong to.
    sizes, seed
        As for make_case.
    dtype : {"float64", "float32"}
    scale : float
        What the floating inputs are multiplied by.
    directions : int or None
        As for check_gradients.
    dropout : bool
        Whether forward gets its rng.
    as_functions : bool
        Whether a pair of functions is checked in place of the component.
    """

    case: str
    rewrites: tuple[str, ...] = ()
    sizes: Sizes = ORDINARY
    seed: int = 0
    dtype: str = "float64"
    scale: float = 1.0
    directions: int | None = None
    dropout: bool = True
    as_functions: bool = False

    def parts(self) -> tuple[Component, tuple[Array, ...], dict[str, Any]]:
        """Return the component, its inputs and its options."""
        case = make_case(self.case, self.sizes, np.random.default_rng(self.seed))
        component = plant(case.component.astype(self.dtype), self.rewrites)
        inputs = tuple((self.scale * x).astype(self.dtype) if x.dtype.kind == "f" else x for x in case.inputs)
        options = {name: value for name, value in case.options.items() if self.dropout or name != "rng"}
        return component, inputs, options

    def report(self) -> Report:
        """Return the checker's report, which should pass."""
        component, inputs, options = self.parts()
        if self.as_functions:
            functions, arrays = as_functions(component, inputs, options)
            return check_gradients(functions, *arrays, directions=self.directions, seed=self.seed)
        return check_gradients(component, *inputs, directions=self.directions, seed=self.seed, **options)

    def judged(self) -> Judged:
        """Return this trial, the verdict, and the first array that it comes from with the reason."""
        report = self.report()
        first = next(check for check in report.checks if check.verdict == report.verdict)
        return self, report.verdict, (first.name, first.reason)


def draw(seed: int, index: int) -> Trial:
    """Return the trial of this index, whatever was drawn before it."""
    rng = np.random.default_rng([seed, index])
    case = str(rng.choice(list(CASES)))
    trial = Trial(
        case,
        _draw_rewrites(case, rng),
        _draw_sizes(rng),
        int(rng.integers(2**32)),
        dtype=str(rng.choice(DTYPES)),
        scale=float(rng.choice([1.0, 1e-3, 30.0], p=[0.8, 0.1, 0.1])),
        dropout=bool(rng.random() < 0.7),
        as_functions=bool(rng.random() < 0.15),
    )
    directions = None if rng.random() < 0.5 and _entries(trial) <= ENTRIES else int(rng.integers(1, 4))
    return replace(trial, directions=directions)


def _draw_sizes(rng: np.random.Generator) -> Sizes:
    """Sizes of 1 to 6, and one in twenty a d_model of 48; d_model is at least 2."""
    batch, T_q, T_k, num_heads, d_head, d_ff, vocab_size = (int(size) for size in rng.integers(1, 7, size=7))
    if rng.random() < 0.05:
        num_heads, d_head, d_ff, vocab_size = 4, 12, 64, 50
    if num_heads * d_head == 1:
        d_head = 2
    return Sizes(batch, T_q, T_k, num_heads, d_head, d_ff, vocab_size)


def _draw_rewrites(case: str, rng: np.random.Generator) -> tuple[str, ...]:
    """Half the time none; else one for each of some parts and methods that have any."""
    if rng.random() < 0.5:
        return ()
    choices: dict[tuple[type[Component], str], list[str]] = {}
    for name, rewrite in REWRITES.items():
        if case in rewrite.cases:
            choices.setdefault((rewrite.part, rewrite.method), []).append(name)
    places = list(choices.values())
    chosen = rng.permutation(len(places))[: rng.integers(1, TOGETHER + 1)]
    return tuple(str(rng.choice(places[place])) for place in chosen)


def _entries(trial: Trial) -> int:
    component, inputs, _ = trial.parts()
    return sum(array.size for array in (*inputs, *flatten(component.parameters()).values()))


def judge(index: int, seed: int) -> Judged:
    """Draw a trial and check it."""
    return draw(seed, index).judged()


def judgements(indices: Iterable[int], seed: int, processes: int) -> Iterator[Judged]:
    """Judge the trials of these indices."""
    judge_one = partial(judge, seed=seed)
    if processes == 1:
        yield from map(judge_one, indices)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(judge_one, indices, chunksize=20)


def tally(judged: Iterable[Judged]) -> tuple[Counter[tuple[str, str]], Counter[str]]:
    """Count verdicts by dtype and the reasons of the undecided; print rejections, and the first of each reason."""
    counts: Counter[tuple[str, str]] = Counter()
    reasons: Counter[str] = Counter()
    for trial, verdict, (name, reason) in judged:
        counts[verdict, trial.dtype] += 1
        if verdict == "PASS":
            continue
        kind = f"{trial.dtype}: {NUMBER.sub('#', reason)}"
        if verdict == "UNDECIDED":
            reasons[kind] += 1
        if verdict == "FAIL" or reasons[kind] == 1:
            print(
                f"{verdict} {name}: {reason}\n    from false_alarms import Sizes, Trial; print({trial}.report())",
                flush=True,
            )
    return counts, reasons


def summary(counts: Counter[tuple[str, str]]) -> str:
    """Return the counts by verdict and dtype in one line."""
    parts = []
    for verdict in ("PASS", "UNDECIDED", "FAIL"):
        by_dtype = [counts[verdict, dtype] for dtype in DTYPES]
        of_each = ", ".join(f"{dtype} {count:,}" for dtype, count in zip(DTYPES, by_dtype, strict=True))
        parts.append(f"{verdict} {sum(by_dtype):,} ({of_each})")
    return f"{sum(counts.values()):,} correct cases: {', '.join(parts)}"


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status: 1 if a correct case was rejected."""
    parser = argparse.ArgumentParser(description="Check random correct cases and count the verdicts.")
    parser.add_argument("--cases", type=int, default=10_000, metavar="N", help="how many (default: 10000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="for the choice of cases (default: 0)")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="how many run at once (default: 1)")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    counts, reasons = tally(judgements(range(options.cases), options.seed, options.processes))
    for reason, number in reasons.most_common():
        print(f"UNDECIDED {number:,} in {reason}")
    print(f"{summary(counts)}, in {time.perf_counter() - start:.0f} s")
    return 1 if any(verdict == "FAIL" for verdict, _ in counts) else 0


if __name__ == "__main__":
    sys.exit(main())
