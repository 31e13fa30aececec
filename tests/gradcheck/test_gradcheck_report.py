"""The report: a table for readers, JSON and Markdown for programs, a message for students; nothing on stderr."""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from subjects import planted

from npformer import LayerNorm, MultiHeadedAttention
from npformer.component import Array, Tree
from npformer.gradcheck import assert_gradient, check_gradients

X = np.array([[1.0, 2.0, 4.0]])


def without_mean(norm: Any, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    grad_x, grads = norm.right(grad_output, cache)
    g = grad_output * norm.weight
    return grad_x + cache["rstd"] * g.mean(-1, keepdims=True), grads


WRONG = planted(LayerNorm(3), without_mean)


def test_the_table_reads_well() -> None:
    report = check_gradients(WRONG, X, grad_output=np.array([[1.0, 0.5, -1.0]]))
    assert str(report).splitlines() == [
        "LayerNorm: FAIL, entry by entry, seed 0",
        "",
        "array       entries     error   allowed  verdict    method",
        *list(str(report).splitlines()[3:6]),
        "",
        "Errors are relative to their largest entry.",
        "",
        *list(str(report).splitlines()[9:]),
    ]
    rows = [line.split() for line in str(report).splitlines()[3:6]]
    assert [(row[0], row[1], *row[3:]) for row in rows] == [
        ("x", "3", "1.0e-13", "FAIL", "complex", "step"),
        ("weight", "3", "1.0e-13", "PASS", "complex", "step"),
        ("bias", "3", "1.0e-13", "PASS", "complex", "step"),
    ]
    explained = "\n".join(str(report).splitlines()[9:])
    assert explained.startswith("x: FAIL. A slope of forward is ")
    assert (
        "  3 of its 3 entries are wrong:\n  index                               yours                     true\n"
        in explained
    )


def test_markdown_and_json_hold_the_same() -> None:
    report = check_gradients(WRONG, X)
    lines = report.to_markdown().splitlines()
    assert lines[0] == "**LayerNorm: FAIL**, entry by entry, seed 0"
    table = [line.strip("|").split("|") for line in lines if line.startswith("| `")]
    document = json.loads(report.to_json())
    assert document == report.to_dict()
    assert (document["subject"], document["verdict"], document["directions"], document["seed"]) == (
        "LayerNorm",
        "FAIL",
        None,
        0,
    )
    for row, check, given in zip(table, report.checks, document["checks"], strict=True):
        assert [cell.strip() for cell in row] == [
            f"`{check.name}`", "3", f"{check.error:.1e}", f"{check.tolerance:.1e}", check.verdict, check.method
        ]  # fmt: skip
        assert given["error"] == check.error
    assert document["checks"][0]["wrong"][0].keys() == {"index", "ours", "true"}


def test_json_has_no_infinities() -> None:
    report = check_gradients((lambda x: x, lambda g, x: g * np.nan), X)
    assert report.checks[0].error == np.inf
    assert json.loads(report.to_json())["checks"][0]["error"] is None


def test_a_yardstick_is_marked_and_explained() -> None:
    report = check_gradients(MultiHeadedAttention(3, 6, rng=0), np.random.default_rng(0).standard_normal((2, 4, 6)))
    assert report.verdict == "PASS"
    assert any(line.startswith("k_proj.bias * ") for line in str(report).splitlines())
    assert "Errors are relative to their largest entry; the size of the terms that cancel in them (*)." in str(report)
    assert r"| `k_proj.bias` \* |" in report.to_markdown()


def test_assert_gradient_tells_a_student_what_is_wrong() -> None:
    assert assert_gradient(LayerNorm(3), X).verdict == "PASS"
    with pytest.raises(AssertionError) as caught:
        assert_gradient(WRONG, X)
    message = str(caught.value)
    assert message.startswith("the gradients are not proven right\nLayerNorm: FAIL")
    assert "x: FAIL. A slope of forward is" in message
    with pytest.raises(AssertionError, match="hides mistakes"):
        assert_gradient(LayerNorm(3), X, grad_output=np.ones((1, 3)))


def test_nothing_goes_to_stderr_even_where_numbers_overflow() -> None:
    program = (
        "import numpy as np, warnings\n"
        "from npformer.gradcheck import check_gradients\n"
        "def forward(x):\n"
        "    warnings.warn('mine')\n"
        "    return np.exp(x * 1e3) * np.array(x.real, float)\n"
        "for x in (np.ones(2), np.zeros(2), -np.ones(2)):\n"
        "    for directions in (None, 2):\n"
        "        check_gradients((forward, lambda g, x: g / 0.0 * x), x, directions=directions)\n"
        "        check_gradients((forward, lambda g, x: g * x), x, directions=directions)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
