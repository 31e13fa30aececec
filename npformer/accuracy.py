"""How accurate the special functions, the activations, softmax and layer norm are, against mpmath's many digits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from npformer.activations import GELU, SiLU, Softmax
from npformer.component import Array, Component
from npformer.norm import LayerNorm
from npformer.shapes import check_count
from npformer.special import erf, normal_cdf

Exact = npt.NDArray[np.object_]  # of mpmath's numbers, to which NumPy applies operators, and `_exactly` functions
DIGITS = 45
LEAST_POINTS = 64  # one row of layer norm

UNITS = {
    "ulp": "the spacing of the dtype at the true value",
    "eps × terms": "eps times the sum of the magnitudes of the terms, which may cancel, that add up to the true value",
    "eps × row": "eps times the largest magnitude in the true row",
}


@dataclass(frozen=True)
class Accuracy:
    """The errors of one function in one dtype over one set of inputs; `unit` is one of UNITS, `at` an input."""

    function: str
    dtype: str
    inputs: str
    points: int
    largest: float
    mean: float
    unit: str
    at: float


class _Values(NamedTuple):
    """What a function gave, what it should have given, and what the error is relative to unless to the value itself."""

    function: str
    computed: Array
    true: Exact
    unit: str = "ulp"
    scale: Exact | None = None


def measure_accuracy(points: int = 100_000, seed: int = 0) -> list[Accuracy]:
    """Measure every function in float64 and float32 at this many points (whole rows: a few more); it takes minutes.

    The truth is the formula in 45-digit arithmetic, of the inputs exactly as they are in their dtype. Of the points
    a quarter each is evenly spread; random; within 3 ulps of a multiple of 1/2ᵏ, k ≤ 21; and, where the interval
    holds 0, random times 1/2ᵏ, k ≤ 60.

    Raises
    ------
    ImportError
        If mpmath, which NumPy does not bring along, is missing.

    Examples
    --------
    >>> rows = measure_accuracy(points=64)
    >>> all(row.largest <= 4 for row in rows if row.function in ("erf", "GELU") and row.dtype == "float64")
    True
    """
    points = check_count("points", points, LEAST_POINTS)
    rng = np.random.default_rng(check_count("seed", seed, least=0))
    with _import_mpmath().workdps(DIGITS):
        return [row for dtype in (np.float64, np.float32) for row in _measure_dtype(np.dtype(dtype), points, rng)]


def format_accuracy(rows: Sequence[Accuracy], markdown: bool = False) -> str:
    """Return the rows as a table, plain or in Markdown, and below it what their units mean."""
    table = [("function", "dtype", "inputs", "points", "largest error", "mean", "unit", "largest at x =")]
    for row in rows:
        at = f"{row.at:.17g}" if row.dtype == "float64" else f"{row.at:.9g}"
        errors = (f"{row.largest:.2f}", f"{row.mean:.2f}")
        table.append((row.function, row.dtype, row.inputs, f"{row.points:,}", *errors, row.unit, at))
    meanings = [f"{unit}: {UNITS[unit]}" for unit in dict.fromkeys(row.unit for row in rows)]
    if markdown:
        table.insert(1, ("---", "---", "---", "---:", "---:", "---:", "---", "---:"))
        return "\n".join([*(f"| {' | '.join(cells)} |" for cells in table), "", *(f"- {each}" for each in meanings)])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    layout = "  ".join(f"{{:{side}{width}}}" for side, width in zip("<<<>>><>", widths, strict=True))
    return "\n".join([*(layout.format(*cells) for cells in table), "", *meanings])


def _import_mpmath() -> Any:
    try:
        import mpmath
    except ImportError:
        raise ImportError("accuracy is measured with mpmath, which is not installed: pip install mpmath") from None
    return mpmath


def _exactly(name: str, x: Any) -> Any:
    """Apply one of mpmath's functions to every entry."""
    return np.frompyfunc(getattr(_import_mpmath(), name), 1, 1)(x)


