"""Another implementation's arrays beside ours: which is the first wrong one, and whether it is wrong there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np

from npformer.component import Array, Component
from npformer.gradcheck.subject import silence
from npformer.gradcheck.verdict import FAIL, PASS
from npformer.oracle.comparison import MISSING, Comparison, Origin, Row, Worst
from npformer.oracle.expected import Expected
from npformer.oracle.recorder import Passage
from npformer.oracle.rounding import Format
from npformer.oracle.slips import recognise
from npformer.oracle.tolerance import Predicted, Tolerance
from npformer.shapes import ARRAYS, check_part, check_tree, describe

WORST = 5  # entries that are shown


def compare(
    theirs: Mapping[str, Array] | Sequence[Mapping[str, Array]],
    expected: Expected,
    only: str | Iterable[str] | None = None,
) -> Comparison:
    """Compare the arrays of another implementation with those expected, in order of execution.

    An entry is right within its tolerance; one that lies at a kink, where rounding decides the side, within what
    either side allows, and is counted apart. NaN matches nothing. For an array that fails, our operation is applied to
    their own arrays upstream of it: if that gives what they have, the error is inherited.

    Parameters
    ----------
    theirs : mapping or list of mappings
        Arrays by their dotted names or any alias; several, if the implementation varies from run to run.
    expected : Expected
        From expect or load_case.
    only : str or list of str, optional
        Patterns such as "*.grad_weight" of the names that are compared, all of which must be given; without it,
        the output and the gradients of inputs and parameters must be, and intermediates may.

    Returns
    -------
    Comparison

    Raises
    ------
    TypeError, ValueError
        If theirs holds what is no array of real numbers, nothing that is known by these names, or an input or parameter
        that is not the one that is expected to be computed from.

    Examples
    --------
    >>> from npformer import LayerNorm
    >>> from npformer.oracle import expect
    >>> x = np.random.default_rng(0).standard_normal((2, 8))
    >>> expected = expect(LayerNorm(8), x, grad_output=x[::-1])
    >>> theirs = {name: array.astype(np.float32) for name, array in expected.truth.items()}
    >>> theirs["grad_bias"] = theirs["grad_bias"] / 2
    >>> print(compare(theirs, expected).conclusion)
    grad_bias is the first wrong array, and is wrong there: off by the constant factor 0.5 = 1/2
    """
    check_part("expected", expected, Expected)
    if not isinstance(theirs, Mapping | Sequence):
        raise TypeError(f"theirs must be a dict of arrays, or a list of such, but it is {describe(theirs)}")
    runs = [theirs] if isinstance(theirs, Mapping) else list(theirs)
    chosen = _chosen(only, expected)
    if not runs:
        raise ValueError("theirs must hold at least one run, but it is empty")
    given = [_check_arrays(arrays, expected) for arrays in runs]
    known = {name for arrays in given for name in arrays}
    if not known & set(chosen):
        raise ValueError(
            f"theirs must hold an array of a known name, such as {chosen[-1]}, but none of its names is known"
        )
    required = expected.results() if only is None else chosen
    each = [_judge_run(arrays, expected, chosen, index) for index, arrays in enumerate(given)]
    rows = [min(rows, key=_severity) for rows in zip(*each, strict=True)]
    sources = expected.sources()
    unknown = sorted({name for arrays in runs for name in arrays if name not in expected.truth and name not in sources})
    return Comparison(
        rows, len(runs), unknown, [row.name for row in rows if row.verdict == MISSING and row.name in required]
    )


def _chosen(only: str | Iterable[str] | None, expected: Expected) -> list[str]:
    """Return the names of the arrays that are compared, in order."""
    names = [name for name in expected.truth if name in expected.tolerances]
    if not names:
        raise ValueError("expected must hold at least one array that is computed, but it holds only what was given")
    if only is None:
        return names
    patterns = [only] if isinstance(only, str) else list(only) if isinstance(only, Iterable) else []
    if not (patterns and all(isinstance(pattern, str) for pattern in patterns)):
        raise TypeError(f"only must hold patterns of names, but it is {describe(only)}")
    all_names = {name: name for name in names} | expected.truth.aliases
    matched = {name for alias, name in all_names.items() if any(fnmatchcase(alias, pattern) for pattern in patterns)}
    chosen = [name for name in names if name in matched]
    if not chosen:
        raise ValueError(f"only must match the name of an array, but none is like {', '.join(patterns)}")
    return chosen


def _canonical(name: str, expected: Expected) -> str:
    return expected.truth.aliases.get(name, name)


def _check_arrays(arrays: Mapping[str, Array], expected: Expected) -> dict[str, Array]:
    """Return the arrays that are known, in float64 and under their own names."""
    check_tree("theirs", arrays)
    known: dict[str, Array] = {}
    for name, array in arrays.items():
        if type(array) not in ARRAYS:  # a masked array would hide what is wrong
            raise TypeError(f"theirs must hold NumPy arrays, but {name} is {describe(array)}")
        if array.dtype.kind not in "fiub":
            raise TypeError(f"theirs must hold arrays of real numbers, but {name} has dtype {array.dtype}")
        canonical, numbers = _canonical(name, expected), array.astype(np.float64)
        if canonical in known and not np.array_equal(known[canonical], numbers, equal_nan=True):
            raise ValueError(f"theirs must hold {canonical} once, but {name} is another name of it, and differs")
        known[canonical] = numbers
    for name, source in expected.sources().items():
        if name in known and not _same_source(known[name], source):
            raise ValueError(f"theirs must be computed from the {name} of the case, but it holds another one")
    return known


def _same_source(array: Array, source: Array) -> bool:
    """Return whether an input is the expected one; a case may hide NaN where nothing may be read."""
    return array.shape == source.shape and bool(((array == source) | (np.isnan(array) & (source == 0))).all())


@silence()
def _judge_run(arrays: Mapping[str, Array], expected: Expected, names: Sequence[str], run: int) -> list[Row]:
    """Return a row for each name, in order; where arrays fail, with where that comes from."""
    rows = [_judge(name, arrays.get(name), expected, run) for name in names]
    if not any(row.verdict == FAIL for row in rows):
        return rows
    given = {
        name: array
        for name, array in arrays.items()
        if name in expected.tolerances and array.shape == expected.truth[name].shape
    }
    predicted = expected.predict(given)
    local = expected.tolerances_of(predicted)
    rows = [_with_origin(row, arrays, expected, predicted, local) if row.verdict == FAIL else row for row in rows]
    return [_with_missing(row, expected, predicted) if row.origin == Origin.HERE else row for row in rows]


def _judge(name: str, array: Array | None, expected: Expected, run: int) -> Row:
    truth, tolerance = expected.truth[name], expected.tolerances[name]
    which = expected.compared.get(name, np.ones(truth.shape, bool))
    if array is None:
        return Row(name, MISSING, 0, int(which.sum()))
    if array.shape != truth.shape:
        return Row(name, FAIL, truth.size, truth.size, shape=array.shape, expected_shape=truth.shape, run=run)
    error = np.abs(array - truth)
    wrong = ~_right(array, truth, tolerance, expected.storage) & which
    at_kinks = which & ~wrong & tolerance.apart & (error > tolerance.allowed)
    ratio = np.where(wrong | (which & np.isfinite(error)), error / tolerance.limit, 0.0)
    order = np.argsort(-np.where(np.isnan(ratio), np.inf, ratio), axis=None, kind="stable")[:WORST]
    worst = [_entry(index, array, truth, ratio, expected.storage) for index in order]
    return Row(
        name,
        FAIL if wrong.any() else PASS,
        int(wrong.sum()),
        int(which.sum()),
        worst=tuple(worst[:1] if not wrong.any() else worst[: int(wrong.sum())]),
        at_kinks=int(at_kinks.sum()),
        run=run,
    )


def _right(array: Array, target: Array, tolerance: Tolerance, storage: Format) -> Array:
    """Return which entries are within their tolerance, or overflow where they may; a NaN in either is not."""
    overflows = np.isinf(array) & (array * target > 0) & (np.abs(target) + tolerance.limit > storage.largest)
    right: Array = (np.abs(array - target) <= tolerance.limit) | overflows
    return right


def _entry(index: np.intp, array: Array, truth: Array, ratio: Array, storage: Format) -> Worst:
    place = tuple(int(axis) for axis in np.unravel_index(index, truth.shape))
    error = float(abs(array[place] - truth[place]))
    return Worst(
        place, float(array[place]), float(truth[place]), error / storage.spacing(truth[place]), float(ratio[place])
    )


def _with_origin(
    row: Row, arrays: Mapping[str, Array], expected: Expected, predicted: Predicted, local: Mapping[str, Tolerance]
) -> Row:
    array, ours = arrays[row.name], predicted.made[row.name]
    which = expected.compared.get(row.name, np.ones(ours.shape, bool))
    if array.shape == ours.shape:
        same = (
            _right(array, ours, local[row.name], expected.storage)
            | (np.isnan(array) & np.isnan(ours))
            | (array == ours)
        )
        if same[which].all():
            return row.with_origin(Origin.INHERITED)
    return row.with_origin(Origin.HERE, recognise(row.name, array, ours, local[row.name].allowed, which, expected))


class _Nudge(Passage):
    """Changes some arrays a little as they are made, to see what depends on them."""

    def __init__(self, names: Iterable[str]):
        self.names = set(names)

    def out(self, component: Component, name: str, array: Array) -> Array:
        """Change the array by a thousandth."""
        return array * 1.001 if name in self.names and array.dtype.kind == "f" else array


def _with_missing(row: Row, expected: Expected, predicted: Predicted) -> Row:
    """Return the row with the nearest array upstream that they did not give, if there is one: it may be wrong there."""
    names = list(expected.tolerances)
    missing = [name for name in names[: names.index(row.name)] if name not in predicted.given]

    def is_upstream(names: Sequence[str]) -> bool:
        nudged = predicted.rounded(_Nudge(names)).made[row.name]
        return not np.array_equal(nudged, predicted.made[row.name], equal_nan=True)

    if not is_upstream(missing):
        return row
    nearest = next(name for name in reversed(missing) if is_upstream([name]))
    return replace(row, origin=Origin.HERE_OR_BEFORE, missing=nearest)


def _severity(row: Row) -> tuple[int, int, float]:
    """Order the rows of several runs: the worst first."""
    ratio = row.worst[0].ratio if row.worst else 0.0
    return (
        [FAIL, MISSING, PASS].index(row.verdict),
        list(Origin).index(row.origin),
        -(np.inf if np.isnan(ratio) else ratio),
    )
