"""A conformance case from its folder, of which nothing is believed that can be computed or compared."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from npformer.component import Array, Component
from npformer.dropout import GivenMasks
from npformer.gradcheck.subject import silence
from npformer.oracle.declared import quoted, shortened
from npformer.oracle.expected import Expected, record
from npformer.oracle.files import inside, read_arrays
from npformer.oracle.tolerance import Tolerance
from npformer.oracle.trace import Recording
from npformer.oracle.vectors.case_file import CASE, CaseFile, read_case_file
from npformer.oracle.vectors.recipes import build, extent
from npformer.oracle.vectors.recorded import digest, file_digest
from npformer.shapes import describe

MOST_BYTES = 2**28  # of the arrays of one file
MOST_WORK = 2**21  # entries of an array that a case may lead to


def load_case(folder: str | os.PathLike[str]) -> Expected:
    """Return what an implementation should give for a conformance case, with the tolerances that the case states.

    Truth is computed again from the recipe, parameters and inputs, which are checked against their sha256, and is held
    against the arrays that the case states.

    Parameters
    ----------
    folder : str or path
        As write_vectors makes it for each case.

    Returns
    -------
    Expected

    Raises
    ------
    ValueError
        If the folder does not hold a case, or what it holds does not agree with itself; one sentence that names the
        file.
    OSError
        If a file cannot be read.
    ImportError
        If the arrays are safetensors, and the package of that name, of the extra ``oracle``, is missing.

    Examples
    --------
    >>> import tempfile
    >>> from npformer.oracle import compare, write_vectors
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     case, *_ = write_vectors(f"{parent}/vectors", file_format="npz", only="layer_norm_float32")
    ...     expected = load_case(case)
    >>> compare(expected.truth, expected).passed
    True
    """
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(f"folder must be a path, but it is {describe(folder)}")
    path = Path(folder) / CASE
    if not path.is_file():
        raise ValueError(f"folder must hold a conformance case, but there is no {path}")
    try:
        case = read_case_file(path)
        arrays, tolerances = _read_file(path.parent, case, "arrays"), _read_file(path.parent, case, "tolerances")
        _check_arrays(case, arrays)
        with silence():  # what a file says may overflow
            expected = _run(case, arrays)
        _check_truth(case, expected, arrays)
        expected.tolerances = _tolerances(expected, tolerances)
        _check_agreement(expected, arrays)
    except (TypeError, ValueError) as error:
        sentence = " ".join(str(error).split())
        raise ValueError(sentence if sentence.startswith(str(path.parent)) else f"{path}: {sentence}") from None
    return expected


def _read_file(folder: Path, case: CaseFile, what: str) -> dict[str, Array]:
    path = inside(folder, case.files[what]["file"])
    if not path.is_file():
        raise ValueError(f"files.{what} must name a file, but there is no {path}")
    arrays = read_arrays(path, MOST_BYTES)
    if file_digest(path) != case.files[what]["sha256"]:
        raise ValueError(f"files.{what} must have the sha256 of {path}, but it is another one")
    return arrays


def _check_arrays(case: CaseFile, arrays: dict[str, Array]) -> None:
    differ = sorted(case.arrays.keys() ^ arrays.keys())
    if differ:
        raise ValueError(f"arrays must list what the file of arrays holds, but {quoted(differ[0])} is only in one")
    for name, row in case.arrays.items():
        array = arrays[name]
        said = (row["shape"], row["dtype"], row["sha256"])
        if said != (list(array.shape), str(array.dtype), digest(array)):
            raise ValueError(f"arrays must give shape, dtype and sha256 of {quoted(name)}, but they are others")
    parameters = [name for name, row in case.arrays.items() if row["role"] == "parameter"]
    for name in [*case.inputs, *parameters, "grad_output"]:
        if name not in arrays:
            raise ValueError(f"arrays must list {name}, but they do not")
        _check_given(case, name, arrays[name])
    for name in (*case.options, *case.dropout_masks):
        if arrays[name].dtype.kind not in "iu":
            raise ValueError(f"{quoted(name)} must be integers, but its dtype is {arrays[name].dtype}")


def _check_given(case: CaseFile, name: str, array: Array) -> None:
    """Check that an input, parameter or cotangent has numbers of the storage format."""
    if array.dtype.kind in "iu" and name in case.inputs and name not in case.nan:
        return
    if str(array.dtype) != case.storage.held_in:
        raise ValueError(f"{quoted(name)} must be {case.storage.held_in}, but its dtype is {array.dtype}")
    numbers = np.nan_to_num(array, nan=0.0, posinf=np.inf, neginf=-np.inf) if name in case.nan else array
    if not np.isfinite(numbers).all() or not np.array_equal(case.storage.round(numbers), numbers):
        raise ValueError(f"{quoted(name)} must hold finite numbers of {case.storage.name}, but it holds others")


def _run(case: CaseFile, arrays: dict[str, Array]) -> Expected:
    _check_work(case, arrays)
    component = build(case.recipe)
    parameters = {name: arrays[name] for name, row in case.arrays.items() if row["role"] == "parameter"}
    component = component.with_parameters({name: array.astype(np.float64) for name, array in parameters.items()})
    inputs = tuple(_computed_with(arrays[name]) for name in case.inputs)
    options: dict[str, Any] = {name: _computed_with(arrays[name]) for name in case.options}
    options = {name: array != 0 if array.dtype == np.uint8 else array for name, array in options.items()}
    if case.dropout_masks:
        options["rng"] = GivenMasks([arrays[name] for name in case.dropout_masks])
    recording = _recording(component, inputs, options, arrays["grad_output"].astype(np.float64))
    return record(recording, case.storage, case.accumulation)


def _recording(
    component: Component, inputs: tuple[Array, ...], options: dict[str, Any], grad_output: Array
) -> Recording:
    try:
        return Recording(component, inputs, options, grad_output)
    except (LookupError, AttributeError) as error:
        raise ValueError(f"recipe must fit the inputs, but running it fails: {shortened(error)}") from None


def _computed_with(array: Array) -> Array:
    """Return an input as truth is computed from it: in float64, with 0 for NaN."""
    return np.where(np.isnan(array), 0.0, array.astype(np.float64)) if array.dtype.kind == "f" else array


def _check_work(case: CaseFile, arrays: dict[str, Array]) -> None:
    """Check that running the recipe takes little memory: axes that are not in the files come from what is counted."""
    layers, widest = extent(case.recipe)
    given = [arrays[name] for name in case.inputs]
    longest = max([widest, *(size for array in given for size in array.shape)])
    sequences = max([1, *(len(arrays[name]) for name in case.options if arrays[name].ndim == 1)])
    entries = max([1, *(array.size * (widest if array.dtype.kind in "iu" else 1) for array in given)])
    if entries * longest * layers * sequences > MOST_WORK:
        raise ValueError(f"inputs must lead to arrays of at most {MOST_WORK} entries, but they may lead to more")


def _check_truth(case: CaseFile, expected: Expected, arrays: dict[str, Array]) -> None:
    listed = {name for name, row in case.arrays.items() if row["role"] != "parameter"}
    differ = sorted(listed ^ set(expected.truth))
    if differ:
        raise ValueError(f"arrays must be those of a run of the recipe, but {quoted(differ[0])} is only in one")
    for name, array in expected.truth.items():
        if array.shape != arrays[name].shape:
            raise ValueError(f"{quoted(name)} must have shape {array.shape}, but its shape is {arrays[name].shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{quoted(name)} must come out finite, but it does not")


def _tolerances(expected: Expected, arrays: dict[str, Array]) -> dict[str, Tolerance]:
    """Return the tolerances of a file, which must be those of all that was computed."""
    made = {name: array for name, array in expected.predict({}).made.items() if array.dtype.kind == "f"}
    needed = {*made, *(f"{name}.compared" for name in made if name in expected.compared)}
    allowed_too = {f"{name}.at_kinks" for name in made}
    differ = sorted((needed - arrays.keys()) | (arrays.keys() - needed - allowed_too))
    if differ:
        raise ValueError(f"tolerances must be those of the recipe's arrays, but {quoted(differ[0])} is only in one")
    for name, array in arrays.items():
        shape = expected.truth[name.removesuffix(".at_kinks").removesuffix(".compared")].shape
        if array.shape != shape:
            raise ValueError(f"tolerance {quoted(name)} must have shape {shape}, but its shape is {array.shape}")
        if name.endswith(".compared"):
            if not np.array_equal(array, expected.compared[name.removesuffix(".compared")]):
                raise ValueError(f"{quoted(name)} must say which entries are compared, but says others")
        elif array.dtype != np.float64 or not np.isfinite(array).all() or (array <= 0).any():
            raise ValueError(f"tolerance {quoted(name)} must be positive float64 numbers, but it is not")
    return {name: Tolerance(arrays[name], arrays.get(f"{name}.at_kinks")) for name in made}


def _check_agreement(expected: Expected, arrays: dict[str, Array]) -> None:
    """Check that what a case states is what is computed."""
    for name, tolerance in expected.tolerances.items():
        which = expected.compared.get(name, np.ones(arrays[name].shape, bool))
        if not (np.abs(arrays[name] - expected.truth[name]) <= tolerance.limit)[which].all():
            raise ValueError(
                f"{quoted(name)} must be what its inputs lead to, but it differs by more than its tolerance"
            )
