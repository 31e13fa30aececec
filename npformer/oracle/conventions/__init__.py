"""The names and layouts of other libraries, a file each, as tables from our names to theirs."""

from __future__ import annotations

from npformer.component import Component, flatten
from npformer.oracle.conventions.annotated import ANNOTATED
from npformer.oracle.conventions.bert import BERT
from npformer.oracle.conventions.kind import Kind, own_names
from npformer.oracle.conventions.pytorch import PYTORCH
from npformer.shapes import check_choice, check_part

CONVENTIONS: dict[str, dict[str, Kind]] = {
    "npformer": {},  # every component has its own names
    "torch": PYTORCH,
    "bert": BERT,
    "annotated": ANNOTATED,
}


def find_kind(component: Component, convention: str) -> Kind:
    """Return what a convention calls the parameters of this component, which it knows by their names.

    Raises
    ------
    TypeError
        If it is no component.
    ValueError
        If there is no such convention, or it has no names for this component.

    Examples
    --------
    >>> from npformer import MultiHeadedAttention
    >>> find_kind(MultiHeadedAttention(2, 4, bias=False), "torch").packs(["out_proj.weight"])
    {'out_proj.weight': ('out_proj.weight',)}
    """
    check_part("component", component, Component)
    kinds = check_choice("convention", convention, CONVENTIONS)
    ours = flatten(component.parameters())
    if not kinds:
        return own_names(ours)
    nearest = min(kinds.values(), key=lambda kind: len(kind.uncovered(ours)))
    if odd := nearest.uncovered(ours):
        *most, last = kinds
        raise ValueError(
            f'component must have the parameters of {", ".join(most)} or {last} for the convention "{convention}", '
            f"but this {type(component).__name__} has {odd[0]}"
        )
    return nearest
