"""What Checkpoint is for: forward keeps one activation a layer, and backward has the cache of one layer at a time."""

import copy
import tracemalloc
from collections.abc import Callable
from functools import cache as remembered
from typing import Any, NamedTuple

import numpy as np
import pytest
from test_checkpoint import X, given_masks, layer

from npformer import Checkpoint, Encoder, GivenMasks, clones, flatten, make_encoder

BATCH, T, D_MODEL, HEADS, D_FF = 8, 32, 64, 4, 64
ACTIVATION = BATCH * T * D_MODEL * 8  # bytes: 128 KiB
MASKS = [(BATCH, HEADS, T, T), (BATCH, T, D_MODEL), (BATCH, T, D_FF), (BATCH, T, D_MODEL)]
# Of dicts and objects, those of a copied generator among them: 1.9 KiB a layer were measured, and 12 KiB once. The
# smallest array that could be kept by mistake, the mask of one dropout, has 16 KiB.
OVERHEAD, ONCE = 3 * 1024, 16 * 1024
LAYER = make_encoder(1, D_MODEL, HEADS, D_FF, dropout=0.1, rng=0).layers[0]
GRADS = sum(array.nbytes for array in flatten(LAYER.parameters()).values())
SOURCES: dict[str, Callable[[], Any]] = {
    "no dropout": lambda: None,
    "a generator": lambda: np.random.default_rng(0),
    "given masks": lambda: GivenMasks([np.ones(shape, bool) for shape in MASKS * 24]),
}


class Memory(NamedTuple):
    """Bytes: what forward left, and the most that there was at a time during backward, both beside what was there."""

    kept: int
    peak: int


@remembered
def memory(num_layers: int, source: str, wrapped: bool) -> Memory:
    """Measure one forward and backward of an encoder."""
    layers = clones(LAYER, num_layers)
    encoder = Encoder([Checkpoint(each) for each in layers] if wrapped else layers)
    x, grad_output = np.random.default_rng(0).standard_normal((2, BATCH, T, D_MODEL))
    rng = SOURCES[source]()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        output, cache = encoder.forward(x, mask=np.tri(T, dtype=int), rng=rng)
        kept = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.reset_peak()
        gradients = encoder.backward(grad_output, cache)
        peak = tracemalloc.get_traced_memory()[1] - before
        del output, gradients
        return Memory(kept, peak)
    finally:
        tracemalloc.stop()


each_source = pytest.mark.parametrize("source", SOURCES)


@each_source
def test_forward_keeps_one_activation_a_layer(source: str) -> None:
    sizes = (2, 6, 12, 24)
    kept = [memory(N, source, wrapped=True).kept for N in sizes]
    slopes = np.diff(kept) / np.diff(sizes)
    assert all(ACTIVATION <= slope <= ACTIVATION + OVERHEAD for slope in slopes), slopes
    # the first layer's input is the caller's, and the last one's output is no input of a layer
    assert 2 * ACTIVATION <= kept[0] <= 2 * (ACTIVATION + OVERHEAD) + ONCE


@each_source
def test_without_it_forward_keeps_many(source: str) -> None:
    kept = [memory(N, source, wrapped=False).kept for N in (2, 6)]
    assert (kept[1] - kept[0]) / 4 > 10 * ACTIVATION


@each_source
def test_backward_needs_the_cache_of_one_layer_beside_them(source: str) -> None:
    of_one = memory(1, source, wrapped=False).peak
    for N in (2, 6, 12, 24):
        kept, peak = memory(N, source, wrapped=True)
        # the gradients of parameters are returned; grad_output on its way down is an activation
        assert peak - kept <= of_one + (N - 1) * (GRADS + OVERHEAD) + 2 * ACTIVATION, N
    assert memory(24, source, wrapped=False).peak > 3 * memory(24, source, wrapped=True).peak


def test_the_cache_holds_the_arguments_and_copies_of_sources_alone() -> None:
    x, mask, rng = np.ones((BATCH, T, D_MODEL)), np.tri(T, dtype=int), np.random.default_rng(0)
    _, cache = Checkpoint(LAYER).forward(x, mask=mask, rng=rng)
    assert list(flatten(cache)) == ["inputs.0", "options.mask", "options.rng"]
    assert cache["inputs"]["0"] is x
    assert cache["options"]["mask"] is mask
    assert cache["options"]["rng"].random() == np.random.default_rng(0).random() != rng.random()
    assert Checkpoint(LAYER).forward(x, rng=None)[1]["options"] == {"rng": None}


def test_copies_of_given_masks_share_them_and_go_on_apart() -> None:
    masks = given_masks()
    Checkpoint(layer()).forward(X, rng=masks)
    twin = copy.deepcopy(masks)
    assert (twin.used, masks.used) == (4, 4)
    assert twin.masks is masks.masks
    twin.random(masks.masks[4].shape)
    assert (twin.used, masks.used) == (5, 4)
