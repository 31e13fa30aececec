"""Pictures of a training: its history, and the norms of gradients, over its steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from npformer.component import Array
from npformer.plot.canvas import (
    BLACK,
    BLUE,
    GREEN,
    LABEL,
    MARKERS,
    PALETTE,
    TITLE,
    VERMILLION,
    dress_legend,
    logarithmic,
    new_figure,
    plain_frame,
    say,
)
from npformer.plot.series import check_series, running_mean, window_of
from npformer.shapes import check_equal, check_number, check_tree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Values = Sequence[float] | Array
MOST_NAMED = 12  # lines in a legend


def learning_curves(
    loss: Values, accuracy: Values | None = None, learning_rate: Values | None = None, score: float | None = None
) -> Figure:
    """Draw the columns of a training's history over its steps, one below the other.

    Loss and accuracy of single batches are noisy: they are pale, and their running mean is drawn over them.

    Parameters
    ----------
    loss, accuracy, learning_rate : list of float, or array (steps,)
        One entry for each step, accuracies in [0, 1]; a panel is left out where there is None.
    score : float, optional
        The accuracy after training on data of its own, in [0, 1]; a line beside the accuracies of batches.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError, ValueError
        If entries are no finite numbers, accuracies are not in [0, 1], columns are empty or of different lengths, or
        there is a score without accuracy.
    ImportError
        If matplotlib is missing.

    Examples
    --------
    >>> figure = learning_curves(loss=[2.3, 1.1, 0.4], accuracy=[0.1, 0.6, 0.9], learning_rate=[0.1, 0.2, 0.1])
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['loss', 'accuracy', 'learning rate']
    """
    columns = {"loss": check_series("loss", loss)}
    for name, values in (("accuracy", accuracy), ("learning_rate", learning_rate)):
        if values is not None:
            columns[name] = check_series(name, values)
            check_equal(name, "length", len(columns[name]), "loss", len(columns["loss"]))
    if score is not None and accuracy is None:
        raise ValueError("accuracy must be given with score, but it is None")
    _check_shares("accuracy", columns.get("accuracy", ()))
    _check_shares("score", () if score is None else [check_number("score", score, -math.inf)])
    figure = new_figure()
    heights = [3 if name == "learning_rate" else 4 for name in columns]
    panels = figure.subplots(len(columns), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for panel, (name, column) in zip(panels, columns.items(), strict=True):
        say(panel, ylabel=name.replace("_", " "))
        plain_frame(panel)
        panel.margins(x=0.01)
        if name == "learning_rate":
            _draw(panel, column, GREEN)
        else:
            _draw_noisy(panel, column, BLUE if name == "loss" else VERMILLION)
    panels[0].set_title("Learning curves", fontsize=TITLE, loc="left")
    panels[-1].set_xlabel("step", fontsize=LABEL)
    figure.align_ylabels()
    if window_of(len(columns["loss"])) > 1:
        _legend_above(panels[0], panels[0].get_lines())
    if score is not None:
        line = panels[1].axhline(score, color=BLACK, linestyle="--", label=f"score after training: {score:.4g}")
        _legend_above(panels[1], [line])
    return figure


def gradient_norms(norms: Mapping[str, Values]) -> Figure:
    """Draw the norm of each layer's gradient over the steps of a training, on a logarithmic scale.

    The lines are running means. Up to seven layers have colours and marks of their own; more go from dark to light in
    the order of the dict, and the legend then names some of them. A norm of 0 has no logarithm: where a mean is 0 there
    is a gap, and a layer that has nothing else is called "all 0" in the legend.

    Parameters
    ----------
    norms : dict of lists of float, or of arrays (steps,)
        By the layers' names, in the order of the legend; one entry for each step. `History.grad_norms` goes from the
        first layer to the last, whereas a tree of gradients may have them in any order.

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
    A history gives the norms of its layers, the first layer first:

    >>> from npformer.training import Adam, CrossEntropy, History, make_image_classifier, train
    >>> model = make_image_classifier((4, 4), 2, num_classes=2, num_layers=2, d_model=4, num_heads=2, d_ff=8, rng=0)
    >>> batch = np.random.default_rng(0).random((6, 4, 4)), np.arange(6) % 2
    >>> history = History()
    >>> for step in train(model, CrossEntropy(), Adam(), [batch] * 3):
    ...     history.append(step)
    >>> figure = gradient_norms(history.grad_norms)
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['embedding', 'layers.0', 'layers.1', 'norm', 'head']
    """
    check_tree("norms", norms)
    if not norms:
        raise ValueError("norms must have at least one layer, but it is empty")
    columns = {name: check_series(f"norms[{name!r}]", values) for name, values in norms.items()}
    first, steps = next((name, len(column)) for name, column in columns.items())
    for name, column in columns.items():
        check_equal(f"norms[{name!r}]", "length", len(column), f"norms[{first!r}]", steps)
        if (column < 0).any():
            raise ValueError(f"norms[{name!r}] must not be negative, but {column.min():g} is among its entries")
    if not any(column.any() for column in columns.values()):
        raise ValueError("norms must have an entry above 0, but it has none")
    figure = new_figure()
    axes = figure.subplots()
    colours = PALETTE if len(columns) <= len(PALETTE) else _dark_to_light(len(columns))
    means = [running_mean(column) for column in columns.values()]
    lines = [_draw(axes, mean, colour) for mean, colour in zip(means, colours, strict=False)]
    for mean, line in zip(means, lines, strict=True):
        _mark_lone_points(axes, mean, line)
    if len(columns) <= len(PALETTE):
        for index, line in enumerate(lines):
            line.set(marker=MARKERS[index], markersize=8, markevery=_spread(index, len(lines), steps))
    window = window_of(steps)
    say(axes, "Gradient norms by layer", "step", "norm of the gradient" + (window > 1) * f" (mean of {window} steps)")
    plain_frame(axes)
    logarithmic(axes)
    every = -(-len(lines) // MOST_NAMED)
    named = [index for index in range(len(lines)) if index % every == 0 or index == len(lines) - 1]
    legend = figure.legend(
        [lines[index] for index in named],
        [""] * len(named),
        loc="outside right upper",
        title="layer" if every == 1 else "some of the layers",
    )
    names = list(columns)
    dress_legend(legend, [names[index] for index in named])
    for text, index in zip(legend.get_texts(), named, strict=True):
        if not columns[names[index]].any():
            text.set_text(f"{text.get_text()} (all 0)")
    return figure


def _legend_above(panel: Axes, lines: Sequence[Line2D]) -> None:
    """Put a legend at the right above a panel, where it hides no curve; pale lines are not pale in it."""
    legend = panel.legend(
        handles=lines, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(lines), borderpad=0, borderaxespad=0.3
    )
    dress_legend(legend)
    for handle in legend.get_lines():
        handle.set_alpha(1)


def _check_shares(name: str, values: Iterable[float]) -> None:
    for value in values:
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must lie in [0, 1], but {value:g} does not")


def _draw(axes: Axes, column: Array, colour: str, label: str | None = None) -> Line2D:
    marker = "o" if len(column) == 1 else ""  # a line through one point is invisible
    steps = np.arange(1, len(column) + 1)
    (line,) = axes.plot(steps, column, color=colour, marker=marker, linewidth=2, label=label)
    return line


def _mark_lone_points(axes: Axes, column: Array, line: Line2D) -> None:
    """Draw points above 0 between two zeros, where a line with gaps has no stroke."""
    above = np.pad(column > 0, 1)
    (lone,) = np.nonzero(above[1:-1] & ~above[:-2] & ~above[2:])
    if lone.size:
        axes.plot(lone + 1, column[lone], color=line.get_color(), marker=".", markersize=8, linestyle="none")


def _draw_noisy(axes: Axes, column: Array, colour: str) -> None:
    window = window_of(len(column))
    if window > 1:
        steps = np.arange(1, len(column) + 1)
        axes.plot(steps, column, color=colour, linewidth=0.8, alpha=0.35, label="each step")
    _draw(axes, running_mean(column), colour, label=f"mean of {window} steps")


def _dark_to_light(count: int) -> list[str]:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps["viridis"](place)) for place in np.linspace(0, 0.9, count)]  # the lightest is too pale


def _spread(index: int, lines: int, steps: int) -> tuple[int, int]:
    """Return the first step with a mark and how many there are from one to the next; lines take turns."""
    apart = max(1, steps // 10)
    return apart * index // lines, apart
