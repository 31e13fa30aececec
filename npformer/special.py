"""The special functions that NumPy lacks, accurate relative to their own size and safe under complex step."""

from __future__ import annotations

import math

import numpy as np

from npformer.component import Array

# erfcx(z) = exp(z²) erfc(z) is smooth and decays like 1/z. With t = 5 / (5 + x), x in [0, 39], and
# u = t mapped to [-1, 1], these are the coefficients of u⁰, u¹, … in erfcx(x/√2) / (2t), from Chebyshev
# interpolation in 50-digit arithmetic; the sums of their magnitudes are 0.5, so that nothing cancels.
MILLS_TEXT = {
    np.dtype(np.float64): (
        "0.17033792891176728 0.14024520173287323 0.096797979149959253 0.055443694420751271 0.025734013027088313 "
        "0.0091945865951053337 0.0022130755980400503 0.00017254972401872283 -0.00010487029417147945 "
        "-3.8645513201865606e-5 8.9422245550069264e-7 3.5619703887307251e-6 3.7129650729459806e-7 "
        "-3.1685246483098489e-7 -5.9025849674833508e-8 3.2062658438429735e-8 6.9655851373885324e-9 "
        "-3.7466789601538685e-9 -6.9970517834157948e-10 4.3716321896536244e-10 5.4184960252759534e-11 "
        "-3.4180959726983339e-11 -2.2937863485385516e-12"
    ),
    np.dtype(np.float32): (
        "0.170337929 0.140245202 0.0967979796 0.0554436739 0.0257340056 0.00919475269 0.00221312109 "
        "0.000171969204 -0.000105003758 -3.76461673e-5 1.09878672e-6 2.70874229e-6 2.08993185e-7"
    ),
}
MILLS = {dtype: [float(number) for number in numbers.split()] for dtype, numbers in MILLS_TEXT.items()}
T_LEAST = 5 / (5 + 39)


def saturated(x: Array) -> Array:
    """Return x with its real part clipped to ±40, where Φ, φ and the like are 0 or 1: powers of it cannot overflow."""
    clipped: Array = np.clip(x.real, -40, 40)
    return clipped + 1j * x.imag if x.dtype.kind == "c" else clipped


def normal_pdf(x: Array) -> Array:
    """Return the normal density φ(x) = exp(-x²/2) / √(2π)."""
    x = saturated(x)
    return np.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))


def normal_cdf(x: Array) -> Array:
    """Return the normal distribution function Φ(x) = erfc(-x/√2) / 2.

    Relative accuracy holds in the left tail, where (1 + erf(x/√2)) / 2 has none left. For complex x the result is
    the extension to first order, Φ(a + bi) = Φ(a) + b φ(a) i, which is exact for complex steps.

    Examples
    --------
    >>> normal_cdf(np.array([-10.0, 0.0, 1.0]))
    array([7.61985302e-24, 5.00000000e-01, 8.41344746e-01])
    """
    if x.dtype.kind == "c":
        return normal_cdf(x.real) + 1j * x.imag * normal_pdf(x.real)
    distance = np.minimum(np.abs(x), 39)  # Φ(-39) is 0 in float64
    t = 5 / (5 + distance)
    u = (2 * t - (1 + T_LEAST)) / (1 - T_LEAST)
    coefficients = MILLS[x.dtype]
    series = np.full_like(u, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        series *= u
        series += coefficient
    # exp(-x²/2) with x = high + low: high² is exact, so that its rounding is not magnified by x²
    grid = 2.0**20 if x.dtype == np.float64 else 2.0**6
    high = np.rint(distance * grid) / grid
    low = distance - high
    tail = t * series * np.exp(-0.5 * high * high) * np.exp(-0.5 * low * (distance + high))
    return np.where(x > 0, 1 - tail, tail)


def sigmoid(x: Array) -> Array:
    """Return σ(x) = 1 / (1 + exp(-x)), relatively accurate on both sides and without overflow.

    Examples
    --------
    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    gate: Array = np.exp(x * (x.real < 0)) / (1 + np.exp(-x * np.copysign(1, x.real)))
    return gate
