"""The cases of the image classifier: it and its own parts, each with what it is called with."""

from __future__ import annotations

import numpy as np

from npformer.component import Array, Component
from npformer.dropout import Dropout
from npformer.embedding import PositionalEncoding
from npformer.gradcheck.inputs import draw_images, draw_x
from npformer.gradcheck.sizes import Sizes
from npformer.image_classifier import FlatHead, ImageClassifier, Patches
from npformer.linear import Linear
from npformer.norm import LayerNorm
from npformer.sublayer import PostNormSublayerConnection

PATCH_SIZE = 2
RATE = 0.25


def make_parts(s: Sizes, rng: np.random.Generator) -> dict[str, tuple[Component, Array]]:
    """Return each component by name, with its input: images of two rows of T_k patches, or T_k tokens.

    The classifier's encoder is no more than a norm and dropout, which saves time: encoders have cases of their own.
    """
    images = draw_images(s, PATCH_SIZE, rng)
    classifier = ImageClassifier(
        Patches(PATCH_SIZE),
        Linear(PATCH_SIZE**2, s.d_model),
        PositionalEncoding(s.d_model, RATE),
        PostNormSublayerConnection(Dropout(RATE), LayerNorm(s.d_model), RATE),
        FlatHead(2 * s.T_k, s.d_model, s.num_heads),
    )
    return {
        "Patches": (Patches(PATCH_SIZE), images),
        "FlatHead": (FlatHead(s.T_k, s.d_model, s.vocab_size), draw_x(s, rng)),
        "ImageClassifier": (classifier, images),
    }
