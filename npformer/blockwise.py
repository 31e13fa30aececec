"""Scaled dot-product attention for long sequences: block by block, without a matrix of all scores."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from npformer.attention import MASKED_SCORE, check_triple
from npformer.component import Array, Component, Tree
from npformer.dropout import Dropout, RandomSource, draw, rewound_on_error
from npformer.shapes import check_choice, check_grad, check_mask_fits, check_number, check_pair

DRAWN = 2**17  # random numbers at a time, but at least those of a row
Bools = npt.NDArray[np.bool_]
Block = tuple[int | slice, ...]  # indices of a head, and some of its rows


class BlockwiseAttention(Component):
    """The numbers of ScaledDotProductAttention, without ever holding a T_q x T_k matrix.

    Forward meets the keys in blocks, and keeps of each row the softmax's maximum and sum so far (online softmax:
    Milakov and Gimelshein 2018, algorithm 3; in attention: Rabe and Staats 2021; Dao et al. 2022, algorithm 1). What
    was added up under an old maximum shrinks when a block has a larger one:

        scores  = scale * query keyᵀ of the block,  and -1e9 where the mask is 0
        new_max = max(row_max, max_j scores_j)
        powers  = exp(scores - new_max)
        row_sum = exp(row_max - new_max) row_sum + Σ_j powers_j
        total   = exp(row_max - new_max) total   + Σ_j kept_j powers_j value_j
        output  = total / row_sum / (1 - p)   after the last block, with p and kept from dropout

    Backward makes the powers again, block by block, from row_max. The quotient's gradient needs only a dot product
    of each row, delta (Dao et al. 2022, section B.2), and row_max cancels in it:

        grad_total   = grad_output / row_sum / (1 - p)
        delta        = -grad_row_sum = (grad_output · output) / row_sum
        grad_value_j = Σ_i kept_ij powers_ij grad_total_i
        grad_scores  = mask * powers * (kept * grad_total valueᵀ - delta)
        grad_query   = scale * grad_scores key,   a sum over the blocks of keys
        grad_key     = scale * grad_scoresᵀ query,   a sum over the blocks of queries

    Maximum and sum stay apart: row_max + log(row_sum), which kernels save, loses the sum of a fully masked row.

    Parameters
    ----------
    dropout, fully_masked, scale
        As in ScaledDotProductAttention.
    block_size : (int, int)
        How many queries meet how many keys at a time.

    `forward(query, key, value, mask=None, rng=None)` and `backward` take and return what those of
    ScaledDotProductAttention do, with the same masks, fully masked rows and dropout. The cache holds query, key,
    value, output, row_max and row_sum (..., T_q), and the mask as it was given. Dropout keeps no mask there but a copy
    of the Generator from before it drew. Of a random source of another kind, which can be asked only once, the whole
    mask is drawn and kept.

    Raises
    ------
    ValueError, TypeError
        Where ScaledDotProductAttention does; or if block_size is no pair of whole numbers of at least 1.

    Examples
    --------
    >>> query, key, value = np.random.default_rng(0).standard_normal((3, 2, 100, 8))
    >>> output, cache = BlockwiseAttention(block_size=(50, 32)).forward(query, key, value)
    >>> cache["row_max"].shape
    (2, 100)
    >>> from npformer import ScaledDotProductAttention
    >>> bool(np.abs(output - ScaledDotProductAttention()(query, key, value)).max() < 1e-14)
    True
    """

    def __init__(
        self,
        dropout: float = 0.0,
        fully_masked: str = "uniform",
        scale: float | None = None,
        block_size: tuple[int, int] = (1024, 512),
    ):
        self.dropout = Dropout(dropout)
        self.zero_fully_masked = check_choice("fully_masked", fully_masked, {"uniform": False, "zero": True})
        self.scale = scale if scale is None else check_number("scale", scale, -math.inf, open_low=True)
        self.block_size = check_pair("block_size", block_size, "queries, keys")

    def forward(
        self, query: Array, key: Array, value: Array, mask: Array | None = None, rng: RandomSource | None = None
    ) -> tuple[Array, Tree]:
        check_triple(query, key, value)
        shape = (*query.shape[:-1], key.shape[-2])
        cache: Tree = {"query": query, "key": key, "value": value}
        if mask is not None:
            check_mask_fits(mask, shape)
            cache["mask"] = mask
        cache["dropout"] = self._source(rng, shape)
        dtype = np.result_type(query, key, value)
        cache["output"] = output = np.empty((*query.shape[:-1], value.shape[-1]), dtype)
        cache["row_max"] = np.empty(query.shape[:-1], dtype.type(0).real.dtype)
        lowest = np.finfo(dtype).min / 2  # finite, so that a first block of scores that are all -inf leaves no NaN
        cache["row_sum"] = np.empty(query.shape[:-1], dtype)
        buffer = self._buffer(query, shape, dtype)
        with rewound_on_error(rng):
            for block, kept in self._blocks_of_queries(shape, cache["dropout"], rng):
                scaled_query = self._scale(query) * query[block]
                T = len(scaled_query)
                row_max = np.full((T, 1), lowest)
                row_sum, total = np.zeros((T, 1), dtype), np.zeros((T, value.shape[-1]), dtype)
                for columns in _slices(shape[-1], self.block_size[1]):
                    others = (*block[:-1], columns)
                    hidden = _hidden(mask, shape, block, columns)
                    scores = _scores(scaled_query, key[others], hidden, buffer)
                    new_max = np.maximum(row_max, scores.real.max(-1, keepdims=True))
                    scores -= new_max
                    powers = np.exp(scores, out=scores)
                    shrink = np.exp(row_max - new_max)
                    row_sum = shrink * row_sum + powers @ np.ones((powers.shape[1], 1), dtype)  # powers.sum(-1), faster
                    if kept is not None:
                        powers *= kept[:, columns]
                    total = shrink * total + powers @ value[others]
                    row_max = new_max
                cache["row_max"][block], cache["row_sum"][block] = row_max[:, 0], row_sum[:, 0]
                output[block] = total * self._normaliser(cache, shape, block)
        return output, cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[tuple[Array, Array, Array], Tree]:
        query, key, value, output = (cache[name] for name in ("query", "key", "value", "output"))
        check_grad(grad_output, output.shape)
        shape = (*query.shape[:-1], key.shape[-2])
        dtype = np.result_type(query.dtype, key.dtype, value.dtype, grad_output.dtype)
        grad_query, grad_key, grad_value = (np.zeros_like(array, dtype, subok=False) for array in (query, key, value))
        buffer, grad_buffer = self._buffer(query, shape, dtype), self._buffer(query, shape, dtype)
        rng = copy.deepcopy(cache["dropout"].get("rng"))
        for block, kept in self._blocks_of_queries(shape, cache["dropout"], rng):
            scaled_query = self._scale(query) * query[block]
            grad_total = grad_output[block] * self._normaliser(cache, shape, block)
            delta = np.einsum("ij,ij->i", grad_output[block], output[block]) / cache["row_sum"][block]
            for columns in _slices(shape[-1], self.block_size[1]):
                others = (*block[:-1], columns)
                hidden = _hidden(cache.get("mask"), shape, block, columns)
                scores = _scores(scaled_query, key[others], hidden, buffer)
                scores -= cache["row_max"][block][:, None]
                powers = np.exp(scores, out=scores)
                grad_scores = _product(grad_total, value[others].T, grad_buffer)
                if kept is not None:
                    grad_scores *= kept[:, columns]
                grad_scores -= delta[:, None]
                grad_scores *= powers
                if hidden is not None:
                    grad_scores[hidden] = 0
                if kept is not None:
                    powers *= kept[:, columns]
                grad_value[others] += powers.T @ grad_total
                grad_query[block] += self._scale(query) * (grad_scores @ key[others])
                grad_key[others] += grad_scores.T @ scaled_query
        return (grad_query, grad_key, grad_value), {"dropout": {}}

    def _scale(self, query: Array) -> float:
        return 1 / math.sqrt(query.shape[-1]) if self.scale is None else self.scale

    def _normaliser(self, cache: Tree, shape: tuple[int, ...], block: Block) -> Array:
        """Return 1 / row_sum / (1 - p) for some queries of a head, and 0 for a fully masked one that is to be zero."""
        p = self.dropout.p if cache["dropout"] else 0.0
        normaliser: Array = (1 / (1 - p)) / cache["row_sum"][block][:, None]
        if "mask" in cache and self.zero_fully_masked:
            normaliser = normaliser * np.broadcast_to(cache["mask"], shape)[block].any(-1, keepdims=True)
        return normaliser

    def _buffer(self, like: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return room for the scores of a block: new memory for each takes as long as what is computed there."""
        size = min(self.block_size[0], shape[-2]), min(self.block_size[1], shape[-1])
        return np.zeros_like(like, dtype, shape=size)

    def _source(self, rng: RandomSource | None, shape: tuple[int, ...]) -> Tree:
        """Return what backward needs to drop the same weights again."""
        if not self.dropout.draws_from(rng):
            return {}
        if type(rng) is np.random.Generator:
            return {"rng": copy.deepcopy(rng)}
        return {"mask": draw(rng, shape) >= self.dropout.p}

    def _blocks_of_queries(
        self, shape: tuple[int, ...], source: Tree, rng: RandomSource | None
    ) -> Iterator[tuple[Block, Bools | None]]:
        """Yield the index of some queries of a head and which of their weights dropout keeps, in the order of draws."""
        *leading, T_q, T_k = shape
        for head in np.ndindex(*leading):
            for rows in _slices(T_q, self.block_size[0]):
                kept = None
                if "mask" in source:
                    kept = source["mask"][(*head, rows)]
                elif source and rng is not None:
                    kept = np.empty((rows.stop - rows.start, T_k), bool)
                    for few in _slices(len(kept), max(1, DRAWN // T_k)):  # the same numbers as all at once
                        kept[few] = rng.random(kept[few].shape) >= self.dropout.p
                yield (*head, rows), kept


def _slices(size: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, size)) for start in range(0, size, step)]


def _product(left: Array, right: Array, buffer: Array) -> Array:
    product: Array = np.matmul(left, right, out=buffer[: left.shape[0], : right.shape[1]])
    return product


def _scores(scaled_query: Array, key: Array, hidden: Bools | None, buffer: Array) -> Array:
    scores = _product(scaled_query, key.T, buffer)
    if hidden is not None:
        scores[hidden] = MASKED_SCORE
    return scores


def _hidden(mask: Array | None, shape: tuple[int, ...], block: Block, columns: slice) -> Bools | None:
    """Return which scores of a block are masked, or None if none is; the mask itself is never copied or expanded."""
    if mask is None:
        return None
    part = np.broadcast_to(mask, shape)[block][:, columns]
    distinct = part[tuple(slice(None) if stride else slice(1) for stride in part.strides)]  # the others repeat these
    hidden = distinct == 0
    return np.broadcast_to(hidden, part.shape) if hidden.any() else None
