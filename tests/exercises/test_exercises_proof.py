"""A teacher's task that is not right is refused when it is loaded, in one sentence."""

from pathlib import Path

import pytest
from commands_run import Captured, folder, refusal, run

from npformer.exercises.proof import prove
from npformer.exercises.tasks import TASKS
from npformer.exercises.teacher import load_task

__all__ = ["folder"]  # a fixture

EXAMPLE = Path(__file__).parents[2] / "examples" / "exercise_rms_norm.py"
RIGHT_X = "rrms * g - rrms**3 * x * (g * x).mean(-1, keepdims=True)"
UNPROVEN = {
    "a wrong solution": (
        (RIGHT_X, "rrms * g"),
        "solution of the TASK of teacher.py must be right, but its gradient of x is FAIL in the situation ",
    ),
    "an output that is another": (
        ("solution=RMSNorm,", "solution=Other,"),
        "solution of the TASK of teacher.py must have the output of RMSNorm, but it has another in the situation ",
    ),
    "an error in the solution": (
        (RIGHT_X, "1 / 0"),
        r"component of the TASK of teacher.py must run, but it raises an error in the situation .*teacher\.py, line "
        r"\d+, in backward: ZeroDivisionError: division by zero$",
    ),
    "an error in make": (
        ("    randomise(norm, rng)", "    randomise(norm)"),
        r"make of the TASK of teacher.py must run, but it raises an error: .*teacher\.py, line \d+, in make: TypeError",
    ),
    "make without a Case": (
        ("return Case(norm, ", "return (norm, "),
        "make of the TASK of teacher.py must return a Case of a RMSNorm, but it is a tuple",
    ),
    "an error in terms": (
        ("    g = grad_output * case.component.parameters()", "    g = case.parameters()"),
        r"terms of the TASK of teacher.py must run, .*teacher\.py, line \d+, in terms: AttributeError",
    ),
    "terms that do not add up": (
        ("path, -1, rrms**3", "path, 1, rrms**3"),
        "terms of the TASK of teacher.py must add up to the gradient of x, but they make something else in the situa",
    ),
    "terms of nothing": (
        ('        "x": (', '        "y": ('),
        "terms of the TASK of teacher.py must be those of gradients .x, weight., but there is 'y'",
    ),
    "a mistake that is none": (
        ('return cache["rrms"] * grad_output * norm.weight, grads', "return norm.backward(grad_output, cache)"),
        "wrong of the TASK of teacher.py must give wrong results, but mean_square_forgotten gives the right ones in ev",
    ),
    "a mistake that never runs": (
        ('return cache["rrms"] * grad_output * norm.weight, grads', 'return cache["root"], grads'),
        r"wrong of the TASK of teacher.py must run, but mean_square_forgotten raises an error: .*KeyError: 'root'$",
    ),
    "a mistake without a docstring": (
        ('    """rrms is taken for a constant, though it depends on every x of its row."""\n', ""),
        "wrong of the TASK of teacher.py must have docstrings of one line, but mean_square_forgotten has none",
    ),
    "mistakes that are none": (
        ("wrong=(mean_square_forgotten, mean_term_kept)", "wrong=mean_term_kept"),
        "wrong of the TASK of teacher.py must be a tuple of functions, but it is a function",
    ),
    "a component that is none": (
        ("component=RMSNorm,", "component=make,"),
        "component of the TASK of teacher.py must be a class that derives from Component, but it is a function",
    ),
}
OTHER = """class Other(RMSNorm):
    def forward(self, x: Array) -> tuple[Array, Tree]:
        output, cache = super().forward(x)
        return output + 1e-6, cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        return super().backward(grad_output, cache)


"""


@pytest.mark.parametrize("what", UNPROVEN)
def test_a_task_that_is_not_right_is_refused_in_one_sentence(tmp_path: Path, what: str) -> None:
    (right, wrong), expected = UNPROVEN[what]
    source = EXAMPLE.read_text(encoding="utf-8")
    assert source.count(right) == 1
    path = tmp_path / "teacher.py"
    path.write_text(source.replace(right, wrong).replace("TASK = ", f"{OTHER}TASK = "), encoding="utf-8")
    with pytest.raises((TypeError, ValueError), match=f"^{expected}") as refused:
        load_task(path)
    assert len(str(refused.value).splitlines()) == 1


FUNCTION = """
import numpy as np
from npformer.exercises.task import Call, ForwardTask

def double(x):
    return 2 * x

def calls(seed):
    yield "one", Call((np.ones(3),))

def look(result, x):
    return {"output": result}

def tripled(x):
    \"\"\"x is multiplied by 3.\"\"\"
    return 3 * x

TASK = ForwardTask(name="double", title="Twice", statement="Double x.", solution=double, blank="double", points=1,
    calls=calls, look=look, wrong=(tripled,), hints=("Twice.",), derivation="x + x.")
"""


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        ("yield ", "1 / 0; yield ", "calls of the TASK of teacher.py must run, but .* ZeroDivisionError"),
        ('yield "one"', 'return; yield "one"', "calls of the TASK of teacher.py must yield at least one call"),
        ("return 2 * x", "return x / 0", "TASK of teacher.py must have finite right answers, but its solution has NaN"),
        (
            '{"output": result}',
            "{}",
            "TASK of teacher.py must have finite right answers, but its solution gives no arr",
        ),
        ("return 3 * x", "return 2 * x", "wrong of the TASK of teacher.py must give wrong results, but tripled gives"),
    ],
)
def test_a_function_s_task_is_proven_too(tmp_path: Path, right: str, wrong: str, expected: str) -> None:
    path = tmp_path / "teacher.py"
    path.write_text(FUNCTION, encoding="utf-8")
    assert load_task(path).name == "double"
    path.write_text(FUNCTION.replace(right, wrong), encoding="utf-8")
    with pytest.raises(ValueError, match=f"^{expected}"):
        load_task(path)


@pytest.mark.parametrize("name", TASKS)
def test_the_exercises_themselves_are_proven(name: str) -> None:
    prove(TASKS[name], Path(f"{name}.py"))


@pytest.mark.usefixtures("folder")
def test_an_error_that_comes_with_another_seed_is_the_task_s_too(capsys: Captured) -> None:
    source = EXAMPLE.read_text(encoding="utf-8")
    right = "    randomise(norm, rng)\n"
    assert source.count(right) == 1
    first = "np.random.default_rng(3).random()"
    Path("teacher.py").write_text(
        source.replace(right, f"    assert rng.random() != {first}\n{right}"), encoding="utf-8"
    )
    assert run(capsys, "start", "rms_norm", "--task-file", "teacher.py")[0] == 0
    assert run(capsys, "check", "--task-file", "teacher.py")[0] == 1
    line = refusal(capsys, "check", "--task-file", "teacher.py", "--seed", "3")
    assert line.startswith("make of the TASK of teacher.py must run, but it raises an error: ")
    assert "AssertionError" in line


def test_a_mistake_may_show_in_its_conduct_alone(tmp_path: Path) -> None:
    source = EXAMPLE.read_text(encoding="utf-8")
    right = 'return cache["rrms"] * grad_output * norm.weight, grads'
    path = tmp_path / "teacher.py"
    answer = "grad_x, grads = norm.backward(grad_output, cache)\n    grad_output *= 2\n    return grad_x, grads"
    path.write_text(source.replace(right, answer), encoding="utf-8")
    assert load_task(path).name == "rms_norm"
