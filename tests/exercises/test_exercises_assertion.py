"""The form for test suites: a function that fails the test with what a learner reads, and the fixture `exercise`."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from made_grades import Grader, grader

from npformer.exercises import assert_solved
from npformer.exercises.report import report
from npformer.exercises.source import blank_file, solution_source
from npformer.exercises.tasks import TASKS

__all__ = ["grader"]  # a fixture

TASK = TASKS["layer_norm"]

SUITE = """
import sys

def test_nothing_heavy_is_imported_before_the_fixture_is_used():
    assert not {"numpy", "npformer"} & set(sys.modules)

def test_solved(exercise):
    assert exercise("solved/layer_norm.py").status == "solved"

def test_blank(exercise):
    exercise("layer_norm.py", seconds=20)
"""


def test_a_solved_exercise_comes_back(tmp_path: Path, grader: Grader) -> None:
    path = tmp_path / "layer_norm.py"
    path.write_text("# solved", encoding="utf-8")
    assert assert_solved(path, TASK, seed=3, seconds=1.5, megabytes=100).passed
    assert grader.calls == [{"learner": path, "task": TASK, "seed": 3, "seconds": 1.5, "megabytes": 100}]


def test_any_other_fails_with_the_report(tmp_path: Path, grader: Grader) -> None:
    path = tmp_path / "layer_norm.py"
    for kind in ("wrong", "blank", "error", "timeout"):
        path.write_text(f"# {kind}", encoding="utf-8")
        with pytest.raises(AssertionError) as failed:
            assert_solved(path, TASK)
        assert str(failed.value) == f"the exercise is not solved\n{report(grader.check(path, TASK, seed=0))}"


def test_the_fixture_fails_a_test_with_the_report(tmp_path: Path) -> None:
    course, elsewhere = tmp_path / "course", tmp_path / "elsewhere"
    (course / "solved").mkdir(parents=True)
    elsewhere.mkdir()
    (course / "test_suite.py").write_text(SUITE, encoding="utf-8")
    (course / "layer_norm.py").write_text(blank_file(TASK), encoding="utf-8")
    imports = "from __future__ import annotations\nimport numpy as np\nfrom npformer.component import *\n"
    (course / "solved" / "layer_norm.py").write_text(imports + solution_source(TASK), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:hypothesispytest", "-p", "no:cacheprovider", str(course)]
    result = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (1, "")
    assert re.search(r"1 failed, 2 passed", result.stdout), result.stdout
    assert "E       AssertionError: the exercise is not solved\n" in result.stdout
    assert "Layer normalisation, backward (layer_norm): still to be written, 0 of 6 points\n" in result.stdout
    assert "npformer/exercises/assertion.py" not in result.stdout  # the traceback ends at the test's own line
    assert "npformer_pytest.py" not in result.stdout
