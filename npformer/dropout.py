"""Dropout, and how a caller gives it masks of their own."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeGuard

import numpy as np

from npformer.component import Array, Component, Tree
from npformer.shapes import check_dropout_masks, check_floats, check_grad, check_number, describe

SOURCE = "a source with random(shape), such as numpy.random.default_rng(0)"


class RandomSource(Protocol):
    """What draws dropout masks: a numpy.random.Generator, GivenMasks, or anything with this method."""

    def random(self, shape: tuple[int, ...], /) -> Array:
        """Return float64 numbers, uniform in [0, 1)."""


class GivenMasks:
    """A random source that hands out masks that are already there, such as those a kernel drew.

    Each dropout whose p is not 0 takes the next mask, in the order of forward (1 = keep, 0 = drop). A
    ValueError says which mask is missing or misshapen.

    Examples
    --------
    >>> Dropout(0.5)(np.ones(4), rng=GivenMasks([np.array([1, 0, 0, 1])]))
    array([2., 0., 0., 2.])
    """

    def __init__(self, masks: Iterable[Array]):
        self.masks = check_dropout_masks(masks)
        self.used = 0

    def random(self, shape: tuple[int, ...], /) -> Array:
        """Return 1.0 where the next mask keeps and 0.0 where it drops."""
        if self.used == len(self.masks):
            raise ValueError(f"masks must hold one for each dropout, but there are only {len(self.masks)}")
        mask = self.masks[self.used]
        if mask.shape != shape:
            raise ValueError(f"masks[{self.used}] must have shape {shape}, but its shape is {mask.shape}")
        self.used += 1
        keep: Array = mask != 0
        return keep.astype(np.float64)

    def __deepcopy__(self, memo: dict[int, object]) -> GivenMasks:
        """Return a source that goes on from here by itself; nothing writes into the masks, so both share them."""
        return copy.copy(self)


@contextmanager
def rewound_on_error(rng: RandomSource | None) -> Iterator[None]:
    """Put a Generator back to where it was if a forward fails after it has drawn."""
    if not isinstance(rng, np.random.Generator):
        yield
        return
    before = rng.bit_generator.state
    try:
        yield
    except Exception:  # whatever it was, it is raised again
        rng.bit_generator.state = before
        raise


class Dropout(Component):
    """Inverted dropout (Srivastava et al. 2014, section 10): ``y = x * mask / (1 - p)``.

    The mask is 1 with probability 1 - p, so that E[y] = x. It does not depend on x, so
    ``grad_x = grad_y * mask / (1 - p)``, with the mask of that very forward.

    Parameters
    ----------
    p : float
        Probability of dropping an entry, in [0, 1).

    `forward(x, rng=None)`: without rng, or with p = 0, it is the identity and draws nothing. The draw is in
    float64 for every dtype, so that all dtypes drop the same entries. Shapes: any.

    Examples
    --------
    >>> output, cache = Dropout(0.5).forward(np.ones(4), rng=np.random.default_rng(0))
    >>> output
    array([2., 0., 0., 0.])
    >>> Dropout(0.5)(np.ones(4))
    array([1., 1., 1., 1.])
    """

    def __init__(self, p: float):
        self.p = check_number("p, the dropout rate,", p, 0, 1)

    def forward(self, x: Array, rng: RandomSource | None = None) -> tuple[Array, Tree]:
        check_floats("x", x, "...")
        if not self.draws_from(rng):
            return x, {}
        mask = draw(rng, x.shape) >= self.p
        return x * mask * (1 / (1 - self.p)), {"mask": mask}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        if "mask" not in cache:
            return grad_output, {}
        check_grad(grad_output, cache["mask"].shape)
        return grad_output * cache["mask"] * (1 / (1 - self.p)), {}

    def draws_from(self, rng: RandomSource | None) -> TypeGuard[RandomSource]:
        """Return whether forward draws a mask; TypeError if rng is neither None nor a random source."""
        if rng is not None and not callable(getattr(rng, "random", None)):
            raise TypeError(f"rng must be {SOURCE}, but it is {describe(rng)}")
        return rng is not None and self.p > 0


def draw(rng: RandomSource, shape: tuple[int, ...]) -> Array:
    """Return uniform numbers of this shape; TypeError or ValueError if the source gives none."""
    try:
        numbers = rng.random(shape)
    except TypeError as error:  # that of Python's own module random takes no shape
        raise TypeError(f"rng must be {SOURCE}, but it is {describe(rng)}") from error
    if np.shape(numbers) != shape:
        raise ValueError(f"rng.random must return numbers of shape {shape}, but their shape is {np.shape(numbers)}")
    return numbers
