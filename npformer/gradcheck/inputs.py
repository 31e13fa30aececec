"""Random inputs on which mistakes show: rows of little variance, masks with every kind of row, tokens that repeat."""

from __future__ import annotations

import numpy as np

from npformer.component import Array
from npformer.gradcheck.sizes import Sizes
from npformer.masks import length_mask

LITTLE = 0.03  # times the standard deviation of the other rows
IGNORED = -100  # a target that does not count


def draw_x(s: Sizes, rng: np.random.Generator) -> Array:
    """Return an input (batch, T_k, d_model), a row of which has little variance (where eps counts)."""
    x = rng.standard_normal((s.batch, s.T_k, s.d_model))
    x[0, -1] *= LITTLE
    return x


def draw_images(s: Sizes, patch_size: int, rng: np.random.Generator) -> Array:
    """Return images (batch, H, W) of two rows of T_k patches, a row of pixels of which has little variance."""
    images = rng.standard_normal((s.batch, 2 * patch_size, s.T_k * patch_size))
    images[0, -1] *= LITTLE
    return images


def draw_mask(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Return a mask whose first row is open, whose last is fully masked, and whose others are partly masked."""
    mask = rng.integers(0, 2, shape)
    mask[..., 0] = 1
    mask[..., -1] = 0
    mask = rng.permuted(mask, axis=-1)
    mask[..., -1, :] = 0
    mask[..., 0, :] = 1
    return mask


def draw_length_mask(s: Sizes, rng: np.random.Generator) -> Array:
    """Return the mask of random lengths, of which one is 0; with a length of 1 no weight would depend on a score."""
    lengths = rng.integers(min(2, s.T_k), s.T_k + 1, s.batch)
    lengths[1:2] = 0
    return length_mask(lengths, s.T_k)


def draw_tokens(s: Sizes, rng: np.random.Generator) -> Array:
    """Return tokens (batch, T_k), of which the first and the last of each row are the same."""
    tokens: Array = rng.integers(0, s.vocab_size, (s.batch, s.T_k))
    tokens[:, -1] = tokens[:, 0]
    return tokens


def draw_token_types(s: Sizes, rng: np.random.Generator) -> Array:
    """Return token types (batch, T_k), each 0 or 1."""
    return rng.integers(0, 2, (s.batch, s.T_k))


def draw_targets(s: Sizes, rng: np.random.Generator) -> Array:
    """Return targets (batch, T_k), one of which is IGNORED unless it is the only one."""
    targets = draw_tokens(s, rng)
    targets.flat[1:2] = IGNORED
    return targets
