"""Fair timing: contestants in turn, rested and then warm, the last of two or more calls each, ratios within a round."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, median


@dataclass(frozen=True)
class Rounds:
    """How long a race goes on: for so many seconds, but at least and at most so many rounds.

    Before a contestant's turn all rest for so many seconds, and its calls go on for `warm_up` before one is timed. For
    the threads of a BLAS and of PyTorch wait busily for more work, and take a core from whoever comes next: on 2 cores,
    PyTorch took up to 2.5 times as long within 0.1 s after NumPy as after a rest, and products 2.6 times after PyTorch.
    """

    least: int
    most: int
    seconds: float
    rest: float = 0.1
    warm_up: float = 0.03


@dataclass(frozen=True)
class Times:
    """The seconds of every contestant by name, one entry for each round."""

    seconds: Mapping[str, list[float]]

    @property
    def rounds(self) -> int:
        """Return how many rounds there were."""
        return len(next(iter(self.seconds.values())))

    def milliseconds(self, name: str) -> float | None:
        """Return a contestant's median, or None if it took no part."""
        return median(self.seconds[name]) * 1e3 if name in self.seconds else None

    def ratio(self, name: str, other: str) -> float | None:
        """Return the median over the rounds of name's time divided by other's time in the same round.

        What slows a whole round down, such as another program, is in both times and leaves their ratio alone.

        Examples
        --------
        >>> Times({"a": [1.0, 2.0, 9.0], "b": [1.0, 4.0, 3.0]}).ratio("a", "b")
        1.0
        """
        if name not in self.seconds or other not in self.seconds:
            return None
        return median(a / b for a, b in zip(self.seconds[name], self.seconds[other], strict=True))


def race(
    contestants: Mapping[str, Callable[[], object]],
    rounds: Rounds,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], object] = time.sleep,
) -> Times:
    """Time the contestants, in the order of the dict within every round."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    start = clock()
    for count in range(1, rounds.most + 1):
        for name, call in contestants.items():
            sleep(rounds.rest)
            seconds[name].append(_last_when_warm(call, clock, rounds.warm_up))
        if count >= rounds.least and clock() - start >= rounds.seconds:
            break
    return Times(seconds)


def _last_when_warm(call: Callable[[], object], clock: Callable[[], float], warm_up: float) -> float:
    """The first call finds caches and threads as another contestant left them; short calls need more to be warm."""
    start = clock()
    call()
    while clock() - start < warm_up:
        call()
    start = clock()
    call()  # what it returns is given back to the allocator before the clock stops
    return clock() - start


def geometric_mean(ratios: Iterable[float]) -> float:
    """Return the mean that makes twice as fast and half as fast cancel.

    Examples
    --------
    >>> geometric_mean([0.5, 2.0])
    1.0
    """
    return math.exp(fmean(map(math.log, ratios)))
