"""The C program of the examples refuses bad files with one line, and leaves no half of an answer."""

from __future__ import annotations

import json
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from c_program import CASES, SOURCE, compile_sanitized, layer_norm, run, write_case
from safetensors.numpy import load_file, save_file

from npformer.component import Array


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, stopped by whatever it reads or writes out of place."""
    return compile_sanitized(SOURCE, tmp_path_factory.mktemp("c") / "sanitized")


def refused(program: Path, folder: Path, word: str) -> None:
    """Check that there is one line with this word on stderr, status 2, and no answer."""
    ran = run(program, folder, folder / "answer.safetensors")
    assert ran.returncode == 2, ran.stderr
    assert ran.stderr.startswith("conformance: ")
    assert ran.stderr.endswith("\n")
    assert ran.stderr.count("\n") == 1
    assert word in ran.stderr, ran.stderr
    assert not list(folder.glob("answer*"))


def file_of(header: str, data: bytes = b"", length: int | None = None) -> bytes:
    """Return a safetensors file with this header, whatever it is."""
    return struct.pack("<Q", len(header) if length is None else length) + header.encode() + data


def described(shape: str = "[1]", offsets: str = "[0,4]", dtype: str = '"F32"') -> str:
    """Return the header of a file of one array, x."""
    return f'{{"x":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}}}'


FOUR = b"1234"
TWICE = '{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"%s":{"dtype":"F32","shape":[1],"data_offsets":[%s]}}'
BAD_FILES = {
    "nothing": (b"", "0 bytes"),
    "seven bytes": (b"1234567", "7 bytes"),
    "a header longer than the file": (file_of("{}", length=3), "as long as"),
    "a header of 2^64 - 1 bytes": (file_of("{}", length=2**64 - 1), "as long as"),
    "no header": (file_of(""), "too early"),
    "no JSON": (file_of("[]"), "byte 0"),
    "an end too early": (file_of(described()[:-1], FOUR), "too early"),
    "something after the header": (file_of("{}x"), "spaces"),
    "an open string": (file_of('{"x'), "too early"),
    "an open escape": (file_of('{"x\\'), "too early"),
    "a line feed in a name": (file_of('{"x\n":{}}'), "control"),
    "a name without end": (file_of('{"' + 5000 * "x" + '":{}}'), "names of less than"),
    "many levels": (file_of('{"__metadata__":' + 100_000 * "[" + "}"), "levels"),
    "a word cut off": (file_of('{"__metadata__":tru}'), "before byte"),
    "an unknown word": (file_of('{"__metadata__":nan}'), "before byte"),
    "no value": (file_of('{"__metadata__":}'), "byte 16"),
    "a number without end": (file_of('{"__metadata__":' + 100 * "1" + "}"), "'}' at byte 79"),
    "many arrays": (
        file_of("{" + ",".join(f'"{i}":' + described("[0]", "[0,0]")[5:-1] for i in range(257)) + "}"),
        "256",
    ),
    "a field too few": (file_of('{"x":{"dtype":"F32","shape":[1]}}', FOUR), "data_offsets"),
    "no object": (file_of('{"x":3}', FOUR), "'{'"),
    "an unknown dtype": (file_of(described(dtype='"FLOAT"'), FOUR), "FLOAT"),
    "a long dtype": (file_of(described(dtype='"F32F32F32"'), FOUR), "dtypes"),
    "a dtype that is a number": (file_of(described(dtype="32"), FOUR), "'\"'"),
    "a negative size": (file_of(described("[-1]"), FOUR), "-1"),
    "half a size": (file_of(described("[0.5]"), FOUR), "0.5"),
    "a size of 1e300": (file_of(described("[1e300]"), FOUR), "1e+300"),
    "a product that wraps": (file_of(described("[65536,65536,65536,65536]"), FOUR), "x has more"),
    "many axes": (file_of(described("[" + 8 * "1," + "1]"), FOUR), "axes"),
    "offsets beyond the data": (file_of(described("[2]", "[0,8]"), FOUR), "offsets"),
    "offsets the wrong way": (file_of(described(offsets="[4,0]"), FOUR), "offsets"),
    "offsets that do not fit the shape": (file_of(described("[2]"), FOUR), "offsets"),
    "three offsets": (file_of(described(offsets="[0,4,4]"), FOUR), "']'"),
    "an array twice": (file_of(TWICE % ("x", "4,8"), 2 * FOUR), "twice"),
    "arrays that overlap": (file_of(TWICE % ("y", "2,6"), FOUR + b"12"), "overlap"),
    "data of no array": (file_of(described(), 2 * FOUR), "only 4 bytes"),
    "integers": (file_of(described(dtype='"I32"'), FOUR), "F32 or F64"),
    "an empty array": (file_of(described("[0]", "[0,0]")), "empty"),
    "a scalar": (file_of(described("[]"), FOUR), "axes"),
    "no weight": (file_of(described(), FOUR), "but not weight"),
    "1e300": (file_of(described(offsets="[0,8]", dtype='"F64"'), struct.pack("<d", 1e300)), "range of float"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_gets_one_line(sanitized: Path, tmp_path: Path, name: str) -> None:
    content, word = BAD_FILES[name]
    (tmp_path / "arrays.safetensors").write_bytes(content)
    refused(sanitized, tmp_path, word)


BAD_CASES = {
    "another component": ({"build": "Linear", "arguments": {}}, "Linear"),
    "no object": ([], "'{'"),
    "eps that is a word": ({"build": "LayerNorm", "arguments": {"eps": "NaN"}}, "value"),
}


@pytest.mark.parametrize("name", BAD_CASES)
def test_a_bad_case_gets_one_line(sanitized: Path, tmp_path: Path, name: str) -> None:
    recipe, word = BAD_CASES[name]
    folder = write_case(tmp_path / "case", layer_norm(2, 3))
    (folder / "case.json").write_text(json.dumps({"recipe": recipe}), encoding="utf-8")
    refused(sanitized, folder, word)


MISFITS = {
    "x": ("layer norm", np.ones((2, 15)), "weight (d)"),
    "bias": ("layer norm", np.ones(15), "bias of the shape"),
    "grad_output": ("layer norm", np.ones((2, 5)), "grad_output of the shape"),
    "weight": ("layer norm", np.full(16, np.nan), "finite"),
    "query": ("attention", np.ones(4), "query (..."),
    "key": ("attention", np.ones((2, 3, 7, 5)), "keys for values"),
    "value": ("attention", np.ones((2, 2, 7, 6)), "value (..."),
    "mask": ("attention with masked rows", np.ones((1, 2, 1, 1), np.uint8), "broadcasts"),
    "dropout.mask": ("attention", np.ones(1, np.uint8), "dropout"),
}


@pytest.mark.parametrize("array", MISFITS)
def test_an_array_that_does_not_fit_gets_one_line(sanitized: Path, tmp_path: Path, array: str) -> None:
    name, misfit, word = MISFITS[array]
    folder = write_case(tmp_path / "case", CASES[name]())
    save_file(load_file(folder / "arrays.safetensors") | {array: misfit}, folder / "arrays.safetensors")
    refused(sanitized, folder, word)


def test_a_file_that_is_none_or_too_large_gets_one_line(sanitized: Path, tmp_path: Path) -> None:
    (tmp_path / "arrays.safetensors").mkdir()
    refused(sanitized, tmp_path, "must be a file")
    (tmp_path / "arrays.safetensors").rmdir()
    with (tmp_path / "arrays.safetensors").open("wb") as file:
        file.truncate(2**28 + 1)  # takes no space
    refused(sanitized, tmp_path, "at most 268435456 bytes")


def test_scores_too_large_for_memory_get_one_line(sanitized: Path, tmp_path: Path) -> None:
    names = ("query", "key", "value", "grad_output")
    save_file({name: np.ones((20_000, 1), np.float32) for name in names}, tmp_path / "arrays.safetensors")
    refused(sanitized, tmp_path, "scores must have at most")


def test_it_needs_a_folder_and_a_place_for_the_answer(sanitized: Path, tmp_path: Path) -> None:
    refused(sanitized, tmp_path / "nowhere", "can be read")
    folder = write_case(tmp_path / "case", layer_norm(2, 3))
    for answer in (folder, tmp_path / "nowhere" / "answer.safetensors"):
        ran = run(sanitized, folder, answer)
        assert (ran.returncode, ran.stderr) == (
            2,
            f"conformance: {answer} must be a file that can be written, but it is not\n",
        )
    assert [path.name for path in tmp_path.iterdir()] == ["case"]


def test_a_write_that_fails_leaves_nothing(sanitized: Path, tmp_path: Path) -> None:
    folder = write_case(tmp_path / "case", layer_norm(8, 129, 12))
    command = f"trap '' XFSZ; ulimit -f 1; exec '{sanitized}' '{folder}' '{folder}/answer.safetensors'"
    without_leaks = {"ASAN_OPTIONS": "detect_leaks=0"}
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, env=without_leaks)
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    assert not list(folder.glob("answer*"))


def test_a_file_cut_anywhere_gets_one_line(sanitized: Path, tmp_path: Path) -> None:
    folder = write_case(tmp_path / "case", CASES["attention with masked rows"]())
    content = (folder / "arrays.safetensors").read_bytes()
    for length in np.linspace(0, len(content) - 1, 30).astype(int):
        (folder / "arrays.safetensors").write_bytes(content[:length])
        refused(sanitized, folder, "must")


def test_a_path_too_long_or_none_gets_one_line(sanitized: Path, tmp_path: Path) -> None:
    folder = write_case(tmp_path / "case", layer_norm(2, 3))
    for paths in ([], [folder], [Path(5000 * "x"), folder / "answer"], [folder, Path(5000 * "x")]):
        ran = subprocess.run([sanitized, *paths], capture_output=True, text=True, timeout=60)
        assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
        assert "must be a shorter path" in ran.stderr or "two arguments are needed" in ran.stderr


@pytest.mark.parametrize("mask", [np.ones((1, 1, 1, 1, 1), np.uint8), np.ones((5, 7), np.int64)])
def test_a_mask_with_more_axes_or_of_numbers_gets_one_line(sanitized: Path, tmp_path: Path, mask: Array) -> None:
    folder = write_case(tmp_path / "case", CASES["attention"]())
    save_file(load_file(folder / "arrays.safetensors") | {"mask": mask}, folder / "arrays.safetensors")
    refused(sanitized, folder, "a mask of bytes")


def test_a_gradient_of_another_width_gets_one_line(sanitized: Path, tmp_path: Path) -> None:
    folder = write_case(tmp_path / "case", CASES["attention"]())
    arrays = load_file(folder / "arrays.safetensors") | {"grad_output": np.ones((2, 3, 5, 5))}
    save_file(arrays, folder / "arrays.safetensors")
    refused(sanitized, folder, "T_q, d_v")
