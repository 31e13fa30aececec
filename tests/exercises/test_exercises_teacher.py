"""A task that a teacher adds: the example is right, and what is no task is refused in one sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_grades import Grader, grader

from npformer.cli import main
from npformer.exercises.grade import SOLVED
from npformer.exercises.source import blank_file
from npformer.exercises.task import BackwardTask, instance_of
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


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"missing\.py must be .*No such file"):
        load_task(tmp_path / "missing.py")
    wrong: Any = 3
    with pytest.raises(TypeError, match="path must be a path, but it is an int"):
        load_task(wrong)
