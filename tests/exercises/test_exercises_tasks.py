"""Every exercise: its solution is right, and so is what the grader knows about it."""

from __future__ import annotations

import pkgutil
from typing import Any

import numpy as np
import pytest
from runs import BACKWARDS, FORWARDS, ROUNDING, SIZES, Run, differ, runs, seen

from npformer.component import Array, Component, flatten
from npformer.exercises import tasks
from npformer.exercises.task import BackwardTask, ForwardTask, Task, instance_of
from npformer.exercises.tasks import TASKS
from npformer.gradcheck import check_gradients
from npformer.gradcheck.subject import Subject, silence
from npformer.mistakes import MISTAKES
from npformer.mistakes.catalogue import with_backward

SUMMED = 1e-12  # of the largest term: terms may cancel, which leaves the roundings of the large ones
LARGE = 300  # entries: gradients of more are checked along directions, since one by one takes seconds

each_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
each_backward = pytest.mark.parametrize("task", BACKWARDS.values(), ids=BACKWARDS)
each_forward = pytest.mark.parametrize("task", FORWARDS.values(), ids=FORWARDS)


def test_every_file_of_a_task_is_listed_and_holds_the_task_of_its_name() -> None:
    assert set(TASKS) == {module.name for module in pkgutil.iter_modules(tasks.__path__)}
    assert [task.name for task in TASKS.values()] == list(TASKS)
    assert {name: TASKS[name] for name in [*BACKWARDS, *FORWARDS]} == BACKWARDS | FORWARDS
    assert len(BACKWARDS) + len(FORWARDS) == len(TASKS)


@each_backward
@pytest.mark.parametrize("seed", [0, 1])
def test_the_solution_passes(task: BackwardTask, seed: int) -> None:
    solution: Any = task.solution
    for situation, case in task.cases(seed):
        subject = Subject(instance_of(solution, case.component), case.inputs, case.options)
        directions = 3 if sum(array.size for array in subject.arrays().values()) > LARGE else None
        report = check_gradients(subject.target, *case.inputs, directions=directions, seed=seed, **case.options)
        assert report.verdict == "PASS", f"{situation}\n{report}"


@each_backward
@pytest.mark.parametrize("seed", [0, 1])
def test_the_solution_gives_what_the_component_gives(task: BackwardTask, seed: int) -> None:
    solution: Any = task.solution
    for situation, case, right in runs(task, seed):
        run = Run(instance_of(solution, case.component), case)
        assert not differ({"output": run.output}, {"output": right.output}, ROUNDING), situation
        assert not differ(run.gradients, right.gradients, ROUNDING), situation
        assert not run.misbehaved, situation


@each_backward
def test_cases_depend_on_the_seed_alone(task: BackwardTask) -> None:
    again = dict(task.cases(0, SIZES))
    for (situation, case, run), (_, _, other) in zip(runs(task), runs(task, 1), strict=True):
        same = Run(again[situation].component, again[situation])
        assert not differ(same.gradients, run.gradients, 0)
        assert differ({"output": run.output}, {"output": other.output})
        assert isinstance(case.component, task.component)


@each_backward
def test_the_terms_add_up_to_the_gradient(task: BackwardTask) -> None:
    for situation, case, run in runs(task):
        for name, terms in (task.terms(case, run.cache, run.grad_output) if task.terms else {}).items():
            listed = list(terms)
            assert {term.values.shape for term in listed} == {run.gradients[name].shape}, (situation, name)
            assert len({term.name for term in listed}) == len(listed)
            largest = max(np.abs(term.coefficient * term.values).max() for term in listed)
            total = sum((term.coefficient * term.values for term in listed), np.zeros_like(run.gradients[name]))
            assert np.abs(total - run.gradients[name]).max() <= SUMMED * largest, (situation, name)


@each_backward
def test_the_terms_are_independent_in_some_situation(task: BackwardTask) -> None:
    smallest: dict[str, float] = {}
    for _, case, run in runs(task):
        for name, terms in (task.terms(case, run.cache, run.grad_output) if task.terms else {}).items():
            columns = np.stack([term.values.ravel() for term in terms], axis=1)
            lengths = np.sqrt((columns**2).sum(0))
            singular = np.linalg.svd(columns / np.where(lengths, lengths, 1), compute_uv=False)
            independent = float(singular[-1]) if len(columns) >= columns.shape[1] else 0.0
            smallest[name] = max(smallest.get(name, 0), independent)
    assert {name: value for name, value in smallest.items() if value < 1e-6} == {}


