"""Other ways to write the backward of layer normalisation."""

import numpy as np

from npformer.component import Array, Tree
from npformer.exercises.tasks.layer_norm import LayerNorm
from solutions.registry import solves


@solves("layer_norm")
def through_each_node(self: LayerNorm, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    x_hat, rstd, n = cache["x_hat"], cache["rstd"], len(self.weight)
    centred = x_hat / rstd
    grad_x_hat = grad_output * self.weight
    grad_var = (grad_x_hat * centred).sum(-1, keepdims=True) * -0.5 * rstd**3
    grad_centred = grad_x_hat * rstd + grad_var * 2 * centred / n
    grad_mean = -grad_centred.sum(-1, keepdims=True)
    grads = {
        "weight": np.einsum("ri,ri->i", grad_output.reshape(-1, n), x_hat.reshape(-1, n)),
        "bias": np.einsum("ri->i", grad_output.reshape(-1, n)),
    }
    return grad_centred + grad_mean / n, grads
