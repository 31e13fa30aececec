"""The C program of the examples computes conformance cases right, is caught where it does not, and survives bad files."""

from __future__ import annotations

import json
import resource
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from npformer import LayerNorm, ScaledDotProductAttention
from npformer.component import Array, Component, flatten
from npformer.gradcheck.cases import randomise
from npformer.oracle import Comparison, Expected, compare, expect
from npformer.oracle.comparison import Origin

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


def layer_norm(shape: tuple[int, ...], eps: float = 1e-5, offset: float = 0.0) -> Expected:
    """LayerNorm with weight and bias that are not 1 and 0."""
    component = LayerNorm(shape[-1], eps=eps)
    return expect(randomised(component), normal(*shape) + offset, grad_output=normal(*shape, seed=1))


def randomised(component: Component) -> Component:
    """Return the component with parameters at random."""
    return randomise(component, np.random.default_rng(2))


def attention(
    T_q: int, T_k: int, d_k: int, d_v: int, mask: Array | None = None, size: float = 1.0, **arguments: str | float
) -> Expected:
    """The attention core of 2 sequences of 3 heads."""
    arrays = [normal(2, 3, *shape, seed=seed) for seed, shape in enumerate([(T_q, d_k), (T_k, d_k), (T_k, d_v)])]
    core = ScaledDotProductAttention(**arguments)
    options = {} if mask is None else {"mask": mask}
    return expect(core, size * arrays[0], *arrays[1:], grad_output=normal(2, 3, T_q, d_v, seed=3), **options)


