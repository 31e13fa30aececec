"""Results for programs: JUnit's XML that any reader can parse, and JSON."""

import dataclasses
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_grades import BLANK, EACH, ERROR, SOLVED, TIMEOUT, TRACEBACK, WRONG

from npformer.exercises.grade import Grade
from npformer.exercises.report import report
from npformer.exercises.results import junit, to_json


def suites(*grades: Grade) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(junit(grades)))


def test_each_array_is_a_test_case() -> None:
    (suite,) = suites(WRONG)
    assert suite.get("name") == "layer_norm"
    assert [(case.get("name"), [fault.tag for fault in case]) for case in suite.iter("testcase")] == [
        ("x", ["failure"]),
        ("weight", []),
        ("bias", []),
    ]
    (failure,) = suite.iter("failure")
    assert failure.get("message") == "FAIL: a slope of forward is 0.2 where backward says 0.21"
    assert str(failure.text).splitlines() == [
        "a slope of forward is 0.2 where backward says 0.21",
        "mean term missing (LayerNorm.mean_term_missing), certain: it gives exactly what your code gives, in all 5 "
        "situations.",
        "Look at this path: x → mean(x) → x_hat → output",
        "missing sum over the batch, possible: the ratio is 2 everywhere.",
    ]
    assert suite.findtext("system-out") == report(WRONG)
    properties = {each.get("name"): each.get("value") for each in suite.iter("property")}
    assert properties == {"points": "4", "out_of": "6"}


@pytest.mark.parametrize("grade", [BLANK, ERROR, TIMEOUT])
def test_what_cannot_be_run_is_one_error(grade: Grade) -> None:
    (suite,) = suites(grade)
    (case,) = suite.iter("testcase")
    (error,) = case
    assert (error.tag, error.get("type"), error.text) == ("error", grade.status, grade.message)
    assert error.get("message") == grade.message.splitlines()[0]


def test_the_counts_add_up() -> None:
    root = ElementTree.fromstring(junit([SOLVED, WRONG, ERROR, BLANK]))
    counts = ("tests", "failures", "errors")
    assert [[suite.get(count) for count in counts] for suite in root] == [
        ["3", "0", "0"],
        ["3", "1", "0"],
        ["1", "0", "1"],
        ["1", "0", "1"],
    ]
    assert [root.get(count) for count in counts] == ["8", "1", "2"]


def test_what_is_not_solved_is_never_green() -> None:
    right_but_wrong = dataclasses.replace(SOLVED, status="wrong", message="backward writes into the cache.")
    without_arrays = dataclasses.replace(WRONG, arrays=())
    for grade in (*EACH.values(), right_but_wrong, without_arrays):
        (suite,) = suites(grade)
        faults = [*suite.iter("failure"), *suite.iter("error")]
        assert bool(faults) != grade.passed
        assert len(suite.findall("testcase")) >= 1


def test_it_is_utf_8_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "results.xml"
    path.write_text(junit([WRONG]), encoding="utf-8")
    root = ElementTree.parse(path).getroot()
    assert root.tag == "testsuites"
    assert "mean(x) → x_hat" in str(root.findtext("testsuite/system-out"))


@given(text=st.text(st.characters(exclude_categories=[]), max_size=30))
def test_any_text_survives_as_far_as_xml_has_it(text: str) -> None:
    grade = dataclasses.replace(
        WRONG, task=text, message=text, arrays=(dataclasses.replace(WRONG.arrays[0], name=text, reason=text),)
    )
    for each in (grade, dataclasses.replace(grade, status="error")):
        ElementTree.fromstring(junit([each]).encode("utf-8"))


def test_characters_that_xml_forbids_are_replaced() -> None:
    (suite,) = suites(dataclasses.replace(ERROR, message="a\x00b\x1b[0m\ud800\ufffe"))
    (error,) = suite.iter("error")
    assert error.text == "a\ufffdb\ufffd[0m\ufffd\ufffd"


def test_json_is_a_list_of_grades() -> None:
    grades = [SOLVED, WRONG, ERROR]
    document = json.loads(to_json(grades))
    assert [each["status"] for each in document] == ["solved", "wrong", "error"]
    assert document[2]["message"] == TRACEBACK
    assert json.loads(to_json([])) == []
    assert suites() == []


def test_one_grade_is_a_list_of_one() -> None:
    assert junit(WRONG) == junit([WRONG])
    assert to_json(WRONG) == to_json([WRONG])


def test_the_file_that_was_checked_is_named() -> None:
    root = ElementTree.fromstring(junit([SOLVED, WRONG], ["alice/layer_norm.py", Path("bob/layer_norm.py")]))
    assert [suite.get("name") for suite in root] == [
        "layer_norm (alice/layer_norm.py)",
        "layer_norm (bob/layer_norm.py)",
    ]
    assert {case.get("classname") for case in root.iter("testcase")} == {"layer_norm"}
    assert [each["file"] for each in json.loads(to_json([SOLVED, WRONG], ["a.py", "b.py"]))] == ["a.py", "b.py"]
    assert [each["file"] for each in json.loads(to_json([SOLVED]))] == [None]
    with pytest.raises(ValueError, match="files must be one for each of the 2 grades, but there are 1"):
        junit([SOLVED, WRONG], ["a.py"])


def test_what_are_no_grades_is_refused() -> None:
    wrong: list[Any] = [[WRONG, "solved"], [None]]
    for grades in wrong:
        for write in (junit, to_json):
            with pytest.raises(TypeError, match=r"grades\[\d\] must be a Grade, but it is"):
                write(grades)
