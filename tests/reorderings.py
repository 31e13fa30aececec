"""Components whose sums are added up in another order, in the dtype of what they sum."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
from rewrites.registry import parts_of

from npformer import AnnotatedLayerNorm, LayerNorm, Linear, ScaledDotProductAttention, Softmax
from npformer.attention import MASKED_SCORE
from npformer.component import Array, Component, Tree
from npformer.dropout import RandomSource

BLOCK = 3  # terms

Product = Callable[[Array, Array], Array]


def _of_reversed(left: Array, right: Array) -> Array:
    product: Array = np.ascontiguousarray(left[..., ::-1]) @ np.ascontiguousarray(right[..., ::-1, :])
    return product


def _of_blocks(left: Array, right: Array) -> Array:
    starts = range(0, left.shape[-1], BLOCK)
    parts = [left[..., start : start + BLOCK] @ right[..., start : start + BLOCK, :] for start in starts]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _term_by_term(left: Array, right: Array) -> Array:
    terms = left[..., :, :, None] * right[..., None, :, :]
    total: Array = np.add.accumulate(terms, axis=-2)[..., -1, :]
    return total


def _term_by_term_backwards(left: Array, right: Array) -> Array:
    return _term_by_term(left[..., ::-1], right[..., ::-1, :])


def _of_halves(left: Array, right: Array) -> Array:
    n = left.shape[-1]
    if n <= 1:
        return _term_by_term(left, right)
    first = _of_halves(left[..., : n // 2], right[..., : n // 2, :])
    return first + _of_halves(left[..., n // 2 :], right[..., n // 2 :, :])


ORDERS: dict[str, Product] = {
    "reversed": _of_reversed,
    "blocked": _of_blocks,
    "sequential": _term_by_term,
    "sequential, reversed": _term_by_term_backwards,
    "pairwise": _of_halves,
}


class _Ordered(Component):
    order: str

    def _product(self, left: Array, right: Array) -> Array:
        return ORDERS[self.order](left, right)

    def _sum(self, terms: Array) -> Array:
        """Over the last axis, which stays."""
        return self._product(terms, np.ones((terms.shape[-1], 1), terms.dtype))

    def _mean(self, terms: Array) -> Array:
        mean: Array = self._sum(terms) / terms.shape[-1]
        return mean

    def _row_sum(self, rows: Array) -> Array:
        total: Array = self._product(np.ones((1, len(rows)), rows.dtype), rows)[0]
        return total

    def _norm_grads(self, grad_output: Array, x_hat: Array) -> Tree:
        d_model = x_hat.shape[-1]
        weight, bias = ((self._row_sum(terms.reshape(-1, d_model))) for terms in (grad_output * x_hat, grad_output))
        return {"weight": weight, "bias": bias}


class OrderedLinear(_Ordered, Linear):
    """Linear in another order."""

    def forward(self, x: Array) -> tuple[Array, Tree]:
        output = self._product(x.reshape(-1, x.shape[-1]), self.weight.T).reshape(*x.shape[:-1], -1)
        return output if self.bias is None else output + self.bias, {"x": x}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        x, rows = cache["x"], grad_output.reshape(-1, grad_output.shape[-1])
        grads = {"weight": self._product(rows.T, x.reshape(-1, x.shape[-1]))}
        if self.bias is not None:
            grads["bias"] = self._row_sum(rows)
        return self._product(rows, self.weight).reshape(x.shape), grads


class OrderedSoftmax(_Ordered, Softmax):
    """Softmax in another order."""

    def forward(self, x: Array) -> tuple[Array, Tree]:
        exponentials = np.exp(x - x.max(-1, keepdims=True))
        output = exponentials / self._sum(exponentials)
        return output, {"output": output}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        output = cache["output"]
        return output * (grad_output - self._sum(grad_output * output)), {}


class OrderedLayerNorm(_Ordered, LayerNorm):
    """LayerNorm in another order."""

    def forward(self, x: Array) -> tuple[Array, Tree]:
        centred = x - self._mean(x)
        rstd = 1 / np.sqrt(self._mean(centred**2) + self.eps)
        x_hat = centred * rstd
        return self.weight * x_hat + self.bias, {"x_hat": x_hat, "rstd": rstd}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        x_hat, g = cache["x_hat"], grad_output * self.weight
        grad_x = cache["rstd"] * (g - self._mean(g) - x_hat * self._mean(g * x_hat))
        return grad_x, self._norm_grads(grad_output, x_hat)


class OrderedAnnotatedLayerNorm(_Ordered, AnnotatedLayerNorm):
    """AnnotatedLayerNorm in another order."""

    def forward(self, x: Array) -> tuple[Array, Tree]:
        centred = x - self._mean(x)
        std = np.sqrt(self._sum(centred**2) / (x.shape[-1] - 1))
        x_hat = centred / (std + self.eps)
        return self.weight * x_hat + self.bias, {"x_hat": x_hat, "std": std}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        x_hat, std, g = cache["x_hat"], cache["std"], grad_output * self.weight
        through_std = x_hat * self._sum(g * x_hat) / ((g.shape[-1] - 1) * (std + (std == 0)))
        grad_centred = g / (std + self.eps) - through_std
        return grad_centred - self._mean(grad_centred), self._norm_grads(grad_output, x_hat)


class OrderedAttention(_Ordered, ScaledDotProductAttention):
    """The attention core in another order."""

    def forward(
        self, query: Array, key: Array, value: Array, mask: Array | None = None, rng: RandomSource | None = None
    ) -> tuple[Array, Tree]:
        cache: Tree = {"query": query, "key": key, "value": value}
        scores = self._scale(query) * self._product(query, key.swapaxes(-1, -2))
        if mask is not None:
            cache["mask"] = mask != 0
            scores = np.where(cache["mask"], scores, MASKED_SCORE)
        weights, cache["softmax"] = self.softmax.forward(scores)
        if mask is not None and self.zero_fully_masked:
            weights = weights * cache["mask"].any(-1, keepdims=True)
        cache["weights"], cache["dropout"] = self.dropout.forward(weights, rng=rng)
        return self._product(cache["weights"], value), cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[tuple[Array, Array, Array], Tree]:
        weights = cache["weights"]
        grad_value = self._product(weights.swapaxes(-1, -2), grad_output)
        grad_weights = self._product(grad_output, cache["value"].swapaxes(-1, -2))
        grad_weights, _ = self.dropout.backward(grad_weights, cache["dropout"])
        grad_scores, _ = self.softmax.backward(grad_weights, cache["softmax"])
        grad_scores = self._scale(cache["query"]) * grad_scores * cache.get("mask", 1)
        grad_query = self._product(grad_scores, cache["key"])
        grad_key = self._product(grad_scores.swapaxes(-1, -2), cache["query"])
        return (grad_query, grad_key, grad_value), {"softmax": {}, "dropout": {}}


ORDERED: dict[type[Component], type[_Ordered]] = {
    Linear: OrderedLinear,
    Softmax: OrderedSoftmax,
    LayerNorm: OrderedLayerNorm,
    AnnotatedLayerNorm: OrderedAnnotatedLayerNorm,
    ScaledDotProductAttention: OrderedAttention,
}


def reorder(component: Component, order: str) -> Component:
    """Return a copy in which every part that has sums adds them up in this order, a key of ORDERS."""
    twin = copy.deepcopy(component)
    for part in list(parts_of(twin)):
        kind = type(part)
        if kind in ORDERED:
            part.__class__ = type(kind.__name__, (ORDERED[kind],), {"order": order})
    return twin
