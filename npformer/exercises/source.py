"""The learner's file: the source of a task's solution, without the body that is to be written."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap

from npformer.exercises.task import Task


def blank_file(task: Task, options: str = "") -> str:
    """Return the file that a learner starts with; the commands in it are to be called with these options.

    Examples
    --------
    >>> from npformer.exercises.tasks import TASKS
    >>> blank_file(TASKS["layer_norm"]).splitlines()[-1].strip()
    'raise NotImplementedError("backward is still to be written")'
    """
    whole = solution_source(task)
    first, last = body_lines(whole, task.blank)
    lines = whole.splitlines()
    indent = " " * (len(lines[first - 1]) - len(lines[first - 1].lstrip()))
    lines[first - 1 : last] = [
        f"{indent}# Write it here, in place of the next line.",
        f'{indent}raise NotImplementedError("{task.blank} is still to be written")',
    ]
    code = "\n".join(lines)
    called = f"{task.name} {_in_docstring(options)}".rstrip()
    commands = f"    npformer exercise check {called}\n    npformer exercise hint {called}"
    fill_in = f"Fill in `{task.blank}`. What it is given stays as it is: change none of these arrays in place."
    docstring = f'"""{task.statement.strip()}\n\n{fill_in}\nThen, in this folder:\n\n{commands}\n"""'
    return "\n".join([docstring, "", *imports_for(task, code), "", "", code, ""])


def _in_docstring(text: str) -> str:
    """Return how a text is written between three quotation marks; what UTF-8 does not have is replaced."""
    return text.replace("\\", "\\\\").replace('"', '\\"').encode("utf-8", "replace").decode("utf-8")


def solution_source(task: Task) -> str:
    """Return the source of the class or function that solves a task."""
    return textwrap.dedent(inspect.getsource(task.solution)).rstrip()


def body_lines(source: str, blank: str) -> tuple[int, int]:
    """Return the first and the last line, counted from 1, of the body of a function, without its docstring."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.name == blank:
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            above = node.body[0].end_lineno if body is not node.body else None
            start = body[0].lineno if above is None else above + 1  # with the comments that stand above it
            return start, body[-1].end_lineno or start
    raise ValueError(f"blank must be a function of the solution with a body to take out, but there is no {blank}")


def imports_for(task: Task, code: str) -> list[str]:
    """Return the import statements of the solution's module that some code needs."""
    used = {"np", *(node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name))}
    lines = []
    for statement in ast.parse(inspect.getsource(sys.modules[task.solution.__module__])).body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            statement.names = [name for name in statement.names if (name.asname or name.name).split(".")[0] in used]
            if statement.names:
                lines.append(ast.unparse(statement))
    return lines
