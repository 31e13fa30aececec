"""Files and folders of arrays: read without trust, and written whole or not at all."""

from __future__ import annotations

import errno
import io
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from npformer.component import Array
from npformer.oracle.declared import UnfitError, check_arrays, flaw_of_path, quoted
from npformer.oracle.npz_file import read_npz, write_npz
from npformer.oracle.safetensors_file import read_safetensors, write_safetensors
from npformer.replacement import naming, replacement
from npformer.shapes import check_count, check_flag, describe

DEFAULT_LIMIT = 8 * 2**30
SUFFIXES = (".npz", ".safetensors")


def read_arrays(path: str | os.PathLike[str], limit: int = DEFAULT_LIMIT) -> dict[str, Array]:
    """Return the arrays of an .npz or .safetensors file by name, in the file's order.

    They are C-contiguous, writable and of native byte order. Nothing is unpickled or extracted. Whatever a file
    declares is compared with its size and the limit before memory is allocated.

    Parameters
    ----------
    path : str or path
        The suffix says which of the two it is. In an .npz file each member must be an .npy file of booleans, integers,
        float16, float32 or float64, stored or deflated; a .safetensors file may hold bfloat16 too, which comes as
        float32 with the same values.
    limit : int
        Bytes that all arrays together may take in memory; 8 GiB by default. While one array is read, it may take that
        of a second one, and the file's table of contents at most half a GiB more.

    Raises
    ------
    ValueError
        If the file is not what it should be; one sentence that starts with the path.
    OSError
        If it cannot be opened or read.
    ImportError
        If a .safetensors file is given, and the package safetensors, of the extra ``oracle``, is missing.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_arrays(f"{folder}/case.npz", {"x": np.array([1.0, 2.0])})
    ...     read_arrays(f"{folder}/case.npz")
    {'x': array([1., 2.])}
    """
    path, suffix = _check_path(path)
    check_count("limit", limit, least=0)
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # opening a pipe would wait for ever
        raise ValueError(f"{path} must be a file, but it is a device, a pipe or a socket")
    try:
        with io.FileIO(path) as raw:
            return read_npz(raw, limit) if suffix == ".npz" else read_safetensors(raw, path, limit)
    except UnfitError as unfit:
        raise ValueError(f"{path} {unfit}") from None


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, Array]) -> None:
    """Write arrays by name as an .npz or .safetensors file; the same arrays in the same order give the same bytes.

    The file appears under its name when it is complete. If anything fails, what was there before is untouched.

    Parameters
    ----------
    path : str or path
        The suffix says which of the two to write. An existing file is replaced.
    arrays : dict of arrays
        Booleans, integers, float16, float32 or float64, in any memory layout and byte order. An .npz file keeps the
        dict's order; the package safetensors has its own.

    Raises
    ------
    TypeError, ValueError
        If a name or an array is not fit for the file; one sentence that names it.
    OSError
        If the file cannot be written.
    ImportError
        If a .safetensors file is wanted, and the package safetensors, of the extra ``oracle``, is missing.

    Examples
    --------
    >>> import numpy as np
    >>> write_arrays("case.npz", {"x": np.array([1j])})
    Traceback (most recent call last):
    TypeError: arrays['x'] must be booleans, integers, float16, float32 or float64, but its dtype is complex128
    """
    path, suffix = _check_path(path)
    ready = check_arrays(arrays)
    with replacement(path) as file, naming(path):
        if suffix == ".npz":
            write_npz(file, ready)
        else:
            write_safetensors(file, ready)


@contextmanager
def new_folder(path: str | os.PathLike[str], replace: bool = False) -> Iterator[Path]:
    """Give a hidden folder to write into, which becomes the folder `path` when the block ends well.

    If the block or the renaming fails, the hidden folder is removed, and what was at `path` is as before.

    Parameters
    ----------
    path : str or path
        The folder to make; its parent must exist.
    replace : bool
        Whether a folder that exists already may be replaced. The old one is moved aside, and deleted once the new one
        has its name. If the machine stops between the two renamings, both are there under hidden names.

    Raises
    ------
    FileExistsError
        If `path` exists, and is not to be replaced.
    NotADirectoryError
        If what is to be replaced is a file or a link.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     with new_folder(f"{parent}/cases") as scratch:
    ...         write_arrays(scratch / "first.npz", {"x": np.zeros(2)})
    ...     [each.name for each in Path(parent, "cases").iterdir()]
    ['first.npz']
    """
    target = _check_text_path(path).absolute()
    exists = _check_target(target, check_flag("replace", replace))
    scratch = _hidden_sibling(target)
    scratch.mkdir()
    try:
        yield scratch
        if not exists:
            scratch.rename(target)
            return
        aside = target.rename(_hidden_sibling(target))
        try:
            scratch.rename(target)
        except BaseException:
            aside.rename(target)
            raise
        shutil.rmtree(aside)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def inside(folder: str | os.PathLike[str], name: str) -> Path:
    """Return the path of a file that a manifest names, after checking that it lies inside the manifest's folder.

    Parameters
    ----------
    folder : str or path
        The folder, which may itself be reached by links.
    name : str
        A relative path with forward slashes.

    Raises
    ------
    ValueError
        If the name is absolute, has a drive, a backslash or "..", or passes a link that leads outside.

    Examples
    --------
    >>> inside("cases", "../secret.npz")
    Traceback (most recent call last):
    ValueError: name must be the path of a file inside cases, but '../secret.npz' leads upwards
    """
    folder = Path(_check_text_path(folder))
    if not isinstance(name, str):
        raise TypeError(f"name must be the path of a file inside {folder}, but it is {describe(name)}")
    flaw = flaw_of_path(name)
    if not flaw:
        try:
            root, resolved = folder.resolve(), (folder / name).resolve()
        except RuntimeError:
            flaw = "is a link to itself"
        else:
            if resolved == root:
                flaw = "is the folder itself"
            elif not resolved.is_relative_to(root):
                flaw = "is a link that leads out of it"
            elif resolved.is_symlink():  # Python 3.13 and later resolve a loop without an error
                flaw = "is a link to itself"
    if flaw:
        raise ValueError(f"name must be the path of a file inside {folder}, but {quoted(name)} {flaw}")
    return folder / name


def _check_text_path(path: str | os.PathLike[str]) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a path, but it is {describe(path)}")
    path = Path(path)
    if "\0" in str(path):
        raise ValueError("path must be a path, but it holds a NUL")
    return path


def _check_path(path: str | os.PathLike[str]) -> tuple[Path, str]:
    path = _check_text_path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path} must have the suffix {' or '.join(SUFFIXES)}, but its suffix is {quoted(suffix)}")
    return path, suffix


def _check_target(target: Path, replace: bool) -> bool:
    """Return whether there is a folder to replace."""
    if not os.path.lexists(target):
        return False
    if not replace:
        raise FileExistsError(errno.EEXIST, f"{target} must be the path of a new folder, but it exists already")
    if target.is_symlink() or not target.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{target} must be a folder to be replaced, but it is none")
    return True


def _hidden_sibling(path: Path) -> Path:
    return path.parent / f".npformer-{secrets.token_hex(8)}.tmp"
