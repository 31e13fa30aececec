"""No right solution is called wrong, however it is written."""

from __future__ import annotations

import copy
import pkgutil
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import solutions
from solutions.registry import SOLUTIONS, Written, as_learner_wrote

from npformer.exercises.task import BackwardTask, ForwardTask, instance_of
from npformer.exercises.tasks import TASKS
from npformer.gradcheck import SITUATIONS, check_gradients
from npformer.gradcheck.subject import Subject

for module in pkgutil.iter_modules(solutions.__path__):
    import_module(f"solutions.{module.name}")

EQUAL = 1e-12  # of the largest entry: right forms of one formula differ by roundings
SMALL = 300  # entries: gradients of no more are checked one by one in one of the situations, which takes a while

WRITTEN = [(name, seed, written) for name, each in SOLUTIONS.items() for seed, written in enumerate(each)]


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_solved_in_ten_ways(name: str) -> None:
    ways = SOLUTIONS.get(name, [])
    assert len({written.__name__ for written in ways}) == len(ways) >= 10
    assert len({(code.co_code, code.co_names, code.co_consts) for code in (way.__code__ for way in ways)}) == len(ways)


def test_every_solution_is_one_of_a_task() -> None:
    assert SOLUTIONS.keys() <= TASKS.keys()


@pytest.mark.parametrize(
    ("name", "seed", "written"), WRITTEN, ids=[f"{name}-{written.__name__}" for name, _, written in WRITTEN]
)
def test_a_right_solution_passes(name: str, seed: int, written: Written) -> None:
    task: Any = TASKS[name]
    learned = as_learner_wrote(task, written)
    if isinstance(task, BackwardTask):
        for index, (situation, case) in enumerate(task.cases(seed)):
            subject = Subject(instance_of(learned, case.component), case.inputs, case.options)
            few = sum(array.size for array in subject.arrays().values()) <= SMALL
            one_by_one = few and index == seed % len(SITUATIONS)
            report = check_gradients(
                subject.target,
                *case.inputs,
                directions=None if one_by_one else 3,
                jointly=not one_by_one,
                seed=seed,
                **case.options,
            )
            assert report.verdict == "PASS", f"{situation}\n{report}"
    elif isinstance(task, ForwardTask):
        for title, call in task.calls(seed):
            looked, right = (
                task.look(
                    function(*copy.deepcopy(call.arguments), **copy.deepcopy(call.options)),
                    *call.arguments,
                    **call.options,
                )
                for function in (learned, task.solution)
            )
            assert looked.keys() == right.keys(), title
            for array, value in right.items():
                assert np.shape(looked[array]) == np.shape(value), (title, array)
                difference = np.abs(np.subtract(looked[array], value, dtype=float)).max(initial=0)
                assert difference <= EQUAL * np.abs(np.asarray(value, float)).max(initial=0), (title, array)
