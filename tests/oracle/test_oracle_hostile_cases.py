"""Folders of cases that say what is not so: one sentence, little memory, and nothing outside of the folder."""

import hashlib
import json
import re
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npformer.component import Array
from npformer.oracle import load_case, write_vectors
from npformer.oracle.files import read_arrays, write_arrays
from npformer.oracle.vectors.recorded import digest

NAMES = (
    "layer_norm_bfloat16",
    "attention_dropout",
    "variable_lengths_multi_head",
    "attention_nan_in_masked_keys_float32",
)
Change = Callable[[dict[str, Any]], object]
ChangeArrays = Callable[[dict[str, Array]], object]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("hostile") / "originals"
    write_vectors(path, "npz", NAMES)
    return path


@pytest.fixture
def case(originals: Path, tmp_path: Path) -> Path:
    return copied(originals, tmp_path, "layer_norm_bfloat16")


def copied(originals: Path, target: Path, name: str) -> Path:
    shutil.copytree(originals / name, target / name)
    return target / name


def edit(case: Path, change: Change) -> None:
    path = case / "case.json"
    said = json.loads(path.read_text(encoding="utf-8"))
    change(said)
    path.write_text(json.dumps(said), encoding="utf-8")


def edit_arrays(case: Path, change: ChangeArrays, file: str = "arrays") -> None:
    """Change arrays, and all that case.json says of them, so that only their meaning is wrong."""
    arrays = read_arrays(case / f"{file}.npz")
    change(arrays)
    write_arrays(case / f"{file}.npz", arrays)

    def describe(said: dict[str, Any]) -> None:
        said["files"][file]["sha256"] = hashlib.sha256((case / f"{file}.npz").read_bytes()).hexdigest()
        for row in said["arrays"] if file == "arrays" else []:
            if row["name"] in arrays:
                array = arrays[row["name"]]
                row |= {"shape": list(array.shape), "dtype": str(array.dtype), "sha256": digest(array)}

    edit(case, describe)


def refused(case: Path) -> str:
    """Return the sentence with which a case is refused; it is one line that names a file of the case."""
    with pytest.raises(ValueError, match=f"^{re.escape(str(case))}/") as caught:
        load_case(case)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{case}/", "")


@pytest.mark.parametrize("name", NAMES)
def test_untouched_cases_load(originals: Path, name: str) -> None:
    assert "output" in load_case(originals / name).tolerances


