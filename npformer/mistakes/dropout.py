"""Mistakes in the backward of Dropout."""

from __future__ import annotations

import numpy as np

from npformer.component import Array, Tree
from npformer.dropout import Dropout
from npformer.mistakes.catalogue import Gradients, mistake_in


@mistake_in(Dropout, case="Dropout")
def scale_missing(dropout: Dropout, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient is masked but not divided by 1 - p, as forward was."""
    return grad_output * cache["mask"], {}


@mistake_in(Dropout, case="Dropout")
def mask_missing(dropout: Dropout, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient passes through the dropped entries too."""
    return grad_output / (1 - dropout.p), {}


@mistake_in(Dropout, case="Dropout")
def mask_inverted(dropout: Dropout, grad_output: Array, cache: Tree) -> Gradients:
    """The mask says what is kept, but it is read as what is dropped."""
    return grad_output * ~cache["mask"] / (1 - dropout.p), {}


@mistake_in(Dropout, case="Dropout")
def mask_drawn_again(dropout: Dropout, grad_output: Array, cache: Tree) -> Gradients:
    """A new mask is drawn for backward instead of keeping that of forward."""
    mask = np.random.default_rng(0).random(grad_output.shape) >= dropout.p
    return dropout.backward(grad_output, {"mask": mask})
