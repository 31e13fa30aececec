"""What PyTorch does in a contest: eager modules in train mode, and autograd. The one file that imports it."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from npformer.bench.sizes import Size
from npformer.bench.steps import EPS
from npformer.component import Array
from npformer.encoder import Encoder, EncoderLayer
from npformer.oracle.conventions.translation import from_convention, to_convention

if TYPE_CHECKING:
    from torch import Tensor


def find_torch() -> ModuleType | None:
    """Return PyTorch if it is installed."""
    try:
        import torch
    except ImportError:
        return None
    return torch


class TorchEncoderStep:
    """The step of nn.TransformerEncoderLayer or nn.TransformerEncoder, with the numbers of one of our encoders.

    Forward alone is under no_grad. The whole step forgets the gradients of the last one, as training does.
    """

    def __init__(self, ours: Encoder | EncoderLayer, size: Size, activation: str, x: Array, grad_output: Array):
        import torch

        self.ours = ours
        self.x = torch.from_numpy(x.copy()).requires_grad_()
        self.grad_output = torch.from_numpy(grad_output)
        layer = torch.nn.TransformerEncoderLayer(
            size.d_model, size.num_heads, size.d_ff, 0.0, activation, EPS, batch_first=True, dtype=self.x.dtype
        )
        self.module: torch.nn.Module = layer
        if isinstance(ours, Encoder):
            self.module = torch.nn.TransformerEncoder(layer, size.num_layers, enable_nested_tensor=False)
        arrays = to_convention(ours.parameters(), ours, "torch")
        self.module.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
        self.module.train()

    def forward(self) -> Tensor:
        import torch

        with torch.no_grad():
            output: Tensor = self.module(self.x)
        return output

    def forward_backward(self) -> Tensor:
        import torch

        self.module.zero_grad()
        self.x.grad = None
        output: Tensor = self.module(self.x)
        torch.autograd.backward(output, self.grad_output)
        return output

    def results(self) -> dict[str, Array]:
        """Return output and gradients of the whole step by npformer's names."""
        output = _array(self.forward_backward())
        theirs = {name: _array(parameter.grad) for name, parameter in self.module.named_parameters()}
        grads = from_convention(theirs, self.ours, "torch")
        named = {"output": output, "grad_inputs.0": _array(self.x.grad)}
        return named | {f"grads.{name}": array for name, array in grads.items()}

    def hidden(self) -> list[Array]:
        """Return what goes into each layer's activation, in order."""
        import torch

        found: list[Array] = []
        layers = [module for name, module in self.module.named_modules() if name.split(".")[-1] == "linear1"]
        hooks = [layer.register_forward_hook(lambda _, __, output: found.append(_array(output))) for layer in layers]
        with torch.no_grad():
            self.module(self.x)
        for hook in hooks:
            hook.remove()
        return found


class TorchAttentionStep:
    """The step of scaled_dot_product_attention."""

    def __init__(self, inputs: tuple[Array, ...], grad_output: Array):
        import torch

        self.query, self.key, self.value = (torch.from_numpy(array.copy()).requires_grad_() for array in inputs)
        self.grad_output = torch.from_numpy(grad_output)

    def forward(self) -> Tensor:
        import torch

        with torch.no_grad():
            return torch.nn.functional.scaled_dot_product_attention(self.query, self.key, self.value)

    def forward_backward(self) -> Tensor:
        import torch

        self.query.grad = self.key.grad = self.value.grad = None
        output: Tensor = torch.nn.functional.scaled_dot_product_attention(self.query, self.key, self.value)
        torch.autograd.backward(output, self.grad_output)
        return output

    def results(self) -> dict[str, Array]:
        """Return output and gradients of the whole step by npformer's names."""
        output = _array(self.forward_backward())
        inputs = (self.query, self.key, self.value)
        gradients = {f"grad_inputs.{index}": _array(tensor.grad) for index, tensor in enumerate(inputs)}
        return {"output": output} | gradients


def _array(tensor: Tensor | None) -> Array:
    if tensor is None:
        raise ValueError("PyTorch must give a gradient for every parameter, but one is missing")
    array: Array = tensor.detach().numpy()
    return array
