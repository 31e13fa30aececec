"""The main job: what it reads, what it proves, what it says, and its exit status."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npformer import LayerNorm, MultiHeadedAttention, flatten
from npformer.cli import main
from npformer.component import Array, Tree
from npformer.gradcheck import CASES
from npformer.verify import PAD, Verification, make_batch, split_sentences, standard_text

SMALL = ["--num-layers=1", "--d-model=4", "--num-heads=2", "--d-ff=6", "--sentences=3"]


@pytest.fixture
def few_components(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave most components out where they are not what is tested."""
    few = ("LayerNorm", "AnnotatedLayerNorm", "MultiHeadedAttention, self", "Embeddings")
    monkeypatch.setattr("npformer.verify.CASES", {name: CASES[name] for name in few})


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command."""
    try:
        status = main(["verify", *arguments])
    except SystemExit as end:
        status = int(end.code or 0)
    return (status, *capsys.readouterr())


@pytest.fixture(scope="module")
def defaults() -> subprocess.CompletedProcess[str]:
    """The command as a new user runs it, with nothing changed but the form of its output."""
    return subprocess.run([sys.executable, "-m", "npformer", "verify", "--json"], capture_output=True, text=True)


def test_at_its_defaults_every_gradient_is_proven_to_1e_13(defaults: subprocess.CompletedProcess[str]) -> None:
    assert (defaults.returncode, defaults.stderr) == (0, "")
    document = json.loads(defaults.stdout)
    checks = [check for row in document["rows"] for check in row["checks"]]
    assert len(checks) > 200
    assert {check["verdict"] for check in checks} == {"PASS"}
    largest = [check["error"] for check in checks if check["yardstick"] == "largest"]
    zero_in_truth = [check for check in checks if check["yardstick"] == "terms"]
    assert max(largest) <= 1e-13
    assert max(check["error"] for check in zero_in_truth) <= 1e-14
    assert {check["name"].split(".")[-2:] == ["k_proj", "bias"] for check in zero_in_truth} == {True}
    assert max(check["witness"] for check in checks) < 1e-5


def test_at_its_defaults_the_whole_model_and_every_component_are_there(
    defaults: subprocess.CompletedProcess[str],
) -> None:
    rows = json.loads(defaults.stdout)["rows"]
    assert set(CASES) <= {row["name"] for row in rows}
    names = {check["name"] for row in rows for check in row["checks"]}
    model = Verification().model
    assert set(flatten(model.parameters())) <= names
    of_model = [row for row in rows if row["name"].startswith(("embeddings", "encoder."))]
    assert sum(row["parameters"] for row in of_model) == sum(p.size for p in flatten(model.parameters()).values())


@pytest.mark.usefixtures("few_components")
def test_the_table_says_the_same_as_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    status, table, _ = run(capsys, *SMALL)
    json_status, document, _ = run(capsys, *SMALL, "--json")
    assert status == json_status == 0
    rows = json.loads(document)["rows"]
    lines = [line for line in table.splitlines() if line.endswith(" s") and "  PASS " in line]
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        numbers = f"{row['parameters']:,} {row['error']:.1e} {row['witness']:.1e} PASS"
        assert " ".join(line.split()[:-2]) == " ".join(f"{row['name']} {numbers}".split())
    assert json.loads(document)["conclusion"] in table.splitlines()[-1]


@pytest.mark.parametrize("option", ["--post-norm", "--activation=gelu", "--dtype=float32", "--dropout=0", "--seed=3"])
@pytest.mark.usefixtures("few_components")
def test_options_are_taken(capsys: pytest.CaptureFixture[str], option: str) -> None:
    status, output, errors = run(capsys, *SMALL, option)
    assert (status, errors) == (0, "")
    assert output.splitlines()[-1].startswith("All ")


@pytest.mark.usefixtures("few_components")
def test_a_file_of_the_users_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("Zwölf Boxkämpfer jagen Viktor quer über den Sylter Deich. Ja!\n\nnoch eins", encoding="utf-8")
    status, output, _ = run(capsys, *SMALL, "--file", str(path))
    assert status == 0
    assert f"3 sentences of 2 to 10 words from {path}, 14 words known" in output


def wrong_layer_norm(self: Any, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    return cache["rstd"] * grad_output * self.weight, {
        "weight": (grad_output * cache["x_hat"]).sum((0, 1)),
        "bias": grad_output.sum((0, 1)),
    }


@pytest.mark.usefixtures("few_components")
def test_a_wrong_gradient_is_found_and_exits_with_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LayerNorm, "backward", wrong_layer_norm)
    status, output, _ = run(capsys, *SMALL)
    assert status == 1
    lines = output.splitlines()
    assert [line.split()[4] for line in lines if line.startswith("LayerNorm ")] == ["FAIL"]
    assert [line.split()[4] for line in lines if line.startswith("AnnotatedLayerNorm ")] == ["PASS"]
    assert [line.split()[4] for line in lines if line.startswith("embeddings ")] == ["FAIL"]
    assert "NOT PROVEN" in lines[-1]
    assert "LayerNorm: x" in lines[-1]


@pytest.mark.usefixtures("few_components")
def test_a_gradient_that_is_not_finite_is_valid_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = LayerNorm.backward
    monkeypatch.setattr(LayerNorm, "backward", lambda *arguments: (np.nan * right(*arguments)[0], right(*arguments)[1]))
    status, output, _ = run(capsys, *SMALL, "--json")
    assert status == 1
    rows = json.loads(output, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))["rows"]
    (row,) = [row for row in rows if row["name"] == "LayerNorm"]
    assert (row["error"], row["verdict"]) == (None, "FAIL")


@pytest.mark.usefixtures("few_components")
def test_a_wrong_key_bias_is_found(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    right = MultiHeadedAttention.backward

    def wrong(self: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
        grad_inputs, grads = right(self, grad_output, cache)
        grads["k_proj"]["bias"] = grads["q_proj"]["bias"]
        return grad_inputs, grads

    monkeypatch.setattr(MultiHeadedAttention, "backward", wrong)
    status, output, _ = run(capsys, *SMALL)
    assert status == 1
    assert "MultiHeadedAttention, self: k_proj.bias" in output.splitlines()[-1]


@pytest.mark.parametrize("seed", range(4))
def test_the_smallest_models_are_proven_too(seed: int) -> None:
    """Layer norm of two entries is as ill-conditioned as it gets."""
    verification = Verification(num_layers=2, d_model=2, num_heads=2, d_ff=4, seed=seed)
    assert {row.verdict for row in verification.rows_of_model()} == {"PASS"}


def test_a_sentence_may_be_longer_than_the_usual_number_of_positions() -> None:
    verification = Verification("word " * 5100, max_words=5100, num_layers=1, d_model=4, num_heads=2, d_ff=4)
    assert verification.tokens.shape == (1, 5100)
    positions: Any = verification.model.positions
    assert positions.table.shape == (5100, 4)


BAD_USAGE = {
    "no such file": (
        ["--file=nowhere"],
        "--file must be a readable file, but nowhere is not: No such file or directory",
    ),
    "a folder": (["--file=."], "--file must be a readable file, but . is not: Is a directory"),
    "an empty file": (["--file=empty"], "text must have at least one word, but it has none"),
    "a file of signs": (["--file=signs"], "text must have at least one word, but it has none"),
    "not text": (["--file=binary"], "--file must be UTF-8 text, but binary is not"),
    "does not divide": (
        ["--d-model=6", "--num-heads=4"],
        "d_model must be a multiple of num_heads, but d_model=6 and num_heads=4",
    ),
    "no layers": (["--num-layers=0"], "num_layers must be at least 1, but it is 0"),
    "no sentences": (["--sentences=0"], "sentences must be at least 1, but it is 0"),
    "no words": (["--max-words=0"], "max_words must be at least 1, but it is 0"),
    "negative seed": (["--seed=-1"], "seed must be at least 0, but it is -1"),
    "rate": (["--dropout=1"], "p, the dropout rate, must lie in [0, 1), but it is 1.0"),
    "nan": (["--dropout=nan"], "p, the dropout rate, must lie in [0, 1), but it is nan"),
    "a word for a number": (["--d-ff=many"], "argument --d-ff: invalid int value: 'many' (see npformer verify --help)"),
    "unknown dtype": (
        ["--dtype=float16"],
        "argument --dtype: invalid choice: 'float16' (choose from 'float64', 'float32') (see npformer verify --help)",
    ),
    "unknown option": (["--fast"], "unrecognized arguments: --fast (see npformer --help)"),
}


@pytest.mark.parametrize("name", BAD_USAGE)
def test_bad_usage_is_one_clear_line_and_status_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").touch()
    Path("signs").write_text("... !\n\n ?", encoding="utf-8")
    Path("binary").write_bytes(b"\xff\xfe\x00")
    arguments, message = BAD_USAGE[name]
    status, output, errors = run(capsys, *arguments)
    assert (status, output) == (2, "")
    command = "npformer" if "unrecognized" in message else "npformer verify"
    assert errors == f"{command}: {message}\n"


def test_too_large_a_model_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, errors = run(capsys, f"--d-model={10**12}", "--num-heads=1")
    assert (status, errors) == (2, "npformer verify: there is not enough memory for these sizes\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the device that is always full is Linux's")
def test_an_output_that_cannot_be_written_is_one_clear_line() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "npformer", "verify", *SMALL, "--json"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.stderr == "npformer verify: the output cannot be written: No space left on device\n"
    assert done.returncode == 2


def test_help_names_every_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    status, output, _ = run(capsys, "--help")
    assert status == 0
    assert "0 all proven, 1 a gradient is not, 2 bad usage" in " ".join(output.split())


def test_a_reader_that_leaves_causes_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "npformer", "verify", *SMALL]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode == 2


def test_the_standard_text_is_real_prose() -> None:
    sentences = split_sentences(standard_text())
    lengths = [len(sentence) for sentence in sentences]
    assert len(sentences) > 1000
    assert 10 < np.mean(lengths) < 40
    assert len(set(lengths)) > 20


def test_sentences_end_with_a_mark_or_a_blank_line() -> None:
    text = "It isn't\nso. Is it (x1)?\n\nNo end here\n\n---\n\nYes! 3.5 is a number"
    assert split_sentences(text) == [
        ["it", "isn't", "so", "."],
        ["is", "it", "x1", "?"],
        ["no", "end", "here"],
        ["yes", "!"],
        ["3", ".", "5", "is", "a", "number"],
    ]


def test_batches_are_padded_and_masked() -> None:
    verification = Verification("One two three. Four five!", num_layers=1, d_model=4, num_heads=2, d_ff=4, max_words=3)
    lengths = (verification.tokens != PAD).sum(1).tolist()
    assert sorted(lengths) == [3, 3]
    tokens = make_batch([["a", "b"], ["b"]], {"a": 1, "b": 2})
    assert tokens.tolist() == [[1, 2], [2, PAD]]
    assert len(verification.vocabulary) == len({"one", "two", "three", ".", "four", "five", "!"})
    assert verification.mask.shape == (2, 1, 1, 3)


def test_a_seed_repeats_a_run_to_the_bit() -> None:
    def errors(seed: int) -> list[float]:
        verification = Verification("One. Two and three.", num_layers=1, d_model=4, num_heads=2, d_ff=4, seed=seed)
        return [row.error for row in verification.rows_of_model()]

    assert errors(1) == errors(1)
    assert errors(1) != errors(2)
    assert all(math.isfinite(error) for error in errors(1))
