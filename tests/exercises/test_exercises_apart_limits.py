"""Code that runs apart has the memory that it was given, and no more."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from nothing_left import nothing_is_left

from npformer.exercises.apart import run_apart

__all__ = ["nothing_is_left"]  # a fixture
pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.mark.parametrize("fill", [lambda: _chain(), lambda: _blocks()])
def test_memory_that_is_filled_bit_by_bit_ends_at_the_limit(fill: Callable[[], object]) -> None:
    outcome = run_apart(fill, seconds=200.0, megabytes=32)  # so long that a busy machine comes to the limit of memory
    assert outcome.ended == "it ran out of memory (limit 32 MB)"


def _chain() -> NoReturn:
    chain: dict[str, object] = {}
    while True:
        chain = {"next": chain}


def _blocks() -> NoReturn:
    blocks = []
    while True:
        blocks.append(np.ones(1000))


def test_the_limits_are_those_that_were_asked_for_and_the_parents_stay() -> None:
    kinds = (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_CORE, resource.RLIMIT_FSIZE)
    before = [resource.getrlimit(kind) for kind in kinds]
    limits = run_apart(lambda: [resource.getrlimit(kind) for kind in kinds], seconds=7, megabytes=500).result
    assert limits is not None
    memory, processor, core, file = (soft for soft, _ in limits)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    assert abs(memory - mapped - 500 * 2**20) < 300 * 2**20  # the threads of BLAS have come beside
    assert 7 < processor <= 7 * (os.cpu_count() or 1) + 5
    assert (core, file) == (0, 500 * 2**20)
    assert [resource.getrlimit(kind) for kind in kinds] == before


def test_a_lower_limit_that_is_there_already_stays() -> None:
    def work() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        return run_apart(lambda: resource.getrlimit(resource.RLIMIT_FSIZE)[0]).result or 0

    assert run_apart(work).result == 10_000


def test_blas_finds_memory_for_its_buffers_within_a_small_limit() -> None:
    program = (
        "import numpy as np\n"
        "from npformer.exercises.apart import run_apart\n"
        "x = np.ones((600, 600))\n"
        "print(run_apart(lambda: (x @ x).max() == 600, 3, megabytes=16))\n"
    )
    env = os.environ | {"OPENBLAS_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=env)
    assert "True" in done.stdout
    assert "printed='', ended=''" in done.stdout


def test_blas_works_within_a_small_limit_and_after_it_has_run_in_the_parent() -> None:
    x = np.random.default_rng(0).standard_normal((700, 700))
    expected = x @ x
    outcome = run_apart(lambda: x @ x, 20, megabytes=16)
    assert outcome.ended == ""
    assert outcome.result is not None
    np.testing.assert_allclose(outcome.result, expected, rtol=1e-12, atol=1e-12)  # threads may split the sums otherwise
