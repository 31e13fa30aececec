"""A case with everything that was computed for it, as the arrays and the JSON of its folder."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from npformer.component import Array, flatten
from npformer.dropout import Dropout, GivenMasks
from npformer.gradcheck.cases import randomise
from npformer.oracle.expected import Expected, expect
from npformer.oracle.rounding import Format
from npformer.oracle.trace import trace
from npformer.oracle.vectors.cases import VectorCase
from npformer.oracle.vectors.conventions import EXACT_RULE, FORMAT, TOLERANCE_RULE
from npformer.oracle.vectors.recipes import build

KERNEL = ("row_max", "row_sum", "logsumexp", "delta", "grad_scores", "grad_weights")


class Recorded:
    """A case that was run.

    Attributes
    ----------
    expected : Expected
        Truth and tolerances.
    dropout_masks : list of str
        Names of the masks, in the order in which they are taken.
    arrays, tolerances : dict
        What its two files of arrays hold.
    """

    def __init__(self, case: VectorCase):
        self.case = case
        component = build(case.recipe)
        rng = np.random.default_rng(case.seed)
        randomise(component, rng)
        self.given = case.given(component, rng)
        inputs, options = tuple(self.given.inputs.values()), dict[str, Any](self.given.options)
        if case.dropout:
            drawn = trace(component, *inputs, **options, rng=rng)
            paths = [path for path, part in drawn.parts.items() if isinstance(part, Dropout)]
            masks = {
                name: drawn[name] for name in (f"{path}.mask".removeprefix(".") for path in paths) if name in drawn
            }
            options["rng"] = GivenMasks(masks.values())
        self.dropout_masks = list(masks) if case.dropout else []
        output = trace(component, *inputs, **options)["output"]
        grad_output = rng.standard_normal(output.shape)
        self.expected = expect(component, *inputs, grad_output=grad_output, storage=case.storage, **options)
        self._require_exact_zeros()
        self.parameters = flatten(self.expected.recording.component.parameters())
        self.arrays = self._stored()
        self.tolerances = tolerance_arrays(self.expected)

    def to_dict(self) -> dict[str, Any]:
        """Return what case.json says, but for its files."""
        expected = self.expected
        return {
            "format": FORMAT,
            "name": self.case.name,
            "purpose": self.case.purpose,
            "recipe": self.case.recipe,
            "seed": self.case.seed,
            "storage": expected.storage.name,
            "accumulation": expected.accumulation.name,
            "inputs": list(self.given.inputs),
            "options": list(self.given.options),
            "dropout_masks": self.dropout_masks,
            "nan": list(self.given.unseen),
            "at_kinks": self.case.at_kinks,
            "arrays": [self._row(name) for name in self.arrays],
        }

    def _require_exact_zeros(self) -> None:
        """Allow the gradients of what no query sees less than the smallest number."""
        for name, unseen in self.given.unseen.items():
            gradient = f"grad_{name}"
            old = self.expected.tolerances[gradient]
            allowed = np.where(unseen, self.expected.storage.tiny, old.allowed)
            self.expected.tolerances[gradient] = replace(old, allowed=allowed)

    def _stored(self) -> dict[str, Array]:
        """Return the arrays as the file has them: the case's inputs, its parameters, then the run."""
        truth, storage = self.expected.truth, self.expected.storage
        given = [*self.given.inputs, *self.given.options]
        arrays = {name: as_stored(truth[name], storage) for name in given}
        for name, unseen in self.given.unseen.items():
            arrays[name] = np.where(unseen, np.array(np.nan, arrays[name].dtype), arrays[name])
        arrays |= {name: as_stored(array, storage) for name, array in self.parameters.items()}
        for name, array in truth.items():
            is_float = array.dtype.kind == "f" and name != "grad_output"
            arrays.setdefault(name, array.astype(np.float64) if is_float else as_stored(array, storage))
        return {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}

    def _row(self, name: str) -> dict[str, Any]:
        array, expected = self.arrays[name], self.expected
        row: dict[str, Any] = {
            "name": name,
            "role": self._role(name),
            "shape": list(array.shape),
            "dtype": str(array.dtype),
            "sha256": digest(array),
            "aliases": [alias for alias, first in expected.truth.aliases.items() if first == name],
            "result": name in expected.results(),
        }
        if name in expected.tolerances:
            allowed = expected.tolerances[name].allowed
            row["tolerance"] = {
                "largest": float(allowed.max()),
                "rms": float(np.sqrt(np.mean(allowed**2))),
                "rule": EXACT_RULE if name.removeprefix("grad_") in self.given.unseen else TOLERANCE_RULE,
            }
            row["compared"] = f"{name}.compared" if name in expected.compared else "all"
            row["at_kinks"] = f"{name}.at_kinks" if expected.tolerances[name].at_kinks is not None else None
        return row

    def _role(self, name: str) -> str:
        leaf = name.rpartition(".")[2]
        if name in self.dropout_masks:
            return "dropout mask"
        if name in self.given.inputs or name in self.given.options:
            return "input"
        if name in self.parameters:
            return "parameter"
        if name in ("grad_output", "output"):
            return "cotangent" if name == "grad_output" else "output"
        return "kernel" if leaf in KERNEL else "gradient" if leaf.startswith("grad_") else "intermediate"


def as_stored(array: Array, storage: Format) -> Array:
    """Return an input as a file has it: floats in the storage format, booleans as uint8, integers as they are."""
    if array.dtype.kind == "f":
        return storage.round(array)
    return array.astype(np.uint8) if array.dtype.kind == "b" else array


def tolerance_arrays(expected: Expected) -> dict[str, Array]:
    """Return tolerances, those at kinks, and which entries are compared, by the names that a file has for them."""
    arrays: dict[str, Array] = {}
    for name, tolerance in expected.tolerances.items():
        arrays[name] = tolerance.allowed
        if tolerance.at_kinks is not None:
            arrays[f"{name}.at_kinks"] = tolerance.at_kinks
        if name in expected.compared:
            arrays[f"{name}.compared"] = expected.compared[name].astype(np.uint8)
    return arrays


def digest(array: Array) -> str:
    """Return the sha256 of an array's bytes, little-endian and in C order.

    Examples
    --------
    >>> digest(np.zeros(2, np.uint8))[:16]
    '96a296d224f285c6'
    """
    return hashlib.sha256(np.asarray(array, array.dtype.newbyteorder("<"), order="C").tobytes()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
