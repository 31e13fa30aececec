"""Conformance vectors: complete, reproducible, read back, and right in every layout."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npformer.cli import main
from npformer.component import Array, flatten
from npformer.oracle import Expected, compare, load_case, trace, write_vectors
from npformer.oracle.files import read_arrays
from npformer.oracle.vectors.component_cases import catalogue
from npformer.oracle.vectors.conventions import CONVENTIONS
from npformer.oracle.vectors.recipes import BUILDERS

NAMES = list(catalogue())
SEVERAL = ["encoder_layer_*", "attention_dropout", "variable_lengths_*", "packed_*", "token_encoder", "*_bfloat16"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("vectors") / "all"
    assert [each.name for each in write_vectors(path)] == NAMES
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("file_format", ["safetensors", "npz"])
def test_files_are_the_same_byte_for_byte(tmp_path: Path, file_format: str) -> None:
    for name in ("first", "second"):
        write_vectors(tmp_path / name, file_format, SEVERAL)
    first = contents(tmp_path / "first")
    assert first == contents(tmp_path / "second")
    assert sum(name.endswith(f".{file_format}") for name in first) == len(first) // 3 * 2  # the rest is JSON


def test_formats_hold_the_same(tmp_path: Path) -> None:
    for file_format in ("safetensors", "npz"):
        write_vectors(tmp_path / file_format, file_format, "attention_dropout")
    for name in ("arrays", "tolerances"):
        one = read_arrays(tmp_path / "safetensors" / "attention_dropout" / f"{name}.safetensors")
        other = read_arrays(tmp_path / "npz" / "attention_dropout" / f"{name}.npz")
        assert one.keys() == other.keys()
        for key, array in one.items():
            np.testing.assert_array_equal(array, other[key], strict=True)


def test_the_whole_folder_is_small(folder: Path) -> None:
    assert sum(map(len, contents(folder).values())) < 40e6


def test_manifest_lists_the_hash_of_every_file(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    listed = {f"{case['name']}/{file}": digest for case in manifest["cases"] for file, digest in case["sha256"].items()}
    found = {name: hashlib.sha256(data).hexdigest() for name, data in contents(folder).items()}
    del found["manifest.json"]
    assert {Path(name).as_posix(): digest for name, digest in found.items()} == listed
    assert manifest["conventions"] == CONVENTIONS
    assert manifest["numpy"] == np.__version__


def as_implemented(expected: Expected, dtype: type[np.float32]) -> dict[str, Array]:
    """Run our own component in another dtype on the inputs of a case."""
    recording = expected.recording
    assert recording.grad_output is not None
    inputs = [x.astype(dtype) if x.dtype.kind == "f" else x for x in recording.inputs]
    component = recording.component.astype(dtype)
    return dict(trace(component, *inputs, grad_output=recording.grad_output.astype(dtype), **recording.options))


@pytest.mark.parametrize("name", NAMES)
def test_case_passes_what_is_right_and_catches_what_is_wrong(folder: Path, name: str) -> None:
    expected = load_case(folder / name)
    with np.errstate(over="ignore"):  # float16 has no -1e9
        rounded = {
            key: expected.storage.round(array) if array.dtype.kind == "f" else array
            for key, array in expected.truth.items()
        }
    assert compare(rounded, expected).passed
    wrong = expected.results()[NAMES.index(name) % len(expected.results())]  # another one in each case
    theirs = rounded | {wrong: rounded[wrong].astype(np.float64)}
    which = expected.compared.get(wrong, np.ones(theirs[wrong].shape, bool))
    index = np.unravel_index(np.where(which, np.abs(theirs[wrong]), 0).argmax(), which.shape)
    theirs[wrong][index] += 3 * expected.tolerances[wrong].limit[index]
    first = compare(theirs, expected).first_wrong
    assert first is not None
    assert first.name == wrong


@pytest.mark.parametrize("name", [name for name, case in catalogue().items() if case.storage == "float32"])
def test_our_own_float32_passes(folder: Path, name: str) -> None:
    expected = load_case(folder / name)
    comparison = compare(as_implemented(expected, np.float32), expected)
    assert comparison.passed, str(comparison)


@pytest.mark.parametrize("name", NAMES)
def test_files_hold_everything_by_name(folder: Path, name: str) -> None:
    said = json.loads((folder / name / "case.json").read_text(encoding="utf-8"))
    arrays = read_arrays(folder / name / "arrays.safetensors")
    tolerances = read_arrays(folder / name / "tolerances.safetensors")
    expected = load_case(folder / name)
    rows = {row["name"]: row for row in said["arrays"]}
    assert rows.keys() == arrays.keys()
    parameters = flatten(expected.recording.component.parameters())
    assert [row for row in rows if row not in parameters] == sorted(expected.truth, key=list(rows).index)
    in_order = [row for row in rows if rows[row]["role"] not in ("input", "parameter")]
    assert in_order == [key for key in expected.truth if key in in_order]
    assert [key for key, row in rows.items() if row["result"]] == expected.results()
    assert {key for key, row in rows.items() if row["role"] == "parameter"} == parameters.keys()
    assert rows["grad_output"]["role"] == "cotangent"
    assert rows["output"]["role"] == "output"
    for key, row in rows.items():
        if row["role"] in ("intermediate", "kernel", "output", "gradient"):
            assert row["dtype"] in ("float64", "uint8") or key.endswith("tokens")
            assert (row["dtype"] == "float64") == (key in tolerances) == ("tolerance" in row)
        elif arrays[key].dtype.kind == "f":
            assert row["dtype"] == expected.storage.held_in
        if "tolerance" in row:
            assert row["tolerance"]["largest"] == tolerances[key].max()
        if row.get("compared", "all") != "all":
            assert set(np.unique(tolerances[row["compared"]])) <= {0, 1}
    for path in expected.truth.parts:
        if f"{path}.scores".removeprefix(".") in rows:
            for kernel in ("row_max", "row_sum", "logsumexp", "delta", "grad_scores", "grad_weights"):
                assert rows[f"{path}.{kernel}".removeprefix(".")]["role"] == "kernel"
    assert bool(said["dropout_masks"]) == catalogue()[name].dropout
    assert {arrays[mask].dtype for mask in said["dropout_masks"]} <= {np.dtype(np.uint8)}


@pytest.mark.parametrize("name", NAMES)
def test_kinks_are_where_they_are_meant_to_be(folder: Path, name: str) -> None:
    expected = load_case(folder / name)
    apart = sum(int(tolerance.apart.sum()) for tolerance in expected.tolerances.values())
    assert (apart > 0) == catalogue()[name].at_kinks
    assert catalogue()[name].at_kinks == any(each.at_kinks is not None for each in expected.tolerances.values())


@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_hidden_keys_are_nan_in_the_file_and_have_no_gradient(folder: Path, storage: str) -> None:
    name = f"attention_nan_in_masked_keys_{storage}"
    expected = load_case(folder / name)
    arrays = read_arrays(folder / name / "arrays.safetensors")
    hidden = np.isnan(arrays["key"])
    assert hidden[0, :, 65:].all()
    assert hidden[1, :, 5:].all()
    assert not hidden[0, :, :65].any()
    for key in ("key", "value"):
        np.testing.assert_array_equal(np.isnan(arrays[key]), hidden)
        assert not expected.truth[f"grad_{key}"][hidden].any()
        theirs = dict(expected.truth)
        theirs[f"grad_{key}"] = np.where(hidden, np.finfo(storage).smallest_subnormal, theirs[f"grad_{key}"])
        assert not compare(theirs, expected).passed


def test_nothing_is_left_of_a_write_that_fails(tmp_path: Path) -> None:
    seen: list[str] = []

    def fail_at_the_third(name: str) -> None:
        seen.append(name)
        if len(seen) == 3:
            raise RuntimeError("no more")

    for target in (tmp_path / "new", tmp_path / "empty"):
        seen.clear()
        if target.name == "empty":
            target.mkdir()
        with pytest.raises(RuntimeError, match="no more"):
            write_vectors(target, only="linear_*", progress=fail_at_the_third)
        assert seen == ["linear_float32", "linear_float64", "linear_float16"]
    assert list(tmp_path.rglob("*")) == [tmp_path / "empty"]


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(FileExistsError, match="folder must be new or empty, but"):
        write_vectors(tmp_path, only="softmax")
    with pytest.raises(OSError, match="folder must be new or empty, but"):
        write_vectors(tmp_path / "notes.txt", only="softmax")
    assert contents(tmp_path) == {"notes.txt": b"mine"}


@pytest.mark.parametrize(
    ("file_format", "only", "sentence"),
    [
        ("npz", "nothing", "only must match the name of a case, but none is like 'nothing'"),
        ("zip", "softmax", 'file_format must be "safetensors" or "npz", but it is \'zip\''),
    ],
)
def test_bad_arguments_get_a_sentence(tmp_path: Path, file_format: str, only: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        write_vectors(tmp_path / "new", file_format, only)
    assert not list(tmp_path.iterdir())


def test_parent_must_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="folder must lie in a folder that exists, but"):
        write_vectors(tmp_path / "missing" / "new", only="softmax")


def test_the_command_names_no_file_where_there_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    assert main(["vectors", str(tmp_path / "file"), "--only", "softmax"]) == 2
    sentence = f"folder must be new or empty, but {tmp_path / 'file'} is not"
    assert capsys.readouterr().err == f"npformer vectors: {sentence}\n"


@pytest.mark.parametrize("name", NAMES)
def test_conventions_name_every_intermediate_and_every_default(folder: Path, name: str) -> None:
    said = json.loads((folder / name / "case.json").read_text(encoding="utf-8"))
    words = set(re.findall(r"\w+", json.dumps(CONVENTIONS)))
    inner = [row["name"] for row in said["arrays"] if row["role"] in ("intermediate", "kernel")]
    assert {each.rpartition(".")[2] for each in inner} <= words
    assert {default for part in parts_of(said["recipe"]) for default in defaults_of(part)} <= words


def parts_of(recipe: dict[str, Any]) -> list[dict[str, Any]]:
    inside = [value for value in recipe["arguments"].values() if isinstance(value, dict)]
    return [recipe, *(part for value in inside for part in parts_of(value))]


def defaults_of(recipe: dict[str, Any]) -> set[str]:
    given: set[str] = {"max_len", *recipe["arguments"]}
    return set(BUILDERS[recipe["build"]].may_have) - given
