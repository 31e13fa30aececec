"""The classifier of images: what its parts compute, by their formulas, and what it refuses."""

import re
from typing import Any

import numpy as np
import pytest

from npformer import Linear, PositionalEncoding, flatten, make_encoder
from npformer.component import Array
from npformer.gradcheck import check_gradients, randomise
from npformer.training import FlatHead, ImageClassifier, Patches, make_image_classifier

IMAGES = np.random.default_rng(0).standard_normal((3, 4, 6))
TOKENS = np.random.default_rng(1).standard_normal((3, 6, 8))


def small(dropout: float = 0.1, norm_first: bool = True) -> ImageClassifier:
    """Make a classifier of IMAGES: six patches, which become TOKENS."""
    return make_image_classifier((4, 6), 2, 5, 1, 8, 2, 7, dropout, norm_first=norm_first, rng=0)


def by_hand(image_size: Any = None) -> ImageClassifier:
    """Make one of the parts of `small`."""
    model = small()
    parts = model.patches, model.embedding, model.positions, model.encoder, model.head
    return ImageClassifier(*parts, image_size=image_size)


def test_each_pixel_is_where_the_formula_says() -> None:
    p, (B, H, W) = 2, IMAGES.shape
    patches = Patches(p)(IMAGES)
    assert patches.shape == (B, H // p * (W // p), p * p)
    for b, i, j, k, m in np.ndindex(B, H // p, W // p, p, p):
        assert patches[b, i * (W // p) + j, k * p + m] == IMAGES[b, i * p + k, j * p + m]


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 3), (3, 3, 6), (2, 6, 3), (2, 9, 12)])
@pytest.mark.parametrize("patch_size", [1, 3])
def test_backward_of_patches_is_their_inverse(shape: tuple[int, int, int], patch_size: int) -> None:
    if shape[1] % patch_size:
        shape = (shape[0], 3 * shape[1], 3 * shape[2])
    images = np.random.default_rng(2).standard_normal(shape)
    patches = Patches(patch_size)
    output, cache = patches.forward(images)
    assert np.array_equal(patches.backward(output, cache)[0], images)


def test_the_head_reads_the_tokens_in_their_order() -> None:
    head = FlatHead(6, 8, 5, rng=0)
    head.linear.bias = np.arange(5.0)
    weight = head.linear.weight.reshape(5, 6, 8)
    expected = np.einsum("bti,cti->bc", TOKENS, weight) + np.arange(5.0)
    np.testing.assert_allclose(head(TOKENS), expected, rtol=0, atol=1e-14)  # sums of 48 terms of order 0.3


def test_the_model_is_its_parts_in_order() -> None:
    model = small()
    assert isinstance(model.positions, PositionalEncoding)
    assert isinstance(model.embedding, Linear)
    assert np.array_equal(
        model(IMAGES), model.head(model.encoder(model.positions(model.embedding(model.patches(IMAGES)))))
    )
    assert model.positions.table.shape == (6, 8)
    assert {name.split(".")[0] for name in flatten(model.parameters())} == {"embedding", "encoder", "head"}


def test_one_made_by_hand_takes_what_its_parts_take_unless_it_is_told_a_size() -> None:
    expected = small()(IMAGES)
    assert np.array_equal(by_hand()(IMAGES), expected)
    assert np.array_equal(by_hand((4, 6))(IMAGES), expected)
    assert by_hand()(IMAGES.reshape(3, 2, 12)).shape == (3, 5)


@pytest.mark.parametrize("norm_first", [True, False])
def test_the_gradients_of_the_whole_model_are_exact(norm_first: bool) -> None:
    """With an encoder of attention, which the case of the classifier does without."""
    model = small(0.25, norm_first)
    randomise(model, np.random.default_rng(3))
    report = check_gradients(model, IMAGES, directions=2, seed=0, rng=np.random.default_rng(4))
    assert report.verdict == "PASS", report
    assert len(report.checks) == 1 + len(flatten(model.parameters()))


def test_every_dropout_draws_from_rng_and_a_seed_repeats_everything() -> None:
    model = small(0.5)
    first, again, other = (model(IMAGES, rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(model(IMAGES), small(0.0)(IMAGES, rng=np.random.default_rng(1)))


class Noting:
    """A random source that notes which shapes it is asked for."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def random(self, shape: tuple[int, ...], /) -> Array:
        self.shapes.append(shape)
        return np.ones(shape)


def test_dropout_is_where_it_should_be() -> None:
    noting = Noting()
    small(0.5)(IMAGES, rng=noting)
    positions, weights, attended, hidden, output = (3, 6, 8), (3, 2, 6, 6), (3, 6, 8), (3, 6, 7), (3, 6, 8)
    assert noting.shapes == [positions, weights, attended, hidden, output]


def test_the_order_of_patches_counts() -> None:
    """Even for equal weights of all tokens in the head, since there are positions."""
    model = small()
    assert isinstance(model.head, FlatHead)
    model.head.linear.weight[:] = np.tile(np.random.default_rng(5).standard_normal((5, 8)), 6)
    exchanged = np.concatenate([IMAGES[:, 2:], IMAGES[:, :2]], axis=1)
    assert np.abs(model(exchanged) - model(IMAGES)).max() > 1e-3


def test_a_forward_that_fails_draws_nothing() -> None:
    model = small()
    model.head = FlatHead(5, 8, 5)
    rng = np.random.default_rng(6)
    with pytest.raises(ValueError, match=r"^x has T=6 tokens, but this FlatHead was built with num_tokens=5$"):
        model.forward(IMAGES, rng=rng)
    assert rng.random() == np.random.default_rng(6).random()


FLOATS = "float32, float64 or complex128"
BUILT = "but this ImageClassifier was built with image_size=(4, 6)"
OF_PATCHES = "must have a height and a width that are multiples of patch_size"
SIZES = {"d_model": 8, "num_heads": 2, "num_layers": 1, "d_ff": 7, "num_classes": 5, "patch_size": 2}
BAD: dict[str, str] = {
    "Patches(0)": "patch_size must be at least 1, but it is 0",
    "Patches(2.0)": "patch_size must be a whole number, but it is a float",
    "Patches(2)(IMAGES[0])": "images must have the axes (batch, H, W), but its shape is (4, 6)",
    "Patches(2)(IMAGES[:0])": "images must have at least one entry, but its shape is (0, 4, 6)",
    "Patches(2)(IMAGES.astype(int))": f"images must be {FLOATS}, but its dtype is int64",
    "Patches(2)(IMAGES.tolist())": f"images must be a NumPy array of {FLOATS}, but it is a list",
    "Patches(3)(IMAGES)": f"images {OF_PATCHES}=3, but these are 4 and 6",
    "Patches(4)(IMAGES)": f"images {OF_PATCHES}=4, but these are 4 and 6",
    "Patches(8)(IMAGES)": f"images {OF_PATCHES}=8, but these are 4 and 6",
    "Patches(2).backward(IMAGES, Patches(2).forward(IMAGES)[1])": (
        "grad_output must have the output's shape (3, 6, 4), but its shape is (3, 4, 6)"
    ),
    "Patches(2).backward([1.0], Patches(2).forward(IMAGES)[1])": (
        f"grad_output must be a NumPy array of {FLOATS}, but it is a list"
    ),
    "FlatHead(0, 8, 5)": "num_tokens must be at least 1, but it is 0",
    "FlatHead(6, 0, 5)": "d_model must be at least 1, but it is 0",
    "FlatHead(6, 8, 0)": "num_classes must be at least 1, but it is 0",
    "FlatHead(6, 8, True)": "num_classes must be a whole number, but it is a bool",
    "FlatHead(6, 8, 5, rng='0')": "rng must be a numpy.random.Generator, a seed or None, but it is a str",
    "FlatHead(5, 8, 5)(TOKENS)": "x has T=6 tokens, but this FlatHead was built with num_tokens=5",
    "FlatHead(6, 7, 5)(TOKENS)": "x has d_model=8, but this FlatHead was built with d_model=7",
    "FlatHead(8, 6, 5)(TOKENS)": "x has d_model=8, but this FlatHead was built with d_model=6",  # also 48 entries
    "FlatHead(6, 8, 5)(TOKENS[0])": "x must have the axes (batch, T, d_model), but its shape is (6, 8)",
    "FlatHead(6, 8, 5).backward(TOKENS, FlatHead(6, 8, 5).forward(TOKENS)[1])": (
        "grad_output must have the output's shape (3, 5), but its shape is (3, 6, 8)"
    ),
    "ImageClassifier(None, *4 * [Patches(2)])": "patches must be a Component, but it is None",
    "ImageClassifier(*4 * [Patches(2)], Patches)": "head must be a Component, but it is the class Patches",
    "small().forward(IMAGES[:, :, :4])": f"images have the height and width (4, 4), {BUILT}",
    "small().astype('f4').forward(IMAGES.reshape(3, 6, 4))": f"images have the height and width (6, 4), {BUILT}",
    "small().forward(IMAGES.reshape(3, 2, 12))": f"images have the height and width (2, 12), {BUILT}",
    "small().forward(IMAGES[0])": "images must have the axes (batch, H, W), but its shape is (4, 6)",
    "by_hand().forward(IMAGES[:, :, :4])": "x has T=4 tokens, but this FlatHead was built with num_tokens=6",
    "by_hand((4, 0))": "image_size[1] must be at least 1, but it is 0",
    "by_hand([4, 6])": "image_size must be a tuple (height, width), but it is a list",
    "small().forward(IMAGES, rng=0)": (
        "rng must be a source with random(shape), such as numpy.random.default_rng(0), but it is an int"
    ),
    **{
        f"make_image_classifier((4, 6), **SIZES | dict({name}=0))": f"{name} must be at least 1, but it is 0"
        for name in SIZES
    },
    "make_image_classifier(4, **SIZES)": "image_size must be a tuple (height, width), but it is an int",
    "make_image_classifier((4, 6, 1), **SIZES)": "image_size must be a tuple (height, width), but it has length 3",
    "make_image_classifier((4, 0), **SIZES)": "image_size[1] must be at least 1, but it is 0",
    "make_image_classifier((4, 5), **SIZES)": f"image_size {OF_PATCHES}=2, but these are 4 and 5",
    "make_image_classifier((4, 6), **SIZES, dropout=1)": "p, the dropout rate, must lie in [0, 1), but it is 1",
    "make_image_classifier((4, 6), **SIZES, activation='elu')": (
        'activation must be "relu" or "gelu" or "gelu_tanh" or "silu", but it is \'elu\''
    ),
    "make_image_classifier((4, 6), **SIZES, norm_first=1)": "norm_first must be True or False, but it is an int",
    "make_image_classifier((4, 6), **SIZES, rng=-1)": "rng must be at least 0, but it is -1",
}


@pytest.mark.parametrize("call", BAD)
def test_bad_calls_get_one_sentence(call: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(BAD[call])}$"):
        eval(call)


def test_an_encoder_of_another_size_is_refused_with_a_sentence() -> None:
    model: Any = small()
    model.encoder = make_encoder(1, 6, 2, 7, rng=0)
    with pytest.raises(ValueError, match=r"^x has d_model=8, but this EncoderLayer was built with d_model=6$"):
        model(IMAGES)
