"""How every picture looks: its size, letters and colours, set on the figure itself and never globally."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.legend import Legend

SLIDE = (10.0, 5.6)  # inches
TITLE, LABEL, TICK = 15, 13, 12  # points
SLIVER = 3  # the ratio of sides above which cells are no squares

# The palette of Okabe and Ito (2008) without its yellow, which is too pale for a line on white.
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK = PALETTE = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
)
STROKES = ("-", "--", "-.", ":")
MARKERS = "os^DvPX"
# Ratios of the largest number to the smallest. Between 1, 2, 3, 4, 6 and 10 up to 3.3 can have a single tick.
UNDER_A_DECADE, ONE_DECADE, FEW_DECADES = 4, 10, 1000
LONGEST = 24  # letters of a word or a name; the middle of longer ones is left out
DIGITS = range(6, 18)  # of a number beside a tick: as many as tell it from its neighbours

Layout = Literal["constrained", "compressed"]


def new_figure(size: tuple[float, float] = SLIDE, layout: Layout = "constrained") -> Figure:
    """Return an empty figure of this size in inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("npformer.plot needs the package matplotlib: pip install 'npformer[plot]'") from None
    return Figure(figsize=size, dpi=100, layout=layout)


def say(axes: Axes, title: str = "", xlabel: str = "", ylabel: str = "") -> None:
    """Write the title and the labels of the axes, all large enough to be read."""
    axes.set_title(title, fontsize=TITLE, loc="left")
    axes.set_xlabel(xlabel, fontsize=LABEL)
    axes.set_ylabel(ylabel, fontsize=LABEL)
    axes.tick_params(labelsize=TICK)


def plain_frame(axes: Axes) -> None:
    """Give curves a pale grid, no frame above and to the right, whole numbers along the bottom, plain ones aside."""
    axes.grid(color="#D0D0D0", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    whole_numbers(axes.xaxis)
    plain_numbers(axes.yaxis)


def whole_numbers(axis: Axis, most: int | Literal["auto"] = "auto") -> None:
    """Put ticks at whole numbers that exist alone: no step 0, and no position between two, even if there is but one."""
    from matplotlib.ticker import MaxNLocator

    class WholeNumbers(MaxNLocator):
        def tick_values(self, vmin: float, vmax: float) -> list[float]:
            first, last = axis.get_data_interval()  # the view is wider
            return [place for place in super().tick_values(vmin, vmax) if first <= place <= last]

    axis.set_major_locator(WholeNumbers(most, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    axis.set_major_formatter("{x:,.0f}")


def plain_numbers(axis: Axis) -> None:
    """Write the whole number beside each tick: a part written apart, or an exponent raised, has smaller letters."""
    from matplotlib.ticker import Formatter

    class PlainNumbers(Formatter):
        def __call__(self, x: float, pos: int | None = None) -> str:
            return self.fix_minus(f"{x:g}")

        def format_ticks(self, values: Sequence[float]) -> list[str]:
            written: list[str] = []
            for digits in DIGITS:
                written = [self.fix_minus(f"{value:.{digits}g}") for value in values]
                if len(set(written)) == len(set(values)):
                    break
            return written

    axis.set_major_formatter(PlainNumbers())


def logarithmic(axes: Axes) -> None:
    """Make the vertical scale of what is drawn logarithmic, with gaps where it is 0.

    Where powers of ten are few, there are other ticks between them; where there is hardly one, ticks are evenly apart.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator

    axes.set_yscale("log", nonpositive="mask")
    ratio = axes.dataLim.y1 / axes.dataLim.minposy
    if ratio < UNDER_A_DECADE:
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    elif ratio < FEW_DECADES:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 4, 6) if ratio < ONE_DECADE else (1, 2, 5)))
    plain_numbers(axes.yaxis)
    axes.minorticks_off()


def shown(text: str) -> str:
    """Return a word or a name as it can be drawn: line breaks as Python writes them, and no longer than may be."""
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= LONGEST else text[: LONGEST // 2 - 1] + "…" + text[-LONGEST // 2 :]


def add_colour_bar(figure: Figure, image: AxesImage, axes: list[Axes], label: str) -> None:
    """Add the bar that says which number a colour stands for."""
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label(label, fontsize=LABEL)
    bar.ax.tick_params(labelsize=TICK)


def dress_legend(legend: Legend, names: Sequence[str] = ()) -> None:
    """Give a legend letters that can be read, its texts as they were given: a dollar sign starts no formula.

    Names are those to write in place of the legend's; a legend made with them could leave out those that begin with _.
    """
    legend.set_frame_on(False)
    legend.set_alignment("left")
    for text, name in zip(legend.get_texts(), names, strict=False):
        text.set_text(shown(name))
    for text in [legend.get_title(), *legend.get_texts()]:
        text.set_fontsize(TICK)
        text.set_parse_math(False)