def _measure_dtype(dtype: np.dtype[Any], points: int, rng: np.random.Generator) -> Iterator[Accuracy]:
    single = dtype == np.float32
    families = {  # with the left ends of their tails, beyond which values are subnormal
        _error_function: None,
        _normal: -12.75 if single else -37.0,
        _tanh: -9.75 if single else -21.0,
        _logistic: -85.0 if single else -700.0,
    }
    for family, end in families.items():
        for low, high in [(-8.0, 8.0)] if end is None else [(-8.0, 8.0), (end, -8.0)]:
            x = _points(low, high, points, dtype, rng)
            for values in family(x, _exactly("mpf", x)):
                yield _judge(values, f"[{low:g}, {high:g}]", x)
    for row_family, width in ((_softmax, 16), (_layer_norm, 64)):
        count = -(-points // width)
        x = (rng.uniform(1, 10, (count, 1)) * rng.standard_normal((count, width))).astype(dtype)
        grad_output = rng.standard_normal(x.shape).astype(dtype)
        for values in row_family(x, grad_output, _exactly("mpf", x), _exactly("mpf", grad_output)):
            yield _judge(values, f"rows of {width}, std 1 to 10", x)


def _points(low: float, high: float, count: int, dtype: np.dtype[Any], rng: np.random.Generator) -> Array:
    quarter = count // 4
    even = np.linspace(low, high, count - 3 * quarter)
    anywhere, fractions, small = rng.uniform(low, high, (3, quarter))
    grids = 2.0 ** rng.integers(0, 22, quarter)
    fractions = (np.rint(fractions * grids) / grids).astype(dtype)
    fractions += np.spacing(fractions) * rng.integers(-3, 4, quarter).astype(dtype)
    if low < 0 < high:
        small *= 0.5 ** rng.integers(0, 61, quarter)
    x: Array = np.concatenate([even, anywhere, fractions, small]).clip(low, high).astype(dtype)
    return x


def _judge(values: _Values, inputs: str, x: Array) -> Accuracy:
    """Compare in float64, with the true values as the sum of two numbers: the differences then lose nothing."""
    nearest = values.true.astype(np.float64)
    rest = (values.true - nearest).astype(np.float64)
    scale = (
        _spacing(nearest, rest, x.dtype)
        if values.scale is None
        else np.finfo(x.dtype).eps * values.scale.astype(np.float64)
    )
    errors = np.abs((values.computed - nearest) - rest) / scale
    worst = np.unravel_index(np.argmax(errors), errors.shape)
    largest, mean, at = float(errors[worst]), float(errors.mean()), float(x[worst])
    return Accuracy(values.function, str(x.dtype), inputs, errors.size, largest, mean, values.unit, at)


def _spacing(nearest: Array, rest: Array, dtype: np.dtype[Any]) -> Array:
    """Return the dtype's spacing at nearest + rest, which can lie just below a power of two when nearest is one."""
    truncated = np.where(np.sign(rest) == -np.sign(nearest), np.nextafter(nearest, 0), nearest)
    form = np.finfo(dtype)
    exponents = np.maximum(np.frexp(truncated)[1] - 1, form.minexp)
    spacing: Array = np.ldexp(1.0, exponents - form.nmant)
    return spacing


def _error_function(x: Array, exact: Exact) -> Iterator[_Values]:
    yield _Values("erf", erf(x), _exactly("erf", exact))


def _normal(x: Array, exact: Exact) -> Iterator[_Values]:
    mpmath = _import_mpmath()
    cdf = _exactly("ncdf", exact)
    pdf = _exactly("exp", -exact * exact / 2) / mpmath.sqrt(2 * mpmath.pi)
    yield _Values("Φ", normal_cdf(x), cdf)
    yield from _gated("GELU", GELU(), x, exact, cdf, pdf)


def _tanh(x: Array, exact: Exact) -> Iterator[_Values]:
    mpmath = _import_mpmath()
    root, cubic = mpmath.sqrt(2 / mpmath.pi), mpmath.mpf("0.044715")
    growth = _exactly("exp", 2 * root * (exact + cubic * exact * exact * exact))
    gate = growth / (1 + growth)
    gate_slope = 2 * root * (1 + 3 * cubic * exact * exact) * gate / (1 + growth)
    yield from _gated("tanh GELU", GELU(approximate="tanh"), x, exact, gate, gate_slope)


def _logistic(x: Array, exact: Exact) -> Iterator[_Values]:
    growth = _exactly("exp", exact)
    gate = growth / (1 + growth)
    yield from _gated("SiLU", SiLU(), x, exact, gate, gate / (1 + growth))


def _gated(
    name: str, activation: Component, x: Array, exact: Exact, gate: Exact, gate_slope: Exact
) -> Iterator[_Values]:
    output, cache = activation.forward(x)
    slope = activation.backward(np.ones_like(x), cache)[0]
    term = exact * gate_slope
    yield _Values(name, output, exact * gate)
    yield _Values(f"{name} slope", slope, gate + term, "eps × terms", gate + abs(term))


def _softmax(x: Array, grad_output: Array, exact: Exact, grad: Exact) -> Iterator[_Values]:
    output, cache = Softmax().forward(x)
    growth = _exactly("exp", exact)
    y = growth / growth.sum(-1, keepdims=True)
    yield _Values("softmax", output, y)
    grad_x, sizes = (y * (g + sign * (g * y).sum(-1, keepdims=True)) for g, sign in ((grad, -1), (abs(grad), 1)))
    yield _Values("softmax backward", Softmax().backward(grad_output, cache)[0], grad_x, "eps × terms", sizes)


def _layer_norm(x: Array, grad_output: Array, exact: Exact, grad: Exact) -> Iterator[_Values]:
    norm = LayerNorm(x.shape[-1]).astype(x.dtype)
    output, cache = norm.forward(x)
    centred = exact - exact.mean(-1, keepdims=True)
    rstd = 1 / _exactly("sqrt", (centred * centred).mean(-1, keepdims=True) + norm.eps)
    x_hat = centred * rstd
    yield _Values("LayerNorm", output, x_hat, "eps × row", abs(x_hat).max(-1, keepdims=True))
    grad_x = rstd * (grad - grad.mean(-1, keepdims=True) - x_hat * (grad * x_hat).mean(-1, keepdims=True))
    size = abs(grad_x).max(-1, keepdims=True)
    yield _Values("LayerNorm backward", norm.backward(grad_output, cache)[0], grad_x, "eps × row", size)
