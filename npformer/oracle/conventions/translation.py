"""The way from npformer's names to those of a convention, and back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from npformer.component import Array, Component, flatten
from npformer.oracle.conventions import find_kind
from npformer.oracle.conventions.kind import Kind
from npformer.shapes import ARRAYS, FLOAT_NAMES, FLOATS, check_same_arrays, check_tree, describe


def to_convention(arrays: Mapping[str, Any], component: Component, convention: str) -> dict[str, Array]:
    """Return a component's parameters or gradients under the names and in the layouts of a convention.

    Parameters
    ----------
    arrays : dict
        The parameters of the component or their gradients, as a tree or under dotted names.
    component : Component
        Says which names and shapes there are.
    convention : {"npformer", "torch", "bert", "annotated"}
        Whose names the result has.

    The result holds copies of the same dtype.

    Raises
    ------
    TypeError
        If something is no NumPy array.
    ValueError
        If the arrays are not those of the component, or the convention has no names for such a component.

    Examples
    --------
    >>> from npformer import MultiHeadedAttention
    >>> attention = MultiHeadedAttention(2, 4, bias=False)
    >>> packed = to_convention(attention.parameters(), attention, "torch")
    >>> packed["in_proj_weight"].shape, bool((packed["in_proj_weight"][4:8] == attention.k_proj.weight).all())
    ((12, 4), True)
    """
    kind = find_kind(component, convention)
    ours = flatten(component.parameters())
    given = _flat_arrays("arrays", arrays)
    for name in given:
        _check_array(name, given[name])
    check_same_arrays("arrays", given, ours)
    prefix = kind.prefix if kind.writes_prefix else ""
    packs = kind.packs(ours)
    return {prefix + theirs: _stack(theirs, {name: given[name] for name in packs[theirs]}) for theirs in packs}


def from_convention(
    arrays: Mapping[str, Any],
    component: Component,
    convention: str,
    ignore: Collection[str] = (),
    name: str = "arrays",
) -> dict[str, Array]:
    """Return parameters or gradients from a convention's names and layouts: the way back of to_convention, to the bit.

    Parameters
    ----------
    arrays : dict
        The arrays under their names.
    component : Component
        Says which names and shapes there are.
    convention : {"npformer", "torch", "bert", "annotated"}
        Whose names they have.
    ignore : list of str
        What else is left alone: names, and beginnings that end in a dot, such as "pooler." for a BertEncoder.
    name : str
        What an error calls the arrays, such as the path of their file.

    The result holds copies under npformer's dotted names. They keep their dtype, except that float16, in which no
    component computes, becomes float32.

    Raises
    ------
    TypeError
        If something is no NumPy array.
    ValueError
        If arrays are missing, unknown, misshapen or named twice: one sentence lists them all, as they are called there.

    Examples
    --------
    >>> from npformer import MultiHeadedAttention
    >>> attention = MultiHeadedAttention(2, 4, bias=False)
    >>> packed = {"in_proj_weight": np.arange(48.0).reshape(12, 4), "out_proj.weight": np.eye(4)}
    >>> from_convention(packed, attention, "torch")["v_proj.weight"][0]
    array([32., 33., 34., 35.])
    """
    kind = find_kind(component, convention)
    ours = flatten(component.parameters())
    packs = kind.packs(ours)
    given = _flat_arrays(name, arrays)
    names = _names_in(given, kind, ignore)
    prefix = kind.prefix if kind.has_prefix(given) else ""
    wrong = [f"{each} is unknown" for today in names.keys() - packs.keys() for each in names[today]]
    for theirs, pack in packs.items():
        match names.get(theirs, []):
            case []:
                wrong.append(f"{prefix}{theirs} is missing")
            case [each]:
                wrong += _misfits(each, given[each], _stacked_shape([ours[part].shape for part in pack]))
            case several:
                wrong.append(f"{' and '.join(sorted(several))} are one array")
    if wrong:
        raise ValueError(
            f'{name} must hold the arrays of {type(component).__name__} in the convention "{convention}", '
            f"but {'; '.join(sorted(wrong))}"
        )
    found: dict[str, Array] = {}
    for theirs, pack in packs.items():
        found |= _unstack(given[names[theirs][0]], {part: ours[part] for part in pack})
    return {part: found[part] for part in ours}


def _names_in(given: Mapping[str, Any], kind: Kind, ignore: Collection[str]) -> dict[str, list[str]]:
    """Return the names in a file that are to be read, by today's names without prefix."""
    if (
        isinstance(ignore, str)
        or not isinstance(ignore, Collection)
        or not all(isinstance(each, str) for each in ignore)
    ):
        raise TypeError(f"ignore must be a list of names, but it is {ignore!r:.60}")
    names: dict[str, list[str]] = {}
    for name, today in kind.recognised(given, ignore).items():
        _check_array(name, given[name])
        names.setdefault(today, []).append(name)
    return names


def _flat_arrays(name: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    check_tree(name, arrays)
    return flatten(arrays)


def _check_array(name: str, array: object) -> None:
    if type(array) not in ARRAYS and not isinstance(array, np.generic):  # a sum over all axes is no ndarray
        remedy = "; call .detach().numpy()" if hasattr(array, "detach") else ""
        raise TypeError(f"{name} must be a NumPy array, but it is {describe(array)}{remedy}")


def _misfits(name: str, array: Array, shape: tuple[int, ...]) -> list[str]:
    if array.dtype not in (*FLOATS, np.float16):
        return [f"{name} has dtype {array.dtype}, expected float16, {FLOAT_NAMES}"]
    return [] if array.shape == shape else [f"{name} has shape {array.shape}, expected {shape}"]


def _stacked_shape(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    return shapes[0] if len(shapes) == 1 else (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _stack(theirs: str, parts: Mapping[str, Array]) -> Array:
    dtypes = [str(part.dtype) for part in parts.values()]
    if len(set(dtypes)) > 1:
        raise ValueError(f"{', '.join(parts)} must have one dtype to fill {theirs}, but they have {', '.join(dtypes)}")
    arrays = list(parts.values())
    return np.ascontiguousarray(np.concatenate(arrays)) if len(arrays) > 1 else np.array(arrays[0], order="C")


def _unstack(array: Array, like: Mapping[str, Array]) -> dict[str, Array]:
    """Return copies, which an optimizer may write into."""
    dtype = np.dtype(np.float32) if array.dtype == np.float16 else array.dtype
    if len(like) == 1:
        return {name: np.array(array, dtype, order="C") for name in like}
    ends = np.cumsum([len(part) for part in like.values()])
    parts = np.split(array, ends[:-1])
    return {name: np.array(part, dtype, order="C") for name, part in zip(like, parts, strict=True)}
