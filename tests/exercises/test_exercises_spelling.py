"""A terminal that lacks Greek letters and signs shows other words for them, and no question marks."""

import inspect
import sys

import pytest

from npformer.exercises.source import blank_file, solution_source
from npformer.exercises.spelling import spelled
from npformer.exercises.task import BackwardTask, Task
from npformer.exercises.tasks import TASKS
from npformer.gradcheck.sizes import SITUATIONS


def texts(task: Task) -> str:
    module = inspect.getsource(sys.modules[task.solution.__module__])  # with the terms' names and paths, and mistakes
    mistakes = [mistake.explanation for mistake in task.mistakes()] if isinstance(task, BackwardTask) else []
    parts = [task.title, task.statement, *task.hints, task.derivation, blank_file(task), solution_source(task), module]
    return "\n".join([*parts, *mistakes, *SITUATIONS])


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "cp1252"])
@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_every_text_of_an_exercise_can_be_spelled(task: Task, encoding: str) -> None:
    text = texts(task)
    shown = spelled(text, encoding)
    assert shown.encode(encoding).decode(encoding) == shown
    assert shown.count("?") == text.count("?")
    assert "[" + "greek" not in shown
    assert "[" + "superscript" not in shown
    assert shown.count("\n") == text.count("\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Σ g · x̂² − ½ √d_k", "sum g * x^2 - 1/2 sqrt d_k"),
        ("Φ(x) + x φ(x), ε = 1e-5", "Phi(x) + x phi(x), eps = 1e-5"),
        ("∂L/∂x → wᵀ, δ_ij, σ_i, μ, ∞, ∫", "dL/dx -> w^T, delta_ij, sigma_i, mu, inf, integral"),
        ("Σ_j √x √(x) εx", "sum_j sqrt x sqrt(x) eps x"),
        ("α β γ x³ yᵢ …", "alpha beta gamma x^3 y_i ..."),
        ("café № ☃ \udc80?", "cafe No [snowman] \\udc80?"),
    ],
)
def test_a_table_then_no_accents_then_the_name(text: str, shown: str) -> None:
    assert spelled(text, "ascii") == shown


def test_what_the_terminal_has_stays_as_it_is() -> None:
    assert spelled("Σ → ½", "utf-8") == "Σ → ½"
    assert spelled("Σ → ½", "latin-1") == "sum -> ½"
