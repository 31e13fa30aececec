"""What is wrong with a learner's code: the mistakes that give exactly what it gives, the surest first."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice, permutations

import numpy as np

from npformer.component import Array, Component
from npformer.exercises.coefficients import fit
from npformer.exercises.generic import Slip, slips, symptoms
from npformer.exercises.grade import CERTAIN, LIKELY, POSSIBLE, Finding
from npformer.exercises.made_of import products
from npformer.exercises.structural import structural
from npformer.exercises.substitutions import substitutions
from npformer.exercises.suspects import Suspect, suspects
from npformer.exercises.task import BackwardTask, Task
from npformer.exercises.trial import BackwardTrial, Observation, Trial
from npformer.exercises.wrong_array import WrongArray, same_error, wrong_arrays

PATIENCE = 5.0  # seconds for all pairs of mistakes: they are many, and each is run
ORDER = (CERTAIN, LIKELY, POSSIBLE)
CONDUCT = {  # what a backward did that none may do: where that is, and why it matters
    "writes into grad_output": ("grad_output", "grad_output is changed in place, but others may still need it."),
    "writes into the cache": (
        "the cache",
        "Arrays of the cache are changed in place, but they are not backward's own.",
    ),
    "writes into a parameter": ("the parameters", "A parameter is changed, but that is the optimizer's business."),
    "writes into an input": ("the inputs", "An input is changed in place, but it is the caller's."),
    "adds up from call to call": (
        "what is kept from one backward to the next",
        "A second backward with the same arguments returns more than the first.",
    ),
    "does not repeat itself": (
        "what is kept or drawn outside the cache",
        "A second backward with the same arguments returns something else: chance, or something kept, is in it.",
    ),
    "uses what another forward left behind": (
        "what is kept outside the cache",
        "backward returns something else after another forward: it uses what that one left behind.",
    ),
    "is not linear in grad_output": (
        "grad_output",
        "Twice the grad_output must give twice the gradients, and none must give none.",
    ),
}


class Lineup:
    """The mistakes that a task knows by name, and what they give in some trials, found out once and when needed."""

    def __init__(self, task: Task, trials: Iterable[Trial]):
        self.task = task
        self.trials = list(trials)
        self.suspects = suspects(task)
        self._observed: dict[tuple[str, int], Observation | None] = {}
        self._pairs: dict[tuple[str, str, int], dict[str, Array | None]] = {}
        self._patience = PATIENCE

    @cached_property
    def structural(self) -> list[Suspect]:
        """The mistakes in how a component's parts are put together."""
        first = self.trials[0]
        return structural(first.case.component) if isinstance(first, BackwardTrial) else []

    def observe(self, suspect: Suspect, index: int) -> Observation | None:
        """Return what a mistake gives in a trial; None if it cannot be made there."""
        key = suspect.name, index
        if key not in self._observed:
            try:
                self._observed[key] = self.trials[index].observe(suspect.implementation)
            except Exception:  # such as shapes that do not fit: the learner's code, which ran, does something else
                self._observed[key] = None
        return self._observed[key]

    def diagnose(self, observed: Sequence[Observation]) -> tuple[Finding, ...]:
        """Return what explains the observations, one for each trial, the surest first; empty if nothing does.

        A mistake that gives all that the learner's code gives explains it alone. If there is none, each wrong array
        is explained by itself; arrays that nothing explains are those of two mistakes together, perhaps.
        """
        wrong = wrong_arrays(self.trials, observed)
        is_wrong = bool(wrong) or any(observation.conduct for observation in observed)
        for known in (self.suspects, self.structural) if is_wrong else ():
            if whole := [suspect for suspect in known if self._gives_all(suspect, observed)]:
                return tuple(self._named(suspect, wrong, CERTAIN) for suspect in whole)
        findings = [finding for array in wrong for finding in self._of_array(array)]
        findings += self._of_conduct(frozenset().union(*(observation.conduct for observation in observed)))
        return tuple(sorted(_joined(findings), key=self._order))

    def _order(self, finding: Finding) -> tuple[int, bool]:
        """The surest first, and of these the mistakes that have a name."""
        return ORDER.index(finding.sureness), all(finding.name != suspect.name for suspect in self.suspects)

    def _gives_all(self, suspect: Suspect, observed: Sequence[Observation]) -> bool:
        for index, (trial, yours) in enumerate(zip(self.trials, observed, strict=True)):
            theirs = self.observe(suspect, index)
            if theirs is None or theirs.conduct != yours.conduct or theirs.arrays.keys() != yours.arrays.keys():
                return False
            for name, array in yours.arrays.items():
                true = trial.truth.get(name, np.zeros(()))
                if not same_error(array, theirs.arrays[name], true, trial.scale):
                    return False
        return True

    def _of_array(self, wrong: WrongArray) -> list[Finding]:
        """Return what explains one array; each sort of explanation is tried only where those before it know nothing."""
        sorts = (
            self._by_name,
            self._by_slip,
            self._by_terms,
            self._by_substitution,
            self._by_pair,
            self._by_products,
            self._by_symptoms,
        )
        return next((findings for sort in sorts if (findings := sort(wrong))), [])

    def _by_name(self, wrong: WrongArray) -> list[Finding]:
        known = self.suspects + self.structural
        alike = (suspect for suspect in known if wrong.is_explained_by(self._arrays(suspect, wrong.name)))
        return [self._named(suspect, [wrong], LIKELY) for suspect in islice(alike, 1)]

    def _by_slip(self, wrong: WrongArray) -> list[Finding]:
        return [self._slip(wrong, slip, LIKELY) for slip in islice(slips(wrong), 1)]

    def _by_terms(self, wrong: WrongArray) -> list[Finding]:
        exactly = f"the terms of the right one, with other coefficients, give exactly your {wrong.label}"
        return [
            Finding((wrong.name,), coefficient.what, LIKELY, exactly, coefficient.term.path, coefficient.in_full)
            for coefficient in fit(wrong)
        ]

    def _by_substitution(self, wrong: WrongArray) -> list[Finding]:
        return [
            replace(finding, path=each.path or finding.path)
            for each in islice(substitutions(wrong), 1)
            for finding in [self._slip(wrong, each.slip, LIKELY)]
        ]

    def _by_pair(self, wrong: WrongArray) -> list[Finding]:
        """Return two mistakes that explain the array if one is made after the other."""
        if not isinstance(self.task, BackwardTask):
            return []
        there = [
            suspect for suspect in self.suspects if not _leaves_right(wrong, next(self._arrays(suspect, wrong.name)))
        ]
        for first, second in permutations(there, 2):
            if self._patience <= 0:
                break
            start = time.perf_counter()
            explained = wrong.is_explained_by(self._both(first, second, wrong.name))
            self._patience -= time.perf_counter() - start
            if explained:
                return [
                    self._named(one, [wrong], LIKELY, f"together with {other.name}, it gives")
                    for one, other in ((first, second), (second, first))
                ]
        return []

    def _by_products(self, wrong: WrongArray) -> list[Finding]:
        return [self._slip(wrong, slip, POSSIBLE) for slip in products(wrong)[:1]]

    def _by_symptoms(self, wrong: WrongArray) -> list[Finding]:
        return [self._slip(wrong, slip, POSSIBLE) for slip in symptoms(wrong)]

    def _of_conduct(self, conduct: frozenset[str]) -> Iterator[Finding]:
        """Yield the mistakes that are nothing but such conduct, and what they leave of it."""
        for suspect in self.suspects if conduct else []:
            alone = self.observe(suspect, 0)
            if alone and alone.conduct and alone.conduct <= conduct and not wrong_arrays(self.trials[:1], [alone]):
                yield Finding((), suspect.name, LIKELY, "it was seen to happen", "", suspect.explanation)
                conduct -= alone.conduct
        for name, (path, spoiler) in CONDUCT.items():
            if name in conduct:
                yield Finding((), name, CERTAIN, "it was seen to happen", path, spoiler)

    def _arrays(self, suspect: Suspect, name: str) -> Iterator[Array | None]:
        for index in range(len(self.trials)):
            observation = self.observe(suspect, index)
            yield None if observation is None else observation.arrays.get(name)

    def _both(self, first: Suspect, second: Suspect, name: str) -> Iterator[Array | None]:
        def implementation(component: Component) -> Component:
            planted: Component = second.implementation(first.implementation(component))
            return planted

        for index, trial in enumerate(self.trials):
            key = first.name, second.name, index
            if key not in self._pairs:
                try:
                    self._pairs[key] = trial.arrays_of(implementation)
                except Exception:  # two that do not fit together
                    self._pairs[key] = {}
            yield self._pairs[key].get(name)

    def _named(self, suspect: Suspect, wrong: Sequence[WrongArray], sureness: str, gives: str = "it gives") -> Finding:
        labels = ", ".join(array.label for array in wrong) or "results"
        cases = f"{len(self.trials)} cases" if len(self.trials) > 1 else "1 case"
        names = tuple(array.name for array in wrong)
        return Finding(
            names,
            suspect.name,
            sureness,
            f"{gives} exactly your {labels} in {cases}",
            self._path(wrong),
            suspect.explanation,
        )

    def _slip(self, wrong: WrongArray, slip: Slip, sureness: str) -> Finding:
        evidence = f"it gives exactly your {wrong.label}"
        return Finding((wrong.name,), slip.name, sureness, evidence, self._path([wrong]), slip.spoiler)

    def _path(self, wrong: Sequence[WrongArray]) -> str:
        """Return the path of the first term that is off, or else that of the first array."""
        for array in wrong:
            for coefficient in fit(array):
                return coefficient.term.path
        paths = self.task.paths if isinstance(self.task, BackwardTask) else {}
        return next((paths[array.name] for array in wrong if array.name in paths), "")


def _leaves_right(wrong: WrongArray, array: Array | None) -> bool:
    """Whether a suspect leaves this array right in the first trial, or cannot be made there."""
    true = wrong.truth[0]
    return array is None or (true is not None and same_error(array, true, true, wrong.trials[0].scale))


def _joined(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings, those of one name as one."""
    by_name: dict[str, Finding] = {}
    for finding in findings:
        known = by_name.get(finding.name)
        if known is None:
            by_name[finding.name] = finding
        else:
            arrays = tuple(dict.fromkeys(known.arrays + finding.arrays))
            spoiler = known.spoiler if finding.spoiler in known.spoiler else f"{known.spoiler} {finding.spoiler}"
            evidence = known.evidence if finding.evidence in known.evidence else f"{known.evidence}; {finding.evidence}"
            by_name[finding.name] = Finding(arrays, known.name, known.sureness, evidence, known.path, spoiler)
    return list(by_name.values())
