"""A component around another one, for more than its numbers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Self

from npformer.component import Array, Component, Tree
from npformer.shapes import check_part


class Wrapper(Component):
    """A component with the parameters of the one inside under the same names, as if it were not there.

    Files and optimizers do not see it.
    """

    def __init__(self, component: Component):
        check_part("component", component, Component)
        self.component = component

    def _tree(self) -> Tree:
        return self.component._tree()

    def _with(self, given: Mapping[str, Array], prefix: str) -> Self:
        twin = copy.copy(self)
        twin.component = self.component._with(given, prefix)
        return twin
