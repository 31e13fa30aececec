"""What a learner reads: complete, in order, narrow, and as good without colours."""

import dataclasses
import json
import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_grades import BLANK, EACH, ERROR, SOLVED, SPOILER, TIMEOUT, UNRECOGNISED, WRONG

from npformer.exercises.grade import ArrayGrade, Finding, Grade, SideBySide
from npformer.exercises.matrices import compared, wrong_entries
from npformer.exercises.report import report
from npformer.exercises.tasks import TASKS

WIDTH = 100
CODES = re.compile(r"\033\[\d*m")


def small_case(side: SideBySide) -> str:
    """Return the section that shows a case."""
    text = report(dataclasses.replace(UNRECOGNISED, side_by_side=side))
    return text[text.index("A small case") : text.index("What was found")]


def side_of(yours: list[list[float]], true: list[list[float]]) -> SideBySide:
    return SideBySide("x", (), tuple(map(tuple, yours)), tuple(map(tuple, true)), (len(true), len(true[0])))


def test_a_wrong_answer_reads_well() -> None:
    assert report(WRONG).splitlines() == [
        "Layer normalisation, backward (layer_norm): not yet right, 4 of 6 points",
        "",
        "x is wrong; weight and bias are right.",
        "",
        "Your code printed",
        "    mean 0.5",
        "",
        "A small case: x, of shape (1, 2, 3)",
        "    given x                      given grad_output",
        "     1.0000   2.0000  -0.5000     1.2500  -0.5000   0.7500",
        "     0.1000   0.2000   3.0000     0.5000  -1.2500   1.0000",
        "",
        "    yours                        true                         difference",
        "    0.2100*  1.3000      nan*     0.2000   1.3000   2.2000    0.0100*       0      nan*",
        "    0.5000   0.2500      inf*     0.5000   0.2500  -0.5000         0        0      inf*",
        "",
        "    * is wrong.",
        "",
        "What was found",
        "    1. mean term missing (LayerNorm.mean_term_missing) in x",
        "       Certain: it gives exactly what your code gives, in all 5 situations.",
        "       Look at this path: x → mean(x) → x_hat → output",
        "    2. missing sum over the batch in x and weight",
        "       Possible: the ratio is 2 everywhere.",
        "",
        "Where it is wrong",
        "    - In every row of x.",
        "    - Most at index (0, 0, 2).",
        "",
        "Arrays",
        "    x       FAIL       a slope of forward is 0.2 where backward says 0.21",
        "    weight  PASS",
        "    bias    PASS",
        "",
        "Next",
        "    npformer exercise hint layer_norm    for a hint",
        "    npformer exercise check layer_norm --spoil    to be told what is wrong",
    ]


@pytest.mark.parametrize("kind", EACH)
def test_colours_add_nothing_but_colour(kind: str) -> None:
    plain, coloured = report(EACH[kind]), report(EACH[kind], colour=True)
    assert CODES.sub("", coloured) == plain
    assert coloured != plain
    assert "\033" not in plain


def test_what_is_wrong_is_told_only_when_asked_for() -> None:
    assert SPOILER not in report(WRONG)
    spoiled = report(WRONG, spoil=True)
    assert f"       What is wrong: {SPOILER}" in spoiled.splitlines()
    assert "--spoil" not in spoiled


def test_it_says_when_nothing_was_recognised() -> None:
    assert "Nothing was recognised" in report(UNRECOGNISED)
    assert all("recognised" not in report(grade) for grade in (SOLVED, WRONG, BLANK, ERROR))


def test_a_solved_exercise_leaves_nothing_to_do() -> None:
    text = report(SOLVED)
    assert text.startswith("Layer normalisation, backward (layer_norm): solved, 6 of 6 points\n")
    assert "Next" not in text
    assert "FAIL" not in text


def test_an_error_keeps_its_lines_of_code() -> None:
    text = report(ERROR)
    assert "    > 31 |         grad_x = rstd * (g - mean.T)\n" in text
    assert "stopped by an error" in text.splitlines()[0]
    assert "still running after 30 s" in report(TIMEOUT)
    assert "still to be written" in report(BLANK).splitlines()[0]


def test_the_commands_come_with_the_options_that_they_need() -> None:
    text = report(WRONG, options="--dir work")
    assert "npformer exercise hint layer_norm --dir work " in text
    assert "npformer exercise check layer_norm --dir work --spoil " in text


def test_big_arrays_are_cut_where_the_first_wrong_entry_is_seen() -> None:
    true = [[float(row == column) for column in range(30)] for row in range(40)]
    yours = [list(row) for row in true]
    yours[33][21] = 7.5
    text = small_case(side_of(yours, true))
    assert "7.5000*" in text
    assert "Shown are the rows 30 to 37 of 40. Shown are the columns 18 to 25 of 30." in text
    for block in compared(yours, true)[0]:
        assert len(block.lines) == 8
        assert all(len(line.split()) == 8 for line in block.lines)


def test_an_array_of_another_size_is_shown_without_a_difference() -> None:
    text = small_case(side_of([[1.0], [2.0], [3.5]], [[1.0, 2.0, 3.5]]))
    assert "Yours has 3 rows of 1, where 1 row of 3 would be right." in text
    assert "difference" not in text
    assert "nothing" in small_case(side_of([], [[1.0, 2.0]]))


