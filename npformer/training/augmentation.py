"""Images that are as good as new: moved a little, or seen in a mirror."""

from __future__ import annotations

import numpy as np

from npformer.component import Array
from npformer.shapes import check_count, check_floats, make_generator


def shift(images: Array, pixels: int, rng: np.random.Generator | int | None = None) -> Array:
    """Return each image moved by -pixels to pixels in both directions, each as likely; zeros come in at the edges.

    Parameters
    ----------
    images : array
        (N, height, width); not changed.
    pixels : int
        The farthest move.
    rng : Generator, int or None
        Draws the moves.

    Examples
    --------
    >>> shift(np.array([[[1.0, 2.0], [3.0, 4.0]]]), 1, rng=2)
    array([[[0., 3.],
            [0., 0.]]])
    """
    check_floats("images", images, "N, height, width")
    check_count("pixels", pixels, least=0)
    N, height, width = images.shape
    framed = np.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels)))
    views = np.lib.stride_tricks.sliding_window_view(framed, (height, width), axis=(1, 2))
    down, right = make_generator(rng).integers(0, 2 * pixels + 1, (2, N))
    moved: Array = views[np.arange(N), down, right]
    return moved


def flip(images: Array, rng: np.random.Generator | int | None = None) -> Array:
    """Return each image as it is or with left and right exchanged, with probability 1/2 each.

    Parameters
    ----------
    images : array
        (N, height, width); not changed.
    rng : Generator, int or None
        Draws which ones.

    Examples
    --------
    >>> flip(np.array([[[1.0, 2.0]], [[3.0, 4.0]]]), rng=0)
    array([[[1., 2.]],
    <BLANKLINE>
           [[4., 3.]]])
    """
    check_floats("images", images, "N, height, width")
    mirrored = make_generator(rng).random(len(images)) < 0.5
    return np.where(mirrored[:, None, None], images[:, :, ::-1], images)
