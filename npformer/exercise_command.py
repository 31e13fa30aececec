"""The command `npformer exercise`: what there is, a file to write in, hints, the answer, and checking.

It stands beside the exercises, not among them: no other command should wait until these are imported.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable
from typing import Any

from npformer.complaints import complain, sentence_of

Run = Callable[[argparse.Namespace], int]


def add_exercise(commands: Any) -> None:
    """Add `npformer exercise` to the commands."""
    parser = commands.add_parser(
        "exercise",
        help="write a forward or a backward, and be told which mistake was made",
        description="Exercises in writing the forwards and backwards of a Transformer encoder. Begin with `npformer "
        "exercise list`. They are for yourself: the answers come with them. Exit status: 0 done or solved, 1 not yet "
        "solved, 2 bad usage.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add(actions, "list", _list, "show the exercises and what you have reached")
    _name(
        _add(actions, "start", _start, "write the file of an exercise, for you to fill in; yours is never overwritten")
    )
    hint = _add(actions, "hint", _hint, "show one more hint")
    _name(hint)
    hint.add_argument("--all", action="store_true", help="show all hints")
    _name(_add(actions, "solution", _solution, "show how the answer is derived, and the answer"))
    check = _add(actions, "check", _check, "say whether it is right, and which mistake was made")
    check.add_argument(
        "names",
        metavar="NAME|FILE",
        nargs="*",
        help="exercises, or files called after them (default: the first exercise that is started and not solved); "
        "progress is kept for those in the folder alone",
    )
    check.add_argument("--all", action="store_true", help="check all that are started")
    check.add_argument("--spoil", action="store_true", help="say what is wrong in formulas too")
    check.add_argument("--json", action="store_true", help="print JSON alone")
    check.add_argument("--junit", metavar="FILE", help="write the results as JUnit's XML too")
    check.add_argument("--seed", type=int, default=0, metavar="N", help="for the cases (default: 0)")
    check.add_argument("--seconds", type=float, default=30.0, metavar="S", help="each may take (default: 30)")
    check.add_argument("--megabytes", type=int, default=2048, metavar="M", help="each may take (default: 2048)")


def _add(actions: Any, name: str, run: Run, about: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        name, help=about, description=f"{about[0].upper()}{about[1:]}."
    )
    parser.add_argument("--dir", default=".", metavar="DIR", help="the folder of your files (default: the current one)")
    parser.add_argument(
        "--task-file", action="append", default=[], metavar="FILE", help="an exercise that a teacher added; repeatable"
    )
    parser.set_defaults(run=lambda options: _run(run, options))
    return parser


def _name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the exercise, as `npformer exercise list` calls it")


def _run(run: Run, options: argparse.Namespace) -> int:
    from npformer.exercises.course import UsageError

    try:
        return run(options)
    except UsageError as error:
        return complain("exercise", str(error))
    except OSError as error:
        if error.filename is None:  # then it is the output that cannot be written
            raise
        return complain("exercise", sentence_of(error))


def _list(options: argparse.Namespace) -> int:
    from npformer.exercises.course import Course, say

    course = Course(options.dir, options.task_file)
    say(course.table(), "", course.next_step(), course.progress.complaint)
    return 0


def _start(options: argparse.Namespace) -> int:
    from npformer.exercises.course import Course, UsageError, say
    from npformer.exercises.workbook import start

    course = Course(options.dir, options.task_file)
    task = course.find(options.name)
    try:
        path = start(task, options.dir, course.options_inside(task))
    except OSError as error:
        raise UsageError(sentence_of(error)) from None
    say(f"{path} is for you to fill in: {task.title}.", f"Then: npformer exercise check {course.called(task)}")
    return 0


def _hint(options: argparse.Namespace) -> int:
    from npformer.exercises.course import Course, say
    from npformer.exercises.report import WIDTH

    course = Course(options.dir, options.task_file)
    task = course.find(options.name)
    count = len(task.hints) if options.all else min(course.progress.hints(task.name) + 1, len(task.hints))
    course.progress.hinted(task.name, max(count, course.progress.hints(task.name)))
    lines = []
    for number, hint in enumerate(task.hints[:count], start=1):
        label = f"Hint {number} of {len(task.hints)}: "
        indent = " " * len(label)
        lines += [*textwrap.wrap(" ".join(hint.split()), WIDTH, initial_indent=label, subsequent_indent=indent), ""]
    if count < len(task.hints) and course.progress.complaint:  # the next time it would be the same hint again
        lines.append(f"All of them: npformer exercise hint {course.called(task)} --all")
    elif count < len(task.hints):
        lines.append(f"One more: npformer exercise hint {course.called(task)}")
    else:
        lines.append(f"There are no more. The answer: npformer exercise solution {course.called(task)}")
    say(*lines, course.progress.complaint)
    return 0


def _solution(options: argparse.Namespace) -> int:
    from npformer.exercises.course import Course, say
    from npformer.exercises.source import imports_for, solution_source

    task = Course(options.dir, options.task_file).find(options.name)
    say(f"This is the answer to {task.name}: how it is derived, and the code.", "")
    code = solution_source(task)
    say(textwrap.dedent(task.derivation.strip("\n")).rstrip(), "", *imports_for(task, code), "", "", code)
    return 0


def _check(options: argparse.Namespace) -> int:
    from npformer.exercises.checking import check_all

    return check_all(options)
