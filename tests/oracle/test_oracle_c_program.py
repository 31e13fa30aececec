"""The C program of the examples answers conformance cases right, and where a mistake is planted, that is named."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from c_program import (
    CASES,
    SOURCE,
    STRICT,
    answer_of,
    attention,
    compile_program,
    compile_sanitized,
    layer_norm,
    write_case,
)
from safetensors.numpy import load_file, save_file

from npformer.cli import main
from npformer.oracle import compare
from npformer.oracle.comparison import MISSING, Origin


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program as its first lines say it is built, but with every warning an error."""
    return compile_program(SOURCE, tmp_path_factory.mktemp("c") / "conformance", STRICT)


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, stopped by whatever it reads or writes out of place."""
    return compile_sanitized(SOURCE, tmp_path_factory.mktemp("c") / "sanitized")


@pytest.mark.parametrize("name", CASES)
def test_its_answer_passes(program: Path, tmp_path: Path, name: str) -> None:
    expected = CASES[name]()
    answer = answer_of(program, write_case(tmp_path / "case", expected))
    if expected.storage.name == "float64":  # it computes in float all the same
        expected = layer_norm(3, 8)
    comparison = compare(answer, expected)
    assert comparison.passed, str(comparison)
    assert {row.name for row in comparison.rows if row.verdict == MISSING} <= {"softmax.output", "softmax.grad_x"}
    assert not comparison.unknown
    assert all(array.dtype == np.float32 for array in answer.values())


@pytest.mark.parametrize("name", CASES)
def test_it_reads_and_writes_nothing_out_of_place(sanitized: Path, tmp_path: Path, name: str) -> None:
    folder = write_case(tmp_path / "case", CASES[name]())
    assert answer_of(sanitized, folder)


MISTAKES = {
    "- mean_g - x_hat": ("layer norm", "- x_hat", "grad_x"),
    " - x_hat[i] * mean_g_x_hat": ("layer norm", "", "grad_x"),
    "variance + eps": ("layer norm with another eps", "variance", "x_hat"),
    "grad_bias[i] += grad_output[i]": ("layer norm", "grad_bias[i] = grad_output[i]", "grad_bias"),
    "weight[i] * x_hat[i] + bias[i]": ("layer norm", "weight[i] * x_hat[i]", "output"),
    "1 / sqrtf((float)d_k)": ("attention", "1", "scores"),
    "*row_max + logf(*row_sum)": ("attention", "logf(*row_sum)", "logsumexp"),
    "expf(scores[k] - *row_max) / *row_sum": ("attention", "expf(scores[k] - *row_max)", "weights"),
    "(grad_weights[k] - *delta)": ("attention", "grad_weights[k]", "grad_scores"),
    "if (!mask[k])": ("attention with masked rows", "if (false)", "grad_scores"),
    "core->scale * grad_scores[k], query": ("attention", "grad_scores[k], query", "grad_key"),
    "i / T_q * T_k": ("attention", "0 * T_k", "scores"),
}


@pytest.mark.parametrize("right", MISTAKES)
def test_a_mistake_in_it_is_named(tmp_path: Path, right: str) -> None:
    name, wrong, first = MISTAKES[right]
    text = SOURCE.read_text(encoding="utf-8")
    assert text.count(right) == 1
    (tmp_path / "wrong.c").write_text(text.replace(right, wrong), encoding="utf-8")
    program = compile_program(tmp_path / "wrong.c", tmp_path / "wrong", ["-std=c11", "-O1"])
    expected = CASES[name]()
    comparison = compare(answer_of(program, write_case(tmp_path / "case", expected)), expected)
    assert not comparison.passed
    assert comparison.first_wrong is not None
    assert (comparison.first_wrong.name, comparison.first_wrong.origin) == (first, Origin.HERE)


def test_what_is_masked_may_be_nan(sanitized: Path, tmp_path: Path) -> None:
    mask = np.array([1, 1, 0, 1, 0, 1, 1])
    expected = attention(5, 7, 4, 6, mask)
    folder = write_case(tmp_path / "case", expected)
    arrays = load_file(folder / "arrays.safetensors")
    arrays["key"][..., mask == 0, :] = arrays["value"][..., mask == 0, :] = np.nan
    save_file(arrays, folder / "arrays.safetensors")
    answer = answer_of(sanitized, folder)
    assert compare(answer, expected).passed
    assert not answer["grad_key"][..., mask == 0, :].any()


@pytest.mark.parametrize("name", ["layer norm", "attention with masked rows"])
def test_the_arrays_alone_are_a_case_with_usual_settings(program: Path, tmp_path: Path, name: str) -> None:
    expected = CASES[name]()
    folder = write_case(tmp_path / "case", expected)
    (folder / "case.json").unlink()
    assert compare(answer_of(program, folder), expected).passed


def test_the_commands_of_its_first_lines_do_what_they_say(program: Path, tmp_path: Path) -> None:
    names = ["layer_norm_float32", "attention_padding", "attention_causal_T65", "attention_nan_in_masked_keys_float32"]
    only = [word for name in names for word in ("--only", name)]
    assert main(["vectors", str(tmp_path / "cases"), *only]) == 0
    for name in names:
        answer = tmp_path / f"{name}.safetensors"
        subprocess.run([program, tmp_path / "cases" / name, answer], check=True)
        assert main(["compare", str(answer), str(tmp_path / "cases" / name)]) == 0
