"""Masks, attention weights and positions as they are drawn: rows are queries, the first on top."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from drawn import colour_at, labels, render
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from npformer import PositionalEncoding, plot, subsequent_mask
from npformer.oracle import load_bert, trace

BLUE, GREY = (0x00, 0x72, 0xB2), (0xEC, 0xEC, 0xEC)


def image(axes: Axes) -> npt.NDArray[Any]:
    (only,) = axes.get_images()
    return np.asarray(only.get_array())


def words(axes: Axes) -> tuple[list[str], list[str]]:
    return [text.get_text() for text in axes.get_xticklabels()], [text.get_text() for text in axes.get_yticklabels()]


def test_a_mask_says_what_its_rows_columns_and_colours_are() -> None:
    (axes,) = plot.mask(subsequent_mask(20)).axes
    assert labels(axes) == ("key position (columns are keys)", "query position (rows are queries)")
    legend = axes.get_legend()
    assert legend is not None
    shown = dict(zip([text.get_text() for text in legend.get_texts()], legend.get_patches(), strict=True))
    assert list(shown) == ["1 = may attend", "0 = may not attend"]
    for text, colour in (("1 = may attend", BLUE), ("0 = may not attend", GREY)):
        assert to_rgb(shown[text].get_facecolor()) == tuple(part / 255 for part in colour)


def test_the_mask_of_a_decoder_is_lower_triangular_on_the_screen() -> None:
    figure = plot.mask(subsequent_mask(20))
    (axes,) = figure.axes
    pixels = render(figure)
    np.testing.assert_array_equal(image(axes), np.tril(np.ones((20, 20))))
    (left, top), (right, bottom) = axes.transData.transform([(0, 0), (19, 19)])  # of the first and last cell, in pixels
    assert left < right
    assert bottom < top  # pixels are counted from below: query 0 is on top
    for query, key in ((0, 0), (19, 0), (19, 19), (7, 7)):
        assert colour_at(figure, pixels, key, query) == BLUE
    for query, key in ((0, 19), (0, 1), (7, 8)):
        assert colour_at(figure, pixels, key, query) == GREY
    assert words(axes)[0] == words(axes)[1]
    assert words(axes)[0][:3] == ["0", "2", "4"]


@pytest.mark.parametrize("given", [np.array([[True, False, True]]), np.array([[[[7, 0, 1]]]])])
def test_any_mask_of_one_matrix_can_be_drawn(given: npt.NDArray[Any]) -> None:
    before = given.copy()
    (axes,) = plot.mask(given).axes
    np.testing.assert_array_equal(image(axes), [[1, 0, 1]])
    np.testing.assert_array_equal(given, before)


def test_a_sliver_of_a_mask_fills_the_picture() -> None:
    assert plot.mask(np.ones((2, 90), dtype=int)).axes[0].get_aspect() == "auto"
    assert plot.mask(np.ones((2, 5), dtype=int)).axes[0].get_aspect() == 1


def test_every_head_of_a_trained_model_is_drawn_over_the_words() -> None:
    bert = load_bert()
    tokens, mask = bert.encode(["The cat sat because it was tired."])
    tokenized = [str(bert.tokenizer.id_to_token(token)) for token in tokens[0]]
    run = trace(bert.encoder, tokens, mask=mask)
    weights = run["encoder.layers.2.self_attn.sublayer.attention.weights"][0]
    figure = plot.attention_weights(weights, tokenized)
    *panels, bar = figure.axes
    assert [panel.get_title() for panel in panels] == [f"head {head}" for head in range(12)]
    for panel, head in zip(panels, weights, strict=True):
        np.testing.assert_array_equal(image(panel), head)
        assert panel.get_images()[0].get_clim() == (0, weights.max())
    assert tokenized[1:3] == ["the", "cat"]
    assert words(panels[0])[1] == words(panels[-1])[0] == tokenized
    assert bar.get_ylabel() == "attention weight"
    assert (figure.get_supxlabel(), figure.get_supylabel()) == ("key (columns are keys)", "query (rows are queries)")


def test_some_heads_are_drawn_under_their_numbers() -> None:
    weights = np.random.default_rng(0).random((40, 2, 2))
    weights[0] = 7  # of a head that is not drawn: the scale is that of the others
    for heads in ([7, 3], (39,), range(4, 6)):
        *panels, _ = plot.attention_weights(weights, ["le", "chat"], heads=heads).axes
        assert [panel.get_title() for panel in panels] == [f"head {head}" for head in heads]
        for panel, head in zip(panels, heads, strict=True):
            np.testing.assert_array_equal(image(panel), weights[head])
            assert panel.get_images()[0].get_clim() == (0, weights[list(heads)].max())


def test_words_stand_once_at_the_left_and_below() -> None:
    figure = plot.attention_weights(np.random.default_rng(0).random((5, 2, 3)), ["le", "chat"], ["the", "$big$", "cat"])
    render(figure)
    *panels, _ = figure.axes
    rows, columns = ({round(getattr(panel.get_position(), side), 6) for panel in panels} for side in ("y0", "x0"))
    assert min(len(rows), len(columns)) > 1
    for index, panel in enumerate(panels):
        lowest, leftmost = index + len(columns) >= len(panels), index % len(columns) == 0
        assert words(panel) == (["the", "$big$", "cat"] if lowest else [], ["le", "chat"] if leftmost else [])
        assert not any(text.get_parse_math() for text in panel.get_xticklabels())  # dollars are dollars


def test_what_cannot_be_drawn_of_a_word_is_written_otherwise() -> None:
    figure = plot.attention_weights(np.ones((1, 2, 2)) / 2, ["\n\ud800", "o" * 99])
    assert words(figure.axes[0])[0] == ["\\n\\ud800", "o" * 11 + "…" + "o" * 12]


def test_where_no_weight_is_above_0_the_scale_goes_to_1() -> None:
    panel, _ = plot.attention_weights(np.zeros((1, 1, 1)), ["a"]).axes
    assert panel.get_images()[0].get_clim() == (0, 1)


@pytest.mark.parametrize("d_model", [64, 5])
def test_positions_are_drawn_from_top_to_bottom(d_model: int) -> None:
    figure = plot.positional_encoding(100, d_model)
    axes, bar = figure.axes
    np.testing.assert_array_equal(image(axes), PositionalEncoding(d_model).table[:100])
    assert axes.get_images()[0].get_clim() == (-1, 1)  # so that the middle colour is 0
    assert labels(axes) == ("dimension (even: sine, odd: cosine)", "position in the sequence")
    assert axes.transData.transform((0, 0))[1] > axes.transData.transform((0, 99))[1]
    assert bar.get_ylabel() == "value added to the embedding"


def inside(figure: Figure) -> npt.NDArray[np.uint8]:
    """Return the pixels of the first axes without their frame (height, width, 3)."""
    pixels = render(figure)
    box = figure.axes[0].get_window_extent()
    left, right, low, high = (int(side) for side in (box.x0 + 4, box.x1 - 4, box.y0 + 4, box.y1 - 4))
    return pixels[len(pixels) - high : len(pixels) - low, left:right, :3]


@pytest.mark.parametrize("sizes", [(2000, 256), (3000, 40), (60, 400), (100, 64)])
def test_all_colours_of_positions_are_on_the_scale(sizes: tuple[int, int]) -> None:
    figure = plot.positional_encoding(*sizes)
    picture = figure.axes[0].get_images()[0]
    scale = picture.cmap(np.arange(256), bytes=True)[:, :3]
    assert set(map(tuple, inside(figure).reshape(-1, 3))) <= set(map(tuple, scale))


def test_cells_that_can_be_seen_keep_their_edges() -> None:
    """Of 3000 positions a pixel shows the mean of seven, but of 8 dimensions each has its own stripe."""
    row = inside(plot.positional_encoding(3000, 8))[0].astype(int)
    changes = np.flatnonzero(np.abs(np.diff(row, axis=0)).sum(axis=1))
    assert len(changes) <= 4 * 7  # an edge is as wide as the filter, four pixels


def test_small_cells_have_the_mean_of_their_colours() -> None:
    board = np.add.outer(np.arange(600), np.arange(600)) % 2
    pixels = inside(plot.mask(board)).reshape(-1, 3)
    assert np.abs(pixels - np.mean([BLUE, GREY], axis=0)).max() < 12  # of 236 from one colour to the other


def test_wavelengths_stand_above_their_dimensions() -> None:
    figure = plot.positional_encoding(8, 64)
    (above,) = figure.axes[0].child_axes
    assert above.get_xlabel() == "wavelength in positions"
    waves = {int(x): text.get_text() for x, text in zip(above.get_xticks(), above.get_xticklabels(), strict=True)}
    assert list(waves) == [0, 12, 24, 36, 48, 62]
    assert waves[0] == "6"  # 2π
    assert waves[48] == "6,283"  # 2π · 10000^(3/4)
