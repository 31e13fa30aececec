"""The grader as a whole: blank files, right ones, and wrong ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npformer import Component
from npformer.component import Array, Tree
from npformer.exercises import TASKS, BackwardTask, check, find_task
from npformer.exercises.source import blank_file, body_lines, imports_for, solution_source
from npformer.exercises.tasks.layer_norm import LayerNorm
from npformer.exercises.tasks.multi_head import MultiHeadedAttention
from npformer.exercises.tasks.softmax import Softmax

BLANK = '        raise NotImplementedError("backward is still to be written")'


def _layer_norm(tmp_path: Path, body: str) -> Path:
    """A learner's file with this in place of the blank."""
    path = tmp_path / "layer_norm.py"
    path.write_text(blank_file(TASKS["layer_norm"]).replace(BLANK, body), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", TASKS)
def test_a_blank_file_is_told_where_to_begin(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.py"
    path.write_text(blank_file(TASKS[name]), encoding="utf-8")
    line = next(
        number for number, text in enumerate(path.read_text().splitlines(), 1) if "raise NotImplementedError" in text
    )
    grade = check(path)
    assert (grade.status, grade.points) == ("blank", 0)
    assert grade.message == f"Nothing is written yet: fill in `{TASKS[name].blank}` at line {line} of {name}.py."


@pytest.mark.parametrize("name", TASKS)
def test_the_file_with_the_solution_is_solved(name: str, tmp_path: Path) -> None:
    task = TASKS[name]
    whole = solution_source(task)
    first, last = body_lines(whole, task.blank)
    lines = blank_file(task).splitlines()
    at = next(number for number, text in enumerate(lines) if "raise NotImplementedError" in text)
    lines[at - 1 : at + 1] = whole.splitlines()[first - 1 : last]
    path = tmp_path / f"{name}.py"
    lines[-1:] = [lines[-1], *imports_for(task, whole)]  # what the answer needs beyond what stands in the file
    path.write_text("\n".join(lines), encoding="utf-8")
    grade = check(path, seed=1)
    assert grade.status == "solved", grade
    assert grade.points == grade.out_of == task.points


def test_an_encoder_with_the_learners_class_is_the_last_thing_that_is_tried() -> None:
    assert check(LayerNorm).arrays[-1].name == "an encoder that uses it"


def test_what_was_found_comes_with_the_path_and_without_the_formula() -> None:
    class Learners(LayerNorm):
        def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
            g = grad_output * self.weight
            grad_x = cache["rstd"] * (g - g.mean(-1, keepdims=True))
            return grad_x, super().backward(grad_output, cache)[1]

    grade = check(Learners, "layer_norm")
    finding = grade.findings[0]
    assert (finding.name, finding.sureness) == ("LayerNorm.variance_term_missing", "certain")
    assert finding.path == "x → var(x) → rstd → x_hat → output"
    assert (grade.points, grade.right) == (4.0, ("weight", "bias"))
    assert "mean(g * x_hat)" not in str(grade)
    assert "rstd is forgotten" in finding.spoiler


def test_a_term_that_no_catalogue_has_is_told_by_its_coefficient() -> None:
    class Learners(LayerNorm):
        def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
            g, x_hat = grad_output * self.weight, cache["x_hat"]
            through_rstd = 3 * x_hat * (g * x_hat).mean(-1, keepdims=True)
            grad_x = cache["rstd"] * (g - g.mean(-1, keepdims=True) - through_rstd)
            return grad_x, super().backward(grad_output, cache)[1]

    [finding] = check(Learners, "layer_norm").findings
    assert finding.spoiler == "The coefficient of the rstd * x_hat * mean(g * x_hat) term is -3, it should be -1."


def test_what_nothing_explains_is_said_to_be_so_with_the_place() -> None:
    class Learners(Softmax):
        def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
            grad_x, grads = super().backward(grad_output, cache)
            wrong = grad_x.copy()
            wrong[..., -1] += np.cumsum(np.sin(7 * cache["output"]) * grad_output, axis=-1)[..., 0]
            return wrong, grads

    grade = check(Learners, "softmax")
    assert grade.findings == ()
    assert "Your gradient of x is wrong exactly in the last column." in grade.whereabouts
    assert "Nothing was recognised" in str(grade)


def test_code_that_fails_in_some_cases_is_diagnosed_in_the_others() -> None:
    class Learners(MultiHeadedAttention):
        def backward(self, grad_output: Array, cache: Tree) -> Any:
            gradients, grads = super().backward(grad_output, cache)
            if isinstance(gradients, tuple):
                raise KeyError("cross-attention")
            return -gradients, grads

    grade = check(Learners, "multi_head")
    assert (grade.status, grade.points) == ("wrong", 0)
    assert "An error is raised in 2 of 5 cases" in grade.message
    assert 'raise KeyError("cross-attention")' in grade.message
    assert grade.findings[0].name == "Component.sign_flipped"


def test_the_exercise_is_found_by_the_name_of_a_file_a_function_or_a_class() -> None:
    class MySoftmax(Softmax):
        pass

    assert find_task(MySoftmax).name == "softmax"
    assert find_task("work/gelu.py").name == "gelu"
    assert find_task(TASKS["clones"].solution).name == "clones"
    for written, task, said in (
        (MySoftmax, "sofmax", "there are softmax"),
        (TASKS["attention_core"].solution, None, "attention_core or fully_masked"),
        (3, None, "written must be"),
        (MySoftmax, 3, "task must be"),
    ):
        with pytest.raises((TypeError, ValueError), match=said):
            find_task(written, task)  # type: ignore[arg-type]


def test_a_class_must_be_a_component(tmp_path: Path) -> None:
    path = tmp_path / "layer_norm.py"
    path.write_text("class LayerNorm:\n    pass\n")
    assert "must be a class that derives from npformer.Component" in check(path).message
    path.write_text("import numpy\n")
    assert check(path).message == "layer_norm.py must have a LayerNorm, but there is none in it."
    with pytest.raises(ValueError, match="not there"):
        check(tmp_path / "softmax.py")
    with pytest.raises(ValueError, match="seed"):
        check(LayerNorm, seed=-1)


def test_every_backward_of_an_exercise_that_can_stand_in_an_encoder_does() -> None:
    outside = {name for name, task in TASKS.items() if isinstance(task, BackwardTask) and not task.in_encoder}
    assert outside == {"attention_core", "fully_masked"}
    assert issubclass(LayerNorm, Component)
