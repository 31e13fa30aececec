"""From images to classes: patches, their embedding, positions, the encoder, and a head that reads all tokens."""

from __future__ import annotations

import numpy as np

from npformer.component import Array, Component, Tree
from npformer.dropout import RandomSource, rewound_on_error
from npformer.embedding import PositionalEncoding
from npformer.encoder import make_encoder
from npformer.linear import Linear
from npformer.shapes import (
    check_count,
    check_floats,
    check_grad,
    check_pair,
    check_part,
    check_width,
    make_generator,
)


class Patches(Component):
    """Cuts images into square patches, each a token (Dosovitskiy et al. 2021, section 3.1).

        y[b, i W/p + j, k p + l] = x[b, i p + k, j p + l]

    p is the patch size: patches come row by row, and so do the pixels of each. Every pixel goes to one place, so
    backward puts each gradient back where its pixel came from: ``grad_x[b, i p + k, j p + l] = grad_y[...]``.

    Parameters
    ----------
    patch_size : int
        Height and width of a patch, in pixels.

    Shapes: images (batch, H, W), y (batch, H/p · W/p, p²).

    Raises
    ------
    ValueError
        If H or W is not a multiple of patch_size.

    Examples
    --------
    >>> Patches(2)(np.arange(8.0).reshape(1, 2, 4))
    array([[[0., 1., 4., 5.],
            [2., 3., 6., 7.]]])
    """

    def __init__(self, patch_size: int):
        self.patch_size = check_count("patch_size", patch_size)

    def forward(self, images: Array) -> tuple[Array, Tree]:
        check_floats("images", images, "batch, H, W")
        B, H, W = images.shape
        p = check_patches("images", (H, W), self.patch_size)
        output = images.reshape(B, H // p, p, W // p, p).swapaxes(2, 3).reshape(B, -1, p * p)
        return output, {"images": images}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        B, H, W = cache["images"].shape
        p = self.patch_size
        check_grad(grad_output, (B, H // p * (W // p), p * p))
        return grad_output.reshape(B, H // p, W // p, p, p).swapaxes(2, 3).reshape(B, H, W), {}


class FlatHead(Component):
    """Scores for each class from all tokens of an image at once, in their order.

        y = flat(x) Wᵀ + b        flat(x)[b, t d_model + i] = x[b, t, i]

    Backward is that of the linear map, and then the way back from flat rows to tokens:
    ``grad_x[b, t, i] = grad_flat[b, t d_model + i]``.

    Parameters
    ----------
    num_tokens, d_model, num_classes : int
        Sizes.
    rng : Generator, int or None
        For the initial weights, distributed as Linear says.

    Shapes: x (batch, num_tokens, d_model), y, the logits, (batch, num_classes).

    Examples
    --------
    >>> head = FlatHead(num_tokens=2, d_model=2, num_classes=1)
    >>> head.linear.weight = np.array([[1.0, 10.0, 100.0, 1000.0]])
    >>> head(np.array([[[1.0, 2.0], [3.0, 4.0]]]))
    array([[4321.]])
    """

    def __init__(self, num_tokens: int, d_model: int, num_classes: int, rng: np.random.Generator | int | None = None):
        self.num_tokens = check_count("num_tokens", num_tokens)
        self.d_model = check_count("d_model", d_model)
        self.linear = Linear(num_tokens * d_model, check_count("num_classes", num_classes), rng=rng)

    def forward(self, x: Array) -> tuple[Array, Tree]:
        check_floats("x", x, "batch, T, d_model")
        check_width("x", x, "d_model", self.d_model, self)
        B, T, d_model = x.shape
        if self.num_tokens != T:
            raise ValueError(f"x has T={T} tokens, but this FlatHead was built with num_tokens={self.num_tokens}")
        logits, linear_cache = self.linear.forward(x.reshape(B, T * d_model))
        return logits, {"linear": linear_cache}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        grad_flat, grads = self.linear.backward(grad_output, cache["linear"])
        return grad_flat.reshape(-1, self.num_tokens, self.d_model), {"linear": grads}


class ImageClassifier(Component):
    """From images to the logits of their classes: patches, embedding, positions, encoder, head.

    Backward is the five, last first; the gradient of the images shows which pixels a decision hangs on.

    Parameters
    ----------
    patches, embedding, positions, encoder, head : Component
        Such as Patches, Linear, PositionalEncoding, what make_encoder returns, and FlatHead.
    image_size : (int, int), optional
        Height and width of all images. Without it, every size is taken that gives the head its number of tokens: also
        height and width exchanged, for which it was not trained.

    `forward(images, rng=None)`, with images (batch, H, W) and logits (batch, num_classes).

    Raises
    ------
    ValueError
        If the images have another size than image_size.

    Examples
    --------
    >>> model = make_image_classifier((4, 6), 2, num_classes=3, num_layers=1, d_model=8, num_heads=2, d_ff=16, rng=0)
    >>> logits, cache = model.forward(np.ones((5, 4, 6)))
    >>> grad_images, grads = model.backward(np.ones_like(logits), cache)
    >>> logits.shape, grad_images.shape, list(grads)
    ((5, 3), (5, 4, 6), ['head', 'encoder', 'positions', 'embedding', 'patches'])
    """

    def __init__(
        self,
        patches: Component,
        embedding: Component,
        positions: Component,
        encoder: Component,
        head: Component,
        image_size: tuple[int, int] | None = None,
    ):
        self.patches = patches
        self.embedding = embedding
        self.positions = positions
        self.encoder = encoder
        self.head = head
        for name, part in vars(self).items():
            check_part(name, part, Component)
        self.image_size = None if image_size is None else check_pair("image_size", image_size, "height, width")

    def forward(self, images: Array, rng: RandomSource | None = None) -> tuple[Array, Tree]:
        if self.image_size is not None:
            self._check_size(images, self.image_size)
        cache: Tree = {}
        cut, cache["patches"] = self.patches.forward(images)
        embedded, cache["embedding"] = self.embedding.forward(cut)
        with rewound_on_error(rng):
            positioned, cache["positions"] = self.positions.forward(embedded, rng=rng)
            encoded, cache["encoder"] = self.encoder.forward(positioned, rng=rng)
            logits, cache["head"] = self.head.forward(encoded)
        return logits, cache

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        grads: Tree = {}
        grad_encoded, grads["head"] = self.head.backward(grad_output, cache["head"])
        grad_positioned, grads["encoder"] = self.encoder.backward(grad_encoded, cache["encoder"])
        grad_embedded, grads["positions"] = self.positions.backward(grad_positioned, cache["positions"])
        grad_cut, grads["embedding"] = self.embedding.backward(grad_embedded, cache["embedding"])
        grad_images, grads["patches"] = self.patches.backward(grad_cut, cache["patches"])
        return grad_images, grads

    def _check_size(self, images: Array, image_size: tuple[int, int]) -> None:
        check_floats("images", images, "batch, H, W")
        if images.shape[1:] != image_size:
            raise ValueError(
                f"images have the height and width {images.shape[1:]}, "
                f"but this {type(self).__name__} was built with image_size={image_size}"
            )


def make_image_classifier(
    image_size: tuple[int, int],
    patch_size: int,
    num_classes: int,
    num_layers: int,
    d_model: int,
    num_heads: int,
    d_ff: int,
    dropout: float = 0.1,
    activation: str = "relu",
    norm_first: bool = True,
    rng: np.random.Generator | int | None = None,
) -> ImageClassifier:
    """Return a whole classifier of images, each part initialised on its own.

    Parameters
    ----------
    image_size : (int, int)
        Height and width in pixels, multiples of patch_size.
    patch_size, num_classes : int
        Height and width of a patch; number of logits.
    num_layers, d_model, num_heads, d_ff, dropout, activation, norm_first
        As for make_encoder; the dropout is that of the positions too.
    rng : Generator, int or None
        For the initial weights, distributed as Linear says.

    Examples
    --------
    >>> make_image_classifier((28, 28), 7, num_classes=10, num_layers=2, d_model=64, num_heads=4, d_ff=256, rng=0)
    ImageClassifier(113,546 parameters)
    """
    rng = make_generator(rng)
    height, width = check_pair("image_size", image_size, "height, width")
    patch_size = check_patches("image_size", (height, width), check_count("patch_size", patch_size))
    num_tokens = height // patch_size * (width // patch_size)
    return ImageClassifier(
        Patches(patch_size),
        Linear(patch_size**2, check_count("d_model", d_model), rng=rng),
        PositionalEncoding(d_model, dropout, max_len=num_tokens),
        make_encoder(num_layers, d_model, num_heads, d_ff, dropout, activation, norm_first, rng=rng),
        FlatHead(num_tokens, d_model, num_classes, rng),
        (height, width),
    )


def check_patches(name: str, image_size: tuple[int, int], patch_size: int) -> int:
    """Return the patch size after checking that images of this height and width can be cut."""
    if any(side % patch_size for side in image_size):
        height, width = image_size
        raise ValueError(
            f"{name} must have a height and a width that are multiples of patch_size={patch_size}, "
            f"but these are {height} and {width}"
        )
    return patch_size
