"""Correct forwards and backwards in other algebra or other summation order: the checker must reject none of them.

All are backward stable: each is the exact result for inputs that are off by a few roundings, or has an error of a few
roundings of the terms that it sums. Single-pass variance, σ(1 - σ) for large x, powers of scores over the sum of powers
of scores that were rounded otherwise, and their like are not among them.
"""

from rewrites import (
    activations,
    attention,
    blockwise,
    composites,
    embedding,
    image_classifier,
    linear,
    loss,
    norm,
)  # they register what they define
from rewrites.functions import as_functions
from rewrites.registry import REWRITES, Rewrite, plant

__all__ = [
    "REWRITES",
    "Rewrite",
    "activations",
    "as_functions",
    "attention",
    "blockwise",
    "composites",
    "embedding",
    "image_classifier",
    "linear",
    "loss",
    "norm",
    "plant",
]
