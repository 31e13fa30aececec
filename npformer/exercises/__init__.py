"""Gradient-check exercises, and a grader that says which mistake was made."""

from npformer.exercises.assertion import assert_solved
from npformer.exercises.check import check, find_task
from npformer.exercises.grade import ArrayGrade, Finding, Grade, SideBySide
from npformer.exercises.report import report
from npformer.exercises.results import junit
from npformer.exercises.task import BackwardTask, Call, ForwardTask, Task, Term
from npformer.exercises.tasks import TASKS
from npformer.exercises.teacher import load_task

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
    "assert_solved",
    "check",
    "find_task",
    "junit",
    "load_task",
    "report",
]
