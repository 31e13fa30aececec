"""A mistake is a wrong backward with a name and an explanation; planted in a component, it replaces the right one."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from npformer.component import Array, Component, Tree
from npformer.shapes import check_part

Gradients = tuple[Any, Tree]
Forward = Callable[..., tuple[Array, Tree]]
Backward = Callable[[Any, Array, Tree], Gradients]
AnyComponent = TypeVar("AnyComponent", bound=Component)


@dataclass(frozen=True)
class Mistake:
    """One way to get a backward wrong.

    Attributes
    ----------
    name : str
        Such as "LayerNorm.eps_outside_the_root".
    component : type
        The class that it happens in; Component itself if it can happen in any.
    case : str
        The key of npformer.gradcheck.CASES on which it shows.
    explanation : str
        One line: what was forgotten or confused.
    backward : function
        ``backward(component, grad_output, cache)`` returns the wrong gradients in the form of the method. The component
        is one whose own backward is right, so that it can be called for what is not wrong.
    forward : function, optional
        ``forward(component, *inputs, **options)``, for a mistake that begins there, such as state on the component.

    Examples
    --------
    >>> import numpy as np
    >>> from npformer import Softmax
    >>> from npformer.mistakes import MISTAKES
    >>> mistake = MISTAKES["Softmax.row_sum_missing"]
    >>> mistake.explanation
    'Each x lowers all other outputs, but that sum over the row is not subtracted.'
    >>> _, cache = Softmax().forward(np.log([1.0, 3.0]))
    >>> Softmax().backward(np.array([1.0, 0.0]), cache)[0]
    array([ 0.1875, -0.1875])
    >>> mistake.backward(Softmax(), np.array([1.0, 0.0]), cache)[0]
    array([0.25, 0.  ])
    """

    name: str
    component: type[Component]
    case: str
    explanation: str
    backward: Backward
    forward: Forward | None = None


MISTAKES: dict[str, Mistake] = {}


def mistake_in(
    component: type[Any], case: str, forward: Forward | None = None
) -> Callable[[Callable[..., Gradients]], Callable[..., Gradients]]:
    """Register a function as a mistake: its name is the mistake's, and its docstring the explanation.

    Parameters
    ----------
    component, case, forward
        As in Mistake.

    Raises
    ------
    ValueError
        If there is a mistake of this name, or the docstring is not one line.

    Examples
    --------
    >>> from npformer import ReLU
    >>> @mistake_in(ReLU, case="ReLU")
    ... def slope_squared(relu, grad_output, cache):
    ...     '''The slope is counted twice.'''
    >>> MISTAKES.pop("ReLU.slope_squared").explanation
    'The slope is counted twice.'
    """

    def register(backward: Callable[..., Gradients]) -> Callable[..., Gradients]:
        name = f"{component.__name__}.{backward.__name__}"
        explanation = backward.__doc__ or ""
        if name in MISTAKES:
            raise ValueError(f"a mistake must have a name of its own, but there is a {name} already")
        if not explanation or "\n" in explanation:
            raise ValueError(f"{name} must be explained by a docstring of one line, but it is {explanation!r}")
        MISTAKES[name] = Mistake(name, component, case, explanation, backward, forward)
        return backward

    return register


def plant(mistake: Mistake, component: AnyComponent) -> AnyComponent:
    """Return a copy of a component in which a mistake has taken the place of the right backward.

    The copy has arrays of its own, and the same forward and names.

    Raises
    ------
    TypeError
        If the component is of another kind than the mistake's.

    Examples
    --------
    >>> import numpy as np
    >>> from npformer import Linear
    >>> from npformer.mistakes import MISTAKES
    >>> linear = plant(MISTAKES["Linear.bias_gradient_averaged"], Linear(2, 1))
    >>> output, cache = linear.forward(np.zeros((3, 2)))
    >>> linear.backward(np.ones((3, 1)), cache)[1]["bias"]
    array([1.])
    """
    check_part("component", component, mistake.component)
    return with_backward(component, mistake.backward, mistake.forward)


def with_backward(component: AnyComponent, backward: Backward, forward: Forward | None = None) -> AnyComponent:
    """Return a copy of a component with another backward, and perhaps another forward."""
    kind = type(component)

    def as_it_was(planted: Component) -> Component:
        right = kind.__new__(kind)
        right.__dict__ = vars(planted)  # shared, so that what a mistake keeps on the component stays there
        return right

    @functools.wraps(kind.backward)
    def wrong_backward(planted: Component, grad_output: Array, cache: Tree) -> Gradients:
        return backward(as_it_was(planted), grad_output, cache)

    methods: dict[str, Any] = {"backward": wrong_backward}
    if forward is not None:

        @functools.wraps(kind.forward)
        def wrong_forward(planted: Component, *inputs: Any, **options: Any) -> tuple[Array, Tree]:
            return forward(as_it_was(planted), *inputs, **options)

        methods["forward"] = wrong_forward

    twin = copy.deepcopy(component)
    twin.__class__ = type(kind.__name__, (kind,), methods)
    return twin
