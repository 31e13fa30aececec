"""Masks say who may attend to whom: 1 = may, 0 = may not; rows are queries, columns keys; combine with ``&``."""

from __future__ import annotations

import numpy as np

from npformer.component import Array
from npformer.shapes import check_count, check_range, check_tokens


def subsequent_mask(size: int) -> Array:
    """Return the causal mask: each position may attend to itself and to those before it.

    Parameters
    ----------
    size : int
        Number of tokens T.

    Returns
    -------
    uint8 array (1, size, size)
        The lower triangle is 1.

    References
    ----------
    Vaswani et al. 2017, "Attention Is All You Need", section 3.2.3.

    Examples
    --------
    >>> subsequent_mask(3)
    array([[[1, 0, 0],
            [1, 1, 0],
            [1, 1, 1]]], dtype=uint8)
    """
    size = check_count("size", size)
    return 1 - np.triu(np.ones((1, size, size), dtype=np.uint8), k=1)


def padding_mask(tokens: Array, pad: int = 0) -> Array:
    """Return the mask that hides padding keys from every query of every head.

    Parameters
    ----------
    tokens : integer array (batch, T)
    pad : int
        The token that stands for "nothing here".

    Returns
    -------
    uint8 array (batch, 1, 1, T)

    Examples
    --------
    >>> padding_mask(np.array([[5, 7, 0], [6, 0, 0]]))[:, 0, 0]
    array([[1, 1, 0],
           [1, 0, 0]], dtype=uint8)
    """
    check_tokens("tokens", tokens, "batch, T")
    check_count("pad", pad, least=-(2**63))
    real: Array = tokens != pad
    return real[:, None, None, :].astype(np.uint8)


def length_mask(lengths: Array, size: int) -> Array:
    """Return the padding mask of sequences of these lengths, padded to `size` tokens.

    Parameters
    ----------
    lengths : integer array (batch,)
        Real tokens of each sequence, in 0..size.
    size : int
        Tokens after padding, T.

    Returns
    -------
    uint8 array (batch, 1, 1, T)

    Examples
    --------
    >>> length_mask(np.array([2, 1]), 3)[:, 0, 0]
    array([[1, 1, 0],
           [1, 0, 0]], dtype=uint8)
    """
    size = check_count("size", size)
    check_tokens("lengths", lengths, "batch")
    check_range("lengths", lengths, 0, size)
    return (np.arange(size) < lengths[:, None])[:, None, None, :].astype(np.uint8)
