"""The right backward, or one of its terms, in which something stands in the place of something else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from npformer.component import Array, Tree, flatten
from npformer.exercises.generic import Slip
from npformer.exercises.trial import BackwardTrial
from npformer.exercises.wrong_array import Compared, WrongArray

MANY = 12  # arrays of the cache: a component that keeps more has parts, which have mistakes of their own
CHANGES: tuple[tuple[str, str, Callable[[Array], Array]], ...] = (
    ("{} missing", "as if {} were 1", np.ones_like),
    ("{} twice", "with {} squared", np.square),
    ("|{0}| in place of {0}", "with the absolute value of {}", np.abs),
)


@dataclass(frozen=True)
class Substitution:
    """What explains an array: a slip, and the path of the term that it is in, if that has one."""

    slip: Slip
    path: str


def substitutions(wrong: WrongArray) -> Iterator[Substitution]:
    """Yield what explains a wrong array if, in all of the right backward or in one term, an array is another one."""
    if not wrong.compared:
        return
    first, *others = wrong.compared
    for (name, how), made in _made(first, wrong.name).items():
        for term, path, array in made:
            if first.is_like(array) and all(_is_explained(each, wrong.name, (name, how), term) for each in others):
                where = f"the {term} term" if term else "all of it"
                yield Substitution(Slip(name, f"Your {wrong.label} comes out if {where} is computed {how}."), path)


def _is_explained(compared: Compared, name: str, change: tuple[str, str], term: str) -> bool:
    made = _made(compared, name, change).get(change, [])
    return any(compared.is_like(array) for other, _, array in made if other == term)


def _made(
    compared: Compared, name: str, only: tuple[str, str] | None = None
) -> dict[tuple[str, str], list[tuple[str, str, Array]]]:
    """Return for each change what becomes of an array, if all of backward or if one term is computed with it."""
    trial = compared.trial
    if not isinstance(trial, BackwardTrial):
        return {}
    terms_of = trial.task.terms
    terms = [term for term in trial.terms.get(name, ()) if term.coefficient]
    made = {}
    for change, target, array in _changed(trial):
        if only not in (None, change):
            continue
        component, cache, grad_output = _with(trial, target, array)
        found = []
        try:
            whole = trial.gradients(component, cache, grad_output)[name]
            found.append(("", "", np.asarray(whole)))
            others = terms_of(replace(trial.case, component=component), cache, grad_output) if terms_of else {}
            changed = {term.name: term.values for term in others.get(name, ())}
        except Exception:  # what does not fit there
            changed = {}
        found += [
            (term.name, term.path, compared.true + term.coefficient * (changed[term.name] - term.values))
            for term in terms
            if term.name in changed
        ]
        made[change] = found
    return made


def _changed(trial: BackwardTrial) -> Iterator[tuple[tuple[str, str], str, Array]]:
    """Yield what a change is called, the array that it changes, and what that becomes."""
    targets = _targets(trial)
    if len(targets) > MANY:
        return
    for target, array in targets.items():
        for name, how, change in CHANGES:
            yield (name.format(target), how.format(target)), target, change(array)
        for source, other in trial.known.items():
            if source != target and other.shape == array.shape and not np.array_equal(other, array):
                yield (f"{source} in place of {target}", f"with {source} in place of {target}"), target, other


def _targets(trial: BackwardTrial) -> dict[str, Array]:
    used = flatten(trial.cache) | flatten(trial.case.component.parameters()) | {"grad_output": trial.grad_output}
    return {name: array for name, array in used.items() if isinstance(array, np.ndarray) and array.dtype.kind == "f"}


def _with(trial: BackwardTrial, target: str, array: Array) -> tuple[Any, Tree, Array]:
    component, cache, grad_output = trial.case.component, trial.cache, trial.grad_output
    if target == "grad_output":
        return component, cache, array
    parameters = flatten(component.parameters())
    if target in parameters:
        return component.with_parameters(parameters | {target: array}), cache, grad_output
    return component, _replaced(cache, target.split("."), array), grad_output


def _replaced(tree: Tree, path: list[str], array: Array) -> Tree:
    name, *rest = path
    return tree | {name: _replaced(tree[name], rest, array) if rest else array}
