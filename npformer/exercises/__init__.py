"""Gradient-check exercises, and a grader that says which mistake was made."""

from npformer.exercises.check import check, find_task
from npformer.exercises.grade import ArrayGrade, Finding, Grade, SideBySide
from npformer.exercises.task import BackwardTask, Call, ForwardTask, Task, Term
from npformer.exercises.tasks import TASKS

__all__ = [
    "TASKS",
    "ArrayGrade",
    "BackwardTask",
    "Call",
    "Finding",
    "ForwardTask",
    "Grade",
    "SideBySide",
    "Task",
    "Term",
    "check",
    "find_task",
]
