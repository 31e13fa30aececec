"""What holds for every picture: letters that can be read, nothing cut off, no global state, one sentence in trouble."""

import sys
from collections.abc import Callable

import matplotlib as mpl
import numpy as np
import pytest
from drawn import drawn_texts, drawn_ticks
from matplotlib.figure import Figure

from npformer import plot, subsequent_mask
from npformer.plot import Magnitudes

DEPTHS = Magnitudes(np.array([1.0, 1.4, 2.0]), np.array([0.9, 0.5, 0.3]))
STEPS = np.linspace(1.0, 0.1, 400)
WORDS = ["[CLS]", "dogs", "bark", "loudly", ".", "[SEP]"]
SENTENCE = ["[CLS]", "the", "cat", "sat", "down", "because", "it", "was", "tired", ".", "[SEP]"]
NAMES = [60 * "W" + end for end in "abcd"]  # the widest letter

PICTURES: dict[str, Callable[[], Figure]] = {
    "mask": lambda: plot.mask(subsequent_mask(20)),
    "mask of many keys": lambda: plot.mask(np.ones((2, 90), dtype=bool)),
    "wide mask": lambda: plot.mask(np.ones((2, 3), dtype=int)),
    "mask of one query": lambda: plot.mask(np.ones((1, 20), dtype=int)),
    "high mask": lambda: plot.mask(np.ones((7, 3), dtype=int)),
    "attention": lambda: plot.attention_weights(np.full((12, 6, 6), 1 / 6), WORDS),
    "attention of a sentence": lambda: plot.attention_weights(np.ones((12, 11, 11)), SENTENCE),
    "attention of one head": lambda: plot.attention_weights(np.ones((1, 1, 2)), ["a"], ["b", "c"]),
    "attention of no weight": lambda: plot.attention_weights(np.zeros((3, 6, 6)), WORDS),
    "attention over many words": lambda: plot.attention_weights(np.ones((4, 30, 30)), ["unbelievable", "."] * 15),
    "attention over one key": lambda: plot.attention_weights(np.ones((12, 30, 1)), ["of", "W" * 9, "."] * 10, ["a"]),
    "attention of one query": lambda: plot.attention_weights(np.ones((1, 1, 30)), ["a"], ["of", "W" * 9, "."] * 10),
    "attention over wide words": lambda: plot.attention_weights(np.ones((16, 9, 9)), ["of", "W" * 9, "."] * 3),
    "attention over one long key": lambda: plot.attention_weights(np.ones((1, 1, 1)), ["a"], ["W" * 8]),
    "positions": lambda: plot.positional_encoding(100, 64),
    "one position": lambda: plot.positional_encoding(1, 1),
    "gradient norms": lambda: plot.gradient_norms({"embedding": STEPS, "head": 2 * STEPS}),
    "gradient norms of many layers": lambda: plot.gradient_norms({f"layers.{n}": 1.2**n * STEPS for n in range(26)}),
    "gradient norms over decades": lambda: plot.gradient_norms({"layers.0": STEPS**9}),
    "gradient norms of long names": lambda: plot.gradient_norms(dict.fromkeys(NAMES, STEPS)),
    "one gradient norm": lambda: plot.gradient_norms({"layers.0": [0.5]}),
    "depth": lambda: plot.depth({"pre-norm": DEPTHS, "post-norm": DEPTHS}),
    "depth of long names": lambda: plot.depth(dict.fromkeys(NAMES, DEPTHS)),
    "depth of one point": lambda: plot.depth({"": Magnitudes(np.ones(1), np.full(1, 1e-9))}),
    "small rates, large losses": lambda: plot.learning_curves(20000 + STEPS, learning_rate=STEPS / 20000),
    "huge losses": lambda: plot.learning_curves(STEPS * 1e12, STEPS, score=0.1),
    "learning curves": lambda: plot.learning_curves(STEPS, 1 - STEPS, STEPS / 1000, score=0.9),
    "one step": lambda: plot.learning_curves([2.3], [0.1], [0.001]),
}


