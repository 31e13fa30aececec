"""When a training run is saved."""

from __future__ import annotations

import time
from pathlib import Path

from npformer.replacement import remove_leftovers
from npformer.training.loop import Step
from npformer.training.run import Run
from npformer.training.saved_run import check_suffix

SECONDS = 5.0  # at most between two checkpoints
REST = 100  # times what a checkpoint took must pass until the next one, so that they take 1 % of the time at most


class Keeper:
    """Saves a run at once, so that a file that cannot be written is found before the training, and then now and then.

    Parameters
    ----------
    run : Run
    path : str
        An .npz file, which is replaced.
    every : int, optional
        Steps from one checkpoint to the next. Without it, the clock decides: at the end of an epoch and every 5
        seconds, as long as that takes no more than 1 % of the time.
    """

    def __init__(self, run: Run, path: str, every: int | None = None):
        self.run = run
        self.path = check_suffix(path)
        self.every = every
        remove_leftovers(Path(path))
        self.save()

    def save(self) -> None:
        """Write the checkpoint now."""
        start = time.perf_counter()
        self.run.save(self.path)
        self.saved_at = time.perf_counter()
        self.cost = self.saved_at - start

    def after(self, step: Step) -> None:
        """Write the checkpoint if it is time to."""
        if self._is_due(step.number):
            self.save()

    def _is_due(self, number: int) -> bool:
        if self.every is not None:
            return number % self.every == 0
        rested = time.perf_counter() - self.saved_at
        return rested > REST * self.cost and (number % self.run.steps_per_epoch == 0 or rested > SECONDS)
