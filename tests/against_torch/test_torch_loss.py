"""The losses against PyTorch's."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch_compare import DType, both_dtypes, run_both

from npformer import CrossEntropy, MeanSquaredError
from npformer.component import Array

pytestmark = both_dtypes

V = 7


def check(logits: Array, targets: Array, smoothing: float, ignore_index: int | None, dtype: DType) -> None:
    def reference(x: Tensor, wanted: Tensor) -> Tensor:
        ignored = torch.iinfo(torch.int64).min if ignore_index is None else ignore_index
        rows, classes = x.reshape(-1, x.shape[-1]), wanted.reshape(-1)  # PyTorch has the classes on axis 1
        return functional.cross_entropy(rows, classes, label_smoothing=smoothing, ignore_index=ignored)

    run_both(CrossEntropy(smoothing, ignore_index), reference, {}, [logits, targets], dtype).check()


@pytest.mark.parametrize("size", [1e-3, 1, 30])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("shape", [(), (4,), (3, 4)])
def test_cross_entropy(shape: tuple[int, ...], smoothing: float, size: float, dtype: DType) -> None:
    rng = np.random.default_rng(3)  # a target alone must not be the largest logit: its loss would be that of rounding
    logits, targets = size * rng.standard_normal((*shape, V)), rng.integers(0, V, shape)
    check(logits, np.asarray(targets), smoothing, None, dtype)


@pytest.mark.parametrize("ignore_index", [-100, 2])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_ignored_positions(smoothing: float, ignore_index: int, dtype: DType) -> None:
    rng = np.random.default_rng(1)
    logits, targets = rng.standard_normal((3, 5, V)), rng.integers(0, V, (3, 5))
    targets[:, 1:3] = ignore_index
    targets[1] = ignore_index
    check(logits, targets, smoothing, ignore_index, dtype)


def test_one_position_that_counts(dtype: DType) -> None:
    targets = np.full((3, 5), -100)
    targets[2, 1] = 4
    check(np.random.default_rng(2).standard_normal((3, 5, V)), targets, 0.1, -100, dtype)


@pytest.mark.parametrize("size", [1e-3, 1, 1e3])
@pytest.mark.parametrize("shape", [(), (5,), (3, 5), (2, 3, 5)])
def test_mean_squared_error(shape: tuple[int, ...], size: float, dtype: DType) -> None:
    rng = np.random.default_rng(4)
    predictions, targets = size * rng.standard_normal((2, *shape))
    run_both(MeanSquaredError(), functional.mse_loss, {}, [np.asarray(predictions), np.asarray(targets)], dtype).check()
