"""The table of accuracy: it keeps its bounds, it sees errors that are planted, and it says what it lacks."""

import math
import sys

import numpy as np
import pytest

import npformer.accuracy
from npformer import GELU, LayerNorm, Softmax
from npformer.accuracy import UNITS, Accuracy, format_accuracy, measure_accuracy
from npformer.component import Array, Tree
from npformer.special import erf, normal_cdf

# The largest errors in float64 and in float32, whose exp alone is good to 2.6 ulps on some machines.
BOUNDS = {
    ("erf", "[-8, 8]"): (4, 4),
    ("Φ", "[-8, 8]"): (4, 5),
    ("Φ", "tail"): (4, 5),
    ("GELU", "[-8, 8]"): (4, 5),
    ("GELU", "tail"): (4, 5),
    ("GELU slope", "[-8, 8]"): (15, 15),
    ("GELU slope", "tail"): (400, 60),
    ("tanh GELU", "[-8, 8]"): (150, 150),
    ("tanh GELU", "tail"): (3000, 300),
    ("tanh GELU slope", "[-8, 8]"): (80, 80),
    ("tanh GELU slope", "tail"): (1500, 150),
    ("SiLU", "[-8, 8]"): (4, 5),
    ("SiLU", "tail"): (4, 5),
    ("SiLU slope", "[-8, 8]"): (4, 5),
    ("SiLU slope", "tail"): (4, 5),
    ("softmax", "rows of 16, std 1 to 10"): (60, 60),
    ("softmax backward", "rows of 16, std 1 to 10"): (40, 40),
    ("LayerNorm", "rows of 64, std 1 to 10"): (4, 4),
    ("LayerNorm backward", "rows of 64, std 1 to 10"): (4, 4),
}


def kind_of(row: Accuracy) -> tuple[str, str]:
    return row.function, row.inputs if not row.inputs.endswith("-8]") else "tail"


@pytest.fixture(scope="module")
def rows() -> list[Accuracy]:
    return measure_accuracy(points=3000)


def test_every_function_is_measured_and_within_its_bound(rows: list[Accuracy]) -> None:
    assert [kind_of(row) for row in rows if row.dtype == "float64"] == [kind_of(row) for row in rows[len(rows) // 2 :]]
    assert {kind_of(row) for row in rows} == BOUNDS.keys()
    for row in rows:
        assert row.largest <= BOUNDS[kind_of(row)][row.dtype == "float32"], row
        assert row.points >= 3000
        assert 0 < row.mean < row.largest
        assert row.unit in UNITS


def test_the_seed_decides_the_points(rows: list[Accuracy]) -> None:
    assert measure_accuracy(points=64) == measure_accuracy(points=64, seed=0)
    assert measure_accuracy(points=64) != measure_accuracy(points=64, seed=1)


def largest(function: str, dtype: str = "float64") -> float:
    return max(row.largest for row in measure_accuracy(256) if (row.function, row.dtype) == (function, dtype))


class NaiveGELU(GELU):
    """It cancels in the left tail, where erf is near -1."""

    def forward(self, x: Array) -> tuple[Array, Tree]:
        cdf = (1 + erf(x / math.sqrt(2))) / 2
        return x * cdf, {"x": x, "cdf": cdf}


def test_gelu_through_erf_is_off_by_millions_of_ulps_in_the_left_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npformer.accuracy, "GELU", NaiveGELU)
    assert largest("GELU") > 1e6


def test_a_scale_that_is_off_in_the_last_bits_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npformer.accuracy, "normal_cdf", lambda x: normal_cdf(x) * (1 + 10 * np.finfo(x.dtype).eps))
    for dtype in ("float64", "float32"):
        assert 10 < largest("Φ", dtype) < 25


def test_an_ulp_just_below_1_is_half_of_one_just_above(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npformer.accuracy, "erf", lambda x: erf(x) + 4 * np.finfo(x.dtype).eps * (x > 6.5))
    assert largest("erf") == pytest.approx(8, abs=0.01)


class RoundedSoftmax(Softmax):
    """It computes in float32."""

    def forward(self, x: Array) -> tuple[Array, Tree]:
        output = super().forward(x.astype(np.float32))[0].astype(x.dtype)
        return output, {"output": output}


class ScaledLayerNorm(LayerNorm):
    """Its outputs and gradients are too large by 1e-12."""

    def forward(self, x: Array) -> tuple[Array, Tree]:
        output, cache = super().forward(x)
        return output * (1 + 1e-12), cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        return super().backward(grad_output * (1 + 1e-12), cache)


@pytest.mark.parametrize(("name", "planted"), [("Softmax", RoundedSoftmax), ("LayerNorm", ScaledLayerNorm)])
def test_errors_in_rows_are_seen(monkeypatch: pytest.MonkeyPatch, name: str, planted: type) -> None:
    monkeypatch.setattr(npformer.accuracy, name, planted)
    function = {"Softmax": "softmax"}.get(name, name)
    assert min(largest(function), largest(f"{function} backward")) > 1000


def test_the_table_in_both_forms(rows: list[Accuracy]) -> None:
    plain, markdown = format_accuracy(rows), format_accuracy(rows, markdown=True)
    assert len(plain.splitlines()) == 1 + len(rows) + 1 + len(UNITS)
    assert len({line.index("float") for line in plain.splitlines()[1 : 1 + len(rows)]}) == 1
    assert "|" not in plain
    lines = markdown.splitlines()
    assert len(lines) == 2 + len(rows) + 1 + len(UNITS)
    assert {line.count("|") for line in lines[: 2 + len(rows)]} == {9}
    for row in rows:
        for table in (plain, markdown):
            assert any(
                row.function in line and row.dtype in line and f"{row.largest:.2f}" in line
                for line in table.splitlines()
            )


def test_where_the_largest_error_occurs_is_given_in_full(rows: list[Accuracy]) -> None:
    for line, row in zip(format_accuracy(rows).splitlines()[1:], rows, strict=False):
        assert np.dtype(row.dtype).type(float(line.split()[-1])) == row.at


def test_without_mpmath_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpmath", None)
    with pytest.raises(ImportError, match=r"^[^\n]*: pip install mpmath$"):
        measure_accuracy()


@pytest.mark.parametrize(
    ("points", "error", "sentence"),
    [
        (63, ValueError, "points must be at least 64, but it is 63"),
        (1e5, TypeError, "points must be a whole number, but it is a float"),
        (None, TypeError, "points must be a whole number, but it is None"),
    ],
)
def test_bad_points_get_one_sentence(points: int, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=f"^{sentence}$"):
        measure_accuracy(points)


def test_a_bad_seed_gets_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"^seed must be at least 0, but it is -1$"):
        measure_accuracy(64, seed=-1)
