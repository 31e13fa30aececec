"""Conformance vectors as files, for implementations in any language."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from npformer import __version__
from npformer.oracle.declared import quoted
from npformer.oracle.files import new_folder, write_arrays
from npformer.oracle.vectors.case_file import CASE
from npformer.oracle.vectors.cases import VectorCase
from npformer.oracle.vectors.component_cases import catalogue
from npformer.oracle.vectors.conventions import CONVENTIONS, FORMAT, REPRODUCIBILITY
from npformer.oracle.vectors.recorded import Recorded, file_digest
from npformer.shapes import check_choice, describe

MANIFEST = "manifest.json"
FILE_FORMATS = {"safetensors": "safetensors", "npz": "npz"}


def write_vectors(
    folder: str | os.PathLike[str],
    file_format: str = "safetensors",
    only: str | Iterable[str] | None = None,
    progress: Callable[[str], object] | None = None,
) -> list[Path]:
    """Write conformance cases, each a folder of its own, and a manifest that says what their arrays mean.

    The folder appears when it is complete; if anything fails, nothing is left.

    Parameters
    ----------
    folder : str or path
        Must not exist, or be empty; its parent must exist.
    file_format : {"safetensors", "npz"}
        Of the files of arrays.
    only : str or list of str, optional
        Patterns such as "attention_*" of the names of the cases that are written; without it, all.
    progress : callable, optional
        Is called with the name of each case that was written.

    Returns
    -------
    list of Path
        The folder of each case. It holds case.json, arrays and tolerances.

    Raises
    ------
    FileExistsError
        If the folder holds anything.
    ValueError
        If no case is called so.
    OSError
        If the files cannot be written.
    ImportError
        If safetensors are wanted, and the package of that name, of the extra ``oracle``, is missing.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     folders = write_vectors(f"{parent}/vectors", file_format="npz", only="layer_norm_float*")
    ...     [each.name for each in folders], sorted(file.name for file in folders[0].iterdir())
    (['layer_norm_float32', 'layer_norm_float64', 'layer_norm_float16'], ['arrays.npz', 'case.json', 'tolerances.npz'])
    """
    suffix = check_choice("file_format", file_format, FILE_FORMATS)
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(f"folder must be a path, but it is {describe(folder)}")
    target = Path(folder)
    cases = _chosen(only)
    exists = os.path.lexists(target)
    if exists and (target.is_symlink() or not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"folder must be new or empty, but {target} is not")
    if not target.absolute().parent.is_dir():
        raise FileNotFoundError(f"folder must lie in a folder that exists, but {target.absolute().parent} is none")
    with new_folder(target, replace=exists) as scratch:
        written = []
        for case in cases:
            written.append(_write_case(scratch, case, suffix))
            if progress is not None:
                progress(case.name)
        _write_json(
            scratch / MANIFEST,
            {
                "format": FORMAT,
                "npformer": __version__,
                "numpy": np.__version__,
                "reproducibility": REPRODUCIBILITY,
                "conventions": CONVENTIONS,
                "cases": written,
            },
        )
    return [target / case.name for case in cases]


def _chosen(only: str | Iterable[str] | None) -> list[VectorCase]:
    patterns = ["*"] if only is None else [only] if isinstance(only, str) else list(only)
    cases = catalogue()
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"only must hold patterns of names, but one is {describe(pattern)}")
        if not any(fnmatchcase(name, pattern) for name in cases):
            raise ValueError(f"only must match the name of a case, but none is like {quoted(pattern)}")
    return [case for name, case in cases.items() if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _write_case(folder: Path, case: VectorCase, suffix: str) -> dict[str, object]:
    """Write a case, and return what the manifest says of it."""
    recorded = Recorded(case)
    home = folder / case.name
    home.mkdir()
    files = {"arrays": f"arrays.{suffix}", "tolerances": f"tolerances.{suffix}"}
    write_arrays(home / files["arrays"], recorded.arrays)
    write_arrays(home / files["tolerances"], recorded.tolerances)
    hashes = {name: file_digest(home / name) for name in files.values()}
    about = {what: {"file": name, "sha256": hashes[name]} for what, name in files.items()}
    _write_json(home / CASE, recorded.to_dict() | {"files": about})
    hashes[CASE] = file_digest(home / CASE)
    return {"name": case.name, "purpose": case.purpose, "storage": case.storage, "sha256": hashes}


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8", newline="\n")
