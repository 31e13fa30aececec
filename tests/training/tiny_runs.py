"""A run that takes a fraction of a second, and everything that it ends with."""

from dataclasses import replace

import numpy as np

from npformer.component import flatten
from npformer.training import Data, Run, Settings, load_digits

TINY = Settings(
    patch_size=4,
    num_layers=2,
    d_model=8,
    num_heads=2,
    d_ff=8,
    epochs=2,
    batch_size=48,
    learning_rate=3e-3,
    dropout=0.2,
    shift=1,
    flip=True,
)


def few_digits(count: int = 200) -> Data:
    data = load_digits()
    return replace(
        data,
        train_images=data.train_images[:count],
        train_labels=data.train_labels[:count],
        test_images=data.test_images[:50],
        test_labels=data.test_labels[:50],
    )


DATA = few_digits()


def bits(run: Run) -> dict[str, bytes]:
    """Return all that a run ends with."""
    arrays = flatten({"parameters": run.model.parameters(), "optimizer": run.optimizer.state()})
    kept = {name: np.asarray(array).tobytes() for name, array in (arrays | run.history.arrays()).items()}
    return kept | {"score": str(run.score()).encode()}


def finish(run: Run) -> Run:
    for _ in run.steps():
        pass
    return run
