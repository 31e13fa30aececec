"""Patches and the flat head in other forms."""

import numpy as np

from npformer.component import Array, Tree
from npformer.training import FlatHead, Patches
from rewrites.registry import backward_of, forward_of


@forward_of(Patches)
def patch_by_patch(patches: Patches, images: Array) -> tuple[Array, Tree]:
    p = patches.patch_size
    B, H, W = images.shape
    corners = [(top, left) for top in range(0, H, p) for left in range(0, W, p)]
    cut = [images[:, top : top + p, left : left + p].reshape(B, p * p) for top, left in corners]
    return np.stack(cut, axis=1), {"images": images}


@backward_of(Patches)
def pixel_by_pixel(patches: Patches, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    p = patches.patch_size
    grad_images = np.empty_like(cache["images"], dtype=grad_output.dtype)
    patches_in_a_row = grad_images.shape[2] // p
    for b, row, column in np.ndindex(grad_images.shape):
        patch = row // p * patches_in_a_row + column // p
        grad_images[b, row, column] = grad_output[b, patch, row % p * p + column % p]
    return grad_images, {}


@forward_of(FlatHead)
def sum_over_the_tokens(head: FlatHead, x: Array) -> tuple[Array, Tree]:
    """In place of one product, the sum of a product for each token, the last token first."""
    weights = head.linear.weight.reshape(-1, head.num_tokens, head.d_model)
    products = [x[:, t] @ weights[:, t].T for t in reversed(range(head.num_tokens))]
    assert head.linear.bias is not None
    return sum(products[1:], products[0]) + head.linear.bias, {"linear": {"x": x.reshape(len(x), -1)}}


@backward_of(FlatHead)
def token_by_token(head: FlatHead, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    x = cache["linear"]["x"].reshape(-1, head.num_tokens, head.d_model)
    weights = head.linear.weight.reshape(-1, head.num_tokens, head.d_model)
    tokens = range(head.num_tokens)
    grad_x = np.stack([grad_output @ weights[:, t] for t in tokens], axis=1)
    grad_weight = np.concatenate([np.einsum("bc,bi->ci", grad_output, x[:, t]) for t in tokens], axis=1)
    return grad_x, {"linear": {"weight": grad_weight, "bias": np.einsum("bc->c", grad_output)}}
