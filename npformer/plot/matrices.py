"""Pictures of matrices: masks and positional encodings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from npformer.component import Array
from npformer.embedding import PositionalEncoding
from npformer.plot.canvas import (
    BLUE,
    LABEL,
    SLIVER,
    TICK,
    add_colour_bar,
    dress_legend,
    new_figure,
    say,
    whole_numbers,
)
from npformer.shapes import check_count, check_mask

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

HIDDEN = "#ECECEC"
MOST_LINED = 64  # cells along a side; more would vanish between the lines around them
PIXELS = (400, 640)  # about as many as a matrix has on a slide, down and across
DISTINCT = 3  # pixels of a cell that can be seen


def mask(mask: Array) -> Figure:
    """Draw who may attend to whom: a row for each query, the first on top, and a column for each key.

    Where cells are too small to be seen, colours are the mean of neighbours.

    Parameters
    ----------
    mask : integer or boolean array (T_q, T_k)
        Nonzero = may attend, as everywhere in npformer. Further axes in front must have length 1, as in
        ``subsequent_mask(20)``.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError
        If it is no array of integers or booleans.
    ValueError
        If it is not one matrix.
    ImportError
        If matplotlib is missing.

    Examples
    --------
    >>> from npformer import subsequent_mask
    >>> figure = mask(subsequent_mask(20))
    >>> figure.axes[0].get_ylabel()
    'query position (rows are queries)'
    """
    allowed = check_mask(mask, getattr(mask, "shape", ()))
    if allowed.ndim < 2 or allowed.size == 0 or math.prod(allowed.shape[:-2]) != 1:
        raise ValueError(f"mask must have the axes (T_q, T_k), or (1, T_q, T_k), but its shape is {allowed.shape}")
    figure = new_figure(layout="compressed")
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    axes = figure.subplots()
    T_q, T_k = allowed.shape[-2:]
    matrix = allowed.reshape(T_q, T_k).astype(np.uint8)
    shape: Literal["equal", "auto"] = "equal" if 1 / SLIVER <= T_q / T_k <= SLIVER else "auto"
    colours = ListedColormap([HIDDEN, BLUE])
    image = axes.imshow(matrix, cmap=colours, vmin=0, vmax=1, interpolation="nearest", aspect=shape)
    _smooth_small_cells(image, matrix, "rgba")  # the mean of two colours: there is no third value that has its own
    say(axes, "Attention mask", "key position (columns are keys)", "query position (rows are queries)")
    for axis, size in ((axes.xaxis, T_k), (axes.yaxis, T_q)):
        whole_numbers(axis, most=10)
        if max(T_q, T_k) <= MOST_LINED:
            axis.set_ticks(np.arange(1, size) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
    patches = [Patch(color=BLUE, label="1 = may attend"), Patch(color=HIDDEN, label="0 = may not attend")]
    dress_legend(axes.legend(handles=patches, loc="upper left", bbox_to_anchor=(1, 1)))
    return figure


def positional_encoding(max_len: int, d_model: int) -> Figure:
    """Draw what PositionalEncoding adds to the embeddings: a row for each position, a column for each dimension.

    Above the columns stand the wavelengths, 2π · 10000^(2i/d_model) positions for dimensions 2i and 2i+1. Where cells
    are too small to be seen, colours show the mean of neighbours.

    Parameters
    ----------
    max_len : int
        Number of positions.
    d_model : int
        Number of dimensions.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError, ValueError
        If a number is not whole, or below 1.
    ImportError
        If matplotlib is missing.

    References
    ----------
    Vaswani et al. 2017, "Attention Is All You Need", section 3.5.

    Examples
    --------
    >>> positional_encoding(max_len=100, d_model=64).axes[0].get_ylabel()
    'position in the sequence'
    """
    table = PositionalEncoding(check_count("d_model", d_model), max_len=check_count("max_len", max_len)).table
    figure = new_figure()
    axes = figure.subplots()
    image = axes.imshow(table, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    _smooth_small_cells(image, table, "data")  # the mean of values is on the scale, that of colours need not be
    say(axes, "Positional encoding", "dimension (even: sine, odd: cosine)", "position in the sequence")
    whole_numbers(axes.xaxis)
    whole_numbers(axes.yaxis)
    pairs = np.unique(np.linspace(0, (d_model - 1) // 2, 6).astype(int))
    above = axes.secondary_xaxis("top")
    above.set_xticks(2 * pairs, [f"{2 * np.pi * 10000 ** (2 * pair / d_model):,.0f}" for pair in pairs], fontsize=TICK)
    above.set_xlabel("wavelength in positions", fontsize=LABEL)
    add_colour_bar(figure, image, [axes], "value added to the embedding")
    return figure


def _smooth_small_cells(image: AxesImage, matrix: npt.NDArray[Any], stage: Literal["data", "rgba"]) -> None:
    """Let each pixel show the mean of its cells where they are small: one cell for all would give false patterns."""
    small = [cells * DISTINCT > pixels for cells, pixels in zip(matrix.shape, PIXELS, strict=True)]
    if not any(small):
        return
    extent = image.get_extent()
    for axis in (0, 1):
        if not small[axis]:  # these cells keep their edges
            matrix = matrix.repeat(PIXELS[axis] // matrix.shape[axis], axis)
    image.set_data(matrix)
    image.set_extent(extent)
    image.set_interpolation("gaussian")
    image.set_interpolation_stage(stage)
