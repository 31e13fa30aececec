"""Grades made by hand, one of each kind, so that what is done with grades can be tested without grading."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from npformer.exercises import assertion, checking
from npformer.exercises.grade import ArrayGrade, Finding, Grade, SideBySide
from npformer.exercises.task import Task

TASK, TITLE = "layer_norm", "Layer normalisation, backward"
SPOILER = "grad_x lacks - rstd * mean(g)."

RIGHT = tuple(ArrayGrade(name, "PASS") for name in ("x", "weight", "bias"))
SOLVED = Grade(TASK, TITLE, "solved", "x, weight and bias are right.", RIGHT, 6.0, 6)
WRONG = Grade(
    TASK,
    TITLE,
    "wrong",
    "x is wrong; weight and bias are right.",
    (ArrayGrade("x", "FAIL", "a slope of forward is 0.2 where backward says 0.21"), *RIGHT[1:]),
    4.0,
    6,
    SideBySide(
        "x",
        (
            ("x", ((1.0, 2.0, -0.5), (0.1, 0.2, 3.0))),
            ("", ()),
            ("grad_output", ((1.25, -0.5, 0.75), (0.5, -1.25, 1.0))),
        ),
        ((0.21, 1.3, math.nan), (0.5, 0.25, math.inf)),
        ((0.2, 1.3, 2.2), (0.5, 0.25, -0.5)),
        (1, 2, 3),
    ),
    (
        Finding(
            ("x",),
            "LayerNorm.mean_term_missing",
            "certain",
            "it gives exactly what your code gives, in all 5 situations.",
            "x → mean(x) → x_hat → output",
            SPOILER,
        ),
        Finding(("x", "weight"), "missing sum over the batch", "possible", "the ratio is 2 everywhere.", "", ""),
    ),
    ("In every row of x.", "Most at index (0, 0, 2)."),
    "mean 0.5\n",
)
UNRECOGNISED = dataclasses.replace(WRONG, findings=(), printed="")
BLANK = Grade(TASK, TITLE, "blank", "Nothing is written yet, in layer_norm.py, line 41.", out_of=6)
TRACEBACK = """layer_norm.py, line 31, in backward: ValueError: operands could not be broadcast together
      30 |         g = grad_output * self.weight
    > 31 |         grad_x = rstd * (g - mean.T)
      32 |         return grad_x, {}"""
ERROR = Grade(TASK, TITLE, "error", TRACEBACK, out_of=6)
TIMEOUT = Grade(
    TASK, TITLE, "error", "It was still running after 30 s, in layer_norm.py, line 31, in backward.", out_of=6
)
EACH = {
    "solved": SOLVED,
    "wrong": WRONG,
    "unrecognised": UNRECOGNISED,
    "blank": BLANK,
    "error": ERROR,
    "timeout": TIMEOUT,
}


class Grader:
    """Stands for check: the last word of a learner's file is the kind of its grade, or else that is blank."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def check(self, learner: Any, task: Task, **limits: Any) -> Grade:
        self.calls.append({"learner": learner, "task": task, **limits})
        last = Path(learner).read_text(encoding="utf-8").split()[-1]
        grade = EACH.get(last, BLANK)
        points = task.points * grade.points / 6
        return dataclasses.replace(grade, task=task.name, title=task.title, points=points, out_of=task.points)


@pytest.fixture
def grader(monkeypatch: pytest.MonkeyPatch) -> Grader:
    """Put a Grader in the place of check, for this process."""
    stand_in = Grader()
    for module in (assertion, checking):
        monkeypatch.setattr(module, "check", stand_in.check)
    return stand_in
