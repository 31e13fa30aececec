"""Magnitudes through depth: what is measured, against a trace of every array; what theory says; what is drawn."""

import numpy as np
import pytest
from drawn import labels

from npformer import make_encoder, plot
from npformer.component import Array
from npformer.oracle import trace


def root_mean_square(array: Array) -> float:
    return float(np.linalg.norm(array) / np.sqrt(array.size))


@pytest.mark.parametrize("norm_first", [True, False])
def test_they_are_those_of_the_arrays_between_the_layers(norm_first: bool) -> None:
    rng = np.random.default_rng(0)
    encoder = make_encoder(3, 6, 2, 8, dropout=0.5, norm_first=norm_first, rng=rng)
    x, grad_output = rng.standard_normal((2, 2, 5, 6))
    run = trace(encoder, x, grad_output=grad_output)
    measured = plot.measure_magnitudes(encoder, x, grad_output)
    depths = [*(f"layers.{n}" for n in range(3)), *(["norm"] if norm_first else [])]
    activations = [root_mean_square(run[f"{part}.x"]) for part in depths]
    gradients = [root_mean_square(run[f"{part}.grad_x"]) for part in depths]
    if not norm_first:  # nothing stands behind the last layer
        activations.append(root_mean_square(run["output"]))
        gradients.append(root_mean_square(grad_output))
    np.testing.assert_allclose(measured.activations, activations, rtol=1e-14)  # sums in another order
    np.testing.assert_allclose(measured.gradients, gradients, rtol=1e-14)
    assert len(set(measured.gradients)) == 4


def test_float32_is_measured_in_float64() -> None:
    encoder = make_encoder(1, 6, 2, 8, rng=0).astype(np.float32)
    x = np.full((1, 2, 6), 1e-30, dtype=np.float32)  # whose squares float32 takes for 0
    measured = plot.measure_magnitudes(encoder, x, x)
    assert measured.activations.dtype == measured.gradients.dtype == np.float64
    assert measured.activations[0] == pytest.approx(1e-30, rel=1e-6, abs=0)  # float32 rounds 1e-30 by up to 6e-8


def test_pre_norm_grows_like_the_root_of_depth_and_post_norm_does_not() -> None:
    measured = plot.pre_and_post_norm(num_layers=24, d_model=64, d_ff=256, rng=0)
    pre, post = measured["pre-norm"], measured["post-norm"]
    assert list(measured) == ["pre-norm", "post-norm"]
    assert pre.activations[0] == post.activations[0]  # the same input
    assert post.gradients[-1] == pytest.approx(1, abs=0.1)  # drawn from the standard normal distribution
    np.testing.assert_allclose(post.activations[1:], 1, atol=1e-4)  # LayerNorm's eps of 1e-5 takes half as much away
    growth = np.polyfit(np.log(np.arange(4, 25)), np.log(pre.activations[4:]), 1)[0]
    assert 0.3 < growth < 0.7  # the square of the sum of independent terms grows by one term's with each layer
    assert (np.diff(pre.gradients) < 0).all()  # every layer adds a path for the gradient


def test_pre_and_post_norm_are_compared_on_the_same_weights() -> None:
    assert_same = np.testing.assert_array_equal
    first, second = (plot.pre_and_post_norm(2, 8, 2, 16, T=4, rng=7)["post-norm"] for _ in range(2))
    assert_same(first.gradients, second.gradients)
    rng = np.random.default_rng(7)
    x, grad_output = rng.standard_normal((2, 4, 8)), rng.standard_normal((2, 4, 8))
    seed = int(rng.integers(2**63))
    for form, norm_first in (("pre-norm", True), ("post-norm", False)):
        encoder = make_encoder(2, 8, 2, 16, 0.0, norm_first=norm_first, rng=seed)
        expected = plot.measure_magnitudes(encoder, x, grad_output)
        assert_same(plot.pre_and_post_norm(2, 8, 2, 16, T=4, rng=7)[form].gradients, expected.gradients)


def test_depth_is_drawn_as_measured() -> None:
    measured = plot.pre_and_post_norm(num_layers=3, d_model=8, num_heads=2, d_ff=16, T=4)
    figure = plot.depth(measured)
    left, right = figure.axes
    assert left.get_title(loc="left") == "Activations"
    assert right.get_title(loc="left") == "Gradients, from right to left"
    for axes, what in ((left, "activations"), (right, "gradients")):
        assert labels(axes) == ("layers passed (0 = the input)", "root mean square")
        assert axes.get_yscale() == "log"
        for line, (name, magnitudes) in zip(axes.get_lines(), measured.items(), strict=True):
            assert line.get_label() == name
            np.testing.assert_array_equal(line.get_xdata(), [0, 1, 2, 3])
            np.testing.assert_array_equal(line.get_ydata(), getattr(magnitudes, what))
        looks = [(line.get_color(), line.get_linestyle(), line.get_marker()) for line in axes.get_lines()]
        assert all(len(set(look)) == 2 for look in zip(*looks, strict=True))  # they differ in each of the three
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["pre-norm", "post-norm"]
    assert [line.get_color() for line in legend.get_lines()] == [line.get_color() for line in left.get_lines()]


@pytest.mark.parametrize(
    ("names", "written"),
    [(["_hidden", "b"], ["_hidden", "b"]), (["_hidden"], ["_hidden"]), (["", "$a$"], ["", "$a$"])],
)
def test_every_encoder_is_named(names: list[str], written: list[str]) -> None:
    magnitudes = plot.Magnitudes(np.ones(2), np.ones(2))
    (legend,) = plot.depth(dict.fromkeys(names, magnitudes)).legends
    assert [text.get_text() for text in legend.get_texts()] == written
    assert not any(text.get_parse_math() for text in legend.get_texts())


def test_long_names_keep_their_ends() -> None:
    names = [60 * "e" + ".weight", 60 * "e" + ".bias\n"]
    (legend,) = plot.depth(dict.fromkeys(names, plot.Magnitudes(np.ones(2), np.ones(2)))).legends
    assert [text.get_text() for text in legend.get_texts()] == ["eeeeeeeeeee…eeeee.weight", "eeeeeeeeeee…eeeee.bias\\n"]
