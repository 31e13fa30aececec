"""What goes wrong in a learner's code is told at the learner's line."""

import pickle
import textwrap
from pathlib import Path

import numpy as np
import pytest

from npformer.exercises.learner import LearnerError, load_file, telling
from npformer.exercises.quoting import Frame, quote


def _write(folder: Path, source: str, name: str = "task.py") -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    return path


def _told(folder: Path, source: str, call: str = "run", *arguments: object) -> LearnerError:
    """Return what is told of a file that is loaded and one of whose functions is called."""
    path = _write(folder, source)
    with pytest.raises(LearnerError) as caught, telling({str(path)}):
        getattr(load_file(path), call)(*arguments)
    return caught.value


LAYER_NORM = """
import numpy as np

class LayerNorm:
    def backward(self, g, mean):
        rstd = 2.0
        grad_x = rstd * (g - mean)
        return grad_x
"""


def test_the_learners_line_is_shown_between_its_neighbours(tmp_path: Path) -> None:
    path = _write(tmp_path, LAYER_NORM, "layer_norm.py")
    with pytest.raises(LearnerError) as caught, telling({str(path)}):
        load_file(path).LayerNorm().backward(np.ones((2, 3)), np.ones((3, 2)))
    assert str(caught.value) == (
        "layer_norm.py, line 7, in backward: "
        "ValueError: operands could not be broadcast together with shapes (2,3) (3,2)\n"
        "    6 |         rstd = 2.0\n"
        ">   7 |         grad_x = rstd * (g - mean)\n"
        "    8 |         return grad_x"
    )
    assert caught.value.frame == Frame(str(path), 7, "backward")
    assert not caught.value.is_blank


def test_it_comes_back_whole_from_a_pickle(tmp_path: Path) -> None:
    error = _told(tmp_path, "def run():\n    raise NotImplementedError('write me')\n")
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is LearnerError
    assert (str(twin), twin.is_blank, twin.frame) == (str(error), True, error.frame)
    assert error.frame is not None
    assert error.frame.line == 2


@pytest.mark.parametrize(
    ("statement", "last"),
    [
        ("np.linalg.inv(np.zeros((2, 2)))", "raised inside numpy"),
        ("Linear(2, 3)(np.ones((4, 5)))", "raised in npformer's Linear.__call__"),
        ("Linear(2, 3).backward(np.ones(1), {'x': np.ones((1, 2))})", "raised in npformer's Linear.backward"),
        ("subsequent_mask(-1)", "raised in npformer's subsequent_mask"),
        ("np.ones(2) + np.ones(3)", ">   5 |     np.ones(2) + np.ones(3)"),  # in C: nothing is deeper
    ],
)
def test_a_deeper_place_is_named(statement: str, last: str, tmp_path: Path) -> None:
    source = f"import numpy as np\nfrom npformer import Linear, subsequent_mask\n\ndef run():\n    {statement}\n"
    error = _told(tmp_path, source)
    assert str(error).startswith("task.py, line 5, in run: ")
    assert str(error).splitlines()[-1] == last


def test_the_innermost_of_the_learners_lines_is_shown_though_others_lie_between(tmp_path: Path) -> None:
    source = "def inner(x):\n    return x.missing\n\ndef run(apply):\n    apply(inner, [1])\n"
    error = _told(tmp_path, source, "run", lambda function, items: [*map(function, items)])
    assert error.frame is not None
    assert error.frame.function == "inner"
    assert "raised in" not in str(error)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            "x = 1\ndef f(:\n    pass\n",
            "task.py, line 2: SyntaxError: invalid syntax\n"
            "    1 | x = 1\n>   2 | def f(:\n      |       ^\n    3 |     pass",
        ),
        (
            "if True:\nx = 1\n",
            "task.py, line 2: IndentationError: expected an indented block after 'if' statement on line 1\n"
            "    1 | if True:\n>   2 | x = 1\n      | ^",
        ),
        (
            "if True:\n\tx = 1\n        y = 2\n",
            "task.py, line 3: TabError: inconsistent use of tabs and spaces in indentation\n"
            "    2 | \tx = 1\n>   3 |         y = 2\n",
        ),
        (
            "if True:\n\tx = (1 +)\n",
            "task.py, line 2: SyntaxError: invalid syntax\n    1 | if True:\n>   2 | \tx = (1 +)\n      | \t        ^",
        ),
        (
            "def f():",
            "task.py, line 1: IndentationError: expected an indented block after function definition on line 1",
        ),
        ("x = (", "task.py, line 1: SyntaxError: '(' was never closed\n>   1 | x = (\n      |     ^"),
        ("return 1", "task.py, line 1: SyntaxError: 'return' outside function\n>   1 | return 1\n      | ^"),
    ],
)
def test_what_is_not_python_is_shown_with_a_caret(source: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "task.py"
    path.write_text(source, encoding="utf-8")
    with pytest.raises(LearnerError) as caught, telling({str(path)}):
        load_file(path)
    assert str(caught.value).startswith(text)


def test_a_syntax_error_elsewhere_is_shown_at_the_learners_line(tmp_path: Path) -> None:
    text = str(_told(tmp_path, "def run():\n    eval('1 +')\n"))
    assert text.startswith("task.py, line 2, in run: SyntaxError: invalid syntax")
    assert ">   2 |     eval('1 +')" in text


def test_recursion_without_end_is_short(tmp_path: Path) -> None:
    text = str(_told(tmp_path, "import numpy as np\ndef run():\n    np.vectorize(lambda x: run())(1)\n"))
    assert "RecursionError: it calls itself again and again, too deep for Python" in text
    assert ">   3 |     np.vectorize(lambda x: run())(1)" in text
    assert len(text) < 300
    assert "raised" not in text
    assert "raised" not in str(_told(tmp_path, "def run():\n    quit()\n"))


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        (
            "np.ones(10**12)",
            "MemoryError: Unable to allocate 7.28 TiB for an array with shape (1000000000000,) and data",
        ),
        ("raise MemoryError", "MemoryError: there is not enough memory for it\n"),
        ("np.ones(2) + 'x'", "UFuncTypeError: ufunc 'add' did not contain a loop with signature"),
        ("sys.exit(3)", "SystemExit: sys.exit(3) was called\n"),
        ("quit()", "SystemExit: sys.exit() was called\n"),
        ("{}['key']", "KeyError: 'key'\n"),
        ("assert 1 > 2", "AssertionError\n"),
        ("raise ExceptionGroup('two', [ValueError('a'), TypeError('b')])", "ExceptionGroup: two (2 sub-exceptions)\n"),
        ("raise ValueError('a\\n\\n  b')", "ValueError: a b\n"),
        ("raise ValueError('half \\ud800')", "ValueError: half \\ud800\n"),
        ("next(iter(()))", "StopIteration\n"),
        ("raise Mute", "Mute: (its message cannot be shown: its __str__ raised ZeroDivisionError)\n"),
        ("raise Wrong", "Wrong: (its message cannot be shown: its __str__ raised TypeError)\n"),
    ],
)
def test_every_exception_gets_a_readable_headline(statement: str, what: str, tmp_path: Path) -> None:
    source = (
        "import sys\nimport numpy as np\n"
        "class Mute(Exception):\n    def __str__(self): 1 / 0\n"
        "class Wrong(Exception):\n    def __str__(self): return 3\n"
        f"def run():\n    {statement}\n"
    )
    text = str(_told(tmp_path, source))
    assert text.startswith(f"task.py, line 8, in run: {what}")
    text.encode()


