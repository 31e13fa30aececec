"""Grades for programs: JUnit's XML, which course platforms and CI read, and JSON."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable

from npformer.exercises.grade import SOLVED, WRONG, ArrayGrade, Grade
from npformer.exercises.report import in_words, report
from npformer.gradcheck.verdict import PASS
from npformer.shapes import check_parts

FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML 1.0


def junit(grades: Iterable[Grade]) -> str:
    """Return grades as JUnit's XML: an exercise is a test suite, and each of its arrays a test case.

    A wrong array is a failure. Code that is still to be written or stops is one test case with an error. What a
    learner reads is the output of the suite.

    Parameters
    ----------
    grades : Grades
        What check returned.

    Raises
    ------
    TypeError
        If one of them is no Grade.

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
    suites = [_suite(grade) for grade in _checked(grades)]
    counts = {
        count: str(sum(int(suite.get(count, 0)) for suite in suites)) for count in ("tests", "failures", "errors")
    }
    root = ElementTree.Element("testsuites", {"name": "npformer exercises"} | counts)
    root.extend(suites)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, encoding="unicode")}'


def to_json(grades: Iterable[Grade]) -> str:
    """Return a list of grades as JSON.

    Raises
    ------
    TypeError
        If one of them is no Grade.

    Examples
    --------
    >>> json.loads(to_json([Grade("softmax", "Softmax, backward", "blank", "Nothing is written yet.")]))[0]["status"]
    'blank'
    """
    return json.dumps([grade.to_dict() for grade in _checked(grades)], indent=2, allow_nan=False)


def _checked(grades: Iterable[Grade]) -> list[Grade]:
    listed = list(grades)
    if listed:
        check_parts("grades", listed, Grade)
    return listed


def _suite(grade: Grade) -> ElementTree.Element:
    suite = ElementTree.Element("testsuite", {"name": _clean(grade.task)})
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
