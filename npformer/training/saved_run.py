"""The file from which a training run goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from npformer.component import Array
from npformer.oracle.files import read_arrays, write_arrays
from npformer.training.settings import Settings
from npformer.training.source import Source

FORMAT = "npformer training run"
VERSION = 1
SUFFIX = ".npz"
ABOUT = "about"
GROUPS = ("parameters", "optimizer", "history")


@dataclass(frozen=True, eq=False)
class SavedRun:
    """All that a run needs to go on as if it had never stopped; what it draws is drawn anew from the seed.

    Attributes
    ----------
    settings : Settings
    source : Source, optional
        Where the data are from, if that is known.
    fingerprint : str
        SHA-256 of the data.
    arrays : dict of dicts of arrays
        Those of "parameters", "optimizer" and "history" by dotted names.

    In the file, an array is called after its group and its own name, such as "parameters.head.linear.bias". The array
    "about" holds the rest: JSON in UTF-8, as bytes.
    """

    settings: Settings
    source: Source | None
    fingerprint: str
    arrays: Mapping[str, Mapping[str, Array]]

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all.

        Raises
        ------
        ValueError
            If the path has another suffix than .npz.
        OSError
            If the file cannot be written; its name is in the error.
        """
        flat = {f"{group}.{name}": array for group in GROUPS for name, array in self.arrays[group].items()}
        about = {
            "format": FORMAT,
            "version": VERSION,
            "settings": asdict(self.settings),
            "source": None if self.source is None else asdict(self.source),
            "fingerprint": self.fingerprint,
        }
        text = np.frombuffer(json.dumps(about).encode(), np.uint8)
        write_arrays(check_suffix(path), {ABOUT: text} | flat)


def read_saved_run(path: str | os.PathLike[str]) -> SavedRun:
    """Return the checkpoint in a file.

    Raises
    ------
    ValueError
        If the file is not whole, or no checkpoint of this version; one sentence that begins with its path.
    OSError
        If it cannot be read.
    """
    flat = read_arrays(check_suffix(path))
    about = _read_about(path, flat)
    if type(about["version"]) is not int or about["version"] != VERSION:  # True and 1.0 are equal to 1
        raise ValueError(f"{path} must be of version {VERSION}, but it is of version {about['version']!r:.20}")
    try:
        settings = Settings(**about["settings"])
        source = None if about["source"] is None else Source(**about["source"])
        fingerprint = str(about["fingerprint"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} must be a checkpoint of a training run, but it has odd settings: {error}") from None
    arrays: dict[str, dict[str, Array]] = {group: {} for group in GROUPS}
    for name, array in flat.items():
        group, _, rest = name.partition(".")
        if group not in GROUPS:
            raise ValueError(f"{path} must be a checkpoint of a training run, but {name!r:.60} is in it")
        arrays[group][rest] = array
    return SavedRun(settings, source, fingerprint, arrays)


def check_suffix(path: str | os.PathLike[str]) -> Path:
    """Return the path after checking that it is that of an .npz file."""
    if Path(path).suffix.lower() != SUFFIX:
        raise ValueError(f"a checkpoint must have the suffix {SUFFIX}, but it is {path}")
    return Path(path)


def _read_about(path: str | os.PathLike[str], flat: dict[str, Array]) -> dict[str, Any]:
    """Take out what is no array."""
    try:
        about = json.loads(flat.pop(ABOUT).tobytes())
        known = about["format"] == FORMAT and "version" in about
    except (KeyError, RecursionError, TypeError, ValueError):  # JSON may be nested too deeply
        known = False
    if not known:
        raise ValueError(f"{path} must be a checkpoint of a training run, but it is another .npz file")
    return dict(about)