def test_a_long_message_is_cut(tmp_path: Path) -> None:
    headline = str(_told(tmp_path, "def run():\n    raise ValueError('word ' * 2_000)\n")).splitlines()[0]
    assert headline == f"task.py, line 2, in run: ValueError: {('word ' * 60)[:300]}…"


def test_a_long_line_is_cut(tmp_path: Path) -> None:
    lines = str(_told(tmp_path, f"def run():\n    x = 1 / 0 + {'1 + ' * 100}1\n")).splitlines()
    assert max(map(len, lines)) < 130
    assert lines[-1].endswith("…")


def test_of_chained_exceptions_the_last_is_shown(tmp_path: Path) -> None:
    source = """\
    def run():
        try:
            1 / 0
        except ZeroDivisionError as error:
            raise ValueError('x') from error
    """
    text = str(_told(tmp_path, source))
    assert text.startswith("task.py, line 5, in run: ValueError: x\n")
    assert "ZeroDivisionError:" not in text


def test_only_the_learners_own_not_implemented_is_the_blank(tmp_path: Path) -> None:
    assert _told(tmp_path, "def inner():\n    raise NotImplementedError\n\ndef run():\n    inner()\n").is_blank
    assert not _told(tmp_path, "def run():\n    raise ValueError\n").is_blank

    def refuse() -> None:
        raise NotImplementedError

    error = _told(tmp_path, "def run(refuse):\n    refuse()\n", "run", refuse)
    assert not error.is_blank


def test_at_the_top_of_a_file_there_is_no_function(tmp_path: Path) -> None:
    assert str(_told(tmp_path, "x = 1 / 0\n")).startswith("task.py, line 1: ZeroDivisionError")


@pytest.mark.parametrize("error", [ValueError, SystemExit, StopIteration, SyntaxError])
def test_what_no_learner_touched_passes_unchanged(error: type[BaseException]) -> None:
    thrown = error("mine")
    with pytest.raises(error) as caught, telling({"task.py"}):
        raise thrown
    assert caught.value is thrown


@pytest.mark.parametrize("statement", ["raise KeyboardInterrupt", "raise GeneratorExit"])
def test_an_interrupt_passes_unchanged(statement: str, tmp_path: Path) -> None:
    path = _write(tmp_path, f"def run():\n    {statement}\n")
    with pytest.raises((KeyboardInterrupt, GeneratorExit)), telling({str(path)}):
        load_file(path).run()


def test_what_was_told_already_is_not_told_again(tmp_path: Path) -> None:
    path = _write(tmp_path, "def run(inner):\n    inner()\n")
    told = LearnerError("once")

    def inner() -> None:
        raise told

    with pytest.raises(LearnerError) as caught, telling({str(path)}):
        load_file(path).run(inner)
    assert caught.value is told


def test_a_name_instead_of_names_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^files must be a set of file names, but it is a str$"), telling("task.py"):
        pass


def test_a_place_whose_file_is_gone_is_named_without_lines() -> None:
    assert quote(Frame("/no/such/file.py", 3, "f"), "it hung") == "file.py, line 3, in f: it hung"
    assert quote(Frame("<ipython-input-1-abc>", 3, "<module>")) == "notebook cell, line 3"
