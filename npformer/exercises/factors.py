"""What a constant factor may come from: a number, or the sizes of the case."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

NAMES = ("batch", "T_q", "T_k", "num_heads", "d_head", "d_model", "d_ff", "vocab_size")
FORMS: dict[str, Callable[[float], float]] = {
    "{}": lambda size: size,
    "1/{}": lambda size: 1 / size,
    "√{}": math.sqrt,
    "1/√{}": lambda size: 1 / math.sqrt(size),
    "{0}/({0} - 1)": lambda size: size / (size - 1) if size > 1 else math.nan,
    "({0} - 1)/{0}": lambda size: (size - 1) / size,
    "1/({} - 1)": lambda size: 1 / (size - 1) if size > 1 else math.nan,
    "({} - 1)": lambda size: size - 1,
    "{}²": lambda size: size**2,
    "1/{}²": lambda size: 1 / size**2,
}
PRODUCTS = (("batch", "T_k"), ("batch", "T_q"), ("T_k", "d_model"), ("batch", "T_k", "d_model"), ("T_q", "T_k"))
CLOSE = 1e-6


def meaning(factors: Sequence[float], sizes: Sequence[Mapping[str, int]]) -> str | None:
    """Return what the factors of several trials have in common, in words; None if that is nothing.

    Examples
    --------
    >>> meaning([0.5, 0.25], [{"d_head": 4}, {"d_head": 16}]), meaning([-2.0, -2.0], [{}, {}])
    ('1/√d_head', '-2')
    >>> meaning([0.3, 0.7], [{"d_head": 4}, {"d_head": 16}])
    """
    first = factors[0]
    if all(math.isclose(factor, first, rel_tol=CLOSE, abs_tol=CLOSE) for factor in factors):
        return number(first)
    for sign in ("", "-"):
        for words, values in _expressions(sizes):
            signed = [-value if sign else value for value in values]
            if all(math.isclose(*pair, rel_tol=CLOSE) for pair in zip(factors, signed, strict=True)):
                return sign + words
    return None


def number(value: float) -> str:
    """Return a number as a learner would write it.

    Examples
    --------
    >>> number(0.9999999999), number(-0.5000000001), number(1 / 3), number(-1e-12)
    ('1', '-0.5', '0.333333', '0')
    """
    rounded = round(value, 6)
    if rounded == 1 and abs(value - 1) > CLOSE * 1e-3:
        return f"{value:.10g}"
    return f"{rounded:g}" if rounded else "0"


def _expressions(sizes: Sequence[Mapping[str, int]]) -> Iterator[tuple[str, list[float]]]:
    for name in NAMES:
        if all(name in each for each in sizes):
            for words, form in FORMS.items():
                yield words.format(name), [form(each[name]) for each in sizes]
    for names in PRODUCTS:
        if all(name in each for each in sizes for name in names):
            products = [math.prod(each[name] for name in names) for each in sizes]
            yield " * ".join(names), [float(product) for product in products]
            yield f"1/({' * '.join(names)})", [1 / product for product in products]
