"""What a case.json says, checked before anything is done with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npformer.oracle.declared import MOST_CONTENTS, quoted, shortened
from npformer.oracle.rounding import Format, find_format
from npformer.oracle.vectors.conventions import FORMAT
from npformer.oracle.vectors.recipes import Recipe

CASE = "case.json"
FIELDS: dict[str, type] = {
    "format": str,
    "recipe": dict,
    "storage": str,
    "accumulation": str,
    "inputs": list,
    "options": list,
    "dropout_masks": list,
    "nan": list,
    "arrays": list,
    "files": dict,
}
ROW: dict[str, type] = {"name": str, "role": str, "shape": list, "dtype": str, "sha256": str}
FILE: dict[str, type] = {"file": str, "sha256": str}
IN_WORDS: dict[type, str] = {str: "a text", dict: "an object", list: "a list"}


@dataclass(frozen=True)
class CaseFile:
    """A case.json whose fields are there and of their types; it may still say what is not so.

    Attributes
    ----------
    recipe : dict
    storage, accumulation : Format
    inputs, options, dropout_masks, nan : list of str
        Names of arrays.
    arrays : dict
        What is said of each array, by name.
    files : dict
        Name and sha256 of the files "arrays" and "tolerances".
    """

    recipe: Recipe
    storage: Format
    accumulation: Format
    inputs: list[str]
    options: list[str]
    dropout_masks: list[str]
    nan: list[str]
    arrays: dict[str, Mapping[str, Any]]
    files: dict[str, Mapping[str, str]]


def read_case_file(path: Path) -> CaseFile:
    """Return what a case.json says (ValueError, whose sentence names no path, if it is none)."""
    said = _read_json(path)
    _check_fields("it", said, FIELDS)
    if said["format"] != FORMAT:
        raise ValueError(f'format must be "{FORMAT}", but it is {quoted(said["format"])}')
    for name in ("inputs", "options", "dropout_masks", "nan"):
        if not all(isinstance(each, str) for each in said[name]):
            raise ValueError(f"{name} must be a list of names, but it is {quoted(said[name])}")
    for row in said["arrays"]:
        _check_fields("each of arrays", row, ROW)
    _check_fields("files", said["files"], {"arrays": dict, "tolerances": dict})
    for what in ("arrays", "tolerances"):
        _check_fields(f"files.{what}", said["files"][what], FILE)
    rows = {row["name"]: row for row in said["arrays"]}
    if len(rows) < len(said["arrays"]):
        raise ValueError("arrays must have every name once, but one is there twice")
    for name in ("inputs", "options", "dropout_masks"):
        unknown = [each for each in said[name] if each not in rows]
        if unknown or len(set(said[name])) < len(said[name]):
            flaw = f"{quoted(unknown[0])} is not one" if unknown else "one is there twice"
            raise ValueError(f"{name} must be names of its arrays, but {flaw}")
    unknown = [each for each in said["nan"] if each not in said["inputs"]]
    if unknown:
        raise ValueError(f"nan must be names of its inputs, but {quoted(unknown[0])} is not one")
    return CaseFile(
        said["recipe"],
        find_format("storage", said["storage"]),
        find_format("accumulation", said["accumulation"]),
        said["inputs"],
        said["options"],
        said["dropout_masks"],
        said["nan"],
        rows,
        said["files"],
    )


def _read_json(path: Path) -> Any:
    with path.open("rb") as file:
        text = file.read(MOST_CONTENTS + 1)
    if len(text) > MOST_CONTENTS:
        raise ValueError(f"it must have at most {MOST_CONTENTS} bytes, but has more")
    try:
        return json.loads(text.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it must be JSON, but reading it fails: {shortened(error)}") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _check_fields(what: str, said: Any, fields: Mapping[str, type]) -> None:
    if not isinstance(said, dict):
        raise ValueError(f"{what} must be an object, but it is {quoted(said)}")
    for name, kind in fields.items():
        if not isinstance(said.get(name), kind):
            came = f"its {name} is {quoted(said[name])}" if name in said else f"it has no {name}"
            raise ValueError(f"{what} must have {IN_WORDS[kind]} as {name}, but {came}")
