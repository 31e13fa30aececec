"""How a backward behaves, whatever its values: it changes nothing, repeats itself, and is linear in its cotangent."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from npformer.component import Array, Tree, flatten
from npformer.gradcheck.arguments import check_cotangent, gradient_fault
from npformer.gradcheck.cases import signed
from npformer.gradcheck.objective import SHAKES, decisions_in
from npformer.gradcheck.subject import Subject
from npformer.gradcheck.terms import term_sizes

# A linear backward is off by a few roundings of its terms; 1e4 of them are 2e-12 in float64.
OF_LINEARITY = 1e4
# A forward that sums in an order of chance, as on a GPU, varies by a few roundings.
OF_REPETITION = 1e3
FACTOR = -(2.0**20)  # a power of two scales without rounding; it is large, so that clipping shows


@dataclass(frozen=True)
class Conduct:
    """One run of forward and backward: what they were given and returned, and what they did that none may do.

    fault is what backward did, and excuse what forward did, so that backward cannot be judged; both mostly empty.
    """

    subject: Subject
    cotangent: Array
    output: Array
    cache: Tree
    gradients: dict[str, Any]
    sizes: dict[str, Array]
    fault: str = ""
    excuse: str = ""

    @property
    def decisions(self) -> dict[str, bytes]:
        """What forward decided in its own dtype."""
        return decisions_in(self.cache)

    @cached_property
    def shaken(self) -> list[dict[str, Any]]:
        """The gradients of some runs before which every array, the cotangent too, moved in its last bit.

        How far they differ is the noise of backward, that of its cache included, whatever it is written with.
        """
        random = np.random.default_rng(0)
        runs = []
        for _ in range(SHAKES):
            moved = {name: _moved(array, random) for name, array in self.subject.arrays().items()}
            other = self.subject.replaced(moved)
            _, cache = other.forward()
            if decisions_in(cache) == self.decisions:  # what happens across a kink is no rounding
                runs.append(other.backward(_moved(self.cotangent, random), cache))
        return runs

    @property
    def largest(self) -> float:
        """The largest entry of all gradients."""
        arrays = [grad for grad in self.gradients.values() if isinstance(grad, np.ndarray) and grad.size]
        return max((float(np.abs(grad).max()) for grad in arrays), default=0.0)


def observe(subject: Subject, grad_output: Array | None, random: np.random.Generator) -> Conduct:
    """Run forward and backward, several times, on private copies."""
    subject = subject.cast(None)
    watched: Tree = {"an input": subject.inputs, "a parameter": subject.parameters()}
    before = fingerprints(watched)
    output, cache = subject.forward()
    drawn = signed(random, output.shape, 0.5, 1.5).astype(output.dtype)
    cotangent = drawn if grad_output is None else check_cotangent(grad_output, output)
    handed_over: Tree = {"its cache": cache, "grad_output": cotangent.copy()}
    watched |= handed_over
    before |= fingerprints(handed_over)
    gradients = copy.deepcopy(subject.backward(handed_over["grad_output"], cache))
    varies = np.abs(subject.forward()[0] - output).max()
    written = [name.split(".")[0] for name, data in fingerprints(watched).items() if data != before.get(name)]
    sizes: dict[str, Array] = {}
    fault = excuse = ""
    if written:
        fault = f"forward or backward wrote into {written[0]}"
    elif not np.isfinite(output).all():
        fault = f"the output of forward is {where_not_finite(output)}"
    elif varies > OF_REPETITION * np.finfo(output.dtype).eps * np.abs(output).max():
        excuse = "forward did not repeat itself: hand it its randomness as rng"
    else:
        sizes = term_sizes(subject, cotangent.copy(), cache)
        try:
            fault = _unsteady(subject, cotangent, cache, gradients)
            fault = fault or _not_linear(subject, cotangent, cache, gradients, sizes, random)
        except Exception as error:  # what backward did once without an error it must do again
            fault = f"backward raised {type(error).__name__} ({error}) when it was called again"
    return Conduct(subject, cotangent, output, cache, gradients, sizes, fault, excuse)


def _unsteady(subject: Subject, cotangent: Array, cache: Tree, gradients: dict[str, Any]) -> str:
    """Run backward again, and once more after forward has run on something else."""
    if fingerprints(subject.backward(cotangent.copy(), cache)) != fingerprints(gradients):
        return "backward did not repeat itself"
    other = copy.copy(subject)
    other.inputs = {name: x * x.dtype.type(0.75) if x.dtype.kind == "f" else x for name, x in subject.inputs.items()}
    other.options = copy.deepcopy(subject.options)
    for option in other.options.values():
        if isinstance(option, np.random.Generator):
            option.random()  # so that other masks are drawn
    try:
        other.forward()
    except Exception:  # it need not take every input
        return ""
    if fingerprints(subject.backward(cotangent.copy(), cache)) != fingerprints(gradients):
        return "backward returned something else after another forward: it used what that one left outside the cache"
    return ""


def _not_linear(
    subject: Subject,
    cotangent: Array,
    cache: Tree,
    gradients: dict[str, Any],
    sizes: dict[str, Array],
    random: np.random.Generator,
) -> str:
    """Compare backward on 0, on a multiple and on a sum with what linearity makes of it."""
    of_zero = subject.backward(np.zeros_like(cotangent), cache)
    for name, grad in of_zero.items():
        well_formed = not gradient_fault(gradients.get(name), np.shape(grad))
        if well_formed and np.any(grad):  # NaN is true
            return f"backward returned {_first(grad, np.asarray(grad) != 0)} in {name} for a grad_output of zeros"
    another = signed(random, cotangent.shape, 0.5, 1.5).astype(cotangent.dtype)
    of_another = subject.backward(another.copy(), cache)
    of_multiple = subject.backward(FACTOR * cotangent, cache)
    of_sum = subject.backward(cotangent + another, cache)
    of_nudged = subject.backward(_moved(cotangent, random), cache)
    overall = max(float(np.abs(grad).max()) for grad in (cotangent, *gradients.values()) if np.size(grad))
    for name, grad in gradients.items():
        runs = [run.get(name) for run in (gradients, of_another, of_multiple, of_sum, of_nudged)]
        if any(gradient_fault(run, np.shape(grad)) for run in runs):
            continue  # its form is judged elsewhere
        one, two, multiple, total, nudged = (np.asarray(run, np.float64) for run in runs)
        rounding = float(np.finfo(cotangent.dtype).eps)
        moved = np.abs(nudged - one).max()
        terms = sizes[name].max() if name in sizes else overall
        allowed = OF_LINEARITY * (moved + rounding * max(np.abs(one).max(), np.abs(two).max(), terms)) + 1e-37
        for sort, error in (("multiple", multiple / FACTOR - one), ("sum", total - one - two)):
            if not np.abs(error).max() <= allowed:
                off = f"that of a {sort} is off by {np.abs(error).max():.2g} in {name}"
                return f"backward is not linear in grad_output: {off}"
    return ""


def _moved(array: Array, random: np.random.Generator) -> Array:
    """Return the array moved in its last bits, at random up or down."""
    moved: Array = (array * (1 + np.finfo(array.dtype).eps * random.choice([-1.0, 1.0], array.shape))).astype(
        array.dtype
    )
    return moved


def is_flat(grad_output: Array) -> bool:
    """Whether it is constant along an axis of more than one entry: then sums along it hide what is wrong."""
    allowed = OF_REPETITION * np.finfo(grad_output.dtype).eps * np.abs(grad_output).max()
    axes = [axis for axis, size in enumerate(grad_output.shape) if size > 1]
    return any(bool(np.ptp(grad_output, axis=axis).max() <= allowed) for axis in axes)


def fingerprints(tree: Tree) -> dict[str, bytes]:
    """The bytes of every array in a tree, so that a change to one shows."""
    prints: dict[str, bytes] = {}
    for name, leaf in flatten(tree).items():
        if isinstance(leaf, list | tuple):
            prints |= fingerprints({name: {str(index): each for index, each in enumerate(leaf)}})
        elif isinstance(leaf, np.ndarray | np.generic):
            prints[name] = leaf.tobytes()
    return prints


def where_not_finite(array: Array) -> str:
    """Name the first entry that is no finite number."""
    return _first(array, ~np.isfinite(array))


def _first(array: Array, chosen: Array) -> str:
    index = tuple(int(each) for each in np.argwhere(chosen)[0])
    return f"{np.asarray(array)[index]} at {index}" if index else f"{array}"
