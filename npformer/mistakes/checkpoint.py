"""Mistakes in the recomputation of Checkpoint: forward runs again, but not as it ran before."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from npformer.checkpoint import Checkpoint
from npformer.component import Array, Tree
from npformer.mistakes.catalogue import Gradients, mistake_in


def _with_options(cache: Tree, **options: Any) -> Tree:
    return cache | {"options": cache["options"] | options}


def _again(checkpoint: Checkpoint, cache: Tree) -> tuple[Array, Tree]:
    """Run forward once more, and advance the generator that is in this cache."""
    return checkpoint.component.forward(*cache["inputs"].values(), **cache["options"])


@mistake_in(Checkpoint, case="Checkpoint")
def dropout_masks_drawn_afresh(checkpoint: Checkpoint, grad_output: Array, cache: Tree) -> Gradients:
    """The recomputation draws dropout masks of its own, and not those of the forward that made the output."""
    return checkpoint.backward(grad_output, _with_options(cache, rng=np.random.default_rng(0)))


@mistake_in(Checkpoint, case="Checkpoint")
def generator_from_after_the_draw(checkpoint: Checkpoint, grad_output: Array, cache: Tree) -> Gradients:
    """The generator is copied when forward is done with it, so that it has moved on."""
    after = copy.deepcopy(cache)
    _again(checkpoint, after)
    return checkpoint.backward(grad_output, after)


@mistake_in(Checkpoint, case="Checkpoint")
def generator_used_up(checkpoint: Checkpoint, grad_output: Array, cache: Tree) -> Gradients:
    """backward draws from the generator in the cache, so that a second backward finds it moved on."""
    _, recomputed = _again(checkpoint, cache)
    return checkpoint.component.backward(grad_output, recomputed)


@mistake_in(Checkpoint, case="Checkpoint")
def recomputed_without_dropout(checkpoint: Checkpoint, grad_output: Array, cache: Tree) -> Gradients:
    """The generator is not kept at all, so that the recomputation drops nothing."""
    return checkpoint.backward(grad_output, _with_options(cache, rng=None))


@mistake_in(Checkpoint, case="Checkpoint")
def recomputed_without_the_mask(checkpoint: Checkpoint, grad_output: Array, cache: Tree) -> Gradients:
    """The inputs are kept but not the mask, so that the recomputation attends to everything."""
    return checkpoint.backward(grad_output, _with_options(cache, mask=None))


@mistake_in(Checkpoint, case="Checkpoint")
def recomputed_from_the_output(checkpoint: Checkpoint, grad_output: Array, cache: Tree) -> Gradients:
    """What is kept is the output, the next layer's input, and the recomputation starts from there."""
    output, _ = _again(checkpoint, copy.deepcopy(cache))
    return checkpoint.backward(grad_output, cache | {"inputs": {"0": output}})
