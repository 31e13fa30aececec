"""The lessons in examples/: each runs, reads as a notebook, and notices a wrong formula of its own."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
LESSONS = sorted(path.name for path in EXAMPLES.glob("[0-9]*.py"))

PLANTED = [  # a lesson, a formula of its own, and what is wrongly written in its place
    ("01_masks.py", "np.where(own_mask, raw_scores, -1e9)", "np.where(own_mask, -1e9, raw_scores)"),
    ("01_masks.py", "encoding - alone", "encoding + alone"),
    ("02_attention_by_hand.py", "math.sqrt(len(q))", "len(q)"),
    ("03_why_divide_by_sqrt_d_k.py", "divisor in (1, math.sqrt(d_k), d_k)", "divisor in (1, d_k**0.48, d_k)"),
    ("03_why_divide_by_sqrt_d_k.py", "grad_scores @ key / divisor(d_k)", "grad_scores @ key"),
    (
        "04_softmax_and_layer_norm_backward.py",
        "return rstd * (g - mean(g) - x_hat * mean(g * x_hat))",
        "return rstd * (g - mean(g) - x_hat * mean(g))",
    ),
    ("05_multi_head_attention.py", "(1 - a) * after", "(1 + a) * after"),
    (
        "04_softmax_and_layer_norm_backward.py",
        "backward_short(g, x, weight) + x_hat_and_rstd(x)[1]",
        "backward_short(g, x, weight) - x_hat_and_rstd(x)[1]",
    ),
    (
        "05_multi_head_attention.py",
        "reshape(B, T, num_heads, d_model // num_heads).transpose(0, 2, 1, 3)",
        "reshape(B, num_heads, T, d_model // num_heads)",
    ),
    ("06_residuals_and_norms.py", "return grad_output + grad_x, grads", "return grad_x, grads"),
    ("06_residuals_and_norms.py", "x.mean(1, keepdims=True)) / rms(x)", "x.mean(2, keepdims=True)) / rms(x)"),
    ("07_one_encoder_layer.py", "grad_weights - delta[:, :, None]", "grad_weights"),
    ("07_one_encoder_layer.py", "on_paper(grad_weight2[0, 0], -0.2881)", "on_paper(grad_weight2[0, 0], -0.2882)"),
    ("08_gradient_checking.py", "(above - below) / (2 * h)", "(above - below) / h"),
    ("08_gradient_checking.py", "(f(h) - f(0.0)) / h", "(f(h) - f(0.0)) / (1.1 * h)"),
    ("08_gradient_checking.py", "right(nudged)).sum().imag / 1e-200", "right(nudged)).sum().imag / 1.1e-200"),
    ("08_gradient_checking.py", "np.asarray((x * x).mean())", "np.asarray((x / x).mean())"),
    ("09_training.py", "parameter -= 0.03", "parameter -= 0.02"),
    ("09_training.py", "order[number * BATCH : (number + 1) * BATCH]", "order[:BATCH]"),
    ("09_training.py", "return float((logits.argmax(-1) == labels).mean())", "return 1.0"),
    ("10_oracle_for_a_kernel.py", "weighted_values * rescale[:, None] + powers", "weighted_values + powers"),
]


def run(lesson: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(lesson)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8")


def cells(text: str) -> list[tuple[str, list[str]]]:
    """Return the kind of each cell, and its lines without the empty ones."""
    parts = re.split(r"^# %%(.*)\n", text, flags=re.M)
    assert parts[0] == "", "a lesson begins with a cell"
    bodies = [[line for line in body.splitlines() if line] for body in parts[2::2]]
    return list(zip((kind.strip() for kind in parts[1::2]), bodies, strict=True))


def test_the_lessons_are_numbered_without_a_gap() -> None:
    assert [name[:3] for name in LESSONS] == [f"{number:02}_" for number in range(1, len(LESSONS) + 1)]


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_runs_and_ends_in_its_check(name: str, tmp_path: Path) -> None:
    done = run(EXAMPLES / name, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    last = done.stdout.splitlines()[-1]
    check = re.fullmatch(r"check: (\S+) \(must be (below|above) (\S+)\)", last)
    assert check, last
    number, side, bound = float(check[1]), check[2], float(check[3])
    assert number < bound if side == "below" else number > bound
    assert not list(tmp_path.iterdir()), "a lesson leaves nothing behind"


def test_an_error_is_planted_in_every_lesson() -> None:
    assert sorted({name for name, _, _ in PLANTED}) == LESSONS


@pytest.mark.parametrize(
    ("name", "right", "wrong"), PLANTED, ids=[f"{name[:2]}: {wrong}" for name, _, wrong in PLANTED]
)
def test_an_error_in_a_formula_makes_the_lesson_fail(name: str, right: str, wrong: str, tmp_path: Path) -> None:
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    assert text.count(right) == 1
    lesson = tmp_path / name
    lesson.write_text(text.replace(right, wrong), encoding="utf-8")
    done = run(lesson, tmp_path)
    assert done.returncode == 1
    assert "AssertionError" in done.stderr


@pytest.mark.parametrize("name", LESSONS)
def test_prose_and_code_alternate(name: str) -> None:
    kinds = [kind for kind, _ in cells((EXAMPLES / name).read_text(encoding="utf-8"))]
    assert kinds == list(itertools.islice(itertools.cycle(["[markdown]", ""]), len(kinds)))
    assert kinds[-1] == "", "the check is code"


@pytest.mark.parametrize("name", LESSONS)
def test_prose_is_comments_and_code_is_not(name: str) -> None:
    first, *_ = every = cells((EXAMPLES / name).read_text(encoding="utf-8"))
    assert re.fullmatch(rf"# # {int(name[:2])}\. \S.*", first[1][0]), "the first line is the title, with the number"
    for kind, lines in every:
        comments = [line == "#" or line.startswith("# ") for line in lines]
        assert all(comments) if kind else not all(comments)


def test_attention_by_hand_prints_no_number_that_its_text_has_not_said(tmp_path: Path) -> None:
    lesson = EXAMPLES / "02_attention_by_hand.py"
    tables = "\n".join(re.findall(r"^# \| (.*) \|$", lesson.read_text(encoding="utf-8"), flags=re.M))
    printed = run(lesson, tmp_path).stdout
    for word in ("cats", "chase", "mice"):
        said = [re.findall(r"-?[\d.]+", row) for row in re.findall(rf"^{word} \|(.*)$", tables, flags=re.M)]
        rows = [row.split() for row in re.findall(rf"^  {word} (.*)$", printed, flags=re.M)]
        assert [float(number) for row in said for number in row] == [float(number) for row in rows for number in row]
        # x 4, query 4, key 4, value 2; products 3, scores 3; exp 3, sum 1, weights 3; output 2; causal 3 and 2
        assert sum(map(len, rows)) == 34


def test_what_one_encoder_layer_checks_by_hand_is_worked_out_in_its_text() -> None:
    every = cells((EXAMPLES / "07_one_encoder_layer.py").read_text(encoding="utf-8"))
    checked = 0
    for (_, prose), (_, code) in zip(every[::2], every[1::2], strict=True):
        said = re.findall(r"-?\d+(?:\.\d+)?", "\n".join(prose))
        for call in re.findall(r"^on_paper\((.*)\)", "\n".join(code), flags=re.M):
            numbers = re.findall(r"(?<=, )-?\d+\.\d+", call)
            assert numbers
            assert {float(number) for number in numbers} <= {float(number) for number in said}, call
            checked += len(numbers)
    assert checked > 60


def test_the_sums_that_one_encoder_layer_does_on_paper_are_right() -> None:
    lesson = (EXAMPLES / "07_one_encoder_layer.py").read_text(encoding="utf-8")
    prose = " ".join(" ".join(line.lstrip("# ") for line in lines) for kind, lines in cells(lesson) if kind)
    sums = re.findall(r"([-(\d√][-+·/()√ \d.]*[·/+√-][-+·/()√ \d.]*) = (-?\d+\.\d+)", prose)
    assert len(sums) > 40
    for by_hand, result in sums:
        spelt = re.sub(r"√([\d.]+)", r"\1**0.5", by_hand).replace("·", "*")
        exact = eval(re.sub(r"(?<=\d) (?=\()", "*", spelt))
        assert abs(exact - float(result)) <= 0.5001e-4, f"{by_hand} = {exact}, not {result}"
