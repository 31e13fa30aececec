"""The mask of a decoder (Vaswani et al. 2017, section 3.1): each position may attend to itself and to those before it.

Return an array of integers or booleans of shape (1, size, size). Rows are queries, columns are keys, and an entry is 1
(or True) where the query may attend to the key, 0 where it may not. The first axis is there for the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from npformer.component import Array
from npformer.exercises.quoting import kind_of
from npformer.exercises.task import Call, ForwardTask


def subsequent_mask(size: int) -> Array:
    """Return the mask (1, size, size)."""
    future = np.triu(np.ones((1, size, size), np.uint8), k=1)  # 1 where the key comes after the query
    return 1 - future


def calls(seed: int) -> Iterator[tuple[str, Call]]:
    for size in (3, 1, 2, 6):
        yield f"size {size}", Call((size,))


def look(result: Any, size: int) -> dict[str, Array]:
    if not isinstance(result, np.ndarray) or result.dtype.kind not in "biu":
        raise TypeError(
            f"subsequent_mask must return an array of integers or booleans, but it returned {kind_of(result)}"
        )
    return {"mask": result}


def own_position_hidden(size: int) -> Array:
    """The diagonal is 0, so that no position may attend to itself, and the first to none at all."""
    return np.tril(np.ones((1, size, size), np.uint8), k=-1)


def next_position_open(size: int) -> Array:
    """The diagonal above the main one is 1, so that each position sees the one that it is to predict."""
    return np.tril(np.ones((1, size, size), np.uint8), k=1)


def transposed(size: int) -> Array:
    """Rows and columns are exchanged: each position attends to itself and to those after it."""
    return np.triu(np.ones((1, size, size), np.uint8))


def inverted(size: int) -> Array:
    """1 and 0 are exchanged: the mask says what is hidden instead of what may be attended to."""
    return np.triu(np.ones((1, size, size), np.uint8), k=1)


def everything_open(size: int) -> Array:
    """Nothing is masked."""
    return np.ones((1, size, size), np.uint8)


def without_the_batch_axis(size: int) -> Array:
    """The first axis, which stands for the batch, is missing."""
    return np.tril(np.ones((size, size), np.uint8))


TASK = ForwardTask(
    name="subsequent_mask",
    title="The mask that hides the future",
    statement=__doc__,
    solution=subsequent_mask,
    blank="subsequent_mask",
    points=1,
    calls=calls,
    look=look,
    wrong=(own_position_hidden, next_position_open, transposed, inverted, everything_open, without_the_batch_axis),
    hints=(
        "Write the mask for size 3 on paper, row by row: what may the first position attend to, what the last?",
        "The entries that are 0 are those whose column is larger than their row.",
        "NumPy cuts triangles out of a matrix of ones: np.triu and np.tril. Their argument k moves the diagonal.",
    ),
    derivation="""
    Query i may attend to key j if j <= i. So row i has ones up to column i: a lower triangle with its diagonal.
    np.triu(ones, k=1) is what lies strictly above the diagonal, the future, and 1 minus that is the mask.
    """,
)
