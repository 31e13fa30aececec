"""The README: every block of code in it runs, and what it prints is what is printed."""

import contextlib
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.M | re.S)
COMMANDS = [block for language, block in BLOCKS if language == "sh"]
PROGRAMS = [block for language, block in BLOCKS if language == "python"]
OUTPUTS = [block for language, block in BLOCKS if language == "text"]


def test_there_are_two_commands_and_each_program_is_followed_by_its_output() -> None:
    assert [language for language, _ in BLOCKS] == ["sh", "text", "sh", *5 * ["python", "text"]]


def test_the_programs_print_what_stands_below_them() -> None:
    namespace: dict[str, object] = {}
    for program, output in zip(PROGRAMS, OUTPUTS[1:], strict=True):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(program, namespace)  # each goes on where the last ended
        assert printed.getvalue() == output


def test_the_first_command_does_all_the_set_up_and_prints_what_stands_below_it(tmp_path: Path) -> None:
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    tracked = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in tracked:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    done = subprocess.run(["sh", "-c", COMMANDS[0]], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    printed = iter(done.stdout.splitlines())
    for line in OUTPUTS[0].splitlines():
        if line != "...":
            assert any(same(line, other) for other in printed), f"not printed, or not in this place: {line}"


def same(line: str, other: str) -> bool:
    """Compare the words and counts exactly, errors by their order of magnitude, and times not at all."""
    words, others = line.split(), other.split()
    return len(words) == len(others) and all(map(same_word, words, others))


def same_word(word: str, other: str) -> bool:
    if re.fullmatch(r"\d+\.\d+", word):
        return re.fullmatch(r"\d+\.\d+", other) is not None
    if re.fullmatch(r"\d\.\de-\d\d", word) and re.fullmatch(r"\d\.\de-\d\d", other):
        # rounding differs with the machine's matrix products, by a factor of a few; it may also be 0
        return float(other) < 10 * float(word)
    return word == other


@pytest.mark.parametrize(
    ("line", "other", "expected"),
    [
        ("Linear 49 1.9e-16 4.9e-11 PASS 0.01 s", "Linear 49 2.9e-16 1.9e-11 PASS 0.11 s", True),
        ("Linear 49 1.9e-16 4.9e-11 PASS 0.01 s", "Linear 50 1.9e-16 4.9e-11 PASS 0.01 s", False),
        ("Linear 49 1.9e-16 4.9e-11 PASS 0.01 s", "Linear 49 2.0e-15 4.9e-11 PASS 0.01 s", False),
        ("Linear 49 1.9e-16 4.9e-11 PASS 0.01 s", "Linear 49 1.9e-16 4.9e-11 FAIL 0.01 s", False),
    ],
)
def test_the_comparison_sees_a_difference(line: str, other: str, expected: bool) -> None:
    assert same(line, other) is expected


def test_ci_runs_the_second_command() -> None:
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert COMMANDS[1].strip() in script.splitlines()
