"""A learner's file is loaded as a module of its own, and the files of a class or function are found."""

import functools
import inspect
import linecache
import pickle
import sys
import textwrap
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from npformer import LayerNorm, Linear
from npformer.exercises.learner import LearnerError, files_of, load_file, telling


@pytest.fixture(autouse=True)
def own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a sys.path of its own."""
    monkeypatch.setattr(sys, "path", list(sys.path))


def _write(folder: Path, source: str, name: str = "task.py") -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    return path


def test_a_file_becomes_a_module_of_its_own_each_time(tmp_path: Path) -> None:
    path = _write(tmp_path, "values = []\n")
    before = list(sys.path)
    first, second = load_file(path), load_file(path)
    assert sys.path == [*before, str(tmp_path)]
    assert first is not second
    assert first.values is not second.values
    for module in (first, second):
        assert sys.modules[module.__name__] is module
        assert module.__name__ != "__main__"
        assert module.__file__ == str(path)


def test_a_file_that_has_changed_is_read_again_and_so_are_its_lines(tmp_path: Path) -> None:
    assert load_file(_write(tmp_path, "def f():\n    return 1\n")).f() == 1
    module = load_file(_write(tmp_path, "def f():\n    return 2\n"))
    assert module.f() == 2
    _write(tmp_path, "# changed while it runs\n")
    assert inspect.getsource(module.f) == "def f():\n    return 2\n"
    assert linecache.getline(str(tmp_path / "task.py"), 2) == "    return 2\n"


def test_dataclasses_inspect_and_pickle_work_in_it(tmp_path: Path) -> None:
    source = """
    from __future__ import annotations
    from dataclasses import dataclass

    @dataclass
    class Pair:
        first: int
    """
    module = load_file(_write(tmp_path, source))
    assert pickle.loads(pickle.dumps(module.Pair(3))) == module.Pair(3)
    assert inspect.getsource(module.Pair).startswith("@dataclass\nclass Pair:")


def test_nothing_of_the_loader_leaks_into_it(tmp_path: Path) -> None:
    module = load_file(_write(tmp_path, "def f(x: 1 + 1): pass\nnames = sorted(globals())\n"))
    assert module.f.__annotations__ == {"x": 2}  # and not text, as under the loader's own __future__ import
    assert {name for name in module.names if not name.startswith("__")} == {"f"}


def test_a_neighbour_can_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path, "value = 5\n", "neighbour_of_task.py")
    path = _write(tmp_path, "import os\nos.chdir('/')\nfrom neighbour_of_task import value\n")
    monkeypatch.chdir(tmp_path.parent)
    assert load_file(Path(path.parent.name, path.name)).value == 5
    del sys.modules["neighbour_of_task"]


def test_a_neighbour_can_be_imported_when_a_function_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path, "value = 5\n", "neighbour_of_function.py")
    _write(tmp_path, "1 / 0\n", "random.py")  # which does not stand in the way of the standard library's
    path = _write(tmp_path, "def f():\n    from neighbour_of_function import value\n    return value\n")
    monkeypatch.chdir(tmp_path.parent)
    module = load_file(Path(path.parent.name, path.name))
    monkeypatch.chdir("/")
    assert module.f() == 5
    assert sys.path.index(str(tmp_path)) == len(sys.path) - 1
    del sys.modules["neighbour_of_function"]


def test_a_file_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    modules, path = set(sys.modules), list(sys.path)
    for source, error in [
        ("1 / 0", ZeroDivisionError),
        ("raise SystemExit", SystemExit),
        ("raise KeyboardInterrupt", KeyboardInterrupt),
        ("import sys; sys.path.clear(); 1 / 0", ZeroDivisionError),
        ("1 +", SyntaxError),
    ]:
        file = _write(tmp_path, source)
        with pytest.raises(error):
            load_file(file)
        sys.path[:] = path if "clear" in source else sys.path
        assert sys.path == path
        assert set(sys.modules) == modules


@pytest.mark.parametrize("data", ["é = 'ü'\n".encode(), "\ufeffé = 'ü'\r\n".encode(), b"\r# \x0c\r\xc3\xa9 = 'ue'\r"])
def test_any_line_end_and_a_byte_order_mark_are_read(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "task.py"
    path.write_bytes(data)
    assert load_file(path).é in {"ü", "ue"}
    assert linecache.getlines(str(path))[-1].startswith("é = ")


@pytest.mark.parametrize(
    ("data", "flaw"),
    [
        (b"x = 1\ny = '\xff'\n", "line 2 holds a byte that is not UTF-8"),
        (b"x = 1\ny = '\0'\n", "line 2 holds a NUL"),
        (b"#" * 1_000_001, "it is larger"),
        (None, "it cannot be read (No such file or directory)"),
    ],
)
def test_what_is_no_file_of_python_gets_a_sentence(data: bytes | None, flaw: str, tmp_path: Path) -> None:
    path = tmp_path / "task.py"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ValueError, match="must be") as caught:
        load_file(path)
    assert str(caught.value) == f"{path} must be a Python file of at most 1 MB in UTF-8, but {flaw}"


def test_folders_devices_and_odd_names_get_a_sentence(tmp_path: Path) -> None:
    for path, flaw in [
        (tmp_path, "it is a folder"),
        (Path("/dev/zero"), "it is a device, a pipe or a socket"),
        (tmp_path / ("x" * 300), "it cannot be read (File name too long)"),
    ]:
        with pytest.raises(ValueError, match="must be") as caught:
            load_file(path)
        assert str(caught.value).endswith(f", but {flaw}")
    with pytest.raises(ValueError, match=r"^path must be a path, but it holds a NUL$"):
        load_file(Path("\0"))
    name: Any = "task.py"
    with pytest.raises(TypeError, match=r"^path must be a pathlib.Path, but it is a str$"):
        load_file(name)


def test_the_largest_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "task.py"
    path.write_bytes(b"x = 1 " + b"#" * (1_000_000 - 6))
    assert load_file(path).x == 1


def test_an_expression_that_is_too_deep_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises((ValueError, SyntaxError), match=r"nested|parenthes"):
        load_file(_write(tmp_path, "x = " + "-" * 200_000 + "1"))


def _cell(number: int, source: str, names: dict[str, Any]) -> str:
    """Run a notebook's cell as ipykernel does, and return its file name."""
    name = f"/notebook/ipykernel_99/{number}.py"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    exec(compile(source, name, "exec"), names)
    return name


