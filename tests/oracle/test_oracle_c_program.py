"""The C program of the examples: its answers to conformance cases, mistakes planted in it, and bad files."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from npformer import LayerNorm, ScaledDotProductAttention
from npformer.component import Array, flatten
from npformer.gradcheck.cases import randomise
from npformer.oracle import Expected, compare, expect
from npformer.oracle.comparison import MISSING, Origin

SOURCE = Path(__file__).parents[2] / "examples" / "conformance.c"
STRICT = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic"]
SANITIZED = [*STRICT, "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def compile_program(source: Path, program: Path, flags: list[str]) -> Path:
    """Compile the source, or fail with one line."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.fail("this test needs a C compiler named cc, but there is none", pytrace=False)
    built = subprocess.run(
        [compiler, *flags, str(source), "-o", str(program), "-lm"], capture_output=True, text=True, timeout=120
    )
    assert built.returncode == 0, built.stderr
    return program


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program as its first lines say it is built, but with every warning an error."""
    return compile_program(SOURCE, tmp_path_factory.mktemp("c") / "conformance", STRICT)


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program stopped by whatever it reads or writes out of place, and by undefined behaviour."""
    return compile_program(SOURCE, tmp_path_factory.mktemp("c") / "sanitized", SANITIZED)


def normal(*shape: int, seed: int = 0) -> Array:
    """Signed numbers, exact in float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32).astype(np.float64)


def layer_norm(*shape: int, eps: float = 1e-5, offset: float = 0.0, storage: str = "float32") -> Expected:
    """LayerNorm with weight and bias that are not 1 and 0."""
    component = LayerNorm(shape[-1], eps)
    randomise(component, np.random.default_rng(2))
    return expect(component, normal(*shape) + offset, grad_output=normal(*shape, seed=1), storage=storage)


def attention(
    T_q: int, T_k: int, d_k: int, d_v: int, mask: Array | None = None, size: float = 1.0, zero: bool = False
) -> Expected:
    """Attention of 2 sequences with 3 heads."""
    shapes = [(T_q, d_k), (T_k, d_k), (T_k, d_v), (T_q, d_v)]
    query, key, value, grad_output = (normal(2, 3, *shape, seed=seed) for seed, shape in enumerate(shapes))
    core = ScaledDotProductAttention(fully_masked="zero" if zero else "uniform")
    inputs = (size * query, key, value) if mask is None else (size * query, key, value, mask)
    return expect(core, *inputs, grad_output=grad_output)


def some_masked() -> Array:
    """A mask for each sequence, in which the second query sees no key, and the third every one."""
    mask = np.random.default_rng(4).integers(0, 2, (2, 1, 5, 7))
    mask[:, :, 1], mask[:, :, 2] = 0, 1
    return mask


def first_tile_masked() -> Array:
    """A mask that hides the first 64 keys of 129 from all, and 128 from the first query."""
    mask = np.ones((3, 129), np.int64)
    mask[:, :64] = mask[0, :128] = 0
    return mask


CASES = {
    "layer norm": lambda: layer_norm(2, 5, 16),
    "layer norm of one row": lambda: layer_norm(7),
    "layer norm of one entry a row": lambda: layer_norm(3, 1, eps=1e-2),
    "layer norm with another eps": lambda: layer_norm(4, 9, eps=0.3),
    "layer norm far from 0": lambda: layer_norm(6, 33, offset=100.0),
    "layer norm of many rows": lambda: layer_norm(8, 129, 12),
    "layer norm in a float64 file": lambda: layer_norm(3, 8, storage="float64"),
    "attention": lambda: attention(5, 7, 4, 6),
    "attention of one token": lambda: attention(1, 1, 1, 1),
    "attention beside tiles": lambda: attention(63, 65, 33, 5, np.tri(63, 65, k=2, dtype=np.int64)),
    "attention with masked rows": lambda: attention(5, 7, 4, 6, some_masked()),
    "attention with masked rows of zeros": lambda: attention(5, 7, 4, 6, some_masked(), zero=True),
    "attention with a mask a head": lambda: attention(
        4, 3, 5, 2, np.tri(4, 3, dtype=np.int64)[None] * [[[1]], [[0]], [[1]]]
    ),
    "attention with its first tile masked": lambda: attention(3, 129, 8, 8, first_tile_masked()),
    "attention with scores of 1e4": lambda: attention(9, 65, 16, 4, size=1e4),
}


def write_case(folder: Path, expected: Expected) -> Path:
    """Write what the program reads, in the storage type, with garbage where nothing is to be read."""
    arrays = {name: array for name, array in expected.truth.items() if name in {"query", "key", "value", "x"}}
    arrays |= flatten(expected.recording.component.parameters()) | {"grad_output": expected.truth["grad_output"]}
    stored = {name: np.ascontiguousarray(array, expected.storage.held_in) for name, array in arrays.items()}
    if "mask" in expected.truth:
        stored["mask"] = expected.truth["mask"].astype(np.uint8)
    component = expected.recording.component
    arguments: dict[str, object] = {"eps": component.eps} if isinstance(component, LayerNorm) else {}
    if isinstance(component, ScaledDotProductAttention):
        arguments = {"scale": None, "fully_masked": "zero" if component.zero_fully_masked else "uniform"}
    recipe = {"build": type(component).__name__, "arguments": arguments}
    folder.mkdir()
    case: dict[str, object] = {"purpose": 'a "quoted" {word', "recipe": recipe, "seeds": [1, 2.5e0, True, None, {}]}
    (folder / "case.json").write_text(json.dumps(case, indent=2), encoding="utf-8")
    save_file(stored, folder / "arrays.safetensors", metadata={"format": "np"})
    return folder


def run(program: Path, folder: Path, answer: Path) -> subprocess.CompletedProcess[str]:
    """Run the program; no leak is looked for, since its end frees everything."""
    return subprocess.run(
        [str(program), str(folder), str(answer)],
        capture_output=True,
        text=True,
        timeout=60,
        env={"ASAN_OPTIONS": "detect_leaks=0"},
    )


def answer_of(program: Path, folder: Path) -> dict[str, Array]:
    """Return what the program answers to a case."""
    ran = run(program, folder, folder / "answer.safetensors")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    answer: dict[str, Array] = load_file(folder / "answer.safetensors")
    return answer


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
    "a number without end": (file_of('{"__metadata__":' + 100 * "1" + "}"), "byte 16"),
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


def test_a_write_that_fails_leaves_nothing(program: Path, tmp_path: Path) -> None:
    folder = write_case(tmp_path / "case", layer_norm(8, 129, 12))
    command = f"trap '' XFSZ; ulimit -f 1; exec '{program}' '{folder}' '{folder}/answer.safetensors'"
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    assert not list(folder.glob("answer*"))


def test_a_file_cut_anywhere_gets_one_line(sanitized: Path, tmp_path: Path) -> None:
    folder = write_case(tmp_path / "case", CASES["attention with masked rows"]())
    content = (folder / "arrays.safetensors").read_bytes()
    for length in np.linspace(0, len(content) - 1, 30).astype(int):
        (folder / "arrays.safetensors").write_bytes(content[:length])
        refused(sanitized, folder, "must")
