"""Loads a PyTorch module's parameters into a component, and compares what the two compute and what is written back."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from npformer import Component, flatten
from npformer.component import Array
from npformer.oracle.checkpoints import load_gradients, load_parameters, to_convention

torch.set_num_threads(1)  # the tensors are tiny: threads would only cost time

TOLERANCE = 1e-12  # of the largest entry: 4,500 eps, for which torch_compare has the reasons; slips are of order 1


def arrays_of(tensors: Mapping[str, Tensor]) -> dict[str, Array]:
    return {name: tensor.detach().numpy() for name, tensor in tensors.items()}


def randomised(module: nn.Module) -> nn.Module:
    """Give every parameter its own numbers: at first biases are 0 and the layers of a stack are equal."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return module.double()


def check_values(
    component: Component,
    module: nn.Module,
    x: Array,
    convention: str,
    run: Callable[[Tensor], Tensor] | None = None,
    *,
    prefix: str = "",
    beside: tuple[str, ...] = (),
) -> None:
    """Load their parameters, check that the same are written, then output and gradients against theirs.

    prefix is written before their names; what begins as in beside is no parameter of the component.
    """
    whole = arrays_of(module.state_dict())
    loaded = load_parameters(component, whole, convention)
    written = to_convention(loaded.parameters(), loaded, convention)
    expected = {prefix + name: array for name, array in whole.items() if not name.startswith(beside)}
    assert written.keys() == expected.keys()
    assert all(written[name].tobytes() == array.tobytes() for name, array in expected.items())

    theirs: Tensor = (run or module)(torch.tensor(x))
    output, cache = loaded.forward(x)
    assert np.abs(output - theirs.detach().numpy()).max() <= TOLERANCE * np.abs(output).max()

    cotangent = np.random.default_rng(1).standard_normal(output.shape)
    torch.autograd.backward(theirs, torch.tensor(cotangent))
    named = {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}
    their_grads = load_gradients(component, arrays_of(named), convention)
    our_grads = flatten(loaded.backward(cotangent, cache)[1])
    assert their_grads.keys() == our_grads.keys()
    for name, grad in their_grads.items():
        # a key bias has no gradient in truth: what its terms cancel to is measured by those of the weight, whose terms
        # are the same times inputs of order 1
        scale = np.abs(their_grads[name.replace("k_proj.bias", "k_proj.weight")]).max()
        assert np.abs(our_grads[name] - grad).max() <= TOLERANCE * scale, name


def normal(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape)
