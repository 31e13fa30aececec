"""The grader and odd code: what stops it, what it returns, what it changes, what it leaves to chance."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npformer.component import Array, Tree
from npformer.exercises import TASKS, check
from npformer.exercises.source import blank_file
from npformer.exercises.tasks.layer_norm import LayerNorm
from npformer.exercises.tasks.softmax import Softmax

BLANK = '        raise NotImplementedError("backward is still to be written")'


def _layer_norm(tmp_path: Path, body: str) -> Path:
    """A learner's file with this in place of the blank."""
    path = tmp_path / "layer_norm.py"
    path.write_text(blank_file(TASKS["layer_norm"]).replace(BLANK, body), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("        return 1 / 0", "line 42, in backward: ZeroDivisionError"),
        (
            "        return None",
            "backward must return two things, one gradient, an array, and a dict, but it returned None",
        ),
        ("        exit(3)", "sys.exit(3) was called"),
        ("        np.ones(10**14)", "MemoryError"),
        ("        while True: pass", "still running after 2 s.\nIt was in backward, at line 42 of layer_norm.py."),
        ("        import os; os._exit(0)", "Your code did not come to its end"),
        ("        return grad_output, {", "SyntaxError"),
        ("        return grad_output.sum(), {'weight': [1], 'bias': 'b'}", ""),
        ("        return [grad_output], None", ""),
    ],
)
def test_code_that_cannot_be_judged_is_told_why(body: str, said: str, tmp_path: Path) -> None:
    grade = check(_layer_norm(tmp_path, body), seconds=2.0)
    assert grade.status in ("error", "wrong")
    assert grade.points == 0
    assert said in grade.message


@pytest.mark.parametrize(
    ("change", "points", "right"),
    [
        (lambda x, weight, bias: (x, weight, 0 * bias + 1), 4, ("x", "weight")),
        (lambda x, weight, bias: (np.clip(x, -1, 1), weight, bias), 4, ("weight", "bias")),
        (lambda x, weight, bias: (np.abs(x), weight, bias), 4, ("weight", "bias")),
        (lambda x, weight, bias: (x.astype(np.float32), weight, bias), 4, ("weight", "bias")),
        (lambda x, weight, bias: (x, weight.astype(complex), bias), 4, ("x", "bias")),
        (lambda x, weight, bias: (x, weight + np.random.default_rng().random(), bias), 4, ("x", "bias")),
    ],
)
def test_each_right_gradient_has_its_points_whatever_the_others_do(
    change: Any, points: float, right: tuple[str, ...]
) -> None:
    class Learners(LayerNorm):
        def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
            grad_x, grads = super().backward(grad_output, cache)
            x, weight, bias = change(grad_x, grads["weight"], grads["bias"])
            return x, {"weight": weight, "bias": bias}

    grade = check(Learners, "layer_norm")
    assert (grade.points, grade.right) == (points, right)
    assert not any("cache kept" in finding.name or "trained" in finding.name for finding in grade.findings)


@pytest.mark.parametrize(
    "returned", ["(y, None), {}", "(y,), {}", "[y], {}", "y.tolist(), {}", "y, []", "y, {}, {}", "y"]
)
def test_the_form_of_what_is_returned_is_told(returned: str, tmp_path: Path) -> None:
    path = tmp_path / "softmax.py"
    blank = blank_file(TASKS["softmax"])
    path.write_text(blank.replace(BLANK, f"        y = grad_output\n        return {returned}"), encoding="utf-8")
    assert check(path).message.startswith("backward must return ")


def test_a_parameter_cannot_be_left_out() -> None:
    def backward(self: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        return LayerNorm.backward(self, grad_output, cache)[0], {}

    grade = check(type("LayerNorm", (LayerNorm,), {"parameter_names": (), "backward": backward}))
    assert (grade.status, grade.points) == ("error", 0)
    assert grade.message.startswith("the parameters must be weight, bias, but those of the class are none")


def test_what_fails_with_a_batch_of_one_alone_is_seen_in_the_encoder() -> None:
    class Learners(Softmax):
        def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
            grad_x, grads = super().backward(grad_output, cache)
            return grad_x * (1 if len(grad_x) > 1 else 2), grads

    grade = check(Learners, "softmax")
    assert grade.status == "wrong"
    assert "an encoder that uses it" in grade.message


def test_a_function_must_leave_its_arguments_alone() -> None:
    def attention(query: Array, key: Array, value: Array, mask: Any = None) -> Any:
        query *= 1.5
        return TASKS["attention"].solution(query, key, value, mask)

    assert "must not write into what it is given" in check(attention, "attention").message


def test_mistakes_that_do_not_show_are_not_accused() -> None:
    class Learners(Softmax):
        def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
            grad_x, grads = super().backward(grad_output, cache)
            if len(grad_x) == 3:
                raise ValueError("not for three")
            return grad_x, grads

    grade = check(Learners, "softmax")
    assert (grade.status, grade.findings) == ("wrong", ())
    assert "not for three" in grade.message


def test_a_parameter_gradient_cannot_stand_for_that_of_an_input() -> None:
    class Learners(Softmax):
        def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
            return grad_output, {"x": super().backward(grad_output, cache)[0]}

    assert check(Learners, "softmax").status == "wrong"


def test_chance_in_backward_is_called_that() -> None:
    class Learners(Softmax):
        def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
            return super().backward(grad_output, cache)[0] * np.random.default_rng().random(), {}

    names = [finding.name for finding in check(Learners, "softmax").findings]
    assert "does not repeat itself" in names
    assert not any("kept" in name for name in names)


def test_a_checker_that_always_says_the_same_has_no_points() -> None:
    def gradient_is_right(forward: Any, backward: Any, *arrays: Array) -> bool:
        return False

    grade = check(gradient_is_right, "gradient_checker")
    assert (grade.points, grade.findings[0].name) == (0, "gradient_checker.always_false")


def test_a_changed_forward_is_told_before_any_gradient() -> None:
    class Learners(LayerNorm):
        def forward(self, x: Array) -> tuple[Array, Tree]:
            output, cache = super().forward(x)
            return 2 * output, cache

        def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
            return super().backward(2 * grad_output, cache)

    grade = check(Learners, "layer_norm")
    assert grade.status == "error"
    assert grade.message.startswith("forward must stay what it was, but its output differs")


def test_what_is_printed_is_that_of_one_small_case(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    grade = check(_layer_norm(tmp_path, '        print("shape", grad_output.shape); return None'))
    assert grade.printed == "shape (1, 2, 3)\n"
    assert capfd.readouterr() == ("", "")
