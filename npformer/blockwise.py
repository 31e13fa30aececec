"""Scaled dot-product attention for long sequences: block by block, without a matrix of all scores."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from npformer.attention import MASKED_SCORE, check_triple
from npformer.component import Array, Component, Tree
from npformer.dropout import Dropout, RandomSource, draw
from npformer.shapes import check_choice, check_count, check_grad, check_mask_fits, check_number

DRAWN = 2**17  # random numbers at a time, at least a row


class BlockwiseAttention(Component):
    """ScaledDotProductAttention that never holds a T_q x T_k matrix, but the same numbers.

    Forward goes through the keys in blocks, with the softmax's maximum and sum of each row so far (online softmax:
    Milakov and Gimelshein 2018, algorithm 3; for attention: Rabe and Staats 2021; Dao et al. 2022, algorithm 1).
    When a block raises a row's maximum m to m', what has been added up shrinks by exp(m - m'):

        m'       = max(m, max_j scores_j)
        row_sum' = exp(m - m') row_sum + Σ_j exp(scores_j - m')
        total'   = exp(m - m') total   + Σ_j dropped_j exp(scores_j - m') value_j
        output   = total / row_sum,   after the last block

    where dropped is the dropout mask divided by 1 - p, and a masked score is -1e9.

    Backward computes weights_ij = exp(scores_ij - row_max_i) / row_sum_i again, block by block. Softmax's backward
    subtracts a sum over the whole row, which the output already holds (Dao et al. 2022, section B.2):

        delta_i = Σ_j weights_ij grad_weights_ij = Σ_j weights_ij dropped_ij (grad_output_i · value_j)
                = grad_output_i · output_i

        grad_value_j   = Σ_i dropped_ij weights_ij grad_output_i
        grad_scores_ij = mask_ij weights_ij (dropped_ij grad_output_i · value_j - delta_i)
        grad_query_i   = scale Σ_j grad_scores_ij key_j
        grad_key_j     = scale Σ_i grad_scores_ij query_i

    The row's maximum and its sum are kept apart: their joint form, row_max + log(row_sum), would lose the sum of a
    fully masked row, whose maximum is -1e9.

    Parameters
    ----------
    dropout, fully_masked, scale
        As in ScaledDotProductAttention.
    block_size : int
        How many queries and keys meet at a time: a block of scores has the shape (block_size, block_size).

    `forward(query, key, value, mask=None, rng=None)` and `backward` are those of ScaledDotProductAttention, with the
    same masks, fully masked rows and dropout masks. The cache holds query, key, value, output, row_max and row_sum
    (..., T_q), and the mask as it was given; under "dropout" a copy of the Generator from before it drew, so that
    backward draws the same numbers again. Of a random source that is no Generator the whole dropout mask is kept.

    Raises
    ------
    ValueError, TypeError
        As ScaledDotProductAttention does; and if block_size is no whole number of at least 1.

    Examples
    --------
    >>> query, key, value = np.random.default_rng(0).standard_normal((3, 2, 100, 8))
    >>> output, cache = BlockwiseAttention(block_size=32).forward(query, key, value)
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
        block_size: int = 512,
    ):
        self.dropout = Dropout(dropout)
        self.zero_fully_masked = check_choice("fully_masked", fully_masked, {"uniform": False, "zero": True})
        self.scale = scale if scale is None else check_number("scale", scale, -math.inf, open_low=True)
        self.block_size = check_count("block_size", block_size)

    def forward(
        self, query: Array, key: Array, value: Array, mask: Array | None = None, rng: RandomSource | None = None
    ) -> tuple[Array, Tree]:
        check_triple(query, key, value)
        shape = (*query.shape[:-1], key.shape[-2])
        cache: Tree = {"query": query, "key": key, "value": value, "dropout": self._source(rng, mask, shape)}
        if mask is not None:
            cache["mask"] = mask
        dtype = np.result_type(query, key, value)
        output = np.empty((*query.shape[:-1], value.shape[-1]), dtype)
        row_max = np.empty(query.shape[:-1], dtype.type(0).real.dtype)
        row_sum = np.empty(query.shape[:-1], dtype)
        for head, rows, kept in self._query_blocks(shape, cache["dropout"], rng):
            scaled_query = self._scale(query) * query[head][rows]
            highest = np.full((len(scaled_query), 1), -np.inf, row_max.dtype)
            weight: Array = np.zeros_like(highest, dtype)
            total: Array = np.zeros(output[head][rows].shape, dtype)
            for columns in _slices(key.shape[-2], self.block_size):
                scores = _scores(scaled_query, key[head][columns], _block_of(mask, head, rows, columns))
                higher = np.maximum(highest, scores.real.max(-1, keepdims=True))
                weights = np.exp(scores - higher)
                shrink = np.exp(highest - higher)
                weight = shrink * weight + weights.sum(-1, keepdims=True)
                if kept is not None:
                    weights *= kept[:, columns]
                total = shrink * total + weights @ value[head][columns]
                highest = higher
            row_max[head][rows], row_sum[head][rows] = highest[:, 0], weight[:, 0]
            output[head][rows] = total * self._normaliser(weight, mask, head, rows, kept)
        cache |= {"output": output, "row_max": row_max, "row_sum": row_sum}
        return output, cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[tuple[Array, Array, Array], Tree]:
        query, key, value, output = (cache[name] for name in ("query", "key", "value", "output"))
        check_grad(grad_output, output.shape)
        mask = cache.get("mask")
        shape = (*query.shape[:-1], key.shape[-2])
        grad_query, grad_key, grad_value = np.zeros_like(query), np.zeros_like(key), np.zeros_like(value)
        for head, rows, kept in self._query_blocks(shape, cache["dropout"], copy.deepcopy(cache["dropout"].get("rng"))):
            scaled_query = self._scale(query) * query[head][rows]
            highest, weight = cache["row_max"][head][rows][:, None], cache["row_sum"][head][rows][:, None]
            normaliser = self._normaliser(weight, mask, head, rows, kept)
            grad_rows = grad_output[head][rows]
            delta = np.einsum("ij,ij->i", grad_rows, output[head][rows])[:, None] / weight
            grad_rows = grad_rows * normaliser  # so that weights need neither 1 / row_sum nor dropout's 1 / (1 - p)
            for columns in _slices(key.shape[-2], self.block_size):
                block = (*head, columns)
                may_attend = _block_of(mask, head, rows, columns)
                weights = np.exp(_scores(scaled_query, key[block], may_attend) - highest)
                grad_scores = grad_rows @ value[block].T
                dropped = weights
                if kept is not None:
                    dropped = weights * kept[:, columns]
                    grad_scores = grad_scores * kept[:, columns]
                grad_value[block] += dropped.T @ grad_rows
                grad_scores = weights * (grad_scores - delta)
                if may_attend is not None:
                    grad_scores = grad_scores * (may_attend != 0)
                grad_query[(*head, rows)] += self._scale(query) * (grad_scores @ key[block])
                grad_key[block] += grad_scores.T @ scaled_query
        return (grad_query, grad_key, grad_value), {"dropout": {}}

    def _scale(self, query: Array) -> float:
        return 1 / math.sqrt(query.shape[-1]) if self.scale is None else self.scale

    def _source(self, rng: RandomSource | None, mask: Array | None, shape: tuple[int, ...]) -> Tree:
        """Return what dropout is drawn from again in backward, after all checks."""
        if mask is not None:
            check_mask_fits(mask, shape)
        if not self.dropout.draws_from(rng):
            return {}
        if isinstance(rng, np.random.Generator):
            return {"rng": copy.deepcopy(rng)}
        return {"mask": draw(rng, shape) >= self.dropout.p}

    def _query_blocks(
        self, shape: tuple[int, ...], source: Tree, rng: RandomSource | None
    ) -> Iterator[tuple[tuple[int, ...], slice, Array | None]]:
        """Yield each head and block of queries, and which of their weights dropout keeps, in the order of the draws."""
        *leading, T_q, T_k = shape
        for head in np.ndindex(*leading):
            for rows in _slices(T_q, self.block_size):
                kept = None
                if "mask" in source:
                    kept = source["mask"][head][rows]
                elif "rng" in source:
                    assert rng is not None
                    count = len(range(*rows.indices(T_q)))
                    parts = _slices(count, max(1, DRAWN // T_k))
                    kept = np.empty((count, T_k), bool)
                    for part in parts:
                        kept[part] = rng.random(kept[part].shape) >= self.dropout.p
                yield head, rows, kept

    def _normaliser(
        self, row_sum: Array, mask: Array | None, head: tuple[int, ...], rows: slice, kept: Array | None
    ) -> Array:
        """Return what turns sums of exponentials into dropped weights: 1 / row_sum / (1 - p), or 0."""
        normaliser: Array = 1 / row_sum
        if kept is not None:
            normaliser = normaliser / (1 - self.dropout.p)
        if mask is not None and self.zero_fully_masked:
            attends = _block_of(mask, head, rows, slice(None)).any(-1, keepdims=True)
            normaliser = normaliser * attends
        return normaliser


def _slices(size: int, step: int) -> list[slice]:
    return [slice(start, start + step) for start in range(0, size, step)]


def _scores(scaled_query: Array, key: Array, may_attend: Array | None) -> Array:
    scores = scaled_query @ key.T
    return scores if may_attend is None else np.where(may_attend, scores, MASKED_SCORE)


def _block_of(mask: Any, head: tuple[int, ...], rows: slice, columns: slice) -> Any:
    """Return the mask of a block of scores without a copy; axes along which it is the same for all stay 1."""
    if mask is None:
        return None
    mask = np.atleast_2d(mask)
    leading = mask.shape[:-2]
    of_leading = tuple(
        index * (size > 1) for index, size in zip(head[len(head) - len(leading) :], leading, strict=True)
    )
    mask = mask[of_leading]
    return mask[rows if mask.shape[0] > 1 else slice(None), columns if mask.shape[1] > 1 else slice(None)]
