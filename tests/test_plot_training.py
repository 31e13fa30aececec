"""Learning curves and gradient norms: every number is drawn over its step."""

import numpy as np
import pytest
from drawn import colour_at, drawn_ticks, labels, render
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from npformer import plot
from npformer.component import Array

RNG = np.random.default_rng(0)
LOSS = np.exp(-np.arange(450) / 100) + RNG.random(450) / 10
ACCURACY = RNG.random(450)


def points(line: Line2D) -> Array:
    return np.asarray(line.get_xydata())


def mean_of_neighbours(values: Array, window: int) -> list[float]:
    half = window // 2
    return [float(np.mean(values[max(0, step - half) : step + half + 1])) for step in range(len(values))]


def legend_texts(legend_of: Axes | Figure) -> list[str]:
    legend = legend_of.get_legend() if isinstance(legend_of, Axes) else legend_of.legends[0]
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def test_each_step_is_drawn_and_the_running_mean_over_it() -> None:
    loss, accuracy, rate = plot.learning_curves(LOSS, ACCURACY.tolist(), LOSS / 1000).axes
    assert [axes.get_ylabel() for axes in (loss, accuracy, rate)] == ["loss", "accuracy", "learning rate"]
    assert [axes.get_xlabel() for axes in (loss, accuracy, rate)] == ["", "", "step"]  # one axis for the three
    assert legend_texts(loss) == ["each step", "mean of 9 steps"]
    for axes, values in ((loss, LOSS), (accuracy, ACCURACY)):
        raw, mean = (points(line) for line in axes.get_lines())
        np.testing.assert_array_equal(raw, np.stack([np.arange(1, 451), values], axis=1))
        np.testing.assert_array_equal(mean[:, 0], np.arange(1, 451))
        np.testing.assert_allclose(mean[:, 1], mean_of_neighbours(values, 9), rtol=1e-14)  # sums in another order
    (line,) = rate.get_lines()
    np.testing.assert_array_equal(points(line)[:, 1], LOSS / 1000)
    pale, dark = loss.get_lines()
    assert (pale.get_alpha(), dark.get_alpha()) == (0.35, None)
    legend = loss.get_legend()
    assert legend is not None
    assert [handle.get_alpha() for handle in legend.get_lines()] == [1, 1]  # pale ones could not be seen


def test_few_steps_have_no_mean_and_one_step_can_be_seen() -> None:
    axes = plot.learning_curves(LOSS[:50]).axes
    assert len(axes) == 1  # panels of None are left out
    assert (axes[0].get_xlabel(), legend_texts(axes[0])) == ("step", [])
    (line,) = axes[0].get_lines()
    np.testing.assert_array_equal(points(line)[:, 1], LOSS[:50])
    (line,) = plot.learning_curves([0.5]).axes[0].get_lines()
    assert line.get_marker() == "o"


def test_the_score_is_a_line_beside_the_accuracies() -> None:
    _, accuracy = plot.learning_curves(LOSS, ACCURACY, score=0.98667).axes
    line = accuracy.get_lines()[-1]
    assert set(np.asarray(line.get_ydata())) == {0.98667}
    assert line.get_linestyle() == "--"
    assert legend_texts(accuracy) == ["score after training: 0.9867"]


def test_gradient_norms_have_a_line_for_each_layer_in_order() -> None:
    norms = {"embedding": LOSS, "layers.0": (3 * LOSS).tolist(), "$head$": 9 * LOSS}
    figure = plot.gradient_norms(norms)
    (axes,) = figure.axes
    assert labels(axes) == ("step", "norm of the gradient (mean of 9 steps)")
    assert axes.get_yscale() == "log"
    assert legend_texts(figure) == list(norms)
    assert figure.legends[0].get_title().get_text() == "layer"  # in the order given, whatever that is
    assert not any(text.get_parse_math() for text in figure.legends[0].get_texts())  # dollars are dollars
    for line, values in zip(axes.get_lines(), norms.values(), strict=True):
        expected = np.stack([np.arange(1, 451), mean_of_neighbours(np.array(values), 9)], axis=1)
        np.testing.assert_allclose(points(line), expected, rtol=1e-14)  # sums in another order
    for handle, line in zip(figure.legends[0].get_lines(), axes.get_lines(), strict=True):
        assert (handle.get_color(), handle.get_marker()) == (line.get_color(), line.get_marker())


