"""The protocol of every component, and the nested dicts ("trees") that its arrays travel in."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self

import numpy.typing as npt

from npformer.shapes import (
    check_count,
    check_dtype,
    check_floats,
    check_part,
    check_same_arrays,
    check_tree,
)

Array = npt.NDArray[Any]
Tree = dict[str, Any]


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of a tree of parameters, gradients or cached arrays under dotted names.

    Examples
    --------
    >>> flatten({"norm": {"weight": 1.0, "bias": 2.0}, "dropout": {}})
    {'norm.weight': 1.0, 'norm.bias': 2.0}
    """
    check_tree("tree", tree)
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        leaves = flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
        for twice in flat.keys() & leaves.keys():
            raise ValueError(f"tree must have every name once, but {twice} is in it twice")
        flat |= leaves
    return flat


def add_trees(left: Tree, right: Tree) -> Tree:
    """Return the sum of two trees of gradients with the same names and shapes (ValueError otherwise).

    It accumulates gradients over batches, and joins those of a component that was used more than once.

    Examples
    --------
    >>> import numpy as np
    >>> add_trees({"linear": {"bias": np.ones(2)}}, {"linear": {"bias": np.ones(2)}})
    {'linear': {'bias': array([2., 2.])}}
    """
    check_tree("left", left)
    check_tree("right", right)
    flat_left, flat_right = flatten(left), flatten(right)
    check_same_arrays("the left tree", flat_left, flat_left)
    check_same_arrays("the right tree", flat_right, flat_left)
    return _add(left, flat_right, "")


def _add(left: Mapping[str, Any], flat_right: Mapping[str, Any], prefix: str) -> Tree:
    return {
        name: _add(value, flat_right, f"{prefix}{name}.")
        if isinstance(value, Mapping)
        else value + flat_right[prefix + name]
        for name, value in left.items()
    }


class Component(ABC):
    """A differentiable function with parameters: forward, and a backward derived by hand.

    A component holds parameters (arrays named in `parameter_names`) and children (attributes that are
    components, or lists of them). It holds no activations and no gradients: `forward` returns what
    `backward` needs as a cache, so two calls in flight, threads and shared weights just work.

    Every constructor, `forward` and `backward` of this package answers bad input with a TypeError or ValueError whose
    message is one sentence: the argument, what was expected, what came. Nothing is changed then.

    Write one by deriving from this class:

    >>> import numpy as np
    >>> class Scale(Component):
    ...     parameter_names = ("factor",)
    ...     def __init__(self, factor):
    ...         self.factor = np.array(factor)
    ...     def forward(self, x):
    ...         return x * self.factor, {"x": x}
    ...     def backward(self, grad_output, cache):
    ...         return grad_output * self.factor, {"factor": (grad_output * cache["x"]).sum()}
    >>> output, cache = Scale(3.0).forward(np.array([1.0, 2.0]))
    >>> Scale(3.0).backward(np.array([1.0, 1.0]), cache)
    (array([3., 3.]), {'factor': np.float64(3.0)})
    """

    parameter_names: tuple[str, ...] = ()

    @abstractmethod
    def forward(self, *inputs: Any, **options: Any) -> tuple[Array, Tree]:
        """Return the output and the cache; read the parameters and change nothing."""

    @abstractmethod
    def backward(self, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
        """Return the gradient of each input (one array, or a tuple in their order) and of the parameters."""

    def __call__(self, *inputs: Any, **options: Any) -> Array:
        """Return the output of forward, without the cache."""
        return self.forward(*inputs, **options)[0]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({sum(p.size for p in flatten(self._tree()).values()):,} parameters)"

    def parameters(self) -> Tree:
        """Return the tree of the live arrays: writing into one (``p -= ...``) trains the component.

        Raises
        ------
        ValueError
            If one array is reached under two names.
        """
        tree = self._tree()
        names: dict[int, str] = {}
        for name, array in flatten(tree).items():
            check_floats(name, array, "...")
            first = names.setdefault(array.__array_interface__["data"][0], name)
            if first != name:
                raise ValueError(
                    f"{first} and {name} are one array, but a component has one place in the tree; "
                    "use clones for copies, or SharedEncoder to share the weights of layers"
                )
        return tree

    def with_parameters(self, parameters: Mapping[str, Any]) -> Self:
        """Return a copy of this component that holds other arrays, given as a tree or under dotted names.

        The arrays are taken as they are, without a copy. ValueError lists whatever is missing, unknown
        or misshapen.
        """
        check_tree("parameters", parameters)
        given = flatten(parameters)
        check_same_arrays("parameters", given, flatten(self.parameters()))
        return self._with(given, "")

    def astype(self, dtype: npt.DTypeLike) -> Self:
        """Return a copy with the parameters cast to float32, float64 or complex128.

        Examples
        --------
        >>> from npformer import LayerNorm
        >>> import numpy as np
        >>> LayerNorm(4).astype(np.float32).weight.dtype
        dtype('float32')
        """
        target = check_dtype(dtype)
        arrays = flatten(self.parameters())
        for name, array in arrays.items():
            if array.dtype.kind == "c" and target.kind != "c":
                raise TypeError(f"dtype must be complex128 because {name} is {array.dtype}, but it is {target}")
        return self.with_parameters({name: array.astype(target) for name, array in arrays.items()})

    def _own(self) -> dict[str, Array]:
        """The parameters of this component itself; one that is None (a Linear without bias) is left out."""
        arrays = {name: getattr(self, name) for name in self.parameter_names}
        return {name: array for name, array in arrays.items() if array is not None}

    def _children(self) -> dict[str, Component | list[Component]]:
        children: dict[str, Component | list[Component]] = {}
        for name, value in vars(self).items():
            parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
            components = [part for part in parts if isinstance(part, Component)]
            if not components:
                continue
            if isinstance(value, dict | tuple) or len(components) < len(parts):
                raise TypeError(f"{name} must be a Component or a list of nothing else, but it is {value!r:.60}")
            children[name] = value
        return children

    def _tree(self) -> Tree:
        tree: Tree = dict(self._own())
        for name, child in self._children().items():
            if isinstance(child, list):
                tree[name] = {str(index): item._tree() for index, item in enumerate(child)}
            else:
                tree[name] = child._tree()
        return tree

    def _with(self, given: Mapping[str, Array], prefix: str) -> Self:
        twin = copy.copy(self)
        for name in self._own():
            setattr(twin, name, given[prefix + name])
        for name, child in self._children().items():
            if isinstance(child, list):
                new: Any = [item._with(given, f"{prefix}{name}.{index}.") for index, item in enumerate(child)]
            else:
                new = child._with(given, f"{prefix}{name}.")
            setattr(twin, name, new)
        return twin


def clones(module: Component, N: int) -> list[Any]:
    """Return a list of N independent deep copies of a component: initial weights are equal, as in PyTorch's stacks.

    Examples
    --------
    >>> from npformer import LayerNorm
    >>> first, second = clones(LayerNorm(4), 2)
    >>> first.weight is second.weight
    False
    """
    check_part("module", module, Component)
    return [copy.deepcopy(module) for _ in range(check_count("N", N))]
