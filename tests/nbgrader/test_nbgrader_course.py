"""A course made with nbgrader from the notebook of the examples: release, submissions, points, feedback."""

import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from nbgrader.api import Gradebook

EXAMPLE = Path(__file__).parents[2] / "examples" / "exercise_layer_norm.ipynb"
BLANK = "# YOUR CODE HERE\nraise NotImplementedError()"  # what nbgrader puts in the place of a solution
MEAN_TERM = " - mean_g"
# All that a learner may do that could reach the notebook's stderr, for which nbgrader gives no points at all.
NOISE = """import logging, sys, warnings
from IPython.display import display
print("to stderr", file=sys.stderr)
print("to a stream that was held", file=HELD)
logging.warning("logged")
warnings.warn("warned")
display(grad_output.shape)
np.log(np.zeros(3))
"""
HOLD = "import logging, sys\nlogging.basicConfig()\nHELD = sys.stderr\n\n"
POINTS = {"blank": 0.0, "half_right": 4.0, "noisy": 6.0, "right": 6.0, "too_long": 0.0}


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graded course in a folder of its own."""
    folder = tmp_path_factory.mktemp("course")
    source = folder / "source" / "ps1" / EXAMPLE.name
    source.parent.mkdir(parents=True)
    text = EXAMPLE.read_text(encoding="utf-8")
    assert text.count("seconds=10") == 2
    source.write_text(text.replace("seconds=10", "seconds=5"), encoding="utf-8")  # one submission uses them up
    _nbgrader(folder, "generate_assignment", "ps1")
    solution = _solution()
    assert MEAN_TERM in solution
    for student, answer in {
        "blank": None,
        "half_right": solution.replace(MEAN_TERM, ""),
        "noisy": NOISE + solution,
        "right": solution,
        "too_long": "while True:\n    pass",
    }.items():
        _submit(folder, student, answer)
    _nbgrader(folder, "autograde", "ps1")
    _nbgrader(folder, "generate_feedback", "ps1")
    return folder


def _nbgrader(folder: Path, *command: str) -> None:
    own = {"HOME": "home", "IPYTHONDIR": "home/ipython"} | {
        f"JUPYTER_{name}_DIR": f"home/{name.lower()}" for name in ("CONFIG", "DATA", "RUNTIME")
    }
    environment = os.environ | {name: str(folder / path) for name, path in own.items()}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # for alembic
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", *command], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _cells(notebook: Path) -> dict[str, dict[str, Any]]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return {cell["metadata"]["nbgrader"]["grade_id"]: cell for cell in cells}


def _solution() -> str:
    source = "".join(_cells(EXAMPLE)["answer"]["source"])
    region = re.search(r"### BEGIN SOLUTION\n(.*?) *### END SOLUTION", source, re.DOTALL)
    assert region is not None
    return re.sub(r"^ {8}", "", region[1], flags=re.MULTILINE)


def _submit(folder: Path, student: str, answer: str | None) -> None:
    """Hand in the released notebook with an answer in the place of the blank."""
    notebook = json.loads((folder / "release" / "ps1" / EXAMPLE.name).read_text(encoding="utf-8"))
    (cell,) = [each for each in notebook["cells"] if each["metadata"]["nbgrader"]["grade_id"] == "answer"]
    source = "".join(cell["source"])
    assert source.count(BLANK.splitlines()[0]) == 1
    if answer is not None:
        indented = answer.replace("\n", "\n        ")
        cell["source"] = HOLD + source.replace(BLANK.replace("\n", "\n        "), indented)
        assert BLANK.splitlines()[1] not in cell["source"]
    target = folder / "submitted" / student / "ps1" / EXAMPLE.name
    target.parent.mkdir(parents=True)
    target.write_text(json.dumps(notebook), encoding="utf-8")


def test_the_release_has_the_blank_and_no_solution(course: Path) -> None:
    released = _cells(course / "release" / "ps1" / EXAMPLE.name)
    text = "".join("".join(cell["source"]) for cell in released.values())
    assert "raise NotImplementedError()" in "".join(released["answer"]["source"])
    assert "SOLUTION" not in text
    assert not [line for line in _solution().splitlines() if line.strip() and line.strip() in text]


def test_the_gradebook_has_the_points_of_each_array(course: Path) -> None:
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        graded = {each.student.id: (each.score, each.max_score) for each in gradebook.assignment_submissions("ps1")}
    assert graded == {student: (points, 6.0) for student, points in POINTS.items()}


@pytest.mark.parametrize("student", sorted(POINTS))
def test_nothing_of_a_graded_notebook_is_an_error_or_on_stderr(course: Path, student: str) -> None:
    cells = _cells(course / "autograded" / student / "ps1" / EXAMPLE.name)
    outputs = [output for cell in cells.values() for output in cell.get("outputs", [])]
    assert {(output["output_type"], output.get("name")) for output in outputs} == {("execute_result", None)}
    (value,) = cells["points"]["outputs"]
    assert float("".join(value["data"]["text/plain"])) == POINTS[student]


@pytest.mark.parametrize(
    ("student", "sentence"),
    [
        ("blank", "Nothing is written yet: fill in `backward` at line 13 of the notebook cell."),
        ("half_right", "LayerNorm.mean_term_missing"),
        ("noisy", "WARNING:root:logged"),
        ("right", "Everything is right."),
        ("too_long", "it was still running after 5 s"),
    ],
)
def test_the_feedback_says_what_was_found(course: Path, student: str, sentence: str) -> None:
    (report,) = _cells(course / "autograded" / student / "ps1" / EXAMPLE.name)["report"]["outputs"]
    assert sentence in "".join(report["data"]["text/plain"])
    feedback = course / "feedback" / student / "ps1" / EXAMPLE.with_suffix(".html").name
    assert sentence in html.unescape(feedback.read_text(encoding="utf-8"))
