"""What is tried in a trial: the mistakes that a task knows by name, and a learner's code, both in one form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from npformer.component import Component
from npformer.exercises.task import BackwardTask, ForwardTask, Task, instance_of
from npformer.mistakes import Mistake
from npformer.mistakes.catalogue import with_backward


@dataclass(frozen=True)
class Suspect:
    """A mistake that has a name.

    Attributes
    ----------
    name, explanation : str
        As in the catalogue.
    implementation : function
        For a backward, it takes a component to one with the mistake; for a function, it is the wrong one itself.
    """

    name: str
    explanation: str
    implementation: Callable[..., Any]


def suspects(task: Task) -> list[Suspect]:
    """Return the mistakes that a task knows by name.

    Examples
    --------
    >>> from npformer.exercises.tasks import TASKS
    >>> suspects(TASKS["layer_norm"])[0].name
    'LayerNorm.mean_term_missing'
    """
    if isinstance(task, BackwardTask):
        return [Suspect(mistake.name, mistake.explanation, _planting(mistake)) for mistake in task.mistakes()]
    if isinstance(task, ForwardTask):
        return [Suspect(f"{task.name}.{wrong.__name__}", wrong.__doc__ or "", wrong) for wrong in task.wrong]
    return []


def _planting(mistake: Mistake) -> Callable[[Component], Component]:
    return lambda component: with_backward(component, mistake.backward, mistake.forward)


def learner(task: Task, written: Any) -> Callable[..., Any]:
    """Return a learner's class or function in the form that a trial runs."""
    if isinstance(task, BackwardTask):
        return lambda component: instance_of(written, component)
    function: Callable[..., Any] = written
    return function