def test_a_class_of_a_notebook_is_told_at_its_cell() -> None:
    names: dict[str, Any] = {"LayerNorm": LayerNorm, "__name__": "__main__"}
    first = _cell(1, "class Base:\n    def halve(self):\n        return 1 / 0\n", names)
    second = _cell(2, "class Mine(Base, LayerNorm):\n    def backward(self, *a):\n        return self.halve()\n", names)
    assert files_of(names["Mine"]) == {first, second}
    with pytest.raises(LearnerError) as caught, telling(files_of(names["Mine"])):
        names["Mine"](3).backward()
    assert str(caught.value) == (
        "notebook cell, line 3, in halve: ZeroDivisionError: division by zero\n"
        "    2 |     def halve(self):\n"
        ">   3 |         return 1 / 0"
    )


def test_a_function_beside_the_class_is_told_at_its_own_cell() -> None:
    names: dict[str, Any] = {"__name__": "__main__", "elsewhere": load_file}
    first = _cell(1, "def halve():\n    return 1 / 0\n", names)
    second = _cell(2, "class Mine:\n    def backward(self):\n        return halve()\n", names)
    assert files_of(names["Mine"]) == {first, second}


def test_methods_of_every_kind_are_found() -> None:
    def made(name: str) -> Callable[[object], int]:
        names: dict[str, Any] = {"__name__": __name__}
        exec(compile("def f(self): return 1", name, "exec"), names)
        function: Callable[[object], int] = names["f"]
        return function

    @dataclass
    class Mine:
        size: int = 0
        plain = made("plain")
        static = staticmethod(made("static"))
        of_class: ClassVar[Any] = classmethod(made("of class"))
        getter = property(made("getter"))
        cached = functools.cached_property(made("cached"))
        wrapped = functools.wraps(made("wrapped"))(lambda self: 2)

    expected = {"plain", "static", "of class", "getter", "cached", "wrapped"}
    assert files_of(Mine) - {__file__} == expected
    assert files_of(Mine(3).plain) == {"plain"}
    assert files_of(made("a function")) == {"a function"}


def test_a_module_is_found_and_what_python_did_not_write_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path, "x = 1\n")
    assert files_of(load_file(path)) == {str(path)}
    assert files_of(type("Empty", (Linear,), {})) == set()
    names: dict[str, Any] = {}
    exec("def f(): pass", names)
    assert files_of(names["f"]) == {"<string>"}  # python -c
    for thing, kind in [(np.sin, "an ufunc"), (3, "an int"), (len, "a builtin_function_or_method")]:
        with pytest.raises(TypeError, match=f"^thing must be a class, function or module of Python, but it is {kind}$"):
            files_of(thing)
    assert files_of(types.ModuleType("bare")) == set()
