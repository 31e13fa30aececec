"""What holds for every picture: letters that can be read, nothing cut off, no global state, one sentence in trouble."""

import sys
from collections.abc import Callable

import matplotlib as mpl
import numpy as np
import pytest
from drawn import drawn_texts
from matplotlib.figure import Figure

from npformer import plot, subsequent_mask
from npformer.plot import Magnitudes

DEPTHS = Magnitudes(np.array([1.0, 1.4, 2.0]), np.array([0.9, 0.5, 0.3]))
STEPS = np.linspace(1.0, 0.1, 400)
WORDS = ["[CLS]", "dogs", "bark", "loudly", ".", "[SEP]"]

PICTURES: dict[str, Callable[[], Figure]] = {
    "mask": lambda: plot.mask(subsequent_mask(20)),
    "mask of many keys": lambda: plot.mask(np.ones((2, 90), dtype=bool)),
    "wide mask": lambda: plot.mask(np.ones((2, 3), dtype=int)),
    "high mask": lambda: plot.mask(np.ones((7, 3), dtype=int)),
    "attention": lambda: plot.attention_weights(np.full((12, 6, 6), 1 / 6), WORDS),
    "attention of one head": lambda: plot.attention_weights(np.ones((1, 1, 2)), ["a"], ["b", "c"]),
    "attention of no weight": lambda: plot.attention_weights(np.zeros((3, 6, 6)), WORDS),
    "attention over many words": lambda: plot.attention_weights(np.ones((4, 30, 30)), ["unbelievable", "."] * 15),
    "positions": lambda: plot.positional_encoding(100, 64),
    "one position": lambda: plot.positional_encoding(1, 1),
    "gradient norms": lambda: plot.gradient_norms({"embedding": STEPS, "head": 2 * STEPS}),
    "gradient norms of many layers": lambda: plot.gradient_norms({f"layers.{n}": 1.2**n * STEPS for n in range(26)}),
    "gradient norms over decades": lambda: plot.gradient_norms({"layers.0": STEPS**9}),
    "one gradient norm": lambda: plot.gradient_norms({"layers.0": [0.5]}),
    "depth": lambda: plot.depth({"pre-norm": DEPTHS, "post-norm": DEPTHS}),
    "learning curves": lambda: plot.learning_curves(STEPS, 1 - STEPS, STEPS / 1000, score=0.9),
    "one step": lambda: plot.learning_curves([2.3], [0.1], [0.001]),
}


@pytest.mark.parametrize("name", PICTURES)
def test_letters_are_large_and_inside_and_lie_on_nothing(name: str) -> None:
    figure = PICTURES[name]()
    shown = drawn_texts(figure)
    width, height = figure.bbox.size
    assert min(float(text.get_fontsize()) for text in shown) >= 12
    boxes = [text.get_window_extent() for text in shown]
    for text, box in zip(shown, boxes, strict=True):
        assert -1 <= box.x0 <= box.x1 <= width + 1, text  # a pixel for the rounding of letters
        assert -1 <= box.y0 <= box.y1 <= height + 1, text
    for index, box in enumerate(boxes):
        for other, above in zip(shown[:index], boxes, strict=False):
            across = min(box.x1, above.x1) - max(box.x0, above.x0)
            along = min(box.y1, above.y1) - max(box.y0, above.y0)
            assert min(across, along) <= 2, (shown[index], other)  # boxes have a little air around the letters


def test_each_is_a_slide_and_nothing_global_is_changed() -> None:
    before = dict(mpl.rcParams)
    figures = {name: picture() for name, picture in PICTURES.items()}
    assert dict(mpl.rcParams) == before
    assert {figure.canvas.manager for figure in figures.values()} == {None}  # pyplot knows none of them
    sizes = {name: tuple(figure.get_size_inches()) for name, figure in figures.items()}
    larger = {name for name, (width, height) in sizes.items() if width > 10.001 or height > 5.601}
    assert larger == {"attention over many words"}
    assert {sizes[name] for name in sizes if "attention" not in name} == {(10, 5.6)}


FUNCTIONS = {"mask", "attention of one head", "one position", "gradient norms", "depth", "one step"}


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_without_matplotlib_one_line_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [module for module in sys.modules if module.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError) as caught:
        PICTURES[name]()
    assert str(caught.value) == "npformer.plot needs the package matplotlib: pip install 'npformer[plot]'"
