"""How every picture looks: its size, letters and colours, set on the figure itself and never globally."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

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
MARKERS = "os^Dv"


def new_figure(scale: float = 1.0) -> Figure:
    """Return an empty figure of a slide's size, or of so many times that."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("npformer.plot needs the package matplotlib: pip install 'npformer[plot]'") from None
    return Figure(figsize=(scale * SLIDE[0], scale * SLIDE[1]), dpi=100, layout="constrained")


def say(axes: Axes, title: str = "", xlabel: str = "", ylabel: str = "") -> None:
    """Write the title and the labels of the axes, all large enough to be read."""
    axes.set_title(title, fontsize=TITLE, loc="left")
    axes.set_xlabel(xlabel, fontsize=LABEL)
    axes.set_ylabel(ylabel, fontsize=LABEL)
    axes.tick_params(labelsize=TICK)


def plain_frame(axes: Axes) -> None:
    """Give curves a pale grid and no frame above and to the right."""
    axes.grid(color="#D0D0D0", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def add_colour_bar(figure: Figure, image: AxesImage, axes: list[Axes], label: str) -> None:
    """Add the bar that says which number a colour stands for."""
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label(label, fontsize=LABEL)
    bar.ax.tick_params(labelsize=TICK)


def add_legend(axes: Axes, title: str | None = None, beside: bool = False) -> None:
    """Add a legend without a frame, beside the axes or where there is room; a dollar sign in it starts no formula."""
    legend = axes.legend(fontsize=TICK, title=title, title_fontsize=TICK, frameon=False, alignment="left")
    if beside:
        legend.set_loc("upper left")
        legend.set_bbox_to_anchor((1.02, 1))
    for text in legend.get_texts():
        text.set_parse_math(False)
