"""Learning rates: warm-up, peak, end and beyond, by hand."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from npformer.training import CosineSchedule, NoamSchedule


@pytest.mark.parametrize("warmup", [1, 7, 4000])
def test_noam_rises_in_a_line_to_its_peak_and_falls_with_the_root_of_the_step(warmup: int) -> None:
    schedule = NoamSchedule(d_model=64, warmup_steps=warmup, factor=3.0)
    peak = 3 / math.sqrt(64 * warmup)
    assert schedule(warmup) == pytest.approx(peak, rel=1e-15)  # a few roundings
    for step in {1, max(1, warmup // 2), warmup}:
        assert schedule(step) == pytest.approx(peak * step / warmup, rel=1e-15)
    for times in (4, 100):
        assert schedule(times * warmup) == pytest.approx(peak / math.sqrt(times), rel=1e-15)
    assert schedule(warmup + 1) < schedule(warmup)


def test_noam_in_the_numbers_of_its_paper() -> None:
    """The base model: d_model 512, 4000 steps of warm-up; the peak is 1 / √(512 · 4000)."""
    schedule = NoamSchedule(512, 4000)
    assert schedule(4000) == pytest.approx(6.9877e-4, rel=1e-5)  # the number is given to 5 digits
    assert schedule(1) == pytest.approx(1.7469e-7, rel=1e-4)


def test_cosine_at_every_landmark() -> None:
    schedule = CosineSchedule(peak=0.5, total_steps=49, warmup_steps=10, floor=0.125)
    assert [schedule(step) for step in (1, 5, 10)] == [0.05, 0.25, 0.5]
    assert schedule(30) == pytest.approx((0.5 + 0.125) / 2, rel=1e-15)  # half-way of the cosine
    assert schedule(20) == pytest.approx(0.125 + 0.375 * (1 + math.sqrt(0.5)) / 2, rel=1e-15)
    assert [schedule(step) for step in (50, 51, 10**9)] == [0.125] * 3
    rates = [schedule(step) for step in range(1, 51)]
    assert rates == sorted(rates[:10]) + sorted(rates[10:], reverse=True)
    assert len(set(rates[9:])) == 41  # strictly: the last of the 49 steps is above the floor


@pytest.mark.parametrize("warmup_steps", [0, 1])
def test_cosine_without_warm_up_starts_at_the_peak_and_no_step_is_taken_in_vain(warmup_steps: int) -> None:
    schedule = CosineSchedule(peak=2.0, total_steps=4, warmup_steps=warmup_steps)
    assert [schedule(step) for step in (1, 2, 3, 4)] == pytest.approx(
        [2.0, 1 + math.sqrt(0.5), 1.0, 1 - math.sqrt(0.5)], rel=1e-15
    )
    assert schedule(5) == 0.0


def test_a_run_of_one_step_takes_it_at_the_peak() -> None:
    assert CosineSchedule(peak=2.0, total_steps=1)(1) == 2.0


def test_schedules_with_the_same_settings_are_equal() -> None:
    assert CosineSchedule(0.1, 10) == CosineSchedule(0.1, 10, warmup_steps=0)
    assert len({NoamSchedule(8, 10), NoamSchedule(8, 10), NoamSchedule(8, 11)}) == 2


ANYTHING: dict[str, Any] = {"float": 1.5, "flag": True, "text": "a"}
BAD_CALLS: list[tuple[Callable[[], Any], str]] = [
    (lambda: NoamSchedule(0, 10), "d_model must be at least 1, but it is 0"),
    (lambda: NoamSchedule(8, 0), "warmup_steps must be at least 1, but it is 0"),
    (lambda: NoamSchedule(8, 10, -1.0), "factor must lie in"),
    (lambda: NoamSchedule(8, 10)(0), "step must be at least 1, but it is 0"),
    (lambda: NoamSchedule(8, 10)(ANYTHING["float"]), "step must be a whole number, but it is a float"),
    (lambda: NoamSchedule(8, 10)(10**5000), "step must lie within .* but it is beyond that"),
    (lambda: CosineSchedule(10**400, 10), "peak must lie within .* but it is beyond that"),
    (lambda: CosineSchedule(math.nan, 10), "peak must lie in"),
    (lambda: CosineSchedule(ANYTHING["text"], 10), "peak must be a number, but it is a str"),
    (lambda: CosineSchedule(0.1, 0), "total_steps must be at least 1, but it is 0"),
    (lambda: CosineSchedule(0.1, ANYTHING["flag"]), "total_steps must be a whole number, but it is a bool"),
    (lambda: CosineSchedule(0.1, 10, -1), "warmup_steps must be at least 0, but it is -1"),
    (lambda: CosineSchedule(0.1, 10, 10), "warmup_steps must be below total_steps=10, but it is 10"),
    (lambda: CosineSchedule(0.1, 10, 0, -0.1), "floor must lie in"),
    (lambda: CosineSchedule(0.1, 10, 0, 0.2), "floor must be at most peak=0.1, but it is 0.2"),
    (lambda: CosineSchedule(0.1, 10)(0), "step must be at least 1, but it is 0"),
]


@pytest.mark.parametrize(("call", "sentence"), BAD_CALLS)
def test_bad_calls_are_refused(call: Callable[[], Any], sentence: str) -> None:
    with pytest.raises((TypeError, ValueError), match=sentence):
        call()
