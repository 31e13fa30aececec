"""Whether two contestants computed the same, so that a fast wrong answer cannot win."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from npformer.bench.steps import layers_of
from npformer.component import Array, Component, Tree
from npformer.encoder import Encoder, EncoderLayer

# Both sides round. One step with sums of n terms is off by about √n / 2 eps; a layer has some 15 of them forward and
# backward, with n up to 3072 here: √15 · √3072 / 2 = 107 eps where errors are independent. The largest of a million
# entries is five times that, where steps subtract it is up to twice that again, two sides make it √2, and a stack of 6
# adds up and enlarges: √6. That is 3,700 eps. Measured: 20 eps for one layer, 230 eps for a stack. Float64 is then
# proven to 9e-13; float32 can only show what is wrong by more than 5e-4.
ALLOWED_EPS = 4096


@dataclass(frozen=True)
class Agreement:
    """The largest difference, in eps of the largest entry of its array, and a sentence for each that is too large."""

    largest: float
    faults: tuple[str, ...]


def compare(ours: Mapping[str, Array], theirs: Mapping[str, Array], whose: str) -> Agreement:
    """Compare arrays of the same names; NaN, a missing array, another dtype or shape are faults as well.

    Examples
    --------
    >>> compare({"output": np.array([1.0, 2.0])}, {"output": np.array([1.0, 4.0])}, "torch").faults
    ('output differs from that of torch by 5.0e-01 of its largest entry, allowed are 9.1e-13',)
    """
    faults = [f"{name} is there on one side only" for name in sorted(ours.keys() ^ theirs.keys())]
    largest = 0.0
    for name in (name for name in theirs if name in ours):
        array, other = ours[name], theirs[name]
        if (array.shape, array.dtype) != (other.shape, other.dtype):
            faults.append(f"{name} is {array.dtype} {array.shape}, that of {whose} is {other.dtype} {other.shape}")
            continue
        eps = float(np.finfo(other.dtype).eps)
        with np.errstate(invalid="ignore"):  # ∞ - ∞ is NaN, which is a fault below
            difference = np.abs(array - other)
        scale = float(np.abs(theirs.get(_yardstick(name), other)).max())
        error = float(difference.max()) / (scale if scale > 0 else 1)
        if not error <= ALLOWED_EPS * eps:
            excess = f"{error:.1e} of its largest entry, allowed are {ALLOWED_EPS * eps:.1e}"
            faults.append(f"{name} differs from that of {whose} by {excess}")
        largest = max(largest, error / eps)
    return Agreement(largest, tuple(faults))


def _yardstick(name: str) -> str:
    """Return the array whose largest entry a difference is relative to.

    The gradient of a key projection's bias is 0 in truth, the sum of terms that cancel. The gradient of its weight has
    the same terms times the projection's inputs, which are of order 1 and do not let them cancel.
    """
    return name.replace("k_proj.bias", "k_proj.weight")


class SidesTaken(Component):
    """ReLU that takes PyTorch's side where a number is within rounding of the kink.

    Two right implementations can differ by 1e-2 in a float32 gradient there. The numbers themselves, with PyTorch's in
    the places where the side differs, go through the ReLU that is to be judged; `hidden` in the cache is ours, so that
    the numbers of both sides can be compared as well.
    """

    def __init__(self, relu: Component, theirs: Array):
        self.relu = relu
        self.theirs = theirs

    def forward(self, x: Array) -> tuple[Array, Tree]:
        theirs = self.theirs.reshape(x.shape)
        output, cache = self.relu.forward(np.where((x > 0) == (theirs > 0), x, theirs))
        return output, {"relu": cache, "hidden": x}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
        grad_x, grads = self.relu.backward(grad_output, cache["relu"])
        return grad_x, {"relu": grads}


def take_sides(model: Encoder | EncoderLayer, hidden: Sequence[Array]) -> Encoder | EncoderLayer:
    """Return a copy of the model on the same parameters whose ReLUs take PyTorch's side."""
    twin = model.with_parameters(model.parameters())
    for layer, theirs in zip(layers_of(twin), hidden, strict=True):
        feed_forward = layer.feed_forward.sublayer
        feed_forward.activation = SidesTaken(feed_forward.activation, theirs)
    return twin
