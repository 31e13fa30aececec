"""A wrong gradient, or what is wrong with it, as a product of arrays that were at hand."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations_with_replacement

import numpy as np

from npformer.component import Array
from npformer.exercises.factors import meaning
from npformer.exercises.generic import Slip
from npformer.exercises.trial import Trial
from npformer.exercises.wrong_array import WrongArray

MANY = 12  # arrays at hand, above which only those that the learner's code was given are multiplied
ENOUGH = 8  # entries: fewer are a product of something by chance


def products(wrong: WrongArray) -> list[Slip]:
    """Return the products of up to three arrays at hand that an array is, or that it has too much or too little of."""
    if sum(compared.true.size for compared in wrong.compared) < ENOUGH:
        return []
    found = []
    first = wrong.compared[0]
    for names, _ in _products(first.trial, first.true.shape):
        for start, sentence in ((0.0, "Your {} equals {} * {}."), (1.0, "Your {} equals the right one plus {} * {}.")):
            factors = _factors(wrong, names, start)
            sizes = [compared.trial.sizes for compared in wrong.compared]
            words = meaning(factors, sizes) if factors else None
            if words not in (None, "0"):
                product = " * ".join(names)
                what = f"{product} is in it" if start else f"it is {product}, but for a factor"
                found.append(Slip(what, sentence.format(wrong.label, words, product).replace(" 1 * ", " ")))
    return found


def _factors(wrong: WrongArray, names: tuple[str, ...], start: float) -> list[float]:
    """Return for each trial how often the product is in what was returned beyond start * true; empty if it is not."""
    factors = []
    for compared in wrong.compared:
        product = dict(_products(compared.trial, compared.true.shape, names)).get(names)
        if product is None or not product.any():
            return []
        rest = compared.yours - start * compared.true
        factor = float((rest * product).sum() / (product * product).sum())
        if not compared.is_like(start * compared.true + factor * product):
            return []
        factors.append(factor)
    return factors


def _products(
    trial: Trial, shape: tuple[int, ...], only: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Array]]:
    """Yield the products that have a shape, or get it by a sum over leading axes."""
    at_hand: dict[str, Array] = {}
    known = trial.known if len(trial.known) <= MANY else trial.given
    for name, array in known.items():
        if not any(array.shape == other.shape and np.array_equal(array, other) for other in at_hand.values()):
            at_hand[name] = array
    choices = [only] if only else _choices(list(at_hand))
    for names in choices:
        if not all(name in at_hand for name in names):
            continue
        try:
            product = np.prod(np.broadcast_arrays(*(at_hand[name] for name in names)), axis=0)
        except ValueError:  # of other shapes
            continue
        if product.shape != shape and product.ndim > len(shape) and product.shape[product.ndim - len(shape) :] == shape:
            product = product.sum(tuple(range(product.ndim - len(shape))))
        if product.shape == shape:
            yield names, product


def _choices(names: list[str]) -> Iterator[tuple[str, ...]]:
    yield from ((name,) for name in names)
    yield from combinations_with_replacement(names, 2)
    if "grad_output" in names:
        others = [name for name in names if name != "grad_output"]
        yield from (("grad_output", *pair) for pair in combinations_with_replacement(others, 2))
