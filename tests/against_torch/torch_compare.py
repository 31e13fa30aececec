"""Runs npformer and PyTorch on the same numbers, and compares the output and every gradient.

PyTorch always runs in float64. For float32 all numbers are rounded to float32 first, so that PyTorch computes the
truth for exactly the numbers that npformer gets, and what is measured is npformer's rounding alone.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from npformer import Component, flatten
from npformer.component import Array
from npformer.gradcheck.cases import signed

torch.set_num_threads(1)  # the tensors are tiny: threads would only cost time

DType = type[np.float64] | type[np.float32]

# Errors are relative to the largest entry of the array. Rounding is proportional to eps, so counted in eps it is the
# same in both dtypes, and what 1e-12 (4,500 eps) proves in float64 need not be proven again: float32 may be off by
# rounding alone. One layer is about 15 steps forward and backward, each with sums of up to 20 terms: √15 * √20 / 2 eps
# = 9 eps where errors are independent. The largest of thousands is some three times that, and where steps subtract
# (the mean, softmax's backward) up to twice that again: 50 eps. The layers of a stack add up, and each may enlarge
# the errors of the others: 200 eps. Measured in both dtypes: 20 eps for one component or layer, 40 eps for a stack.
EPS32 = float(np.finfo(np.float32).eps)
TOLERANCE: dict[DType, float] = {np.float64: 1e-12, np.float32: 50 * EPS32}
STACK_TOLERANCE: dict[DType, float] = {np.float64: 1e-12, np.float32: 200 * EPS32}

# Biases are the same for all tokens. Large ones drown what tells tokens apart, and then the gradients of the last
# layers' queries and keys are what is left of terms that cancel.
BIAS_SIZE = 0.2

both_dtypes = pytest.mark.parametrize("dtype", [np.float64, np.float32])


@dataclass(frozen=True)
class Comparison:
    """Output and gradients of both sides by name."""

    ours: dict[str, Array]
    theirs: dict[str, Array]
    dtype: DType

    def scale(self, name: str) -> float:
        """Return what the error of this array is relative to: its largest entry in truth.

        The gradient of a key projection's bias is 0 in truth, the sum of terms that cancel. The gradient of its weight
        has the same terms times the projection's inputs, which are of order 1 and do not let them cancel.
        """
        return float(np.abs(self.theirs[name.replace("k_proj.bias", "k_proj.weight")]).max())

    def errors(self) -> dict[str, float]:
        """Return the relative error of every array; AssertionError unless both sides have the same ones."""
        if self.ours.keys() != self.theirs.keys() or len(self.theirs) < 2:
            raise AssertionError(f"npformer has {sorted(self.ours)}, PyTorch has {sorted(self.theirs)}")
        errors = {}
        for name, truth in self.theirs.items():
            array, scale = self.ours[name], self.scale(name)
            if array.shape != truth.shape or array.dtype != np.dtype(self.dtype):
                raise AssertionError(
                    f"{name} is {array.dtype} {array.shape}, expected {self.dtype.__name__} {truth.shape}"
                )
            if not 0 < scale < np.inf:
                raise AssertionError(f"{name} cannot be compared: its scale is {scale}")
            errors[name] = float(np.abs(array - truth).max() / scale)
        return errors

    def check(self, tolerance: Mapping[DType, float] = TOLERANCE) -> None:
        """Raise AssertionError unless every error is within the tolerance for the dtype."""
        for name, error in self.errors().items():
            if not error <= tolerance[self.dtype]:
                raise AssertionError(f"{name} is off by {error:.1e} in {self.dtype.__name__}")


def run_both(
    component: Component,
    reference: Callable[..., Any],
    parameters: Mapping[str, Tensor],
    inputs: list[Array],
    dtype: DType,
    rename: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = dict,
    **options: Any,
) -> Comparison:
    """Draw PyTorch's parameters, load them into npformer, and run both sides forward and backward.

    reference(*inputs) computes with the tensors in parameters, whose names rename translates into npformer's;
    options are for npformer's forward. The cotangent is random and signed.
    """
    rng = np.random.default_rng(1)
    for name, tensor in parameters.items():
        size = 1 / np.sqrt(tensor.shape[-1]) if tensor.ndim == 2 else BIAS_SIZE if name.endswith("bias") else 1
        tensor.data = to_torch((size * signed(rng, tuple(tensor.shape), 0.5, 1.5)).astype(dtype))
    weights = {name: to_numpy(tensor).astype(dtype) for name, tensor in rename(parameters).items()}
    component = component.with_parameters(weights)
    arrays = [x.astype(dtype) if x.dtype.kind == "f" else x for x in inputs]

    leaves = [to_torch(x).requires_grad_(x.dtype.kind == "f") for x in arrays]
    truth: Tensor = reference(*leaves)
    cotangent = signed(rng, tuple(truth.shape), 0.5, 1.5).astype(dtype)
    truth.backward(to_torch(cotangent))  # type: ignore[no-untyped-call]
    theirs = {"output": truth} | {f"grad_inputs.{i}": _grad(x) for i, x in enumerate(leaves) if x.requires_grad}
    grads = rename({name: _grad(tensor) for name, tensor in parameters.items()})
    theirs |= {f"grads.{name}": grad for name, grad in grads.items()}

    exact_inputs = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in arrays]
    _, exact_cache = component.astype(np.float64).forward(*exact_inputs, **copy.deepcopy(options))
    output, cache = component.forward(*arrays, **options)
    if _decisions(cache) != _decisions(exact_cache):
        raise AssertionError("a number lies within rounding of ReLU's kink, so its gradient is undecided: draw others")
    ours = {"output": output} | _by_name(*component.backward(cotangent, cache))
    return Comparison(ours, {name: to_numpy(tensor) for name, tensor in theirs.items()}, dtype)


def _grad(tensor: Tensor) -> Tensor:
    if tensor.grad is None:
        raise AssertionError("the reference must use all inputs and parameters")
    return tensor.grad


def _by_name(grad_inputs: Any, grads: Mapping[str, Any]) -> dict[str, Array]:
    """Name the gradients; that of an integer input is None and is left out."""
    gradients = grad_inputs if isinstance(grad_inputs, tuple) else (grad_inputs,)
    named = {f"grad_inputs.{i}": gradient for i, gradient in enumerate(gradients) if gradient is not None}
    return named | {f"grads.{name}": gradient for name, gradient in flatten(grads).items()}


def _decisions(cache: Mapping[str, Any]) -> dict[str, bytes]:
    """The boolean arrays in a cache: masks, and on which side of ReLU's kink each number is."""
    leaves = {name: leaf for name, leaf in flatten(cache).items() if isinstance(leaf, np.ndarray)}
    return {name: leaf.tobytes() for name, leaf in leaves.items() if leaf.dtype == bool}


def empty_parameters(component: Component) -> dict[str, Tensor]:
    """Return a tensor for each parameter of the component, by npformer's names; run_both draws its numbers."""
    arrays = flatten(component.parameters())
    return {name: torch.empty(array.shape, dtype=torch.float64, requires_grad=True) for name, array in arrays.items()}


def to_torch(array: npt.NDArray[Any]) -> Tensor:
    return torch.tensor(array.astype(np.float64) if array.dtype.kind == "f" else array)


def to_numpy(tensor: Tensor) -> Array:
    return tensor.detach().numpy()
