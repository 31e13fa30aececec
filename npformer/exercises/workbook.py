"""A learner's folder: the files with their work, which are never overwritten."""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path

from npformer.exercises.source import blank_file
from npformer.exercises.task import Task
from npformer.shapes import check_part, describe


def start(task: Task, folder: str | os.PathLike[str] = ".", options: str = "") -> Path:
    """Write the file in which a learner writes, and return its path.

    It appears when it is complete. What is there already is never overwritten.

    Parameters
    ----------
    task : Task
        The exercise; the file is called after it.
    folder : str or path
        It must exist.
    options : str
        What the commands that the file names are to be called with, such as "--task-file week2.py".

    Raises
    ------
    TypeError
        If task is no Task, or folder no path.
    FileExistsError
        If there is a file of this name, or something else.
    OSError
        If it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from npformer.exercises.tasks import TASKS
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     start(TASKS["layer_norm"], folder).name
    'layer_norm.py'
    """
    check_part("task", task, Task)
    path = file_of(task.name, folder)
    if os.path.lexists(path):
        raise FileExistsError(_taken(path))
    source = blank_file(task, options)
    if not path.parent.is_dir():
        raise NotADirectoryError(f"folder must be a folder that exists, but {path.parent} is none")
    hidden = _hidden_beside(path)
    try:
        _write_new(hidden, source)
        try:
            os.link(hidden, path)  # unlike a renaming, it fails where something is
        except FileExistsError:
            raise
        except OSError:  # the file system has no links
            _write_new(path, source)
    except FileExistsError:
        raise FileExistsError(_taken(path)) from None
    except OSError as error:
        raise _about(path, error) from None
    finally:
        hidden.unlink(missing_ok=True)
    return path


def _taken(path: Path) -> str:
    return f"{path.name} is there already and is {no_file(path) or 'yours'}; it is not overwritten"


def no_file(path: Path) -> str:
    """Return in words what there is in the place of a file, and "" if it is a file or nothing."""
    if path.is_file():
        return ""
    if path.is_dir():
        return "a folder"
    if path.is_symlink():
        return "a link to a file that is not there"
    return "a device, a pipe or a socket" if path.exists() else ""


def _about(path: Path, error: OSError) -> OSError:
    """Return an error about the file that was to be written, not about the hidden one that comes first."""
    return error if error.errno is None else OSError(error.errno, error.strerror, str(path))


def file_of(name: str, folder: str | os.PathLike[str] = ".") -> Path:
    """Return the path of the file of an exercise in a learner's folder."""
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(f"folder must be a path, but it is {describe(folder)}")
    return Path(folder) / f"{name}.py"


def fingerprint(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file, and "" if it is none or cannot be read."""
    with suppress(OSError):
        if Path(path).is_file():  # opening a pipe would wait for ever
            return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return ""


def write_whole(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file that appears when it is complete; if it cannot, what was there is as before.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    if Path(path).exists() and not Path(path).is_file():  # a device or a pipe is written to, not replaced
        Path(path).write_text(text, encoding="utf-8")
        return
    target = Path(os.path.realpath(path))  # a link goes on to point to it
    hidden = _hidden_beside(target)
    try:
        _write_new(hidden, text)
        hidden.replace(target)
    except OSError as error:
        raise _about(target, error) from None
    finally:
        hidden.unlink(missing_ok=True)


def _write_new(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8", newline="\n") as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)  # it is this call's own
            raise


def _hidden_beside(path: Path) -> Path:
    return path.parent / f".npformer-{secrets.token_hex(8)}.tmp"
