"""Emulated bfloat16 against torch's, and tolerances that cover torch's own runs of a layer."""

import numpy as np
import pytest
import torch

from npformer import LayerNorm, Linear
from npformer.component import Array
from npformer.oracle import compare, expect
from npformer.oracle.rounding import FORMATS

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def test_bfloat16_is_that_of_torch_for_all_kinds_of_bits() -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 200_000, dtype=np.uint32)
    ties = (bits & 0xFFFF0000) | 0x8000
    subnormal = bits & 0x807FFFFF
    overflow = np.array([0x7F7FFFFF, 0x7F7F8000, 0x7F7F7FFF, 0xFF7FFFFF, 0x7F800000], np.uint32)
    values = np.concatenate([bits, ties, subnormal, overflow]).view(np.float32)
    values = values[~np.isnan(values)]
    theirs = torch.from_numpy(values).to(torch.bfloat16).to(torch.float32).numpy()
    with np.errstate(over="ignore"):
        ours = FORMATS["bfloat16"].round(values)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("storage", TYPES)
@pytest.mark.parametrize("seed", range(5))
def test_tolerances_cover_torch(storage: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, grad_output = rng.standard_normal((2, 3, 7, 16))
    for component, module in (
        (Linear(16, 16, rng=seed), torch.nn.Linear(16, 16)),
        (LayerNorm(16), torch.nn.LayerNorm(16)),
    ):
        expected = expect(component, x, grad_output=grad_output, storage=storage)
        stored = expected.recording.component.parameters()

        def tensor(array: Array) -> torch.Tensor:
            return torch.from_numpy(array).to(TYPES[storage])

        module.weight.data, module.bias.data = tensor(stored["weight"]), tensor(stored["bias"])
        given = tensor(expected.recording.inputs[0]).requires_grad_()
        output = module(given)
        output.backward(tensor(grad_output))
        made = {
            "output": output.detach(),
            "grad_x": given.grad,
            "grad_weight": module.weight.grad,
            "grad_bias": module.bias.grad,
        }
        theirs = {name: each.to(torch.float64).numpy() for name, each in made.items() if each is not None}
        comparison = compare(theirs, expected)
        assert comparison.passed, str(comparison)
