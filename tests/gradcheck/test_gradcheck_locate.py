"""Wrong entries are found in large arrays too, by slopes along few directions."""

import copy
from typing import Any

import numpy as np
import pytest
from subjects import planted

from npformer import Linear
from npformer.component import Array, Tree
from npformer.gradcheck import check_gradients


def wrong_at(places: list[tuple[int, int]], by: float) -> Any:
    def backward(linear: Any, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        grad_x, grads = copy.deepcopy(linear.right(grad_output, cache))
        for place in places:
            grads["weight"][place] *= 1 + by
        return grad_x, grads

    return planted(Linear(60, 50, rng=0), backward)


X = np.random.default_rng(0).standard_normal((4, 60))


@pytest.mark.parametrize("by", [1e-6, 1.0, -1.0])
@pytest.mark.parametrize("places", [[(0, 0)], [(49, 59)], [(17, 3)], [(3, 3), (3, 4)], [(0, 59), (20, 0), (49, 1)]])
def test_all_of_a_few_wrong_entries_are_found(places: list[tuple[int, int]], by: float) -> None:
    report = check_gradients(wrong_at(places, by), X, directions=1)
    (check,) = [check for check in report.checks if check.verdict != "PASS"]
    assert (check.name, check.verdict) == ("weight", "FAIL")
    assert sorted(entry.index for entry in check.wrong) == places
    for entry in check.wrong:
        assert entry.ours == pytest.approx(entry.true * (1 + by), rel=1e-9, abs=1e-9)


def test_of_many_wrong_entries_some_are_reported() -> None:
    report = check_gradients(
        wrong_at([(row, column) for row in range(50) for column in range(60)], 0.1), X, directions=1
    )
    check = report.checks[1]
    assert (len(check.wrong), check.wrong_entries) == (5, None)
    assert "At least 5 of its 3,000 entries are wrong" in str(report)


def test_two_errors_that_cancel_in_a_direction_are_found() -> None:
    def backward(linear: Any, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        grad_x, grads = linear.right(grad_output, cache)
        bias = grads["bias"].copy()
        bias[[3, 4]] = bias[[4, 3]]
        return grad_x, grads | {"bias": bias}

    for seed in range(20):
        report = check_gradients(planted(Linear(60, 50, rng=0), backward), X, directions=1, seed=seed)
        assert [entry.index for entry in sorted(report.checks[2].wrong, key=lambda e: e.index)] == [(3,), (4,)]
