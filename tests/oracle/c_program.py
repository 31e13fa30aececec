"""The C program of the examples: how it is compiled and run, and cases for it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from npformer import LayerNorm, ScaledDotProductAttention
from npformer.component import Array, flatten
from npformer.gradcheck.cases import randomise
from npformer.oracle import Expected, expect

SOURCE = Path(__file__).parents[2] / "examples" / "conformance.c"
STRICT = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic"]
SANITIZED = [*STRICT, "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def compile_program(source: Path, program: Path, flags: list[str]) -> Path:
    """Compile the source, or fail with one line."""
    if shutil.which("cc") is None:
        pytest.fail("this test needs a C compiler named cc, but there is none", pytrace=False)
    built = subprocess.run(
        ["cc", *flags, str(source), "-o", str(program), "-lm"], capture_output=True, text=True, timeout=120
    )
    assert built.returncode == 0, built.stderr
    return program


def compile_sanitized(source: Path, program: Path) -> Path:
    """Compile so that what is out of place stops it, where the compiler can do that."""
    (program.parent / "empty.c").write_text("int main(void) { return 0; }\n", encoding="utf-8")
    command = ["cc", *SANITIZED, str(program.parent / "empty.c"), "-o", str(program)]
    has_sanitizers = subprocess.run(command, capture_output=True, timeout=120).returncode == 0
    return compile_program(source, program, SANITIZED if has_sanitizers else STRICT)


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
