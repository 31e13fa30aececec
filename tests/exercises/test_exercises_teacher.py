"""A task that a teacher adds: the example is right, and what is no task is refused in one sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_grades import Grader, grader

from npformer.cli import main
from npformer.exercises.grade import SOLVED
from npformer.exercises.proof import prove
from npformer.exercises.source import blank_file
from npformer.exercises.task import BackwardTask, instance_of
from npformer.exercises.tasks import TASKS
from npformer.exercises.teacher import load_task
from npformer.gradcheck import check_gradients
from npformer.gradcheck.cases import signed
from npformer.mistakes.catalogue import with_backward

__all__ = ["grader"]  # a fixture

EXAMPLE = Path(__file__).parents[2] / "examples" / "exercise_rms_norm.py"
EXACT = 1e-13  # of the largest entry, as the gradient checker has it
SEEN = 1e-3  # of the largest entry; a mistake must not hide in roundings


@pytest.fixture(scope="module")
def task() -> BackwardTask:
    loaded = load_task(EXAMPLE)
    assert isinstance(loaded, BackwardTask)
    return loaded


def test_the_example_s_answer_is_proven_right(task: BackwardTask) -> None:
    for seed in range(3):
        for _, case in task.cases(seed):
            solution: Any = task.solution
            report = check_gradients(instance_of(solution, case.component), *case.inputs, seed=seed)
            assert report.verdict == "PASS", report


def test_the_example_s_terms_add_up_and_its_mistakes_show(task: BackwardTask) -> None:
    assert task.terms is not None
    for _, case in task.cases(seed=0):
        output, cache = case.component.forward(*case.inputs)
        grad_output = signed(np.random.default_rng(0), output.shape, 0.5, 1.5)
        right, _ = case.component.backward(grad_output, cache)
        largest = np.abs(right).max()
        (name,) = terms = task.terms(case, cache, grad_output)
        total = sum(term.coefficient * term.values for term in terms[name])
        assert np.abs(total - right).max() <= EXACT * largest
        for wrong in task.wrong:
            wrong_x, _ = with_backward(case.component, wrong).backward(grad_output, cache)
            assert np.abs(wrong_x - right).max() > SEEN * largest
            assert len(str(wrong.__doc__).splitlines()) == 1


def test_a_learner_can_fill_in_the_example(task: BackwardTask, tmp_path: Path) -> None:
    path = tmp_path / "rms_norm.py"
    path.write_text(blank_file(task), encoding="utf-8")
    names: dict[str, Any] = {}
    exec(compile(path.read_text(encoding="utf-8"), path, "exec"), names)
    norm = instance_of(names["RMSNorm"], next(task.cases(0))[1].component)
    output, cache = norm.forward(np.ones((2, norm.weight.size)))
    with pytest.raises(NotImplementedError, match="backward is still to be written"):
        norm.backward(output, cache)


def test_the_example_goes_through_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], grader: Grader
) -> None:
    monkeypatch.chdir(tmp_path)
    with_it = ["rms_norm", "--task-file", str(EXAMPLE)]
    assert main(["exercise", "start", *with_it]) == 0
    assert main(["exercise", "check", *with_it]) == 1
    assert main(["exercise", "hint", *with_it]) == 0
    assert main(["exercise", "solution", *with_it]) == 0
    Path("rms_norm.py").write_text(f"# {SOLVED}", encoding="utf-8")
    assert main(["exercise", "check", "--task-file", str(EXAMPLE)]) == 0
    assert main(["exercise", "list", "--task-file", str(EXAMPLE)]) == 0
    printed = capsys.readouterr()
    assert f"npformer exercise hint rms_norm --task-file {EXAMPLE} " in printed.out
    assert "[x] rms_norm " in printed.out
    assert printed.err == ""
    assert main(["exercise", "list", "--task-file", str(EXAMPLE), "--task-file", str(EXAMPLE)]) == 2
    assert "there is an exercise rms_norm" in capsys.readouterr().err


REFUSED = {
    "": "teacher.py must define TASK, a BackwardTask or a ForwardTask, but it does not",
    "TASK = 3": "TASK of teacher.py must be a BackwardTask or a ForwardTask, but it is an int",
    "\nTASK = undefined": "teacher.py must be Python that runs, but .*teacher.py, line 2.*undefined",
    "TASK = (": "teacher.py must be Python that runs, but .*teacher.py, line 1.*SyntaxError",
    "raise SystemExit(3)": "teacher.py must be Python that runs, but ",
    'TASK = changed(name="layer_norm")': "must be a new one, but there is an exercise layer_norm",
    'TASK = changed(name="../escaped")': "must be letters, digits and _, but it is '../escaped'",
    "TASK = changed(title=None)": "title of the TASK of teacher.py must be a text, but it is None",
    'TASK = changed(hints="one")': "hints of the TASK of teacher.py must be a tuple of texts, but it is a str",
    "TASK = changed(points=0)": "points of the TASK of teacher.py must be at least 1, but it is 0",
    'TASK = changed(blank="back")': "blank must be a function of the solution .*, but there is no back",
    "TASK = changed(solution=len)": "solution of the TASK of teacher.py must be a class or function written in that",
}


@pytest.mark.parametrize("ending", REFUSED)
def test_what_is_no_task_is_refused_in_one_sentence(tmp_path: Path, ending: str) -> None:
    source = EXAMPLE.read_text(encoding="utf-8").replace("TASK = ", "GOOD = ")
    beginning = "import dataclasses\n\n\ndef changed(**fields):\n    return dataclasses.replace(GOOD, **fields)\n\n\n"
    path = tmp_path / "teacher.py"
    path.write_text(f"{source}\n\n{beginning}{ending}\n" if "changed" in ending else ending, encoding="utf-8")
    with pytest.raises((TypeError, ValueError), match=REFUSED[ending]) as refused:
        load_task(path)
    assert len(str(refused.value).splitlines()) == 1


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


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"missing\.py must be .*No such file"):
        load_task(tmp_path / "missing.py")
    wrong: Any = 3
    with pytest.raises(TypeError, match="path must be a path, but it is an int"):
        load_task(wrong)
