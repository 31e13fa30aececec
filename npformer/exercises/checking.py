"""The command `npformer exercise check`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from npformer.complaints import sentence_of
from npformer.exercises.apart import LONGEST
from npformer.exercises.check import check
from npformer.exercises.course import Course, UsageError, say
from npformer.exercises.grade import Grade
from npformer.exercises.progress import DONE, NOT_STARTED
from npformer.exercises.proof import prove
from npformer.exercises.report import WIDTH, points_of, report
from npformer.exercises.results import BEGINNING, junit, to_json
from npformer.exercises.task import Task
from npformer.exercises.workbook import file_of, fingerprint, no_file, write_whole
from npformer.shapes import check_count, check_number

Target = tuple[Task, Path]


def check_all(options: argparse.Namespace) -> int:
    """Check what the command line names, and return the exit status."""
    _check_limits(options)
    course = Course(options.dir, options.task_file)
    if options.junit is not None:
        _check_junit(options.junit, course)
    chosen = _chosen(course, options)
    _prove_added(course, [task for task, _ in chosen], options.seed)
    talk = not options.json
    started = any(course.progress.state(name) != NOT_STARTED for name in course.tasks)
    if talk and not chosen:
        say("All that is started is solved." if started else "No exercise is started.", course.next_step())
    if talk and chosen and not options.names and not options.all:
        say(f"Checking {chosen[0][1]}, the first that is started and not solved.")
        say()
    grades = []
    files = [path for _, path in chosen]
    for task, path in chosen:
        grades.append(_grade(course, task, path, options))
        if talk:
            if len(grades) > 1:
                say("", "-" * WIDTH)
                say()
            say(report(grades[-1], options.spoil, _in_colour(), " ".join(course.options_for(task))))
    if options.junit is not None:
        try:
            write_whole(options.junit, junit(grades, files))
        except OSError as error:
            raise UsageError(f"--junit must be a file that can be written, but: {sentence_of(error)}") from None
    solved = sum(grade.passed for grade in grades)
    if options.json:
        print(to_json(grades, files, options.spoil))
    elif grades:
        if len(grades) > 1:
            total = points_of(sum(grade.points for grade in grades), sum(grade.out_of for grade in grades))
            say("", f"{solved} of {len(grades)} solved, {total}")
        if solved == len(grades):
            say("", course.next_step(grades[-1].task))
        if course.progress.complaint:
            say("", course.progress.complaint)
    return 0 if solved == len(grades) and (grades or started) else 1


def _chosen(course: Course, options: argparse.Namespace) -> list[Target]:
    if options.names and options.all:
        raise UsageError("--all must stand alone, but there are names too")
    if options.names:
        return [_target(course, name) for name in options.names]
    started = [name for name in course.tasks if course.progress.state(name) != NOT_STARTED]
    if not options.all:
        started = [name for name in started if course.progress.state(name) != DONE][:1]
    return [(course.tasks[name], file_of(name, course.folder)) for name in started]


def _target(course: Course, named: str) -> Target:
    """Return the exercise that a name or a path stands for, and the learner's file."""
    if named.endswith(".py") or "/" in named or os.sep in named:
        path = Path(named)
        if not path.is_file():
            came = no_file(path) or "none"
            raise UsageError(f"NAME|FILE must be an exercise or a file that exists, but {named} is {came}")
        if path.resolve() in course.task_files:
            raise UsageError(f"FILE must be a learner's file, but {named} is given as --task-file")
        return course.find_for(path), path
    task = course.find(named)
    path = file_of(named, course.folder)
    if no_file(path):
        raise UsageError(f"{path} must be a learner's file, but it is {no_file(path)}")
    if not path.exists():
        raise UsageError(
            f"{named} must be started, but {path} is not there; npformer exercise start {course.called(task)}"
        )
    return task, path


def _grade(course: Course, task: Task, path: Path, options: argparse.Namespace) -> Grade:
    written = fingerprint(path)
    try:
        grade = check(path, task, seed=options.seed, seconds=options.seconds, megabytes=options.megabytes)
    except OSError as error:
        raise UsageError(sentence_of(error)) from None
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from None
    if path.resolve() == file_of(task.name, course.folder).resolve():
        course.progress.graded(grade, written)
    return grade


def _prove_added(course: Course, tasks: list[Task], seed: int) -> None:
    """Refuse what a teacher's task does wrong with this seed, lest a learner be told of it; 0 was tried on loading."""
    for task in tasks if seed else []:
        if task.name in course.added:
            try:
                prove(task, Path(course.added[task.name]).absolute(), seed)
            except (TypeError, ValueError) as error:
                raise UsageError(str(error)) from None


def _check_limits(options: argparse.Namespace) -> None:
    try:
        check_count("--seed", options.seed, least=0)
        check_number("--seconds", options.seconds, 0, LONGEST, open_low=True)
        check_count("--megabytes", options.megabytes)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _check_junit(file: str, course: Course) -> None:
    """Refuse before anything is run what could not be written, or would be lost."""
    path = Path(file)
    if path.suffix == ".py":
        raise UsageError(f"--junit must be a file for results, but {file} is Python")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UsageError(f"--junit must be a file in a folder that exists, but {file} is none")
    if path.resolve() == course.progress.path.resolve():
        raise UsageError(f"--junit must be a file for results, but {file} is where progress is kept")
    if path.is_file() and not _may_be_replaced(path):
        raise UsageError(f"--junit must be a new file or one with such results, but {file} holds something else")


def _may_be_replaced(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(len(BEGINNING))
    return not start or start == BEGINNING.encode("utf-8")


def _in_colour() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
