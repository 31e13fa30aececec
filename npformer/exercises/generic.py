"""Slips that can happen in any backward, each as what it would make of the right gradient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from npformer.component import Array
from npformer.exercises.factors import meaning
from npformer.exercises.trial import BackwardTrial, Trial
from npformer.exercises.wrong_array import ROUNDING, WrongArray, same_error
from npformer.oracle.slips import layout_slips

FLOAT32 = 2e-6  # of the entries: 16 roundings of float32


@dataclass(frozen=True)
class Slip:
    """What happened to an array, in a few words, and in a sentence for whoever wants to know it all."""

    name: str
    spoiler: str


def slips(wrong: WrongArray) -> Iterator[Slip]:
    """Yield the slips that explain a wrong array in every trial, the simplest first."""
    if all(true is None for true in wrong.truth):
        yield Slip("not asked for", f"There is no {wrong.label}, but one is returned.")
    elif all(yours is None for yours in wrong.yours):
        words = f"There must be a {wrong.label}, an array of real numbers, but none is returned."
        yield Slip("no array of real numbers", words)
    yield from _of_factor(wrong)
    yield from _of_layout(wrong)


def symptoms(wrong: WrongArray) -> Iterator[Slip]:
    """Yield what can be said of an array without knowing how it came about."""
    if any(yours is not None and not np.isfinite(yours).all() for yours in wrong.yours):
        yield Slip("not a number", f"Some entries of your {wrong.label} are NaN or infinite.")
    yield from _of_precision(wrong)


def _of_factor(wrong: WrongArray) -> Iterator[Slip]:
    """Yield the constant factor between yours and true, which may depend on the sizes alone."""
    factors = []
    for compared in wrong.compared:
        size = float((compared.true**2).sum())
        factor = float((compared.yours * compared.true).sum()) / size if size else 0.0
        if not compared.is_like(factor * compared.true):
            return
        if size:
            factors.append((factor, compared.trial.sizes))
    words = meaning([factor for factor, _ in factors], [sizes for _, sizes in factors]) if factors else None
    if words == "1":  # but for rounding, or nearly
        return
    if words == "-1":
        yield Slip("wrong sign", f"Your {wrong.label} is right but for its sign.")
    elif words == "0":
        yield Slip("nothing arrives", f"Your {wrong.label} is 0 everywhere: nothing is added up in it.")
    elif words is not None:
        yield Slip(f"constant factor {words}", f"Your {wrong.label} is {words} times the right one.")


def _of_layout(wrong: WrongArray) -> Iterator[Slip]:
    """Yield the slips that put the right entries in wrong places, or leave some of what is summed out."""
    explaining: list[dict[Slip, None]] = []
    for trial, yours in zip(wrong.trials, wrong.yours, strict=True):
        true = trial.truth.get(wrong.name)
        if yours is None or true is None:
            return
        made = _misplaced(trial, wrong.name, yours, true)
        explaining.append({slip: None for slip, array in made if same_error(yours, array, true, trial.scale)})
    yield from (slip for slip in explaining[0] if all(slip in others for others in explaining))


def _misplaced(trial: Trial, name: str, yours: Array, true: Array) -> Iterator[tuple[Slip, Array]]:
    label = trial.label(name)
    for words, made in layout_slips(yours, true, trial.sizes.get("num_heads", 1)):
        yield Slip(words, f"Your {label} is the right one, but {words}."), made
    if true.ndim == 2:
        words = "transposed, then reshaped to fit"
        yield Slip(words, f"Your {label} is the right one, but {words}."), true.T.reshape(true.shape)
    if isinstance(trial, BackwardTrial) and trial.grad_output.ndim > 1:
        for item, which in ((0, "first"), (-1, "last")):
            words = "not summed over the batch"
            yield (
                Slip(words, f"Your {label} is what the {which} item of the batch makes alone."),
                trial.alone(item)[name],
            )
    for other, array in trial.truth.items():
        if other != name:
            yield Slip(f"it is the {trial.label(other)}", f"Your {label} is the {trial.label(other)}."), array


def _of_precision(wrong: WrongArray) -> Iterator[Slip]:
    """Yield the loss of digits that float32 causes."""
    errors = []
    for compared in wrong.compared:
        size = np.abs(compared.true)
        errors.append(np.abs(compared.error).ravel() / np.maximum(size, 1e-3 * size.max(initial=0) + 1e-300).ravel())
    everywhere = errors and np.mean(np.concatenate(errors) > ROUNDING) > 0.5
    if everywhere and all(error.max(initial=0) <= FLOAT32 for error in errors):
        words = f"Your {wrong.label} is right to 6 digits only, as if its numbers went through float32."
        yield Slip("precision lost", words)
