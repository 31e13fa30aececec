"""A wrong gradient as a combination of the named terms of the right one: which coefficient is off, and what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from npformer.component import Array
from npformer.exercises.factors import meaning, number
from npformer.exercises.task import Term
from npformer.exercises.wrong_array import DIGITS, ROUNDING, WrongArray

NEGLIGIBLE = 1e-6  # of the error: what a term's deviation must contribute to count


@dataclass(frozen=True)
class Coefficient:
    """A term whose coefficient is not the right one.

    Attributes
    ----------
    term : Term
        With the right coefficient.
    yours : str
        The coefficient that the learner's gradient has: a number, or an expression of sizes.
    """

    term: Term
    yours: str

    @property
    def what(self) -> str:
        """What went wrong with the term, without the formula."""
        if self.term.coefficient == 0:
            return "a term that does not belong there"
        if self.yours == "0":
            return "a term is missing"
        if self.yours == number(-self.term.coefficient):
            return "a term has the wrong sign"
        if self.yours == number(2 * self.term.coefficient):
            return "a term is counted twice"
        return "a term has a wrong factor"

    @property
    def in_full(self) -> str:
        """The sentence that gives the formula away."""
        right = number(self.term.coefficient)
        return f"The coefficient of the {self.term.name} term is {self.yours}, it should be {right}."


def fit(wrong: WrongArray) -> list[Coefficient]:
    """Return the terms whose coefficients explain a wrong array in every trial; empty if no such coefficients exist.

    The error is fitted, not the gradient, so that a small one counts too. The coefficients are the same in all trials,
    or have the same meaning in terms of the sizes.
    """
    trials = [compared.trial for compared in wrong.compared]
    terms = [{term.name: term for term in trial.terms.get(wrong.name, ())} for trial in trials]
    if not trials or not all(terms):
        return []
    errors = [compared.error for compared in wrong.compared]
    scales = [trial.scale for trial in trials]
    together = _deviations(terms, errors, scales)
    if together is not None:
        deviations = [together] * len(trials)
    else:  # a size may stand where it does not belong, so that each trial has coefficients of its own
        deviations = []
        for each, error, scale in zip(terms, errors, scales, strict=True):
            deviation = _deviations([each], [error], [scale])
            if deviation is None:
                return []
            deviations.append(deviation)
    found = []
    for term in {name: term for each in terms for name, term in each.items()}.values():
        there = [index for index, each in enumerate(terms) if term.name in each]
        yours = [term.coefficient + deviations[index][term.name] for index in there]
        if any(deviations[index][term.name] for index in there):
            words = meaning(yours, [trials[index].sizes for index in there])
            if words is None:
                return []
            found.append(Coefficient(term, words))
    return found


def _deviations(
    terms: Sequence[Mapping[str, Term]], errors: Sequence[Array], scales: Sequence[float]
) -> dict[str, float] | None:
    """Return by how much the coefficients are off that explain the errors, or None."""
    names = list(dict.fromkeys(name for each in terms for name in each))
    columns = [
        np.concatenate([_values(each, name, error.shape) for each, error in zip(terms, errors, strict=True)])
        for name in names
    ]
    matrix = np.stack(columns, axis=1)
    error = np.concatenate([each.ravel() for each in errors])
    lengths = np.linalg.norm(matrix, axis=0)
    if not lengths.all() or len(error) <= len(lengths):
        return None
    solution, _, rank, _ = np.linalg.lstsq(matrix / lengths, error, rcond=1e-9)
    allowed = DIGITS * np.abs(error).max() + ROUNDING * max(scales)
    if rank < len(lengths) or not (np.abs(matrix / lengths @ solution - error) <= allowed).all():
        return None
    contributes = np.abs(matrix * (solution / lengths)).max(axis=0) > NEGLIGIBLE * np.abs(error).max() + allowed
    return dict(zip(names, np.where(contributes, solution / lengths, 0.0).tolist(), strict=True))


def _values(terms: Mapping[str, Term], name: str, shape: tuple[int, ...]) -> Array:
    return np.broadcast_to(terms[name].values, shape).ravel() if name in terms else np.zeros(np.prod(shape, dtype=int))
