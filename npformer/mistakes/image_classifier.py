"""Mistakes in the backwards of the patches, of the flat head and of the whole classifier of images."""

from __future__ import annotations

import numpy as np

from npformer.component import Array, Tree
from npformer.image_classifier import FlatHead, ImageClassifier, Patches
from npformer.mistakes.catalogue import Gradients, mistake_in


def _grid(patches: Patches, grad_output: Array, cache: Tree) -> Array:
    """The gradient with the axes batch, row and column of the patch, row and column of the pixel in it."""
    B, H, W = cache["images"].shape
    p = patches.patch_size
    return grad_output.reshape(B, H // p, W // p, p, p)


@mistake_in(Patches, case="Patches")
def axes_not_swapped_back(patches: Patches, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient is only reshaped, so that each patch fills a row of pixels instead of a square."""
    return grad_output.reshape(cache["images"].shape), {}


@mistake_in(Patches, case="Patches")
def transposed_within(patches: Patches, grad_output: Array, cache: Tree) -> Gradients:
    """Rows and columns are exchanged within each patch."""
    return patches.backward(_grid(patches, grad_output, cache).swapaxes(3, 4).reshape(grad_output.shape), cache)


@mistake_in(Patches, case="Patches")
def columns_of_patches_first(patches: Patches, grad_output: Array, cache: Tree) -> Gradients:
    """The patches are laid out column by column, though they were cut row by row."""
    B, H, W = cache["images"].shape
    p = patches.patch_size
    by_columns = grad_output.reshape(B, W // p, H // p, p, p).swapaxes(1, 2)
    return patches.backward(by_columns.reshape(grad_output.shape), cache)


@mistake_in(Patches, case="Patches")
def wrong_axes_swapped(patches: Patches, grad_output: Array, cache: Tree) -> Gradients:
    """The columns of patches change places with the columns of pixels, instead of with the rows of pixels."""
    return _grid(patches, grad_output, cache).transpose(0, 1, 4, 3, 2).reshape(cache["images"].shape), {}


@mistake_in(Patches, case="Patches")
def patches_from_the_last(patches: Patches, grad_output: Array, cache: Tree) -> Gradients:
    """The patches are put back in reverse order."""
    return patches.backward(grad_output[:, ::-1], cache)


@mistake_in(FlatHead, case="FlatHead")
def features_before_tokens(head: FlatHead, grad_output: Array, cache: Tree) -> Gradients:
    """The gradient of the flat row is folded as if the features had come before the tokens."""
    grad_x, grads = head.backward(grad_output, cache)
    return grad_x.reshape(len(grad_x), head.d_model, head.num_tokens).swapaxes(1, 2), grads


@mistake_in(FlatHead, case="FlatHead")
def tokens_from_the_last(head: FlatHead, grad_output: Array, cache: Tree) -> Gradients:
    """The tokens get each other's gradients, since they are numbered from the last."""
    grad_x, grads = head.backward(grad_output, cache)
    return grad_x[:, ::-1].copy(), grads


@mistake_in(FlatHead, case="FlatHead")
def weight_gradient_of_features_before_tokens(head: FlatHead, grad_output: Array, cache: Tree) -> Gradients:
    """The weight's gradient has the features before the tokens, but forward read token after token."""
    grad_x, grads = head.backward(grad_output, cache)
    weight = grads["linear"]["weight"]
    exchanged = weight.reshape(len(weight), head.num_tokens, head.d_model).swapaxes(1, 2).reshape(weight.shape)
    return grad_x, {"linear": grads["linear"] | {"weight": exchanged}}


@mistake_in(FlatHead, case="FlatHead")
def mean_of_the_tokens(head: FlatHead, grad_output: Array, cache: Tree) -> Gradients:
    """Every token gets the same gradient, as if the head read their mean: it has weights of its own for each."""
    grad_x, grads = head.backward(grad_output, cache)
    return np.repeat(grad_x.mean(1, keepdims=True), head.num_tokens, axis=1), grads


@mistake_in(FlatHead, case="FlatHead")
def first_token_alone(head: FlatHead, grad_output: Array, cache: Tree) -> Gradients:
    """Only the first token gets a gradient, as from a head that reads a class token."""
    grad_x, grads = head.backward(grad_output, cache)
    return np.concatenate([grad_x[:, :1], np.zeros_like(grad_x[:, 1:])], axis=1), grads


@mistake_in(ImageClassifier, case="ImageClassifier")
def dropout_of_the_positions_missing(model: ImageClassifier, grad_output: Array, cache: Tree) -> Gradients:
    """The encoder's gradient goes straight to the embedding, past the dropout of the positions."""
    _, grads = model.backward(grad_output, cache)
    return _back_from_the_encoder(model, _of_encoder_input(model, grad_output, cache), grads, cache)


@mistake_in(ImageClassifier, case="ImageClassifier")
def encoder_passed_by(model: ImageClassifier, grad_output: Array, cache: Tree) -> Gradients:
    """The embedding gets the gradient of the encoder's output, as if there were no encoder between."""
    _, grads = model.backward(grad_output, cache)
    grad_encoded, _ = model.head.backward(grad_output, cache["head"])
    grad_embedded, _ = model.positions.backward(grad_encoded, cache["positions"])
    return _back_from_the_encoder(model, grad_embedded, grads, cache)


@mistake_in(ImageClassifier, case="ImageClassifier")
def embedding_gradient_of_the_first_patch(model: ImageClassifier, grad_output: Array, cache: Tree) -> Gradients:
    """All patches are embedded by one weight, but only the first one's gradient reaches it."""
    grad_images, grads = model.backward(grad_output, cache)
    grad_positioned = _of_encoder_input(model, grad_output, cache)
    grad_embedded, _ = model.positions.backward(grad_positioned, cache["positions"])
    first = {"x": cache["embedding"]["x"][:, :1]}
    return grad_images, grads | {"embedding": model.embedding.backward(grad_embedded[:, :1], first)[1]}


def _of_encoder_input(model: ImageClassifier, grad_output: Array, cache: Tree) -> Array:
    """The first two steps of backward."""
    grad_encoded, _ = model.head.backward(grad_output, cache["head"])
    grad_positioned: Array = model.encoder.backward(grad_encoded, cache["encoder"])[0]
    return grad_positioned


def _back_from_the_encoder(model: ImageClassifier, grad_embedded: Array, grads: Tree, cache: Tree) -> Gradients:
    """The last two steps of backward."""
    grad_cut, of_embedding = model.embedding.backward(grad_embedded, cache["embedding"])
    return model.patches.backward(grad_cut, cache["patches"])[0], grads | {"embedding": of_embedding}
