"""The fixture `gradcheck` is there after installation, and pytest starts without NumPy."""

import re
import subprocess
import sys
from pathlib import Path

SUITE = """
import sys

def test_nothing_heavy_is_imported_before_the_fixture_is_used():
    assert not {"numpy", "npformer"} & set(sys.modules)

def test_right(gradcheck):
    assert gradcheck((lambda x: x**2, lambda g, x: 2 * g * x), array()).verdict == "PASS"

def test_wrong(gradcheck):
    gradcheck((lambda x: x**2, lambda g, x: g * x), array())

def array():
    import numpy
    return numpy.array([1.0, 2.0])
"""


def test_the_fixture_judges_gradients(tmp_path: Path) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:hypothesispytest", str(tmp_path)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (1, "")
    assert re.search(r"1 failed, 2 passed", result.stdout), result.stdout
    assert "E       AssertionError: the gradients are not proven right\n" in result.stdout
    assert "x: FAIL. A slope of forward is" in result.stdout
    assert "npformer/gradcheck/check.py" not in result.stdout  # the traceback ends at the test's own line
