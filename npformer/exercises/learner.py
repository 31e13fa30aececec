"""A learner's own file: loading it, and telling what went wrong at the learner's line."""

from __future__ import annotations

import functools
import inspect
import io
import itertools
import linecache
import sys
import types
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from npformer.exercises.quoting import Frame, message_of, name_of, quote, shorten
from npformer.shapes import describe

LARGEST_FILE = 1_000_000  # bytes
_numbers = itertools.count(1)


class LearnerError(Exception):
    """What went wrong at a learner's line, `frame`, as a short text for the learner; it can be pickled.

    is_blank says that the learner's own code raised NotImplementedError: the blank is not filled in yet.
    """

    def __init__(self, text: str, is_blank: bool = False, frame: Frame | None = None):
        super().__init__(text)  # with which pickle calls the class, and then restores the rest
        self.is_blank = is_blank
        self.frame = frame

    def __str__(self) -> str:
        return str(self.args[0])


def load_file(path: Path) -> types.ModuleType:
    """Run a learner's file as a module of its own, fresh each time, and return it.

    Code objects carry ``str(path)`` as their file name. While the file runs, its folder comes first on `sys.path`, and
    afterwards last, for what its functions import when they are called.
    The module stays in `sys.modules` under a name of its own, unless the file fails; what it raises passes unchanged.

    Raises
    ------
    ValueError
        If the file cannot be read, or is not at most 1 MB of Python in UTF-8.
    SyntaxError
        If it is not Python.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "softmax.py")
    ...     _ = path.write_text("answer = 6 * 7")
    ...     load_file(path).answer
    42
    """
    if not isinstance(path, Path):
        raise TypeError(f"path must be a pathlib.Path, but it is {describe(path)}")
    source = _read(path)
    lines = io.StringIO(source, newline=None).readlines()
    linecache.cache[str(path)] = (len(source), None, lines, str(path))  # without a time, it is never dropped
    try:
        code = compile(source, str(path), "exec", dont_inherit=True)
    except (MemoryError, RecursionError):
        raise ValueError(f"{path} must be Python, but an expression in it is nested too deeply") from None
    module = types.ModuleType(f"exercise_{next(_numbers)}_{path.stem}")
    module.__file__ = str(path)
    folder = str(path.resolve().parent)
    sys.modules[module.__name__] = module  # dataclasses and inspect look there
    sys.path.insert(0, folder)
    try:
        exec(code, module.__dict__)
    except BaseException:
        sys.modules.pop(module.__name__, None)
        raise
    finally:
        with suppress(ValueError):
            sys.path.remove(folder)
    if folder not in sys.path:
        sys.path.append(folder)
    return module


def _read(path: Path) -> str:
    if "\0" in str(path):
        raise ValueError("path must be a path, but it holds a NUL")
    expected = f"{path} must be a Python file of at most {LARGEST_FILE // 10**6} MB in UTF-8"
    try:
        if path.exists() and not path.is_file():
            raise ValueError(f"{expected}, but it is a {'folder' if path.is_dir() else 'device, a pipe or a socket'}")
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
        source = data.decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"{expected}, but it cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{expected}, but line {line} holds a byte that is not UTF-8") from None
    if len(data) > LARGEST_FILE:
        raise ValueError(f"{expected}, but it is larger")
    if "\0" in source:
        raise ValueError(f"{expected}, but line {source.count(chr(10), 0, source.index(chr(0))) + 1} holds a NUL")
    return source


