"""Recomputation in place of memory: a component that keeps only what it was called with."""

from __future__ import annotations

import copy
from typing import Any

from npformer.component import Array, Component, Tree
from npformer.shapes import describe
from npformer.wrapper import Wrapper


class Checkpoint(Wrapper):
    """A component that keeps nothing of its forward but the inputs, and computes the rest again in backward.

        forward:   output = component(inputs), whose cache is thrown away
        backward:  the component's forward on the same inputs, then its backward on the cache of that

    Each of N layers then keeps one activation, its input, and only the layer that is going back has its cache, at the
    price of a second forward (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", section 4).

    Measured, with dropout, float32, batch 8, T 128, d_model 512, 8 heads and d_ff 2048, where an activation has 2 MiB:

        layers                        2     6    12    24
        MiB that forward keeps       78   230   458   914
        with each in a Checkpoint     4    12    24    48

    Output and gradients are to the bit those of the component alone. That takes the dropout masks of the first forward:
    a random source among the arguments is copied before anything is drawn from it, and each backward draws from a
    copy of the copy.

    A Checkpoint has the parameters of its component under the same names, as if it were not there: files and
    optimizers do not see it.

    Parameters
    ----------
    component : Component
        Any: a layer of an Encoder, the layer of a SharedEncoder, a sublayer, a whole model.

    `forward(*inputs, **options)` is that of the component. The cache holds these arguments under "inputs" and
    "options"; of them, random sources alone are copies.

    Raises
    ------
    TypeError
        If the component is none, or copy.deepcopy makes no copy of a random source.

    Examples
    --------
    >>> import numpy as np
    >>> from npformer import Encoder, flatten, make_encoder
    >>> plain = make_encoder(2, 8, 2, 32, rng=0)
    >>> encoder = Encoder([Checkpoint(layer) for layer in plain.layers], plain.norm)
    >>> output, cache = encoder.forward(np.ones((2, 5, 8)), rng=np.random.default_rng(1))
    >>> list(flatten(cache["layers"]))
    ['0.inputs.0', '0.options.mask', '0.options.rng', '1.inputs.0', '1.options.mask', '1.options.rng']
    >>> bool((output == plain(np.ones((2, 5, 8)), rng=np.random.default_rng(1))).all())
    True
    """

    def forward(self, *inputs: Any, **options: Any) -> tuple[Array, Tree]:
        cache = _with_sources_copied({"inputs": {str(index): x for index, x in enumerate(inputs)}, "options": options})
        return self.component(*inputs, **options), cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
        again = _with_sources_copied(cache)
        recomputed = self.component.forward(*again["inputs"].values(), **again["options"])[1]
        return self.component.backward(grad_output, recomputed)


def without_checkpoints(component: Component) -> Component:
    """Return the component with what each Checkpoint in it wraps in its place; the arrays are the same.

    Examples
    --------
    >>> from npformer import LayerNorm, Linear, PreNormSublayerConnection
    >>> without_checkpoints(PreNormSublayerConnection(Checkpoint(Linear(2, 2)), LayerNorm(2))).sublayer
    Linear(6 parameters)
    """
    if type(component) is Checkpoint:  # a class derived from it may have another backward
        return without_checkpoints(component.component)
    parts = component._children()
    plain = {
        name: list(map(without_checkpoints, part)) if isinstance(part, list) else without_checkpoints(part)
        for name, part in parts.items()
    }
    if plain == parts:
        return component
    twin = copy.copy(component)
    vars(twin).update(plain)
    return twin


def _with_sources_copied(arguments: Tree) -> Tree:
    """Return the arguments of a forward with a copy of each random source; one that is there twice stays one."""
    copied: dict[int, Any] = {}

    def kept(name: str, value: Any) -> Any:
        if not callable(getattr(value, "random", None)):
            return value
        try:
            source = copy.deepcopy(value, copied)
        except Exception as error:  # a source of one's own may refuse in any way
            raise _uncopied(name, value) from error
        if source is value:  # such as a class
            raise _uncopied(name, value)
        return source

    inputs = {index: kept(f"inputs[{index}]", value) for index, value in arguments["inputs"].items()}
    options = {name: kept(name, value) for name, value in arguments["options"].items()}
    return {"inputs": inputs, "options": options}


def _uncopied(name: str, source: object) -> TypeError:
    return TypeError(f"{name} must be a random source that copy.deepcopy makes a copy of, but it is {describe(source)}")
