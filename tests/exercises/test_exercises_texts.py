"""The texts of every exercise: they have a form, and give nothing away; the learner's file is made from them."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from typing import Any

import numpy as np
import pytest
from runs import BACKWARDS, FORWARDS, ROUNDING, Run, differ, runs, seen

from npformer.exercises.source import blank_file, body_lines, imports_for, solution_source
from npformer.exercises.task import BackwardTask, ForwardTask, Task, instance_of
from npformer.exercises.tasks import TASKS
from npformer.gradcheck import check_gradients
from npformer.gradcheck.subject import Subject

each_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
each_backward = pytest.mark.parametrize("task", BACKWARDS.values(), ids=BACKWARDS)
each_forward = pytest.mark.parametrize("task", FORWARDS.values(), ids=FORWARDS)


def written_in(source: str, task: Task) -> Any:
    """Run a learner's file; return its class or function."""
    namespace: dict[str, Any] = {"__name__": "learner"}
    exec(compile(source, f"{task.name}.py", "exec"), namespace)
    return namespace[task.solution.__name__]


def filled(task: Task) -> str:
    """Return the learner's file with the body of the solution in place of the blank."""
    whole = solution_source(task)
    first, last = body_lines(whole, task.blank)
    lines = blank_file(task).splitlines()
    top = next(index for index, line in enumerate(lines) if line.startswith(("import ", "from ")))
    lines[top:top] = imports_for(task, whole)  # those that the body alone needs, which a learner would add
    start = next(index for index, line in enumerate(lines) if line.strip().startswith("# Write it here"))
    assert lines[start + 1].strip().startswith("raise NotImplementedError")
    return "\n".join([*lines[:start], *whole.splitlines()[first - 1 : last], *lines[start + 2 :], ""])


def last_formula(derivation: str) -> str:
    """Return the right side of the last indented equation of a derivation, without spaces; "" if there is none."""
    indented = re.findall(r"^ {4,}(.* = .*)$", textwrap.dedent(derivation), re.MULTILINE)
    formulas = [re.split(r" {3,}", line.strip().partition(" = ")[2].strip())[0] for line in indented]
    return re.sub(r"\s", "", formulas[-1]) if formulas else ""


@each_task
def test_the_texts(task: Task) -> None:
    assert 3 <= len(task.hints) <= 5
    assert 1 <= task.points <= 12
    assert 5 <= len(task.title) <= 60
    assert "\n" not in task.title
    assert task.statement.strip()
    assert task.derivation.strip()
    for text in (task.statement, task.derivation):
        assert [line for line in text.splitlines() if len(line) > 120] == []
    assert all("\n" not in hint and hint.endswith((".", "?")) for hint in task.hints)


def paths_of(task: Task) -> list[str]:
    if not isinstance(task, BackwardTask):
        return []
    _, case, run = runs(task)[0]
    terms = task.terms(case, run.cache, run.grad_output) if task.terms else {}
    return [*task.paths.values(), *(term.path for each in terms.values() for term in each)]


@each_task
def test_the_answer_is_given_away_by_nothing_but_the_last_hint(task: Task) -> None:
    answer = last_formula(task.derivation)
    if isinstance(task, BackwardTask):
        assert len(answer) > 3, "the derivation must end in an indented formula"
    texts = [re.sub(r"\s", "", text) for text in (task.statement, *task.hints[:-1], *paths_of(task))]
    assert [text for text in texts if answer and answer in text] == []
    assert all("\n" not in path and path.strip() == path != "" for path in paths_of(task))


@each_task
def test_the_blank_file_has_nothing_of_the_solution_and_imports_what_everybody_has(task: Task) -> None:
    blank = blank_file(task)
    whole = solution_source(task)
    first, last = body_lines(whole, task.blank)
    body = "\n".join(whole.splitlines()[first - 1 : last])
    assert body not in blank
    assert "NotImplementedError" in blank
    assert [line for line in blank.splitlines() if len(line) > 120] == []
    nodes = list(ast.walk(ast.parse(filled(task))))
    modules = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module or "." for node in nodes if isinstance(node, ast.ImportFrom)]
    assert {name.partition(".")[0] for name in modules} <= {"numpy", "npformer", *sys.stdlib_module_names}
    assert [name for name in modules if name.startswith(("npformer.exercises", "npformer.mistakes"))] == []


@each_backward
def test_the_blank_file_goes_forward_and_asks_for_its_backward(task: BackwardTask) -> None:
    kind = written_in(blank_file(task), task)
    for _, case, right in runs(task):
        subject = Subject(instance_of(kind, case.component), case.inputs, case.options)
        output, cache = subject.forward()
        assert not differ({"output": output}, {"output": right.output}, ROUNDING)
        with pytest.raises(NotImplementedError, match=r"^backward is still to be written$"):
            subject.backward(right.grad_output, cache)


@each_task
def test_a_learner_has_numpy_at_hand(task: Task) -> None:
    assert "\nimport numpy as np\n" in blank_file(task)


@each_forward
def test_the_blank_function_asks_to_be_written(task: ForwardTask) -> None:
    function = written_in(blank_file(task), task)
    _, call = next(task.calls(0))
    with pytest.raises(NotImplementedError, match=f"^{task.blank} is still to be written$"):
        function(*call.arguments, **call.options)
    assert inspect.signature(function).parameters.keys() == inspect.signature(task.solution).parameters.keys()


@each_task
def test_the_blank_file_filled_in_is_right(task: Task) -> None:
    written = written_in(filled(task), task)
    if isinstance(task, ForwardTask):
        right = dict(seen(task, task.solution))
        assert all(not differ(looked, right[title]) for title, looked in seen(task, written))
    elif isinstance(task, BackwardTask):
        for situation, case, run in runs(task):
            learned = Run(instance_of(written, case.component), case)
            assert not differ(learned.gradients, run.gradients, ROUNDING), situation
        instance = instance_of(written, case.component)
        assert check_gradients(instance, *case.inputs, directions=3, jointly=True, **case.options).verdict == "PASS"


@each_forward
def test_a_result_of_the_wrong_kind_is_named_without_its_numbers(task: ForwardTask) -> None:
    _, call = next(task.calls(0))
    wrong: list[tuple[Any, str]] = [(0.12345, "a float"), (None, "None")]
    if task.name in ("subsequent_mask", "gradient_checker", "attention"):
        wrong.append((np.full(3, 0.12345), "a float64 array"))
    if task.name != "clones":
        wrong.append(([0.12345, 0.12345], "a list of 2"))
    for result, kind in wrong:
        with pytest.raises(TypeError, match=f"^{task.blank} must return .*, but it returned {kind}$"):
            task.look(result, *call.arguments, **call.options)


def test_the_gradient_checker_s_statement_allows_for_rounding_where_the_gradient_is_0() -> None:
    statement = " ".join(TASKS["gradient_checker"].statement.split())
    assert "gradients that are exactly 0, and right, though slopes that you measure there are not 0 but rounding" in (
        statement
    )
