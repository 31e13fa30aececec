"""The race: in turn, each the second of two calls in a row, and ratios within a round."""

from collections.abc import Callable, Iterable
from statistics import median

import pytest

from npformer.bench.timing import Rounds, Times, geometric_mean, race


class FakeTime:
    """A clock that moves only when a contestant works, and a list of who worked."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.log.append(f"rest {seconds}")
        self.now += seconds

    def contestant(self, name: str, seconds: Iterable[float]) -> Callable[[], None]:
        durations = iter(seconds)

        def call() -> None:
            self.log.append(name)
            self.now += next(durations)

        return call


def test_the_second_of_two_calls_in_a_row_is_timed() -> None:
    time = FakeTime()
    calls = {"a": time.contestant("a", [100, 1, 200, 2]), "b": time.contestant("b", [300, 3, 400, 4])}
    times = race(calls, Rounds(2, 2, 0, rest=0, warm_up=0), time.clock, lambda _: None)
    assert times.seconds == {"a": [1, 2], "b": [3, 4]}
    assert time.log == ["a", "a", "b", "b"] * 2
    assert times.rounds == 2


def test_before_every_turn_all_rest_and_short_calls_warm_up() -> None:
    time = FakeTime()
    calls = {"a": time.contestant("a", [2, 2, 2, 1]), "b": time.contestant("b", [50, 3])}
    times = race(calls, Rounds(1, 1, 0, rest=7, warm_up=5), time.clock, time.sleep)
    assert times.seconds == {"a": [1], "b": [3]}
    assert time.log == ["rest 7", "a", "a", "a", "a", "rest 7", "b", "b"]


def test_ratios_are_taken_within_a_round_and_then_their_median() -> None:
    times = Times({"a": [1.0, 10.0, 30.0], "b": [2.0, 5.0, 40.0]})
    assert times.ratio("a", "b") == median([0.5, 2.0, 0.75])
    assert times.ratio("a", "b") != median(times.seconds["a"]) / median(times.seconds["b"])
    assert times.milliseconds("a") == 10_000


def test_who_took_no_part_has_neither_time_nor_ratio() -> None:
    times = Times({"a": [1.0]})
    assert (times.milliseconds("b"), times.ratio("a", "b"), times.ratio("b", "a")) == (None, None, None)


@pytest.mark.parametrize(
    ("rounds", "expected"),
    [
        (Rounds(least=1, most=9, seconds=5), 3),  # a round takes 2 s: after the third 6 have passed
        (Rounds(least=4, most=9, seconds=5), 4),
        (Rounds(least=1, most=2, seconds=5), 2),
        (Rounds(least=1, most=9, seconds=0), 1),
    ],
)
def test_a_race_goes_on_for_its_time_within_its_bounds(rounds: Rounds, expected: int) -> None:
    time = FakeTime()
    assert race({"a": time.contestant("a", [1.0] * 99)}, rounds, time.clock, lambda _: None).rounds == expected


def test_the_geometric_mean_is_that_of_ratios() -> None:
    assert geometric_mean([0.25, 4.0]) == 1
    assert geometric_mean([0.5, 0.5, 4.0]) == 1
