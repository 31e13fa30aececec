"""Random correct implementations by the ten thousand: the comparison must reject none of them, and see small errors.

    python tests/comparison_alarms.py --cases 10000 --seed 0

Each case is a component of random sizes, and the arrays that the same component gives in a storage type, computed
otherwise: with sums in another order, by other but equal algebra, with the batch permuted. In the output and in each
gradient of those in float32, single entries are then put off by little, and it is counted how many of these errors are
beyond the tolerance.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import false_alarms
import numpy as np
from reorderings import ORDERS, reorder
from rewrites import plant
from rewrites.registry import parts_of

from npformer import ReLU
from npformer.attention import MASKED_SCORE
from npformer.component import Array, Component, flatten
from npformer.dropout import RandomSource
from npformer.feed_forward import PositionwiseFeedForward
from npformer.gradcheck import Sizes, make_case
from npformer.gradcheck.subject import input_names, named_gradients
from npformer.gradcheck.verdict import FAIL
from npformer.oracle import Comparison, Expected, compare, expect
from npformer.oracle.rounding import FORMATS, Format
from npformer.oracle.trace import Arrays, Passage, Recording

ORDINARY = Sizes()
STORAGES = {"float32": 0.55, "bfloat16": 0.2, "float16": 0.15, "float64": 0.1}
INJECTED = (3e-3, 1e-3, 1e-4)  # of an array's root mean square
NOTHING = 1e-6  # of the largest gradient's root mean square: a smaller one is 0 in truth, as that of a key bias
PLACES = ("output", "gradients", "gradients, ill-conditioned", "gradients, at a kink")
PARAMETER_GRADIENTS = {"grad_weight", "grad_bias"}  # have no batch


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
class Trial:
    """One correct implementation; its repr makes it again.

    Attributes
    ----------
    case : str
        A key of CASES.
    sizes, seed
        As for make_case.
    storage : str
        A key of FORMATS.
    order : str
        A key of ORDERS, for every sum; "" for the order of the component.
    rewrites : tuple of str
        Keys of REWRITES, planted in every part that they belong to.
    permuted : bool
        Whether theirs has the batch in another order.
    relu : bool
        Whether feed-forward networks have ReLU in place of their activation.
    scale : float
        What the floating inputs are multiplied by.
    dropout : bool
        Whether forward gets its rng.
    """

    case: str
    sizes: Sizes = ORDINARY
    seed: int = 0
    storage: str = "float32"
    order: str = ""
    rewrites: tuple[str, ...] = ()
    permuted: bool = False
    relu: bool = False
    scale: float = 1.0
    dropout: bool = True

    def expected(self) -> Expected:
        """Return what it should give."""
        rng = np.random.default_rng(self.seed)
        case = make_case(self.case, self.sizes, rng)
        component = with_relu(case.component) if self.relu else case.component
        inputs = tuple(self.scale * x if x.dtype.kind == "f" else x for x in case.inputs)
        options = {name: value for name, value in case.options.items() if self.dropout or name != "rng"}
        output = component(*inputs, **copy.deepcopy(options))
        return expect(
            component, *inputs, grad_output=rng.standard_normal(output.shape), storage=self.storage, **options
        )

    def theirs(self, expected: Expected) -> Arrays:
        """Return what it gives, by every name that an array has."""
        recording, storage = expected.recording, FORMATS[self.storage]
        component = plant(recording.component, self.rewrites)
        component = reorder(component, self.order) if self.order else component
        dtype = np.float64 if self.storage == "float64" else np.float32
        inputs = tuple(x.astype(dtype) if x.dtype.kind == "f" else x for x in recording.inputs)
        assert recording.grad_output is not None
        grad_output, options = recording.grad_output.astype(dtype), recording.options
        batch = len(grad_output)
        permutation = np.random.default_rng(self.seed).permutation(batch) if self.permuted else np.arange(batch)
        if self.permuted:
            inputs, grad_output = tuple(x[permutation] for x in inputs), grad_output[permutation]
            options = {name: _permuted(value, permutation) for name, value in options.items()}
        if self.rewrites:  # they use their parts as they like: output and gradients alone have their names
            component = component.astype(dtype)
            output, cache = component.forward(*inputs, **copy.deepcopy(options))
            names = input_names(type(recording.component).forward, len(inputs) + 1)[1:]
            gradients = flatten(named_gradients(component, names, grad_output, cache))
            made = {"output": output} | {_grad_name(name): gradient for name, gradient in gradients.items()}
            arrays = {name: Stored(storage).out(component, name, array) for name, array in made.items()}
        else:
            run = Recording(component.astype(dtype), inputs, options, grad_output).rerun(Stored(storage))
            arrays = {name: run[name] for name in [*run, *run.aliases]}
        back = np.argsort(permutation)
        return {
            name: array if name.rpartition(".")[2] in PARAMETER_GRADIENTS or len(array) != batch else array[back]
            for name, array in arrays.items()
        }

    def comparison(self) -> Comparison:
        """Return the comparison, which should pass."""
        expected = self.expected()
        return compare(self.theirs(expected), expected)

    def judged(self) -> Judged:
        """Return what came out, and for float32 which errors show."""
        expected = self.expected()
        theirs = self.theirs(expected)
        comparison = compare(theirs, expected)
        ratios = {row.name: row.worst[0].ratio for row in comparison.rows if row.worst}
        alarm = next((str(row) for row in comparison.rows if row.verdict == FAIL), "")
        shown = self._shown(expected, theirs) if self.storage == "float32" else Counter()
        return Judged(self, alarm or " ".join(comparison.lacking), max(ratios.values()), shown)

    def _kind_of_gradient(self, apart: bool) -> str:
        """Return which gradients an entry belongs to."""
        if apart:
            return "gradients, at a kink"
        well = self.sizes.d_model >= 4 and self.scale == 1
        return "gradients" if well else "gradients, ill-conditioned"

    def _shown(self, expected: Expected, theirs: Arrays) -> Counter[Error]:
        """Count the errors of single entries, by whether they are beyond the tolerance."""
        rng = np.random.default_rng(self.seed)
        sizes = {name: root_mean_square(expected.truth[name]) for name in expected.results()}
        largest = max([size for name, size in sizes.items() if name != "output"], default=0.0)
        counts: Counter[Error] = Counter()
        for name, size in sizes.items():
            if name not in expected.tolerances or size == 0 or (name != "output" and size < NOTHING * largest):
                continue
            tolerance, truth = expected.tolerances[name], expected.truth[name]
            entry = tuple(rng.integers(truth.shape))
            off = theirs[name][entry] - truth[entry]
            where = "output" if name == "output" else self._kind_of_gradient(bool(tolerance.apart[entry]))
            for share in INJECTED:
                shows = bool(abs(off + share * size * rng.choice([-1, 1])) > tolerance.limit[entry])
                counts[Error(where, share, shows)] += 1
        return counts


@dataclass(frozen=True)
class Judged:
    """What came out for one trial: the alarm, if there is one, the largest error over tolerance, and errors shown."""

    trial: Trial
    alarm: str
    ratio: float
    errors: Counter[Error]


class Stored(Passage):
    """Arrays that are rounded to a storage type wherever they pass a boundary."""

    def __init__(self, storage: Format):
        self.storage = storage

    def out(self, component: Component, name: str, array: Array) -> Array:
        """Round, but for the score that stands for a masked one."""
        if array.dtype.kind != "f":
            return array
        stored: Array = self.storage.round(np.where(array == MASKED_SCORE, 0, array)).astype(array.dtype)
        return np.where(array == MASKED_SCORE, array, stored)


class PermutedSource:
    """A random source that draws for a batch in another order."""

    def __init__(self, rng: RandomSource, permutation: Array):
        self.rng, self.permutation = rng, permutation

    def random(self, shape: tuple[int, ...], /) -> Array:
        """Return what the source draws, in the order of the batch."""
        return self.rng.random(shape)[self.permutation]


def _grad_name(name: str) -> str:
    path, dot, leaf = name.rpartition(".")
    return f"{path}{dot}grad_{leaf}"


def _permuted(value: Any, permutation: Array) -> Any:
    """Return an option for a permuted batch: a mask, or the source of dropout masks."""
    if isinstance(value, np.ndarray):
        return value[permutation] if len(value) == len(permutation) else value
    return PermutedSource(value, permutation)


def with_relu(component: Component) -> Component:
    """Return a copy whose feed-forward networks have ReLU."""
    twin = copy.deepcopy(component)
    for part in parts_of(twin):
        if isinstance(part, PositionwiseFeedForward):
            part.activation = ReLU()
    return twin


def root_mean_square(array: Array) -> float:
    """Return the root of the mean of the squares."""
    return float(np.sqrt(np.mean(array**2)))


def draw(seed: int, index: int) -> Trial:
    """Return the trial of this index, whatever was drawn before it."""
    drawn = false_alarms.draw(seed, index)
    rng = np.random.default_rng([seed, index, 1])
    return Trial(
        drawn.case,
        drawn.sizes,
        drawn.seed,
        storage=str(rng.choice(list(STORAGES), p=list(STORAGES.values()))),
        order=str(rng.choice(list(ORDERS))) if not drawn.rewrites and rng.random() < 0.8 else "",
        rewrites=drawn.rewrites,
        permuted=bool(rng.random() < 0.3),
        relu=bool(rng.random() < 0.5),
        scale=drawn.scale,
        dropout=drawn.dropout or drawn.case == "Dropout",  # without it nothing is computed
    )


def judge(index: int, seed: int) -> Judged:
    """Draw a trial and compare it."""
    return draw(seed, index).judged()


def judgements(indices: Iterable[int], seed: int, processes: int) -> Iterator[Judged]:
    """Judge the trials of these indices."""
    judge_one = partial(judge, seed=seed)
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
            again = f"from comparison_alarms import Sizes, Trial; print({each.trial}.comparison())"
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
