"""The parts of a batch at the same time, each in a thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import reduce
from typing import Any

import numpy as np

from npformer.component import Array, Component, Tree, add_trees
from npformer.shapes import check_count, check_part, describe
from npformer.wrapper import Wrapper


class DataParallel(Wrapper):
    """A component that computes the parts of a batch at the same time, each in a thread of its own.

    The examples of a batch do not see each other, so outputs and gradients of inputs stand one after another. A
    parameter is used by every part, so its gradient is the sum of theirs. With a batch x of the parts x_1, ..., x_n:

        output = [f(x_1); ...; f(x_n)]        grad_x = [grad_x_1; ...; grad_x_n]        grad_p = Σ_i grad_p(x_i)

    Parts differ by one example at most, and each sum is taken in their order: the same bits, whichever thread is first.
    NumPy gives up Python's lock while it computes, so that threads use several cores. The products of small matrices
    gain more from that than from threads of BLAS, which meet again after every product.

    It has the parameters of its component under the same names, as if it were not there. For
    `npformer.oracle.trace` take the component inside: it numbers uses in the order of calls, which threads do not keep.

    Parameters
    ----------
    component : Component
        A whole model; a function of one array whose first axis is the batch, in which no example sees another.
    threads : int
        Number of parts; a batch of fewer examples has as many as examples.

    `forward(x, rng=None)`; each part draws its dropout masks from a child that is spawned from rng, a Generator.

    Raises
    ------
    TypeError, ValueError
        If x is no array with a first axis, or rng is neither a Generator nor None.

    Examples
    --------
    >>> from npformer import Linear
    >>> linear, x = Linear(3, 2, rng=0), np.arange(15.0).reshape(5, 3)
    >>> output, cache = DataParallel(linear, threads=2).forward(x)
    >>> bool(np.allclose(output, linear(x), rtol=0, atol=1e-14)), list(cache)
    (True, ['0', '1'])
    """

    def __init__(self, component: Component, threads: int):
        super().__init__(component)
        self.threads = check_count("threads", threads)

    def forward(self, x: Array, rng: np.random.Generator | None = None) -> tuple[Array, Tree]:
        _check_batch("x", x)
        n = max(1, min(self.threads, len(x)))
        options: list[Tree] = [{}] * n
        if rng is not None:
            check_part("rng", rng, np.random.Generator)
            options = [{"rng": child} for child in rng.spawn(n)]
        results = _at_once(lambda part, option: self.component.forward(part, **option), np.array_split(x, n), options)
        cache = {str(index): part_cache for index, (_, part_cache) in enumerate(results)}
        return np.concatenate([output for output, _ in results]), cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        _check_batch("grad_output", grad_output)
        results = _at_once(self.component.backward, np.array_split(grad_output, len(cache)), list(cache.values()))
        return np.concatenate([grad_x for grad_x, _ in results]), reduce(add_trees, [grads for _, grads in results])


def _check_batch(name: str, array: object) -> None:
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array, but it is {describe(array)}")
    if array.ndim == 0:
        raise ValueError(f"{name} must have a batch as its first axis, but its shape is ()")


def _at_once(function: Callable[..., Any], *arguments: list[Any]) -> list[Any]:
    """Return the results of all calls, each made in a thread that has this one's context, such as np.errstate."""
    with ThreadPoolExecutor(len(arguments[0])) as pool:
        calls = [pool.submit(copy_context().run, function, *each) for each in zip(*arguments, strict=True)]
        return [call.result() for call in calls]
