"""What holds for the whole suite: no test is passed over unnoticed, and a checkout always runs the same examples."""

import os
import zlib
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # a process for each core: threads of BLAS would only be in each other's way
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")

import hypothesis
import numpy as np
import pytest

ALLOWED = Path(__file__).with_name("allowed_skips.txt")

hypothesis.settings.register_profile("fixed", deadline=None, derandomize=True, max_examples=25)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

passed_over: list[str] = []


@pytest.fixture(autouse=True)
def fresh_generators_of_this_test(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed what asks for a generator without a seed from the test's name: who fails once fails again."""
    seeds = np.random.SeedSequence(zlib.crc32(request.node.nodeid.encode()))
    default_rng = np.random.default_rng

    def seeded_by_name(seed: int | list[int] | np.random.SeedSequence | None = None) -> np.random.Generator:
        return default_rng(seeds.spawn(1)[0] if seed is None else seed)

    monkeypatch.setattr(np.random, "default_rng", seeded_by_name)


def allowed_skips() -> set[str]:
    """Return the node ids that may be skipped or expected to fail; each stands before its reason, after a tab."""
    lines = [line for line in ALLOWED.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return {line.split("\t", maxsplit=1)[0] for line in lines}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note a test that was skipped or expected to fail."""
    if (report.skipped or hasattr(report, "wasxfail")) and report.nodeid not in allowed_skips():
        passed_over.append(report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Note a file that was skipped."""
    if report.skipped and report.nodeid not in allowed_skips():
        passed_over.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run if anything was passed over."""
    if passed_over:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was passed over."""
    for nodeid in passed_over:
        terminalreporter.write_line(f"PASSED OVER without standing in {ALLOWED.name}: {nodeid}", red=True)
