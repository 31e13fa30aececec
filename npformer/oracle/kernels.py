"""What attention kernels save or need on the way, and the entries of a masked score that no kernel has to agree on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from npformer.attention import ScaledDotProductAttention
from npformer.component import Array, Component

NAMES = {"softmax.x": "scores", "dropout.grad_output": "grad_weights"}


def kernel_names(path: str, part: Component) -> dict[str, str]:
    """Return the boundaries of an attention core that have a name in the literature, and that name."""
    if not isinstance(part, ScaledDotProductAttention):
        return {}
    prefix = f"{path}." if path else ""
    return {prefix + boundary: prefix + name for boundary, name in NAMES.items()}


def forward_quantities(scores: Array) -> dict[str, Array]:
    """Return each row's maximum, sum of exponentials and log-sum-exp (Milakov and Gimelshein 2018, algorithm 3).

    A fully masked row has the maximum -1e9, so that its log-sum-exp loses the logarithm: keep the two apart.

    Examples
    --------
    >>> {name: array.item() for name, array in forward_quantities(np.zeros((1, 4))).items()}
    {'row_max': 0.0, 'row_sum': 4.0, 'logsumexp': 1.3862943611198906}
    """
    row_max = scores.max(-1)
    row_sum = np.exp(scores - row_max[..., None]).sum(-1)
    return {"row_max": row_max, "row_sum": row_sum, "logsumexp": row_max + np.log(row_sum)}


def backward_quantities(
    output: Array, grad_output: Array, grad_unmasked: Array, mask: Array | None
) -> dict[str, Array]:
    """Return the gradient of the masked scores, and delta = rowsum(dO∘O) (Dao 2023, algorithm 2, line 4)."""
    grad_scores = grad_unmasked if mask is None else grad_unmasked * (mask != 0)
    return {"delta": (grad_output * output).sum(-1), "grad_scores": grad_scores}


def compared_entries(name: str, mask: Array, shape: tuple[int, ...]) -> npt.NDArray[np.bool_] | None:
    """Return which entries of an array of an attention core an implementation has to agree on, if not all.

    A masked score is -1e9, -inf or never computed, and so are the gradients that only reach masked scores. The row
    statistics of a fully masked row depend on what stands for a masked score.

    Parameters
    ----------
    name : str
        Without the path of the core.
    mask : array
        Boolean, broadcasts to the scores; True = may attend.
    shape : tuple of int
        Of the array.
    """
    if name in {"scores", "softmax.grad_output", "softmax.grad_x", "grad_weights", "dropout.grad_x"}:
        return np.broadcast_to(mask, shape)
    if name == "softmax.output":
        return np.broadcast_to(mask.any(-1, keepdims=True), shape)
    if name in {"row_max", "row_sum", "logsumexp"}:
        return np.broadcast_to(mask.any(-1), shape)
    return None
