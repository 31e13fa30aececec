"""What a picture shows once it is drawn: its pixels, its texts, its labels."""

from io import BytesIO
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.text import Text


def render(figure: Figure) -> npt.NDArray[np.uint8]:
    """Draw a figure, and return its pixels (height, width, 4)."""
    file = BytesIO()
    figure.savefig(file, format="rgba", dpi=figure.dpi)
    width, height = figure.canvas.get_width_height()
    return np.frombuffer(file.getvalue(), dtype=np.uint8).reshape(height, width, 4)


def drawn_texts(figure: Figure) -> list[Text]:
    """Draw a figure, and return its texts without those of ticks outside their axis, which exist, but are not drawn."""
    texts: list[Text] = []
    draw_text: Any = RendererAgg.draw_text

    def record(renderer: RendererAgg, *arguments: Any, mtext: Text, **options: Any) -> None:
        texts.append(mtext)
        draw_text(renderer, *arguments, mtext=mtext, **options)

    with mock.patch.object(RendererAgg, "draw_text", record):
        render(figure)
    return texts


def colour_at(figure: Figure, pixels: npt.NDArray[np.uint8], x: float, y: float) -> tuple[int, ...]:
    """Return the red, green and blue of the pixel at a point in the coordinates of the first axes."""
    across, up = figure.axes[0].transData.transform((x, y))
    return tuple(int(part) for part in pixels[len(pixels) - 1 - int(up), int(across), :3])


def drawn_ticks(axis: Axis) -> list[float]:
    """Return where an axis has ticks that are drawn, which those outside its view are not."""
    low, high = sorted(axis.get_view_interval())
    return [float(place) for place in axis.get_majorticklocs() if low <= place <= high]


def labels(axes: Axes) -> tuple[str, str]:
    """Return the labels along the bottom and along the left."""
    return axes.get_xlabel(), axes.get_ylabel()
