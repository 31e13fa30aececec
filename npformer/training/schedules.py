"""Learning rates that change over training: functions of the number of the step, which counts from 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from npformer.shapes import check_count, check_number

Schedule = Callable[[int], float]


@dataclass(frozen=True)
class NoamSchedule:
    """Warm-up, then the inverse square root of the step (Vaswani et al. 2017, eq. 3).

        rate = factor · d_model^(-1/2) · min(step^(-1/2), step · warmup_steps^(-3/2))

    The two branches meet at step = warmup_steps, where the rate is highest: factor / √(d_model · warmup_steps).

    Raises
    ------
    TypeError, ValueError
        If a size or a step is no whole number of at least 1, or the factor is negative.

    Examples
    --------
    >>> schedule = NoamSchedule(d_model=64, warmup_steps=100)
    >>> schedule(1), schedule(100), schedule(400)
    (0.000125, 0.0125, 0.00625)
    """

    d_model: int
    warmup_steps: int
    factor: float = 1.0

    def __post_init__(self) -> None:
        check_count("d_model", self.d_model)
        check_count("warmup_steps", self.warmup_steps)
        check_number("factor", self.factor, 0)

    def __call__(self, step: int) -> float:
        check_count("step", step)
        after_warm_up, in_warm_up = math.pow(step, -0.5), step * math.pow(self.warmup_steps, -1.5)
        return self.factor * math.pow(self.d_model, -0.5) * min(after_warm_up, in_warm_up)


@dataclass(frozen=True)
class CosineSchedule:
    """Linear warm-up to the peak, then half a cosine down to the floor (Loshchilov and Hutter 2017, eq. 5).

        rate = peak · step / warmup_steps                                 up to warmup_steps
        rate = floor + (peak - floor) · (1 + cos(π · progress)) / 2       after it

    progress goes from 0 at the peak, step max(1, warmup_steps), to 1 at step total_steps + 1, and stays there: the rate
    comes to the floor after the last step, so that none of them is taken in vain. Without warm-up, the rates are those
    that PyTorch's CosineAnnealingLR gives to its steps.

    Raises
    ------
    TypeError, ValueError
        If warmup_steps is not below total_steps, the floor is above the peak, or a number is no number or negative.

    Examples
    --------
    >>> schedule = CosineSchedule(peak=1.0, total_steps=30, warmup_steps=10)
    >>> [round(schedule(step), 3) for step in (1, 10, 17, 24, 30, 31)]
    [0.1, 1.0, 0.75, 0.25, 0.006, 0.0]
    """

    peak: float
    total_steps: int
    warmup_steps: int = 0
    floor: float = 0.0

    def __post_init__(self) -> None:
        check_number("peak", self.peak, 0)
        check_count("total_steps", self.total_steps)
        check_count("warmup_steps", self.warmup_steps, least=0)
        check_number("floor", self.floor, 0)
        if self.warmup_steps >= self.total_steps:
            raise ValueError(
                f"warmup_steps must be below total_steps={self.total_steps}, but it is {self.warmup_steps}"
            )
        if self.floor > self.peak:
            raise ValueError(f"floor must be at most peak={self.peak}, but it is {self.floor}")

    def __call__(self, step: int) -> float:
        top = max(1, self.warmup_steps)
        if check_count("step", step) <= top:
            return self.peak * step / top
        progress = min((step - top) / (self.total_steps + 1 - top), 1.0)
        return self.floor + (self.peak - self.floor) * (1 + math.cos(math.pi * progress)) / 2
