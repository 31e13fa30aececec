"""Pictures of what runs along the steps of a training, or along the layers of an encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from npformer.component import Array
from npformer.plot.canvas import (
    BLUE,
    GREEN,
    LABEL,
    MARKERS,
    PALETTE,
    STROKES,
    VERMILLION,
    add_legend,
    new_figure,
    plain_frame,
    say,
)
from npformer.plot.magnitudes import Magnitudes
from npformer.shapes import check_equal, check_number, check_part, check_tree, describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Values = Sequence[float] | Array
MOST_NAMED = 12  # lines in a legend


def learning_curves(
    loss: Values,
    accuracy: Values | None = None,
    learning_rate: Values | None = None,
    test_accuracy: float | None = None,
) -> Figure:
    """Draw the columns of a training's history over its steps, one below the other.

    Loss and accuracy of single batches are noisy: they are pale, and their running mean is drawn over them.

    Parameters
    ----------
    loss, accuracy, learning_rate : list of float, or array (steps,)
        One entry for each step; a panel is left out where there is None.
    test_accuracy : float, optional
        The score at the end, in [0, 1], drawn as a line beside the accuracy.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError, ValueError
        If entries are no finite numbers, columns are empty or of different lengths, or there is a test_accuracy
        without accuracy.
    ImportError
        If matplotlib is missing.

    Examples
    --------
    >>> figure = learning_curves(loss=[2.3, 1.1, 0.4], accuracy=[0.1, 0.6, 0.9], learning_rate=[0.1, 0.2, 0.1])
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['loss', 'accuracy', 'learning rate']
    """
    given = {"loss": loss, "accuracy": accuracy, "learning_rate": learning_rate}
    columns = {name: _check_series(name, values) for name, values in given.items() if values is not None}
    for name, column in columns.items():
        check_equal(name, "length", len(column), "loss", len(columns["loss"]))
    if test_accuracy is not None:
        check_number("test_accuracy", test_accuracy, 0, np.nextafter(1, 2))
        if accuracy is None:
            raise ValueError("accuracy must be given beside test_accuracy, but it is None")
    figure = new_figure()
    heights = [1 if name == "learning_rate" else 2 for name in columns]
    panels = figure.subplots(len(columns), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for panel, (name, column) in zip(panels, columns.items(), strict=True):
        say(panel, ylabel=name.replace("_", " "))
        plain_frame(panel)
        if name == "learning_rate":
            _draw(panel, column, GREEN)
        else:
            _draw_noisy(panel, column, BLUE if name == "loss" else VERMILLION)
        if name == "accuracy" and test_accuracy is not None:
            panel.axhline(test_accuracy, color="black", linestyle="--", label=f"test, at the end: {test_accuracy:.4g}")
        if name != "learning_rate" and panel.get_legend_handles_labels()[0]:
            add_legend(panel)
    figure.align_ylabels()
    say(panels[0], "Learning curves", ylabel="loss")
    panels[-1].set_xlabel("step", fontsize=LABEL)
    return figure


def gradient_norms(norms: Mapping[str, Values]) -> Figure:
    """Draw the norm of each layer's gradient over the steps of a training, on a logarithmic scale.

    The lines are running means. Up to seven layers have colours of their own; more go from dark to light in their
    order, and the legend then names twelve of them. A norm of 0 has no logarithm: where a mean is 0 there is a gap.

    Parameters
    ----------
    norms : dict of lists of float, or of arrays (steps,)
        By the layers' names, from the first to the last; one entry for each step.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError, ValueError
        If entries are no finite numbers, negative, or all 0, or the lists are empty or of different lengths.
    ImportError
        If matplotlib is missing.

    Examples
    --------
    >>> figure = gradient_norms({"layers.0": [4.0, 2.0, 1.0], "layers.1": [3.0, 2.0, 1.5]})
    >>> figure.axes[0].get_yscale()
    'log'
    """
    check_tree("norms", norms)
    if not norms:
        raise ValueError("norms must have at least one layer, but it is empty")
    columns = {name: _check_series(f"norms[{name!r}]", values) for name, values in norms.items()}
    first = next(iter(columns))
    for name, column in columns.items():
        check_equal(f"norms[{name!r}]", "length", len(column), f"norms[{first!r}]", len(columns[first]))
        if (column < 0).any():
            raise ValueError(f"norms[{name!r}] must not be negative, but it is {column.min():g} somewhere")
    if not any(column.any() for column in columns.values()):
        raise ValueError("norms must have an entry above 0, but it has none")
    figure = new_figure()
    axes = figure.subplots()
    colours = _colours(len(columns))
    every = -(-len(columns) // MOST_NAMED)
    for index, (name, column) in enumerate(columns.items()):
        label = name if index % every == 0 or index == len(columns) - 1 else None
        _draw(axes, _running_mean(column), colours[index], STROKES[index % len(STROKES)], label)
    say(axes, "Gradient norms by layer", "step", "norm of the gradient")
    axes.set_yscale("log")
    plain_frame(axes)
    add_legend(axes, title="first to last layer", beside=True)
    return figure


def depth(measured: Mapping[str, Magnitudes]) -> Figure:
    """Draw how activations and their gradients grow or shrink through the layers of encoders.

    Parameters
    ----------
    measured : dict of Magnitudes
        By the encoders' names, such as what pre_and_post_norm returns; at most five, which may differ in depth.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError, ValueError
        If it is no dict of one to five Magnitudes, or their entries are not finite and above 0.
    ImportError
        If matplotlib is missing.

    Examples
    --------
    >>> from npformer.plot import pre_and_post_norm
    >>> figure = depth(pre_and_post_norm(num_layers=24))
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['Activations', 'Gradients']
    """
    check_tree("measured", measured)
    if not 1 <= len(measured) <= len(MARKERS):
        raise ValueError(f"measured must have 1 to {len(MARKERS)} encoders, but it has {len(measured)}")
    for name, magnitudes in measured.items():
        check_part(f"measured[{name!r}]", magnitudes, Magnitudes)
    figure = new_figure()
    left, right = figure.subplots(1, 2)
    for index, (name, magnitudes) in enumerate(measured.items()):
        for axes, column in ((left, magnitudes.activations), (right, magnitudes.gradients)):
            axes.plot(
                column, color=PALETTE[index], linestyle=STROKES[index % len(STROKES)], marker=MARKERS[index], label=name
            )
    for axes, title, ylabel in (
        (left, "Activations", "root mean square"),
        (right, "Gradients", "root mean square of the gradient"),
    ):
        say(axes, title, "depth (number of layers below)", ylabel)
        axes.set_yscale("log")
        plain_frame(axes)
    add_legend(left)
    return figure


def _check_series(name: str, values: object) -> Array:
    if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray):
        raise TypeError(f"{name} must be a list of numbers, but it is {describe(values)}")
    if len(values) == 0:
        raise ValueError(f"{name} must have at least one entry, but it is empty")
    column = np.asarray(values)
    if column.dtype.kind not in "iuf":
        raise TypeError(f"{name} must be a list of numbers, but its dtype is {column.dtype}")
    if column.ndim != 1:
        raise ValueError(f"{name} must have the axes (steps), but its shape is {column.shape}")
    for step in np.flatnonzero(~np.isfinite(column)):
        raise ValueError(f"{name} must be finite, but it is {column[step]} at step {step + 1}")
    return column.astype(np.float64)


def _window(steps: int) -> int:
    """Return how many steps a running mean is over: about one in fifty, and an odd number."""
    return 2 * (steps // 100) + 1


def _running_mean(column: Array) -> Array:
    """Return the mean of each entry and its neighbours to both sides, of which there are fewer at the ends."""
    window = np.ones(_window(len(column)))
    means: Array = np.convolve(column, window, "same") / np.convolve(np.ones(len(column)), window, "same")
    return means


def _draw(axes: Axes, column: Array, colour: str, stroke: str = "-", label: str | None = None) -> None:
    marker = "o" if len(column) == 1 else ""  # a line through one point is invisible
    steps = np.arange(1, len(column) + 1)
    axes.plot(steps, column, color=colour, linestyle=stroke, marker=marker, linewidth=2, label=label)


def _draw_noisy(axes: Axes, column: Array, colour: str) -> None:
    window = _window(len(column))
    if window == 1:
        _draw(axes, column, colour)
        return
    axes.plot(np.arange(1, len(column) + 1), column, color=colour, linewidth=0.8, alpha=0.3, label="each step")
    _draw(axes, _running_mean(column), colour, label=f"mean of {window} steps")


def _colours(count: int) -> list[str]:
    """Return the palette, or for more lines than it has colours from dark to light; the lightest is too pale."""
    if count <= len(PALETTE):
        return list(PALETTE)
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps["viridis"](place)) for place in np.linspace(0, 0.9, count)]
