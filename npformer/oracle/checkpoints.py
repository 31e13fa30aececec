"""Parameters and gradients under the names and in the layouts of other libraries, in memory and in files.

The conventions are "npformer" (the component's own dotted names), "torch", "bert" and "annotated"; the files in
npformer/oracle/conventions/ say which components each of them knows, how it lays out arrays, and what it leaves alone
in a file. A component is known by the names of its parameters, and those do not tell its heads, eps, activation, and
the place and formula of its norm: give it those when you build it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from npformer.component import Array, Component
from npformer.oracle.conventions.translation import from_convention, to_convention
from npformer.oracle.files import read_arrays, write_arrays
from npformer.shapes import check_part, describe

__all__ = [
    "from_convention",
    "load_gradients",
    "load_parameters",
    "save_gradients",
    "save_parameters",
    "to_convention",
]

Path = str | os.PathLike[str]
Source = Path | Mapping[str, Any]
Some = TypeVar("Some", bound=Component)


def load_parameters(
    component: Some, source: Source, convention: str = "npformer", ignore: Collection[str] = ()
) -> Some:
    """Return a copy of the component with the parameters of an .npz or .safetensors file, or of a dict of arrays.

    convention, ignore, dtypes and errors are those of from_convention; OSError if the file cannot be read.

    Examples
    --------
    >>> import numpy as np
    >>> from npformer import LayerNorm
    >>> load_parameters(LayerNorm(2), {"weight": np.ones(3), "beta": np.ones(2)}, "torch")
    Traceback (most recent call last):
    ...
    ValueError: source must hold the arrays of LayerNorm in the convention "torch", but beta is unknown; bias is \
missing; weight has shape (3,), expected (2,)
    """
    check_part("component", component, Component)
    return component.with_parameters(load_gradients(component, source, convention, ignore))


def load_gradients(
    component: Component, source: Source, convention: str = "npformer", ignore: Collection[str] = ()
) -> dict[str, Array]:
    """Return the gradients of a component's parameters from an .npz or .safetensors file, or from a dict of arrays.

    They are under the parameters' dotted names. The rest is as in load_parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from npformer import LayerNorm
    >>> load_gradients(LayerNorm(2), {"weight": np.ones(2), "bias": np.zeros(2)}, "torch")
    {'weight': array([1., 1.]), 'bias': array([0., 0.])}
    """
    if isinstance(source, Mapping):
        return from_convention(source, component, convention, ignore, name="source")
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"source must be a path or a dict of arrays, but it is {describe(source)}")
    return from_convention(read_arrays(source), component, convention, ignore, name=os.fspath(source))


def save_parameters(path: Path, component: Component, convention: str = "npformer") -> None:
    """Write the parameters of a component to an .npz or .safetensors file.

    convention and errors are those of to_convention; OSError if the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from npformer import make_encoder
    >>> encoder = make_encoder(2, 4, 2, 8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_parameters(f"{folder}/encoder.npz", encoder, "torch")
    ...     twin = load_parameters(make_encoder(2, 4, 2, 8), f"{folder}/encoder.npz", "torch")
    >>> bool((twin(np.ones((1, 3, 4))) == encoder(np.ones((1, 3, 4)))).all())
    True
    """
    check_part("component", component, Component)
    save_gradients(path, component.parameters(), component, convention)


def save_gradients(path: Path, grads: Mapping[str, Any], component: Component, convention: str = "npformer") -> None:
    """Write the gradients of a component's parameters, a tree or under dotted names, to an .npz or .safetensors file.

    The rest is as in save_parameters.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from npformer import LayerNorm
    >>> norm = LayerNorm(2)
    >>> grads = {"weight": np.ones(2), "bias": np.zeros(2)}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_gradients(f"{folder}/grads.npz", grads, norm, "torch")
    ...     load_gradients(norm, f"{folder}/grads.npz", "torch")
    {'weight': array([1., 1.]), 'bias': array([0., 0.])}
    """
    write_arrays(path, to_convention(grads, component, convention))