def effects(task: BackwardTask) -> dict[str, list[dict[str, Array] | str]]:
    """Return for each mistake what it returns in each case, or why there is nothing to tell it by."""
    found: dict[str, list[dict[str, Array] | str]] = {mistake.name: [] for mistake in task.mistakes()}
    for _, case, right in runs(task):
        for mistake in task.mistakes():
            try:
                with silence():
                    run = Run(with_backward(case.component, mistake.backward, mistake.forward), case)
            except (KeyError, AttributeError, TypeError, ValueError, IndexError):  # it needs a mask, dropout or a child
                found[mistake.name].append("cannot happen")
            else:
                shows = differ(run.gradients, right.gradients) or run.misbehaved
                found[mistake.name].append(run.gradients if shows else "is right")
    return found


@each_backward
def test_a_mistake_shows_and_those_of_the_task_are_its_own(task: BackwardTask) -> None:
    found = effects(task)
    showing = {name: results for name, results in found.items() if any(not isinstance(each, str) for each in results)}
    print(
        f"\n{task.name}: {len(showing)} mistakes show; not here: {', '.join(found.keys() - showing.keys()) or 'none'}"
    )
    own = {f"{task.component.__name__}.{wrong.__name__}" for wrong in task.wrong}
    assert own - showing.keys() == set()
    assert own & MISTAKES.keys() == set()
    anywhere = {name for name, mistake in MISTAKES.items() if mistake.component is Component}
    assert len(showing.keys() - anywhere) >= 5
    assert [name for name in anywhere if "cannot happen" in found[name]] == []
    for name in own:
        same = [other for other in showing if other != name and same_results(showing[name], showing[other])]
        assert same == [], name


def same_results(some: list[dict[str, Array] | str], others: list[dict[str, Array] | str]) -> bool:
    return all(
        one == other if isinstance(one, str) or isinstance(other, str) else not differ(one, other)
        for one, other in zip(some, others, strict=True)
    )


@each_forward
def test_a_wrong_function_shows(task: ForwardTask) -> None:
    right = dict(seen(task, task.solution))
    for function in task.wrong:
        with silence():
            try:
                showing = any(differ(looked, right[title]) for title, looked in seen(task, function))
            except Exception:  # a mistake may raise whatever it likes
                showing = True
        assert showing, function.__name__


@each_forward
def test_calls_are_many_and_what_is_seen_is_finite(task: ForwardTask) -> None:
    for seed in (0, 1):
        titles = [title for title, _ in task.calls(seed)]
        assert len(set(titles)) == len(titles) >= 3
        for title, looked in seen(task, task.solution, seed):
            assert looked, title
            assert all(array.dtype.kind in "biuf" and np.isfinite(array).all() for array in looked.values()), title


@each_task
def test_wrong_ones_are_explained_in_one_line(task: Task) -> None:
    assert isinstance(task, BackwardTask | ForwardTask)
    assert len(task.wrong) >= (6 if isinstance(task, ForwardTask) else 0)
    explanations = [wrong.__doc__ or "" for wrong in task.wrong]
    assert [text for text in explanations if not 10 <= len(text) <= 115 or "\n" in text or text[-1] != "."] == []
    assert len(set(explanations)) == len(explanations)
    assert len({wrong.__name__ for wrong in task.wrong}) == len(task.wrong)


@each_backward
def test_every_input_and_own_parameter_has_a_path(task: BackwardTask) -> None:
    needed: set[str] = set()
    known: set[str] = set()
    for _, case in task.cases(0):
        known |= Subject(case.component, case.inputs, case.options).arrays().keys()
        needed |= known - {name for name in flatten(case.component.parameters()) if "." in name}
    assert needed <= task.paths.keys() <= known


@each_backward
def test_regions_are_marked_in_the_shape_of_the_array(task: BackwardTask) -> None:
    marked: dict[tuple[str, str], list[bool]] = {}
    for situation, case, run in runs(task):
        for name, kinds in (task.regions(case, run.cache) if task.regions else {}).items():
            for kind, mask in kinds.items():
                assert mask.dtype == bool, (situation, name, kind)
                assert mask.shape == run.gradients[name].shape, (situation, name, kind)
                marked.setdefault((name, kind), []).append(bool(mask.any() and not mask.all()))
    assert [region for region, some in marked.items() if not any(some)] == []
