"""What happened at each step of a training run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from npformer.component import Array, Tree
from npformer.shapes import check_part
from npformer.training.clipping import global_norm
from npformer.training.loop import Step

COLUMNS = ("loss", "accuracy", "learning_rate", "grad_norm")


@dataclass
class History:
    """Columns with an entry for each step: such as `npformer.plot.learning_curves` and `gradient_norms` draw.

    Attributes
    ----------
    loss, accuracy : list of float
        Of the step's batch, with dropout on, before its parameters are changed.
    learning_rate, grad_norm : list of float
        The global norm is that before clipping.
    grad_norms : dict of lists of float
        Norm of the gradients of each layer: "embedding", "layers.0", ..., "norm" (pre-norm alone) and "head".

    Examples
    --------
    >>> History().loss
    []
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    grad_norm: list[float] = field(default_factory=list)
    grad_norms: dict[str, list[float]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.loss)

    def append(self, step: Step) -> None:
        """Add a step of an ImageClassifier; TypeError, and nothing is added, if it is of another model."""
        check_part("step", step, Step)
        norms = norms_by_layer(step.grads)
        self.loss.append(step.loss)
        self.accuracy.append(float(np.mean(step.output.argmax(-1) == step.targets)))
        self.learning_rate.append(step.learning_rate)
        self.grad_norm.append(step.grad_norm)
        for layer, norm in norms.items():
            self.grad_norms.setdefault(layer, []).append(norm)

    def arrays(self) -> dict[str, Array]:
        """Return the columns as a checkpoint keeps them, float64 (steps,)."""
        columns = {name: getattr(self, name) for name in COLUMNS}
        columns |= {f"grad_norms.{layer}": norms for layer, norms in self.grad_norms.items()}
        return {name: np.array(column, np.float64) for name, column in columns.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self:
        """Return what `arrays` returned; ValueError if it cannot be that, as where a number is not finite."""
        for name, array in arrays.items():
            if name not in COLUMNS and not name.startswith("grad_norms."):
                raise ValueError(f"history must have the columns {', '.join(COLUMNS)}, but {name} is among them")
            if array.dtype != np.float64 or array.shape != (len(arrays["loss"]) if "loss" in arrays else 0,):
                raise ValueError(
                    f"history must have columns of float64 of one length, but {name} is {array.dtype} {array.shape}"
                )
            _check_column(name, array)
        missing = [name for name in COLUMNS if name not in arrays]
        if missing:
            raise ValueError(f"history must have the columns {', '.join(COLUMNS)}, but {missing[0]} is missing")
        columns = {name: array.tolist() for name, array in arrays.items()}
        prefix = "grad_norms."
        norms = {name.removeprefix(prefix): column for name, column in columns.items() if name.startswith(prefix)}
        return cls(columns["loss"], columns["accuracy"], columns["learning_rate"], columns["grad_norm"], norms)


def norms_by_layer(grads: Tree) -> dict[str, float]:
    """Return the norm of the gradients of each layer of an ImageClassifier, from the embedding to the head.

    TypeError if they are those of another model.
    """
    encoder = grads.get("encoder")
    if not ({"embedding", "head"} <= grads.keys() and isinstance(encoder, Mapping) and "layers" in encoder):
        raise TypeError(
            "step must be of an ImageClassifier, with gradients of embedding, encoder.layers and head, "
            f"but its gradients are {', '.join(grads) or 'none'}"
        )
    return {name: global_norm(layer) for name, layer in by_layer(grads).items()}


def by_layer(tree: Tree) -> dict[str, Tree]:
    """Return the part of each layer in a tree of the parameters or gradients of an ImageClassifier."""
    encoder = tree["encoder"]
    layers = {"embedding": tree["embedding"]}
    layers |= {f"layers.{index}": layer for index, layer in sorted(encoder["layers"].items(), key=_by_number)}
    layers |= {"norm": encoder["norm"]} if "norm" in encoder else {}
    return layers | {"head": tree["head"]}


def _check_column(name: str, column: Array) -> None:
    """Check for numbers that a step can have had."""
    least = -math.inf if name == "loss" else 0.0  # a loss of another kind than cross-entropy may be negative
    most = 1.0 if name == "accuracy" else math.inf
    odd = column[~(np.isfinite(column) & (column >= least) & (column <= most))]
    if odd.size:
        expected = "finite" if name == "loss" else "in [0, 1]" if name == "accuracy" else "finite and at least 0"
        raise ValueError(f"history must have numbers in {name} that are {expected}, but {odd[0]:g} is among them")


def _by_number(item: tuple[str, Tree]) -> int:
    return int(item[0])
