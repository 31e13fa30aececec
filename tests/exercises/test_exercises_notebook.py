"""The notebook for a course, without Jupyter; and what code run apart must not do to a notebook's kernel."""

import builtins
import json
import linecache
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from npformer.exercises import Grade
from npformer.exercises.apart import run_apart

NOTEBOOK = Path(__file__).parents[2] / "examples" / "exercise_layer_norm.ipynb"
MEAN_TERM = " - mean_g"


def _cells() -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return cells


def _sources() -> dict[str, str]:
    """Return the code of the cells by their names."""
    return {cell["id"]: "".join(cell["source"]) for cell in _cells() if cell["cell_type"] == "code"}


def _run(sources: dict[str, str]) -> dict[str, Any]:
    """Run cells as Jupyter's kernel names them, and return the value of each one's last line."""
    names: dict[str, Any] = {"__name__": "__main__"}
    values = {}
    for number, (cell, source) in enumerate(sources.items()):
        file = f"/notebook/ipykernel_99/{number}.py"
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        *head, last = re.split(r"^(?=\S)", source, flags=re.MULTILINE)  # before each line that is not indented
        if cell in ("report", "points"):
            exec(compile("".join(head), file, "exec"), names)
            values[cell] = eval(compile(last.strip(), file, "eval"), names)
        else:
            exec(compile(source, file, "exec"), names)
    return values


def _answered(answer: str) -> dict[str, str]:
    """Return the cells with an answer, which may use SOLUTION, in the place of the solution."""
    sources = _sources()
    head, solution, _ = re.split(r" *### (?:BEGIN|END) SOLUTION\n?", sources["answer"])
    return sources | {"answer": head + answer.replace("SOLUTION", solution)}


@pytest.mark.parametrize(
    ("answer", "points", "sentence"),
    [
        ("SOLUTION", 6.0, "Everything is right."),
        ("        # YOUR CODE HERE\n        raise NotImplementedError()", 0.0, "line 13 of the notebook cell"),
        ("        return np.squared(grad_output)", 0.0, "notebook cell, line 12, in backward: AttributeError"),
        ("        print('shape', grad_output.shape)\nSOLUTION", 6.0, "Everything is right."),
    ],
)
def test_an_answer_gets_its_points(answer: str, points: float, sentence: str) -> None:
    values = _run(_answered(answer))
    assert isinstance(values["report"], Grade)
    assert sentence in values["report"].message
    assert repr(values["points"]) == repr(points)  # nbgrader reads what is printed: "np.float64(6.0)" is no number


def test_a_missing_term_costs_its_array_and_is_named() -> None:
    sources = _sources()
    assert sources["answer"].count(MEAN_TERM) == 1
    values = _run(sources | {"answer": sources["answer"].replace(MEAN_TERM, "")})
    assert values["points"] == 4.0
    assert values["report"].findings[0].name == "LayerNorm.mean_term_missing"


def test_an_endless_loop_is_told_at_the_line_of_its_cell() -> None:
    sources = _answered("        while True:\n            pass\n")
    report = sources["report"].replace("seconds=10", "seconds=0.5")
    assert report != sources["report"]
    grade = _run({name: sources[name] for name in ("imports", "answer")} | {"report": report})["report"]
    assert re.search(r"It was in backward, at line 1[23] of the notebook cell\.", grade.message)


def test_the_notebook_is_one_that_nbgrader_reads() -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    cells = notebook["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    assert not [cell["id"] for cell in cells if cell.get("outputs") or cell.get("execution_count")]
    marks = {cell["id"]: cell["metadata"]["nbgrader"] for cell in cells}
    assert all(name == mark["grade_id"] and mark["schema_version"] == 3 for name, mark in marks.items())
    assert [name for name, mark in marks.items() if mark["solution"]] == ["answer"]
    assert [(name, mark["points"]) for name, mark in marks.items() if mark["grade"]] == [("points", 6)]
    assert [name for name, mark in marks.items() if not mark["locked"]] == ["answer"]


def test_nothing_of_the_answer_stands_outside_the_solution() -> None:
    text = "".join("".join(cell["source"]) for cell in _cells())
    solution = re.search(r"### BEGIN SOLUTION\n(.*)### END SOLUTION", text, re.DOTALL)
    assert solution is not None
    outside = text.replace(solution[0], "")
    assert not [line for line in solution[1].splitlines() if line.strip() and line.strip() in outside]
    assert "mean(g" not in outside
    assert not re.search(r"/home|/root|/tmp|/Users|\\\\", text)


class Forwarding:
    """A stream that sends what is written to somewhere else, as those of Jupyter's kernel do."""

    def __init__(self, file: Path):
        self.file = file

    def write(self, text: str) -> int:
        with self.file.open("a", encoding="utf-8") as file:
            return file.write(text)

    def flush(self) -> None:
        self.write("")


def test_what_is_written_to_a_stream_that_was_held_before_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, Forwarding(elsewhere))
    held = sys.stdout, sys.stderr
    outcome = run_apart(lambda: [print(number, file=each, flush=True) for number, each in enumerate(held)])
    assert (outcome.printed, outcome.ended) == ("0\n1\n", "")
    assert not elsewhere.exists() or elsewhere.read_text(encoding="utf-8") == ""
    print("still there", file=held[0])
    assert elsewhere.read_text(encoding="utf-8") == "still there\n"


def test_a_stream_without_attributes_of_its_own_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    outcome = run_apart(lambda: print("said"))
    assert (outcome.printed, outcome.ended) == ("said\n", "")


def test_a_kernel_is_not_asked_to_display_or_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    cleared: list[str] = []
    module: Any = types.ModuleType("IPython.core.interactiveshell")
    module.InteractiveShell = types.SimpleNamespace(clear_instance=lambda: cleared.append("shell"))
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def ask_the_kernel(prompt: str = "") -> str:
        return f"the kernel's answer to {prompt}"

    monkeypatch.setattr(builtins, "input", ask_the_kernel)
    assert run_apart(lambda: list(cleared)).result == ["shell"]
    assert not cleared  # in this process
    assert run_apart(lambda: input("How many? ")).ended == "it raised EOFError: nobody is there to answer 'How many? '"
    assert input("you") == "the kernel's answer to you"
