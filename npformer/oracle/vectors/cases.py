"""What a conformance case is made of, and the inputs that cases have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from npformer.component import Array, Component
from npformer.masks import length_mask
from npformer.oracle.vectors.recipes import Recipe

GARBAGE = 1e4


@dataclass(frozen=True)
class Given:
    """What a component's forward is called with, by name.

    Attributes
    ----------
    inputs : dict
        In order.
    options : dict
        Such as a mask.
    unseen : dict
        For some inputs, which entries no query sees: they are 0 where truth is computed, and NaN in the file.
    """

    inputs: dict[str, Array]
    options: dict[str, Array] = field(default_factory=dict)
    unseen: dict[str, Array] = field(default_factory=dict)


Make = Callable[[Component, np.random.Generator], Given]


@dataclass(frozen=True)
class VectorCase:
    """A conformance case.

    Attributes
    ----------
    name : str
        Also that of its folder.
    purpose : str
        A sentence that says what it is for.
    recipe : dict
        Of the component, which gets random parameters.
    given : callable
        Returns inputs and options; it may also change parameters.
    storage : str
        What inputs are rounded to.
    seed : int
        Of parameters, inputs, dropout masks and cotangent.
    dropout : bool
        Whether masks are drawn.
    at_kinks : bool
        Whether some entries lie at a ReLU's kink.
    """

    name: str
    purpose: str
    recipe: Recipe
    given: Make
    storage: str = "float32"
    seed: int = 0
    dropout: bool = False
    at_kinks: bool = False


def part(build: str, /, **arguments: object) -> Recipe:
    """Return a recipe."""
    return {"build": build, "arguments": arguments}


def rows(*shape: int) -> Make:
    """Return the maker of one input x from the standard normal distribution."""
    return lambda _, rng: Given({"x": rng.standard_normal(shape)})


def masked_rows(mask: Array, *shape: int) -> Make:
    """Return the maker of one input x, with a mask."""
    return lambda _, rng: Given({"x": rng.standard_normal(shape)}, {"mask": mask})


def heads(
    batch: int, num_heads: int, T_q: int, T_k: int, d_head: int, mask: Array | None = None, size: float = 1.0
) -> Make:
    """Return the maker of query, key and value, the first two times `size`."""

    def make(_: Component, rng: np.random.Generator) -> Given:
        query, key, value = (rng.standard_normal((batch, num_heads, T, d_head)) for T in (T_q, T_k, T_k))
        return Given({"query": size * query, "key": size * key, "value": value}, {} if mask is None else {"mask": mask})

    return make


def hidden_keys(make: Make, fill: float) -> Make:
    """Return the maker of the same, with NaN, or random numbers of the size of `fill`, in keys that no query sees."""

    def changed(component: Component, rng: np.random.Generator) -> Given:
        given = make(component, rng)
        key = given.inputs["key"]
        mask = given.options["mask"]
        seen = np.broadcast_to(np.expand_dims(mask.any(-2), -1), key.shape)
        others = fill * rng.uniform(-1, 1, key.shape) if np.isfinite(fill) else np.zeros(key.shape)
        inputs = given.inputs | {name: np.where(seen, given.inputs[name], others) for name in ("key", "value")}
        return Given(inputs, given.options, {} if np.isfinite(fill) else {"key": ~seen, "value": ~seen})

    return changed


def upper_left(T_q: int, T_k: int) -> Array:
    """Return the causal mask that counts places from the first query and the first key.

    Examples
    --------
    >>> upper_left(2, 3).astype(int)
    array([[1, 0, 0],
           [1, 1, 0]])
    """
    mask: Array = np.tri(T_q, T_k, dtype=bool)
    return mask


def lower_right(T_q: int, T_k: int) -> Array:
    """Return the causal mask that counts places from the last query and the last key.

    Examples
    --------
    >>> lower_right(2, 3).astype(int)
    array([[1, 1, 0],
           [1, 1, 1]])
    """
    mask: Array = np.tri(T_q, T_k, T_k - T_q, dtype=bool)
    return mask


def lengths(size: int, *each: int) -> Array:
    """Return the padding mask of sequences of these lengths.

    Examples
    --------
    >>> lengths(3, 3, 1).astype(int)[:, 0, 0]
    array([[1, 1, 1],
           [1, 0, 0]])
    """
    mask: Array = length_mask(np.array(each), size).astype(bool)
    return mask


def starts(*each: int) -> Array:
    """Return the cu_seqlens of sequences of these lengths.

    Examples
    --------
    >>> starts(2, 3)
    array([0, 2, 5], dtype=int32)
    """
    return np.cumsum([0, *each], dtype=np.int32)