@pytest.mark.parametrize("name", PICTURES)
def test_letters_are_large_and_inside_and_lie_on_nothing(name: str) -> None:
    figure = PICTURES[name]()
    shown = drawn_texts(figure)
    width, height = figure.bbox.size
    assert min(float(text.get_fontsize()) for text in shown) >= 12
    assert not any(text.get_parse_math() and "$" in text.get_text() for text in shown)  # a raised exponent is smaller
    boxes = [text.get_window_extent() for text in shown]
    for text, box in zip(shown, boxes, strict=True):
        assert -1 <= box.x0 <= box.x1 <= width + 1, text  # a pixel for the rounding of letters
        assert -1 <= box.y0 <= box.y1 <= height + 1, text
    for index, box in enumerate(boxes):
        for other, above in zip(shown[:index], boxes, strict=False):
            across = min(box.x1, above.x1) - max(box.x0, above.x0)
            along = min(box.y1, above.y1) - max(box.y0, above.y0)
            assert min(across, along) <= 2, (shown[index], other)  # boxes have a little air around the letters
    for legend in [*figure.legends, *(legend for axes in figure.axes if (legend := axes.get_legend()) is not None)]:
        box = legend.get_window_extent()
        for axes in figure.axes:
            panel = axes.patch.get_window_extent()
            across, along = min(box.x1, panel.x1) - max(box.x0, panel.x0), min(box.y1, panel.y1) - max(box.y0, panel.y0)
            assert min(across, along) <= 0, (legend, axes)


def test_each_is_a_slide_and_nothing_global_is_changed() -> None:
    before = dict(mpl.rcParams)
    figures = {name: picture() for name, picture in PICTURES.items()}
    assert dict(mpl.rcParams) == before
    assert {figure.canvas.manager for figure in figures.values()} == {None}  # pyplot knows none of them
    sizes = {name: tuple(figure.get_size_inches()) for name, figure in figures.items()}
    larger = {name for name, (width, height) in sizes.items() if width > 10.001 or height > 5.601}
    assert larger == {
        "attention over many words",
        "attention of a sentence",
        "attention over one key",
        "attention over wide words",
    }
    width, height = sizes["attention of a sentence"]
    assert width <= 13.33  # a slide, on which letters keep their 12 points
    assert height <= 7.5
    assert max(sizes["attention over one key"]) <= 13.33
    assert {sizes[name] for name in sizes if "attention" not in name} == {(10, 5.6)}


def in_view(axis: str, figure: Figure) -> list[float]:
    return drawn_ticks(getattr(figure.axes[0], f"{axis}axis"))


@pytest.mark.parametrize("sizes", [(1, 1), (1, 20), (20, 1), (2, 3), (7, 90)])
def test_masks_have_ticks_at_positions_alone(sizes: tuple[int, int]) -> None:
    figure = plot.mask(np.ones(sizes, dtype=int))
    for axis, size in zip("yx", sizes, strict=True):
        places = in_view(axis, figure)
        assert places[0] == 0
        assert set(places) <= set(range(size))


@pytest.mark.parametrize("sizes", [(1, 1), (10, 2), (10, 3), (3, 64)])
def test_positions_have_ticks_at_positions_alone(sizes: tuple[int, int]) -> None:
    figure = plot.positional_encoding(*sizes)
    for axis, size in zip("yx", sizes, strict=True):
        places = in_view(axis, figure)
        assert places[0] == 0
        assert set(places) <= set(range(size))


def test_steps_and_depths_are_whole_numbers_also_where_there_is_one() -> None:
    assert in_view("x", plot.learning_curves([2.3])) == [1]
    assert in_view("x", plot.gradient_norms({"head": [0.5]})) == [1]
    assert in_view("x", plot.depth({"none": Magnitudes(np.ones(1), np.ones(1))})) == [0]
    assert in_view("x", plot.learning_curves([2.0, 1.0, 0.5])) == [1, 2, 3]
    for figure in (plot.learning_curves(STEPS), plot.gradient_norms({"head": STEPS})):
        assert set(in_view("x", figure)) >= {100, 200, 300, 400}
        assert in_view("x", figure)[0] > 0  # there is no step 0
    assert in_view("x", plot.depth({"24 layers": Magnitudes(np.ones(25), np.ones(25))})) == [0, 5, 10, 15, 20]


FUNCTIONS = {"mask", "attention of one head", "one position", "gradient norms", "depth", "one step"}


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_without_matplotlib_one_line_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [module for module in sys.modules if module.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError) as caught:
        PICTURES[name]()
    assert str(caught.value) == "npformer.plot needs the package matplotlib: pip install 'npformer[plot]'"
