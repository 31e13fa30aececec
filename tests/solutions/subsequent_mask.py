"""Other ways to make the mask that hides the future."""

import numpy as np

from npformer.component import Array
from solutions.registry import solves


@solves("subsequent_mask")
def lower_triangle(size: int) -> Array:
    return np.tril(np.ones((1, size, size), np.uint8))


@solves("subsequent_mask")
def compared_positions(size: int) -> Array:
    positions = np.arange(size)
    mask: Array = positions[None, None, :] <= positions[None, :, None]
    return mask


@solves("subsequent_mask")
def two_loops(size: int) -> Array:
    mask = np.zeros((1, size, size), dtype=np.int64)
    for row in range(size):
        for column in range(row + 1):
            mask[0, row, column] = 1
    return mask


@solves("subsequent_mask")
def row_by_row(size: int) -> Array:
    mask = np.zeros((1, size, size), bool)
    for row in range(size):
        mask[:, row, : row + 1] = True
    return mask


@solves("subsequent_mask")
def running_sum_turned_round(size: int) -> Array:
    return np.cumsum(np.eye(size, dtype=int), axis=0).T[::-1, ::-1].reshape(1, size, size)


@solves("subsequent_mask")
def lists_of_numbers(size: int) -> Array:
    return np.array([[[1 if column <= row else 0 for column in range(size)] for row in range(size)]])


@solves("subsequent_mask")
def future_set_to_zero(size: int) -> Array:
    mask = np.ones((1, size, size), np.uint8)
    mask[0][np.triu_indices(size, k=1)] = 0
    return mask


@solves("subsequent_mask")
def triangular_matrix(size: int) -> Array:
    return np.tri(size, dtype=bool)[np.newaxis]


@solves("subsequent_mask")
def inverted_future(size: int) -> Array:
    return ~np.triu(np.ones((size, size), bool), k=1)[None]


@solves("subsequent_mask")
def outer_comparison(size: int) -> Array:
    return np.greater_equal.outer(np.arange(size), np.arange(size)).astype(np.int32)[None, ...]


@solves("subsequent_mask")
def from_a_function(size: int) -> Array:
    mask: Array = np.fromfunction(lambda batch, query, key: batch + query >= key, (1, size, size), dtype=int)
    return mask