def test_masks_are_whole_numbers_and_small_errors_have_exponents() -> None:
    text = small_case(side_of([[1, 1], [1, 0]], [[1, 0], [1, 1]]))
    assert ["1", "1*", "1", "0", "0", "1*"] in [line.split() for line in text.splitlines()]
    assert "1.00e-07*" in small_case(side_of([[1.0 + 1e-7, 1.5]], [[1.0, 1.5]]))


@pytest.mark.parametrize(
    ("yours", "true", "wrong"),
    [
        (1.0 + 1e-15, 1.0, False),  # a rounding
        (1.0 + 1e-12, 1.0, True),
        (1e-17, 0.0, False),  # what is left of terms that cancel
        (1e-6, 0.0, True),
        (math.nan, 1.0, True),
        (math.inf, math.inf, False),
        (-math.inf, math.inf, True),
    ],
)
def test_an_entry_is_marked_beyond_rounding(yours: float, true: float, wrong: bool) -> None:
    assert bool(wrong_entries([[yours]], [[true]])) == wrong


def test_control_characters_of_a_learner_do_not_reach_the_terminal() -> None:
    loud = dataclasses.replace(
        WRONG,
        printed="a\033[2Jb\rc\x07\tx\u202e\ud800",
        message="no\033[31m",
        arrays=(ArrayGrade("x\x00", "FAIL", "\x1b]0;title\x07"),),
    )
    text = report(loud, spoil=True)
    assert "a\\x1b[2Jb\\rc\\x07" in text
    assert all(character.isprintable() or character == "\n" for character in text)


def test_much_that_was_printed_is_cut_in_the_middle() -> None:
    text = report(dataclasses.replace(WRONG, printed="\n".join(f"line {number}" for number in range(1000))))
    assert "    line 19\n    ... (960 more lines) ...\n    line 980\n" in text


def test_of_many_arrays_the_wrong_ones_are_shown() -> None:
    arrays = tuple(ArrayGrade(f"a{number}", "FAIL" if number == 98 else "PASS") for number in range(100))
    text = report(dataclasses.replace(WRONG, arrays=arrays))
    assert "    a98  FAIL\n    and 76 more, of which 76 PASS\n" in text


def test_a_grade_prints_itself() -> None:
    assert str(WRONG) == repr(WRONG) == report(WRONG)


def test_a_grade_is_json() -> None:
    document = json.loads(WRONG.to_json())
    assert document == WRONG.to_dict() | {key: document[key] for key in ("arrays", "findings", "side_by_side")}
    assert document["side_by_side"]["yours"] == [[0.21, 1.3, None], [0.5, 0.25, None]]
    assert (document["passed"], document["status"], document["points"]) == (False, "wrong", 4.0)
    assert json.loads(SOLVED.to_json())["passed"]


def test_what_is_no_grade_is_refused() -> None:
    wrong: list[Any] = ["solved", None]
    for each in wrong:
        with pytest.raises(TypeError, match="grade must be a Grade, but it is"):
            report(each)


def test_the_widest_numbers_fit() -> None:
    true = [[-1.5e-100, 2.25e200] * 5] * 2
    text = small_case(side_of([[-value for value in row] for row in true], true))
    assert max(map(len, text.splitlines())) <= WIDTH


texts = st.text(max_size=120)
matrices = st.integers(0, 10).flatmap(
    lambda columns: st.lists(st.lists(st.floats(), min_size=columns, max_size=columns).map(tuple), max_size=10).map(
        tuple
    )
)
sides = st.builds(
    SideBySide, texts, st.lists(st.tuples(texts, matrices), max_size=3).map(tuple), matrices, matrices, st.just((2, 3))
)
grades = st.builds(
    Grade,
    st.just("layer_norm"),
    texts,
    st.sampled_from(["solved", "wrong", "blank", "error"]),
    texts,
    st.lists(st.builds(ArrayGrade, texts, st.sampled_from(["PASS", "FAIL", "UNDECIDED"]), texts), max_size=3).map(
        tuple
    ),
    st.floats(0, 6),
    st.just(6),
    st.none() | sides,
    st.lists(
        st.builds(Finding, st.lists(texts, max_size=3).map(tuple), texts, texts, texts, texts, texts), max_size=3
    ).map(tuple),
    st.lists(texts, max_size=3).map(tuple),
    texts,
)


@given(grade=grades)
def test_whatever_a_grade_holds_its_lines_are_narrow_and_printable(grade: Grade) -> None:
    text = report(grade, spoil=True)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert all(character.isprintable() or character == "\n" for character in text)
    assert CODES.sub("", report(grade, spoil=True, colour=True)) == text


@pytest.mark.parametrize("status", ["solved", "wrong", "blank", "error"])
def test_a_long_title_is_cut_and_the_name_is_not(status: str) -> None:
    for name, task in [*TASKS.items(), ("a" * 30, TASKS["softmax"])]:
        grade = Grade(name, task.title + " and more" * 9, status, "", points=11.25, out_of=12)
        first, *_ = report(grade).splitlines()
        assert f"... ({name}): " in first
        assert len(first) == WIDTH
