"""The optimizers that are tested, and trees of numbers for them."""

from collections.abc import Callable

import numpy as np
import pytest

from npformer import flatten
from npformer.component import Array, Tree
from npformer.training import SGD, Adam, AdamW, Optimizer

Make = Callable[[], Optimizer]
OPTIMIZERS: dict[str, Make] = {
    "SGD": lambda: SGD(0.1),
    "momentum": lambda: SGD(0.1, momentum=0.9),
    "Adam": lambda: Adam(0.1, betas=(0.8, 0.9), eps=1e-3),
    "AdamW": lambda: AdamW(0.1, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.3),
}
every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def numbers(seed: int, dtype: type = np.float64) -> Tree:
    """A tree of parameters, or of gradients; one array lies in memory by columns, as the gradient of a Linear does."""
    rng = np.random.default_rng(seed)
    matrix: Array = rng.standard_normal((4, 3)).astype(dtype)
    vector: Array = rng.standard_normal(4).astype(dtype)
    return {"linear": {"weight": matrix.T, "bias": vector}, "dropout": {}, "scale": np.array(2.0, dtype)}


def bits(tree: Tree) -> dict[str, bytes]:
    return {name: np.asarray(array).tobytes() for name, array in flatten(tree).items()}


def take_steps(optimizer: Optimizer, parameters: Tree, seeds: range, dtype: type = np.float64) -> Tree:
    for seed in seeds:
        optimizer.step(parameters, numbers(seed, dtype))
    return parameters
