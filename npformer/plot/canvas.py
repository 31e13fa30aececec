"""How every picture looks: its size, letters and colours, set on the figure itself and never globally."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.legend import Legend

SLIDE = (10.0, 5.6)  # inches
TITLE, LABEL, TICK = 15, 13, 12  # points

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
ONE_DECADE, FEW_DECADES = 10, 1000

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
    """Give curves a pale grid, no frame above and to the right, and whole numbers along the bottom."""
    from matplotlib.ticker import MaxNLocator

    axes.grid(color="#D0D0D0", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))


def logarithmic(axes: Axes) -> None:
    """Make the vertical scale of what is drawn logarithmic; where powers of ten are few, others are written."""
    from matplotlib.ticker import LogLocator

    axes.set_yscale("log")
    ratio = axes.dataLim.y1 / axes.dataLim.minposy
    if ratio < FEW_DECADES:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 4, 6) if ratio < ONE_DECADE else (1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()


def add_colour_bar(figure: Figure, image: AxesImage, axes: list[Axes], label: str) -> None:
    """Add the bar that says which number a colour stands for."""
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label(label, fontsize=LABEL)
    bar.ax.tick_params(labelsize=TICK)


def dress_legend(legend: Legend) -> None:
    """Give a legend letters that can be read, its texts as they were given: a dollar sign starts no formula."""
    legend.set_frame_on(False)
    legend.set_alignment("left")
    for text in [legend.get_title(), *legend.get_texts()]:
        text.set_fontsize(TICK)
        text.set_parse_math(False)
