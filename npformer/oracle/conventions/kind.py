"""What a convention calls the parameters of one kind of component: one table, from which both directions are read."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

Names = dict[tuple[str, ...], str]


@dataclass(frozen=True)
class Kind:
    """The names of one kind of component in another library.

    Parameters
    ----------
    names : dict
        From our names, whose arrays are stacked along axis 0 in this order, to theirs; {i} is the index of a layer.
    prefix : str
        May stand before all of their names; what stands without it beside them then belongs to something else.
    writes_prefix : bool
        Whether it is written.
    older : tuple of pairs
        Former endings of their names, and today's.
    others : tuple of str
        What is in their files but no parameter of ours: names, and beginnings that end in a dot.

    Examples
    --------
    >>> kind = Kind({("q.weight", "k.weight"): "qk_weight"}, prefix="head.", others=("positions",))
    >>> kind.packs(["q.weight", "k.weight"])
    {'qk_weight': ('q.weight', 'k.weight')}
    >>> kind.recognised(["head.qk_weight", "head.positions", "classifier"])
    {'head.qk_weight': 'qk_weight'}
    """

    names: Names
    prefix: str = ""
    writes_prefix: bool = False
    older: tuple[tuple[str, str], ...] = ()
    others: tuple[str, ...] = ()

    def uncovered(self, ours: Iterable[str]) -> list[str]:
        """Return those of our names that have none of theirs."""
        known = {name for pack in self.names for name in pack}
        return [name for name in ours if _template(name)[0] not in known]

    def packs(self, ours: Collection[str]) -> dict[str, tuple[str, ...]]:
        """Return their names without prefix, each with those of ours that are stacked in it, in the order of ours.

        ValueError if only some of those are there.
        """
        pack_of = {name: pack for pack in self.names for name in pack}
        found: dict[str, tuple[str, ...]] = {}
        for name in ours:
            template, index = _template(name)
            pack = pack_of[template]
            theirs = self.names[pack].replace("{i}", index)
            found[theirs] = tuple(part.replace("{i}", index) for part in pack)
            for missing in (part for part in found[theirs] if part not in ours):
                raise ValueError(f"component must have {missing} beside {name} to fill {theirs}, but it has none")
        return found

    def has_prefix(self, given: Iterable[str]) -> bool:
        """Return whether the prefix stands before any of the names of a file."""
        return self.prefix != "" and any(name.startswith(self.prefix) for name in given)

    def recognised(self, given: Collection[str], ignore: Collection[str] = ()) -> dict[str, str]:
        """Return those of the names of a file that should be ours to read, each with today's name without prefix."""
        prefix = self.prefix if self.has_prefix(given) else ""
        today = {name: self._today(name.removeprefix(prefix)) for name in given if name.startswith(prefix)}
        ignore = (*ignore, *self.others)
        return {name: bare for name, bare in today.items() if not _is_among(name, ignore) | _is_among(bare, ignore)}

    def _today(self, name: str) -> str:
        for former, ending in self.older:
            if name.endswith(former):
                return name.removesuffix(former) + ending
        return name


def within(parts: Mapping[tuple[str, str], Names]) -> Names:
    """Return the names of a whole from those of its parts, each under its prefix here and its prefix there.

    Examples
    --------
    >>> within({("norm.", "LayerNorm."): {("weight",): "gamma"}})
    {('norm.weight',): 'LayerNorm.gamma'}
    """
    return {
        tuple(our_prefix + name for name in pack): their_prefix + theirs
        for (our_prefix, their_prefix), names in parts.items()
        for pack, theirs in names.items()
    }


def same(*names: str) -> Names:
    """Return the table of names on which both sides agree.

    Examples
    --------
    >>> same("weight", "bias")
    {('weight',): 'weight', ('bias',): 'bias'}
    """
    return {(name,): name for name in names}


def own_names(ours: Iterable[str]) -> Kind:
    """Return the kind that calls every parameter what it is called here.

    Examples
    --------
    >>> own_names(["layers.0.weight"]).packs(["layers.0.weight"])
    {'layers.0.weight': ('layers.0.weight',)}
    """
    return Kind(same(*(_template(name)[0] for name in ours)))


def _template(name: str) -> tuple[str, str]:
    """Return a name with {i} for the index of its layer, and that index."""
    index = re.search(r"(?<=layers\.)\d+(?=\.)", name)
    return (name, "") if index is None else (name[: index.start()] + "{i}" + name[index.end() :], index[0])


def _is_among(name: str, names: Iterable[str]) -> bool:
    return any(name.startswith(each) if each.endswith(".") else name == each for each in names)
