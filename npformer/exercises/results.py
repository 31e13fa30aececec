"""Grades for programs: JUnit's XML, which course platforms and CI read, and JSON."""

from __future__ import annotations

import json
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence

from npformer.exercises.grade import SOLVED, WRONG, ArrayGrade, Grade
from npformer.exercises.report import in_words, report
from npformer.gradcheck.verdict import PASS
from npformer.shapes import check_parts

BEGINNING = '<?xml version="1.0" encoding="utf-8"?>\n<testsuites name="npformer exercises"'
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML 1.0
Files = Sequence[str | os.PathLike[str]]


def junit(grades: Grade | Iterable[Grade], files: Files = ()) -> str:
    """Return grades as JUnit's XML: an exercise is a test suite, and each of its arrays a test case.

    A wrong array is a failure. Code that is still to be written or stops is one test case with an error. What a
    learner reads is the output of the suite.

    Parameters
    ----------
    grades : Grade, or Grades
        What check returned.
    files : paths, optional
        Of the learner's code, one for each grade.

    Raises
    ------
    TypeError
        If one of the grades is none.
    ValueError
        If there are more or fewer files than grades.

    Examples
    --------
    >>> grade = Grade("softmax", "Softmax, backward", SOLVED, "x is right.", (ArrayGrade("x", PASS),), 2.0, 2)
    >>> print(junit([grade])[39:])
    <testsuites name="npformer exercises" tests="1" failures="0" errors="0">
      <testsuite name="softmax" tests="1" failures="0" errors="0">
        <properties>
          <property name="points" value="2" />
          <property name="out_of" value="2" />
        </properties>
        <testcase classname="softmax" name="x" />
        <system-out>Softmax, backward (softmax): solved, 2 of 2 points
    <BLANKLINE>
    x is right.
    <BLANKLINE>
    Arrays
        x  PASS</system-out>
      </testsuite>
    </testsuites>
    """
    suites = [_suite(grade, file) for grade, file in _checked(grades, files)]
    counts = {
        count: str(sum(int(suite.get(count, 0)) for suite in suites)) for count in ("tests", "failures", "errors")
    }
    root = ElementTree.Element("testsuites", {"name": "npformer exercises"} | counts)
    root.extend(suites)
    ElementTree.indent(root)
    declaration, _, _ = BEGINNING.partition("\n")
    return f"{declaration}\n{ElementTree.tostring(root, encoding='unicode')}"


def to_json(grades: Grade | Iterable[Grade], files: Files = (), spoil: bool = False) -> str:
    """Return a list of grades as JSON, each with the path of the "file" that was checked, or null.

    What is wrong in formulas is there only with spoil.

    Raises
    ------
    TypeError, ValueError
        If one of the grades is none, or there are more or fewer files than grades.

    Examples
    --------
    >>> json.loads(to_json([Grade("softmax", "Softmax, backward", "blank", "Nothing is written yet.")]))[0]["status"]
    'blank'
    """
    entries = [{"file": file or None} | grade.to_dict(spoil) for grade, file in _checked(grades, files)]
    return json.dumps(entries, indent=2, allow_nan=False)


def _checked(grades: Grade | Iterable[Grade], files: Files) -> list[tuple[Grade, str]]:
    """Return each grade with the path of its file, or ""."""
    listed = [grades] if isinstance(grades, Grade) else list(grades)
    if listed:
        check_parts("grades", listed, Grade)
    paths = [os.fspath(file) for file in files] or [""] * len(listed)
    if len(paths) != len(listed):
        raise ValueError(f"files must be one for each of the {len(listed)} grades, but there are {len(paths)}")
    return list(zip(listed, paths, strict=True))


def _suite(grade: Grade, file: str) -> ElementTree.Element:
    name = f"{grade.task} ({file})" if file else grade.task
    suite = ElementTree.Element("testsuite", {"name": _clean(name)})
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in (("points", grade.points), ("out_of", grade.out_of)):
        ElementTree.SubElement(properties, "property", {"name": name, "value": f"{value:g}"})
    if grade.status in (SOLVED, WRONG):
        for array in grade.arrays:
            _case(suite, grade, array)
        wrong = suite.findall("testcase/failure")
        if not grade.arrays or (
            not grade.passed and not wrong
        ):  # the whole can be wrong though all its arrays are right
            case = ElementTree.SubElement(suite, "testcase", {"classname": _clean(grade.task), "name": "exercise"})
            if not grade.passed:
                ElementTree.SubElement(case, "failure", {"message": _clean(grade.message)}).text = _clean(grade.message)
    else:
        case = ElementTree.SubElement(suite, "testcase", {"classname": _clean(grade.task), "name": "exercise"})
        first = (grade.message.splitlines() or [""])[0]
        error = ElementTree.SubElement(case, "error", {"message": _clean(first), "type": grade.status})
        error.text = _clean(grade.message)
    ElementTree.SubElement(suite, "system-out").text = _clean(report(grade))
    for count, kind in (("tests", "testcase"), ("failures", "testcase/failure"), ("errors", "testcase/error")):
        suite.set(count, str(len(suite.findall(kind))))
    return suite


def _case(suite: ElementTree.Element, grade: Grade, array: ArrayGrade) -> None:
    case = ElementTree.SubElement(suite, "testcase", {"classname": _clean(grade.task), "name": _clean(array.name)})
    if array.verdict == PASS:
        return
    lines = [array.reason or "it is wrong"]
    for finding in grade.findings:
        if array.name in finding.arrays:
            lines.append(f"{in_words(finding.name)}, {finding.sureness}: {finding.evidence}")
            lines += [f"Look at this path: {finding.path}"] * bool(finding.path)
    message = f"{array.verdict}: {lines[0]}"
    failure = ElementTree.SubElement(case, "failure", {"message": _clean(message), "type": array.verdict})
    failure.text = _clean("\n".join(lines))


def _clean(text: str) -> str:
    """Replace what XML cannot hold."""
    return FORBIDDEN.sub("\ufffd", text)
