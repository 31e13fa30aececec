"""How large activations and their gradients are at each depth of an encoder: measured, and drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from npformer.component import Array
from npformer.encoder import Encoder, make_encoder
from npformer.plot.canvas import MARKERS, PALETTE, STROKES, dress_legend, logarithmic, new_figure, plain_frame, say
from npformer.plot.series import check_series
from npformer.shapes import check_count, check_floats, check_grad, check_part, check_tree, make_generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Magnitudes:
    """Root mean squares at each depth: entry 0 is the input of the first layer, entry n the output of the nth.

    Attributes
    ----------
    activations : float64 array (num_layers + 1,)
        Of what stands there.
    gradients : float64 array (num_layers + 1,)
        Of its gradient.
    """

    activations: Array
    gradients: Array


def measure_magnitudes(encoder: Encoder, x: Array, grad_output: Array) -> Magnitudes:
    """Run an encoder forward and backward, without dropout, and measure what passes between its layers.

    Parameters
    ----------
    encoder : Encoder
        With or without a final norm, which lies behind the last depth that is measured.
    x : array (batch, T, d_model)
    grad_output : array (batch, T, d_model)
        Gradient of the encoder's output.

    Raises
    ------
    TypeError, ValueError
        If the encoder is none, or the arrays do not fit.

    Examples
    --------
    Post-norm keeps activations at 1, whatever the depth:

    >>> rng = np.random.default_rng(0)
    >>> x, grad_output = rng.standard_normal((2, 4, 5, 8))
    >>> encoder = make_encoder(3, 8, num_heads=2, d_ff=32, norm_first=False, rng=rng)
    >>> measure_magnitudes(encoder, x, grad_output).activations.round(3)
    array([0.965, 1.   , 1.   , 1.   ])
    """
    check_part("encoder", encoder, Encoder)
    check_floats("x", x, "batch, T, d_model")
    check_grad(grad_output, x.shape)
    caches = []
    activations = [_root_mean_square(x)]
    for layer in encoder.layers:
        x, cache = layer.forward(x)
        caches.append(cache)
        activations.append(_root_mean_square(x))
    grad = grad_output
    if encoder.norm is not None:
        _, cache = encoder.norm.forward(x)
        grad, _ = encoder.norm.backward(grad, cache)
    gradients = [_root_mean_square(grad)]
    for layer, cache in zip(reversed(encoder.layers), reversed(caches), strict=True):
        grad, _ = layer.backward(grad, cache)
        gradients.append(_root_mean_square(grad))
    return Magnitudes(np.array(activations), np.array(gradients[::-1]))


def pre_and_post_norm(
    num_layers: int = 24,
    d_model: int = 128,
    num_heads: int = 4,
    d_ff: int = 512,
    activation: str = "relu",
    batch: int = 2,
    T: int = 32,
    rng: np.random.Generator | int | None = 0,
) -> dict[str, Magnitudes]:
    """Measure a pre-norm and a post-norm encoder at initialisation.

    Both have the same weights, the same input and the same gradient of the output, the latter two drawn from the
    standard normal distribution.

    Parameters
    ----------
    num_layers, d_model, num_heads, d_ff, activation
        As for make_encoder.
    batch, T : int
        Sizes of the input.
    rng : Generator, int or None
        For all draws.

    Returns
    -------
    dict
        Magnitudes under "pre-norm" and "post-norm".

    References
    ----------
    Xiong et al. 2020, "On Layer Normalization in the Transformer Architecture".

    Examples
    --------
    The activations of pre-norm grow with depth, since every layer adds to them; those of post-norm do not:

    >>> measured = pre_and_post_norm(num_layers=24)
    >>> [float(measured[form].activations[-1].round(1)) for form in ("pre-norm", "post-norm")]
    [4.3, 1.0]
    """
    rng = make_generator(rng)
    shape = (check_count("batch", batch), check_count("T", T), check_count("d_model", d_model))
    x, grad_output = rng.standard_normal(shape), rng.standard_normal(shape)
    seed = int(rng.integers(2**63))
    return {
        form: measure_magnitudes(
            make_encoder(num_layers, d_model, num_heads, d_ff, 0.0, activation, norm_first, rng=seed), x, grad_output
        )
        for form, norm_first in (("pre-norm", True), ("post-norm", False))
    }


def depth(measured: Mapping[str, Magnitudes]) -> Figure:
    """Draw how activations and their gradients grow or shrink through the layers of encoders.

    Parameters
    ----------
    measured : dict of Magnitudes
        By the encoders' names, such as what pre_and_post_norm returns; at most four, which may differ in depth.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError, ValueError
        If it is no dict of one to four Magnitudes, or one of their entries is not finite and above 0.
    ImportError
        If matplotlib is missing.

    Examples
    --------
    >>> figure = depth(pre_and_post_norm(num_layers=24))
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['Activations', 'Gradients, from right to left']
    """
    check_tree("measured", measured)
    if not 1 <= len(measured) <= len(STROKES):
        raise ValueError(f"measured must have 1 to {len(STROKES)} encoders, but it has {len(measured)}")
    for name, magnitudes in measured.items():
        check_part(f"measured[{name!r}]", magnitudes, Magnitudes)
        for what in ("activations", "gradients"):
            column = check_series(f"measured[{name!r}].{what}", getattr(magnitudes, what))
            if (column <= 0).any():
                raise ValueError(
                    f"measured[{name!r}].{what} must be above 0, but {column.min():g} is among its entries"
                )
    figure = new_figure()
    left, right = figure.subplots(1, 2)
    for (name, magnitudes), colour, stroke, marker in zip(measured.items(), PALETTE, STROKES, MARKERS, strict=False):
        for axes, column in ((left, magnitudes.activations), (right, magnitudes.gradients)):
            axes.plot(column, color=colour, linestyle=stroke, marker=marker, linewidth=2, label=name)
    say(left, "Activations", "layers passed (0 = the input)", "root mean square")
    say(right, "Gradients, from right to left", "layers passed (0 = the input)", "root mean square")
    for axes in (left, right):
        plain_frame(axes)
        logarithmic(axes)
    legend = figure.legend(left.get_lines(), [""] * len(measured), loc="outside lower center", ncols=2)
    dress_legend(legend, list(measured))
    return figure


def _root_mean_square(array: Array) -> float:
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))
