"""The diagnosis is measured: the catalogue's mistakes alone and in pairs, and held-out ones. -s prints the tables."""

import random
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from held_out import HELD_OUT, HELD_OUT_SECOND, HeldOut

from npformer.component import Component
from npformer.exercises import TASKS
from npformer.exercises.diagnose import Lineup
from npformer.exercises.grade import Finding
from npformer.exercises.suspects import Suspect
from npformer.exercises.task import BackwardTask, Task
from npformer.exercises.trial import Observation, trials
from npformer.exercises.wrong_array import wrong_arrays
from npformer.mistakes.catalogue import with_backward

SEEDS = 20
PAIRS = 10  # a task
BACKWARDS = [name for name, task in TASKS.items() if isinstance(task, BackwardTask)]


def _lineup(task: Task, seed: int) -> Lineup:
    """The trials in three situations of five: two that differ much, and one by turns."""
    found = list(trials(task, seed))
    if not isinstance(task, BackwardTask):
        return Lineup(task, found)
    first, second, third, *others = found
    others.append(second)
    return Lineup(task, [first, third, others[seed % len(others)]])


def _observe(lineup: Lineup, suspect: Suspect) -> tuple[Lineup, list[Observation]]:
    """What a suspect gives, in the trials in which it raises no error; with none, if it does not show in them."""
    seen = [lineup.observe(suspect, index) for index in range(len(lineup.trials))]
    observed = [observation for observation in seen if observation is not None]
    if not observed:
        return lineup, []
    if len(observed) < len(seen):
        came = [trial for trial, observation in zip(lineup.trials, seen, strict=True) if observation is not None]
        lineup = Lineup(lineup.task, came)
    return lineup, observed if _is_wrong(lineup, observed) else []


def _is_wrong(lineup: Lineup, observed: Sequence[Observation]) -> bool:
    return bool(wrong_arrays(lineup.trials, observed)) or any(observation.conduct for observation in observed)


@pytest.mark.parametrize("name", TASKS)
def test_each_mistake_of_the_catalogue_is_named_first(name: str) -> None:
    named: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    for seed in range(SEEDS):
        lineup = _lineup(TASKS[name], seed)
        for suspect in lineup.suspects:
            those, observed = _observe(lineup, suspect)
            if observed:
                findings = those.diagnose(observed)
                tried[suspect.name] += 1
                named[suspect.name] += bool(findings) and findings[0].name == suspect.name
    for suspect_name in tried:
        print(f"{name:<22} {suspect_name:<60} {named[suspect_name]:>3} of {tried[suspect_name]}")
    assert tried
    assert [each for each in tried if named[each] < 0.95 * tried[each]] == []


@pytest.mark.parametrize("name", BACKWARDS)
def test_of_two_mistakes_at_least_one_is_named(name: str) -> None:
    draw = random.Random(name)
    lineup = _lineup(TASKS[name], 1)
    suspects = [suspect for suspect in lineup.suspects if _observe(lineup, suspect)[1]]
    tried, missed = 0, list[str]()
    while tried < PAIRS:
        first, second = draw.sample(suspects, 2)

        def both(component: Component, first: Suspect = first, second: Suspect = second) -> Component:
            planted: Component = second.implementation(first.implementation(component))
            return planted

        try:
            observed = [trial.observe(both) for trial in lineup.trials]
        except (IndexError, KeyError, TypeError, ValueError):  # the second cannot do with what the first left it
            continue
        if not _is_wrong(lineup, observed):  # such as a path that is left out, and then added twice
            assert all(
                np.allclose(np.asarray(seen.arrays[each]), true, rtol=1e-10, atol=1e-10 * trial.scale)
                for trial, seen in zip(lineup.trials, observed, strict=True)
                for each, true in trial.truth.items()
            )
            continue
        tried += 1
        names = {finding.name for finding in lineup.diagnose(observed)}
        if not names & {first.name, second.name}:
            missed.append(f"{name:<22} {first.name}, {second.name}: {names}")
    if missed:
        print("\n".join(missed))
    print(f"{name:<22} at least one of two named in {tried - len(missed)} of {tried} pairs")
    assert len(missed) <= 0.2 * tried


@pytest.mark.parametrize("held_outs", [HELD_OUT, HELD_OUT_SECOND], ids=["first list", "second list"])
def test_held_out_mistakes_are_never_passed_over_and_mostly_diagnosed(held_outs: Sequence[HeldOut]) -> None:
    good = 0
    for held_out in held_outs:
        name, findings = _diagnosis(held_out)
        said = f"{findings[0].name} {findings[0].path} {findings[0].spoiler}" if findings else ""
        said += " / " + said.replace("_", " ")
        is_good = all(re.search(pattern, said, re.IGNORECASE) for pattern in held_out.says)
        good += is_good
        verdict = "yes" if is_good else "no"
        print(f"{verdict:<4} {name:<20} {held_out.name:<45} {held_out.truth}\n{'':<26}said: {said.split(' / ')[0]}")
    print(f"{good} of {len(held_outs)} held-out mistakes are diagnosed")
    assert good >= 0.7 * len(held_outs)


def _diagnosis(held_out: HeldOut) -> tuple[str, Sequence[Finding]]:
    """The exercise in which a held-out mistake shows, and what is said of it."""
    suspect = Suspect(
        held_out.name,
        held_out.truth,
        lambda component: with_backward(component, held_out.backward),
    )
    for task in TASKS.values():
        if isinstance(task, BackwardTask) and task.component is held_out.component:
            lineup, observed = _observe(Lineup(task, trials(task, 0)), suspect)
            if observed:
                return task.name, lineup.diagnose(observed)
    raise AssertionError(f"{held_out.name} passes as right in every exercise")