def files_of(thing: object) -> set[str]:
    """Return the names of the files, or notebook cells, in which a class's methods or a function were written.

    Base classes count where they are of the same module, since those of npformer are not the learner's, and so do
    the functions beside it.

    Raises
    ------
    TypeError
        If thing is no class, function or module written in Python.

    Examples
    --------
    >>> [Path(name).name for name in files_of(LearnerError)]
    ['learner.py']
    """
    if isinstance(thing, types.ModuleType):
        file: str | None = getattr(thing, "__file__", None)
        return {file} if file else set()
    if isinstance(thing, type):
        members = [member for each in thing.__mro__ for member in vars(each).values()]
        functions = [each for member in members for each in _functions(member) if each.__module__ == thing.__module__]
    else:
        functions = _functions(thing)
        if not functions:
            raise TypeError(f"thing must be a class, function or module of Python, but it is {describe(thing)}")
    beside = [
        other
        for names in {id(function.__globals__): function.__globals__ for function in functions}.values()
        for other in names.values()
        if isinstance(other, types.FunctionType) and other.__globals__ is names
    ]
    files = {function.__code__.co_filename for function in (*functions, *beside)}
    return files - {"<string>"} or files  # what the standard library generates, such as a dataclass's __init__


def _functions(member: object) -> list[types.FunctionType]:
    """Return what is written in Python behind a member of a class."""
    if isinstance(member, property):
        return [each for part in (member.fget, member.fset, member.fdel) for each in _functions(part)]
    if isinstance(member, functools.cached_property):
        member = member.func
    elif isinstance(member, staticmethod | classmethod | types.MethodType):
        member = member.__func__
    if callable(member):
        member = inspect.unwrap(member)
    return [member] if isinstance(member, types.FunctionType) else []


@contextmanager
def telling(files: Collection[str]) -> Iterator[None]:
    """Turn what the learner's code raises inside the block into a LearnerError that shows the learner's line.

    The learner's code is what was written in one of these files, named as code objects name them. An exception that
    passes through none of it is somebody else's, and passes unchanged.

    Raises
    ------
    LearnerError
        If an Exception or SystemExit comes out of the learner's code, or a file of it is not Python.

    Examples
    --------
    >>> def backward(g):
    ...     return rstd * g
    >>> with telling(files_of(backward)):
    ...     backward(1.0)
    Traceback (most recent call last):
    npformer.exercises.learner.LearnerError: <doctest npformer.exercises.learner.telling[0]>, line 2, in backward: \
NameError: name 'rstd' is not defined
        1 | def backward(g):
    >   2 |     return rstd * g
    """
    if isinstance(files, str):
        raise TypeError("files must be a set of file names, but it is a str")
    try:
        yield
    except LearnerError:
        raise
    except (Exception, SystemExit) as error:
        told = _tell(error, files)
        if told is None:
            raise
        raise told from error


def _tell(error: BaseException, files: Collection[str]) -> LearnerError | None:
    """Return the error at the innermost of the learner's lines, or None if it passed through none."""
    if isinstance(error, SyntaxError) and error.filename in files:
        frame = Frame(error.filename or "", error.lineno or 1, "")
        return LearnerError(
            quote(frame, f"{name_of(error)}: {shorten(str(error.msg))}", error.offset or 0), False, frame
        )
    stack, trace = [], error.__traceback__
    while trace is not None:
        stack.append((trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    depths = [depth for depth, (each, _) in enumerate(stack) if each.f_code.co_filename in files]
    if not depths:
        return None
    innermost, line = stack[depths[-1]]
    frame = Frame(innermost.f_code.co_filename, line or 0, innermost.f_code.co_name)
    text = quote(frame, f"{name_of(error)}: {message_of(error)}".removesuffix(": "))
    deeper = [each for each, _ in stack[depths[-1] + 1 :]]
    if deeper and not isinstance(error, RecursionError | SystemExit):  # where these arise says nothing
        text += f"\n{_raised_in(deeper[0])}"
    return LearnerError(text, isinstance(error, NotImplementedError) and not deeper, frame)


def _raised_in(frame: types.FrameType) -> str:
    package = str(frame.f_globals.get("__name__", frame.f_code.co_filename)).split(".")[0]
    if package != "npformer":
        return f"raised inside {package}"
    owner = frame.f_locals.get("self")
    function = frame.f_code.co_name if owner is None else f"{type(owner).__name__}.{frame.f_code.co_name}"
    return f"raised in npformer's {function}"
