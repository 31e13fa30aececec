"""What a training run shows while it lasts: a bar on a terminal, or else lines."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import Self, TextIO

import numpy as np

from npformer.training.run import Run

SECONDS = 10.0  # at most from one line to the next


class Progress(AbstractContextManager["Progress"]):
    """Shows nothing; the siblings show loss and accuracy over the epoch so far, as `epoch_means`, and the time left."""

    def __init__(self, run: Run):
        self.run = run

    def show(self) -> None:
        """Show the run as it is after a step."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the last state as it is."""

    def epoch(self) -> tuple[int, float, float]:
        """Return the number of the epoch that was last worked on, its loss and its accuracy so far."""
        index = (len(self.run.history) - 1) // self.run.steps_per_epoch
        return index + 1, *epoch_means(self.run, index)


class Lines(Progress):
    """A line for each epoch, and one every ten seconds."""

    def __init__(self, run: Run):
        super().__init__(run)
        self.first = len(run.history)
        self.start = self.printed_at = time.perf_counter()

    def show(self) -> None:
        run, now = self.run, time.perf_counter()
        done = len(run.history)
        if done % run.steps_per_epoch and now - self.printed_at < SECONDS:
            return
        self.printed_at = now
        number, loss, accuracy = self.epoch()
        left = (now - self.start) / (done - self.first) * (run.total_steps - done)
        width = len(str(run.settings.epochs))
        print(
            f"epoch {number:>{width}}/{run.settings.epochs}  step {done:>{len(str(run.total_steps))}}  "
            f"loss {loss:.4f}  accuracy {accuracy:.4f}  {format_seconds(left)} left",
            flush=True,
        )


class Bar(Progress):
    """A bar of the package tqdm, on stderr, in one line of 80 columns; ImportError if that cannot be imported."""

    FORMAT = "{desc} {percentage:3.0f}%|{bar}| {n}/{total}, {remaining} left{postfix}"

    def __init__(self, run: Run):
        from tqdm import tqdm

        super().__init__(run)
        self.bar = tqdm(total=run.total_steps, initial=len(run.history), bar_format=self.FORMAT, dynamic_ncols=True)

    def show(self) -> None:
        number, loss, accuracy = self.epoch()
        self.bar.set_description_str(f"epoch {number}/{self.run.settings.epochs}", refresh=False)
        self.bar.set_postfix_str(f"loss {loss:.4f}, accuracy {accuracy:.4f}", refresh=False)
        self.bar.update()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the bar as it is, and begin a new line."""
        self.bar.close()


def make_progress(run: Run, silent: bool) -> Progress:
    """Return a bar if a person looks at a terminal and tqdm can be imported, and else lines, or nothing if silent.

    With `silent`, stdout is for other things; the bar, which goes to stderr, does not disturb them.
    """
    if _is_terminal(sys.stderr) and (silent or _is_terminal(sys.stdout)):
        with suppress(ImportError):
            return Bar(run)
    return Progress(run) if silent else Lines(run)


def epoch_means(run: Run, index: int) -> tuple[float, float]:
    """Return the loss and the accuracy of an epoch, which counts from 0, so far: each the mean over its images.

    The last batch may be smaller than the others, so the mean of the batches would be another one.
    """
    history, length, N = run.history, run.steps_per_epoch, len(run.data.train_labels)
    this = slice(index * length, (index + 1) * length)
    loss, accuracy, size = history.loss[this], history.accuracy[this], min(run.settings.batch_size, N)
    images = np.minimum(size, N - size * np.arange(len(loss)))
    return float(np.average(loss, weights=images)), float(np.average(accuracy, weights=images))


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()  # it is None where it was closed before the start


def format_seconds(seconds: float) -> str:
    """Return a time as it is read at a glance.

    Examples
    --------
    >>> format_seconds(7.4), format_seconds(605)
    ('7 s', '10 min 05 s')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
