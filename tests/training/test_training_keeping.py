"""When a run is saved, and when a line is printed, by a clock that the tests turn."""

import itertools
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import DATA, TINY

from npformer.training import Run, Step
from npformer.training.keeping import Keeper
from npformer.training.progress import Lines, make_progress


class Clock:
    """A clock that moves when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


class CountedRun(Run):
    """A run whose checkpoints take as long as they are said to."""

    number = 0  # of the step
    saved_after: list[int]
    cost: float
    clock: Clock

    def save(self, path: object) -> None:
        self.saved_after.append(self.number)
        self.clock.now += self.cost


def saved_after(clock: Clock, path: Path, cost: float, seconds: float, steps: int) -> list[int]:
    """Return the steps after which a run is saved, which take so many seconds each; five are an epoch."""
    run = CountedRun(DATA, TINY)
    run.saved_after, run.cost, run.clock = [], cost, clock
    keeper = Keeper(run, str(path))
    for run.number in range(1, steps + 1):
        clock.now += seconds
        keeper.after(Step(run.number, 0.0, np.empty(0), np.empty(0), {}, 0.0, 0.0))
    return run.saved_after


@pytest.mark.parametrize("seconds", [0.001, 0.3, 7.0])  # of a step
@pytest.mark.parametrize("cost", [0.0001, 0.02, 1.0])  # of a checkpoint, in seconds
def test_checkpoints_are_often_and_cost_little(tmp_path: Path, clock: Clock, seconds: float, cost: float) -> None:
    steps = 2000
    saved = saved_after(clock, tmp_path / "run.npz", cost, seconds, steps)
    assert saved[0] == 0  # whether the file can be written is known before the first step
    assert (len(saved) - 1) * cost <= 0.01 * steps * seconds
    longest = max(after - before for before, after in zip(saved, [*saved[1:], steps], strict=True)) * seconds
    assert longest <= max(100 * cost, min(5.0, 5 * seconds)) + 5 * seconds


def test_checkpoints_come_at_the_end_of_each_epoch_and_every_five_seconds(tmp_path: Path, clock: Clock) -> None:
    assert saved_after(clock, tmp_path / "run.npz", 0.001, 0.5, 20) == [0, 5, 10, 15, 20]
    assert saved_after(clock, tmp_path / "run.npz", 0.001, 2.0, 10) == [0, 3, 5, 8, 10]


def test_lines_come_each_epoch_and_every_ten_seconds_with_the_time_left(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(DATA, TINY)
    progress = make_progress(run, silent=False)
    assert isinstance(progress, Lines)
    for seconds, _ in zip([1, 1, 9, 1, 1, 30, 1, 1, 1, 1], run.steps(), strict=True):
        clock.now += seconds
        progress.show()
    words = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [(line[1], line[3], " ".join(line[8:])) for line in words] == [
        ("1/2", "3", "26 s left"),
        ("1/2", "5", "13 s left"),
        ("2/2", "6", "29 s left"),
        ("2/2", "10", "0 s left"),
    ]
    history, images = run.history, [48, 48, 48, 48, 8]
    assert words[0][5] == f"{sum(history.loss[:3]) / 3:.4f}"  # the mean is over the epoch so far
    assert words[1][5] == f"{np.dot(images, history.loss[:5]) / 200:.4f}"  # and over images, not over batches
    assert words[2][5] == f"{history.loss[5]:.4f}"
    assert words[3][7] == f"{np.dot(images, history.accuracy[5:]) / 200:.4f}"


def test_the_time_left_of_a_run_that_goes_on_is_that_of_its_own_steps(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(DATA, TINY)
    for _ in itertools.islice(run.steps(), 4):
        pass
    clock.now = 1000.0
    progress = Lines(run)
    for _ in itertools.islice(run.steps(), 2):
        clock.now += 20
        progress.show()
    lines = capsys.readouterr().out.splitlines()
    assert [" ".join(line.split()[8:]) for line in lines] == ["1 min 40 s left", "1 min 20 s left"]