def test_up_to_seven_lines_differ_in_colour_and_mark() -> None:
    lines = plot.gradient_norms({f"layers.{n}": LOSS for n in range(7)}).axes[0].get_lines()
    assert len({line.get_color() for line in lines}) == 7
    assert len({line.get_marker() for line in lines}) == 7
    starts = [line.get_markevery() for line in lines]
    assert starts == [(45 * n // 7, 45) for n in range(7)]  # so that no mark hides another


def test_many_lines_go_from_dark_to_light_and_some_are_named() -> None:
    figure = plot.gradient_norms({f"layers.{n}": LOSS for n in range(26)})
    named = legend_texts(figure)
    assert len(named) <= 12
    assert (named[0], named[-1]) == ("layers.0", "layers.25")
    lines = figure.axes[0].get_lines()
    lightness = [luminance(to_hex(line.get_color())) for line in lines]
    assert lightness == sorted(lightness)
    colours = dict(zip(named, (to_hex(line.get_color()) for line in figure.legends[0].get_lines()), strict=True))
    assert all(colour == to_hex(lines[int(name.split(".")[1])].get_color()) for name, colour in colours.items())


def luminance(colour: str) -> float:
    """Return how light a colour is (Rec. 709), without the gamma."""
    red, green, blue = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return float(0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2)


def test_a_norm_of_0_is_a_gap() -> None:
    norms = {"layers.0": np.repeat([1.0, 0.0, 1.0], 10), "layers.1": np.logspace(0, -2, 30)}
    figure = plot.gradient_norms(norms)
    line, other = figure.axes[0].get_lines()
    np.testing.assert_array_equal(points(line)[:, 1], norms["layers.0"])
    pixels = render(figure)
    assert colour_at(figure, pixels, 8.5, 1) == colour(line)
    (left, low), (right, high) = figure.axes[0].transData.transform([(9.5, 0.01), (21.5, 0.5)]).astype(int)
    below = pixels[len(pixels) - high : len(pixels) - low, left:right, :3].reshape(-1, 3)
    assert colour(other) in set(map(tuple, below))
    assert colour(line) not in set(map(tuple, below))  # it does not plunge


def test_a_point_between_zeros_is_drawn() -> None:
    alone = np.where(np.arange(40) == 21, 0.5, 0.0)  # where no mark of the line stands
    figure = plot.gradient_norms({"layers.0": alone, "layers.1": np.logspace(0, -1, 40)})
    line = figure.axes[0].get_lines()[0]
    assert colour_at(figure, render(figure), 22, 0.5) == colour(line)


def test_a_layer_of_zeros_alone_is_said_to_be_one() -> None:
    figure = plot.gradient_norms({"frozen": [0.0, 0.0], "head": [1.0, 2.0], "half": [0.0, 1.0]})
    assert legend_texts(figure) == ["frozen (all 0)", "head", "half"]


def colour(line: Line2D) -> tuple[int, ...]:
    return tuple(round(255 * part) for part in to_rgb(line.get_color()))


def test_a_history_has_the_order_of_the_layers_and_the_legend_that_of_the_dict() -> None:
    norms = {name: [1.0, 0.5] for name in ("head", "layers.1", "layers.0", "embedding")}
    assert legend_texts(plot.gradient_norms(norms)) == list(norms)


RATIOS = [1, 1.001, 1.1, 1.4 / 0.9, 1.74 / 0.88, 2, 2.5, 3.0, 3.3, 3.9, 4.1, 5, 9, 11, 30, 900, 1100, 1e5, 1e40]


@pytest.mark.parametrize("low", [1.01, 6.1, 0.9, 3.05e-7])
def test_a_logarithmic_axis_has_a_few_plain_numbers(low: float) -> None:
    for ratio in RATIOS:
        (axes,) = plot.gradient_norms({"layers.0": np.geomspace(low, low * ratio, 30)}).axes
        assert axes.get_yscale() == "log"
        places = drawn_ticks(axes.yaxis)
        assert 2 <= len(places) <= 12, ratio
        bottom, top = axes.get_ylim()
        assert bottom < low <= low * ratio < top
        written = axes.yaxis.get_major_formatter().format_ticks(places)
        read = [float(text.replace("\N{MINUS SIGN}", "-")) for text in written]
        assert read == pytest.approx(places, rel=1e-5, abs=0)  # six digits


def test_numbers_beside_ticks_are_whole_and_differ() -> None:
    for loss in (20000 + LOSS / 100, 1e9 * LOSS, -LOSS, np.full(3, 5.0)):
        axes = plot.learning_curves(loss, learning_rate=LOSS[: len(loss)] / 1e5).axes
        for panel in axes:
            formatter = panel.yaxis.get_major_formatter()
            written = formatter.format_ticks(drawn_ticks(panel.yaxis))
            assert len(set(written)) == len(written) >= 2
            assert formatter.get_offset() == ""