WRONG = [None, True, -1, 10**30, 0.5, 1e308, "x", "../x", "", [], [1], {}, {"x": 1}]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value inside another one, but of lists only the first and last."""
    keys = list(value) if isinstance(value, dict) else sorted({0, len(value) - 1}) if isinstance(value, list) else []
    for key in keys if value else []:
        yield (*path, key)
        yield from places(value[key], (*path, key))


@pytest.mark.parametrize("name", NAMES)
def test_any_value_replaced_or_left_out_gives_a_sentence_or_changes_nothing(
    originals: Path, tmp_path: Path, name: str
) -> None:
    case = copied(originals, tmp_path, name)
    said = json.loads((case / "case.json").read_text(encoding="utf-8"))
    count = 0
    for *path, last in places(said):
        for wrong in [*WRONG, ...]:
            changed = deepcopy(said)
            inner = changed
            for key in path:
                inner = inner[key]
            if wrong is ...:
                del inner[last]
            else:
                inner[last] = wrong
            (case / "case.json").write_text(json.dumps(changed), encoding="utf-8")
            with suppress(ValueError):
                load_case(case)
                continue
            refused(case)
            count += 1
    assert count > 400


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"", "it must be JSON"),
        (b"{" * 100_000, "it must be JSON"),
        (b'{"format": NaN}', "it must be JSON, but reading it fails: NaN is no number of JSON"),
        (b"\xff\xfe", "it must be JSON"),
        (b"[]", r"it must be an object, but it is \[\]"),
        (b" " * (2**24 + 1), "it must have at most 16777216 bytes"),
    ],
)
def test_what_is_no_json_is_refused(case: Path, text: bytes, sentence: str) -> None:
    (case / "case.json").write_bytes(text)
    assert re.match(f"case.json: {sentence}", refused(case))


@pytest.mark.parametrize("name", ["../outside.npz", "/etc/passwd", "a\\b.npz", ".", "missing.npz", "case.json"])
def test_files_must_lie_in_the_folder(case: Path, name: str) -> None:
    shutil.copy(case / "arrays.npz", case.parent / "outside.npz")
    edit(case, lambda said: said["files"]["arrays"].update(file=name))
    assert re.search("must (be the path of a file inside|name a file|have the suffix)", refused(case))


def test_a_link_that_leads_outside_is_refused(case: Path) -> None:
    shutil.move(case / "arrays.npz", case.parent / "outside.npz")
    (case / "arrays.npz").symlink_to(case.parent / "outside.npz")
    assert "is a link that leads out of it" in refused(case)


def test_without_case_json_there_is_no_case(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ValueError, match=r"^folder must hold a conformance case, but there is no "):
            load_case(folder)


def test_changed_bytes_are_refused(case: Path) -> None:
    arrays = read_arrays(case / "arrays.npz")
    arrays["x"][0, 0, 0] += 1
    write_arrays(case / "arrays.npz", arrays)
    assert "files.arrays must have the sha256 of" in refused(case)


@pytest.mark.parametrize("index", [0, 1, 4, -1])
def test_every_array_must_have_its_hash(case: Path, index: int) -> None:
    edit(case, lambda said: said["arrays"][index].update(sha256="0" * 64))
    assert "arrays must give shape, dtype and sha256 of" in refused(case)


def scaled(name: str, factor: float) -> ChangeArrays:
    return lambda arrays: arrays.update({name: arrays[name] * np.asarray(factor, arrays[name].dtype)})


@pytest.mark.parametrize(
    ("file", "change", "sentence"),
    [
        ("arrays", scaled("output", 1.5), "'output' must be what its inputs lead to, but it differs"),
        ("arrays", scaled("grad_weight", np.nan), "'grad_weight' must be what its inputs lead to, but it differs"),
        ("arrays", scaled("x", 2.0), "must be what its inputs lead to, but it differs"),
        ("arrays", scaled("x", np.nan), "'x' must hold finite numbers of bfloat16, but it holds others"),
        ("arrays", scaled("weight", 1.0001), "'weight' must hold finite numbers of bfloat16, but it holds others"),
        ("arrays", lambda arrays: arrays.pop("x_hat"), "arrays must list what the file of arrays holds, but 'x_hat'"),
        ("arrays", lambda arrays: arrays.update(x=arrays["x"][..., 1:]), "x has d_model=36"),
        ("arrays", lambda arrays: arrays.update(x=arrays["x"].astype(float)), "'x' must be float32, but its dtype"),
        ("arrays", lambda arrays: arrays.update(weight=arrays["weight"][1:]), "parameters"),
        ("tolerances", scaled("output", np.inf), "tolerance 'output' must be positive float64 numbers"),
        ("tolerances", scaled("output", np.nan), "tolerance 'output' must be positive float64 numbers"),
        ("tolerances", scaled("output", -1.0), "tolerance 'output' must be positive float64 numbers"),
        ("tolerances", lambda arrays: arrays.pop("grad_x"), "tolerances must be those of the recipe's arrays, but 'gr"),
        (
            "tolerances",
            lambda arrays: arrays.update(y=arrays["grad_x"]),
            "tolerances must be those of the recipe's arr",
        ),
        ("tolerances", lambda arrays: arrays.update(grad_x=arrays["grad_x"][1:]), "tolerance 'grad_x' must have shape"),
    ],
)
def test_arrays_that_disagree_are_refused(case: Path, file: str, change: ChangeArrays, sentence: str) -> None:
    edit_arrays(case, change, file)
    assert sentence in refused(case)


def test_masks_that_do_not_fit_are_refused(originals: Path, tmp_path: Path) -> None:
    case = copied(originals, tmp_path, "attention_dropout")
    edit_arrays(case, lambda arrays: arrays.update({"dropout.mask": arrays["dropout.mask"][..., 1:]}))
    assert "masks[0] must have shape" in refused(case)


@pytest.mark.parametrize("what", ["grad_weights.compared"])
def test_entries_that_are_not_compared_cannot_be_chosen(originals: Path, tmp_path: Path, what: str) -> None:
    case = copied(originals, tmp_path, "attention_dropout")
    edit_arrays(case, lambda arrays: arrays.update({what: 0 * arrays[what]}), "tolerances")
    assert f"'{what}' must say which entries are compared, but says others" in refused(case)


def test_memory_is_bounded(originals: Path, tmp_path: Path) -> None:
    case = copied(originals, tmp_path, "variable_lengths_multi_head")

    def many_sequences(arrays: dict[str, Array]) -> None:
        arrays["x"] = np.ones((24, 12), np.float32)
        arrays["cu_seqlens"] = np.r_[np.zeros(10**5), 24].astype(np.int32)

    edit_arrays(case, many_sequences)
    tracemalloc.start()
    sentence = refused(case)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "inputs must lead to arrays of at most 2097152 entries" in sentence
    assert peak < 2**26
