"""Storage formats, and runs in which every operation is off by as much as rounding may make it.

The error model is Monte Carlo arithmetic (Parker 1997, "Monte Carlo Arithmetic: exploiting randomness in floating-point
arithmetic", sections 4 and 5) at the level of components: what a component reads is changed at random by as much as
rounding in any order of its sums may change the terms, and what it makes by as much as the last rounding may change
the result. With u the unit roundoff and n the number of terms that are added up, both changes have the size √n u of the
terms and of the result (Higham and Mary 2019, "A new approach to probabilistic rounding error analysis", theorem 2.4:
√n stands for the n of the bound that always holds), and the result is rounded once more to the type that it is stored
in. The changes go the way through the model that roundings go, so that what a later operation makes of them needs no
formula of its own.

Three operations are off in ways that changed terms do not show:

- the mean of a norm moves all entries of its row together, which would cancel if the terms were changed instead;
- GELU as x/2 (1 + erf(x/√2)), the common form, cancels where x is far below 0: its error has the size of u x;
- kernels take delta, which softmax's backward subtracts, from rowsum(dO∘O), whose terms are others than those of the
  definition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from npformer.activations import GELU, ReLU, SiLU, Softmax, Tanh
from npformer.attention import MASKED_SCORE, ScaledDotProductAttention
from npformer.component import Array, Component, flatten
from npformer.dropout import Dropout
from npformer.embedding import Embeddings, PositionalEncoding
from npformer.linear import Linear
from npformer.norm import AnnotatedLayerNorm, LayerNorm
from npformer.oracle.recorder import Arrays, Passage
from npformer.oracle.trace import Trace
from npformer.shapes import check_choice


@dataclass(frozen=True)
class Format:
    """A floating-point type that arrays are stored in.

    Attributes
    ----------
    name : str
    unit : float
        Unit roundoff: the largest relative error of rounding to nearest.
    tiny : float
        Half of the smallest subnormal number: the largest absolute error where numbers are that small.
    largest : float
        The largest finite number.
    held_in : str
        The NumPy type of arrays of such numbers.
    """

    name: str
    unit: float
    tiny: float
    largest: float
    held_in: str

    def round(self, array: Array) -> Array:
        """Return an array rounded to nearest, ties to even.

        Examples
        --------
        >>> FORMATS["bfloat16"].round(np.array([1.001, 3.14159]))
        array([1.      , 3.140625], dtype=float32)
        """
        if self.name != "bfloat16":
            return array.astype(self.held_in)
        rounded: Array
        significand, exponent = np.frexp(array.astype(np.float64))  # from float64, so that nothing is rounded twice
        lowest = np.maximum(exponent, -125)  # subnormal numbers have fewer digits
        rounded = np.ldexp(np.rint(np.ldexp(significand, exponent - lowest + 8)), lowest - 8)
        return rounded.astype(self.held_in)

    def spacing(self, value: float) -> float:
        """Return the distance between the numbers around a value: one unit in the last place."""
        exponent = math.frexp(value)[1]
        return max(2 * self.unit * 2.0 ** (exponent - 1), 2 * self.tiny)


FORMATS = {
    "float64": Format("float64", 2.0**-53, 2.0**-1074, float(np.finfo(np.float64).max), "float64"),
    "float32": Format("float32", 2.0**-24, 2.0**-150, float(np.finfo(np.float32).max), "float32"),
    "float16": Format("float16", 2.0**-11, 2.0**-25, 65504.0, "float16"),
    "bfloat16": Format("bfloat16", 2.0**-8, 2.0**-134, (2 - 2.0**-7) * 2.0**127, "float32"),
}


def find_format(name: str, value: str) -> Format:
    """Return a storage format by its name (ValueError for another)."""
    return check_choice(name, value, FORMATS)


ELEMENTWISE = (ReLU, GELU, SiLU, Tanh, Dropout, PositionalEncoding)
SUMS_ROWS = (Linear, Softmax, LayerNorm, AnnotatedLayerNorm, ScaledDotProductAttention, Embeddings)


class Rounding(Passage):
    """Roundings at random, at every boundary.

    Parameters
    ----------
    storage, accumulation : Format
        What arrays are stored in, and what sums are computed in.
    clean : Trace
        The run without roundings.
    rng : Generator
        Draws them.
    kinks : dict
        Names of arrays that go into a ReLU, and how far each of their entries may lie to both sides of 0, where that
        is to be tried; other entries stay on the side that they are on.
    """

    def __init__(
        self,
        storage: Format,
        accumulation: Format,
        clean: Trace,
        rng: np.random.Generator,
        kinks: Arrays | None = None,
    ):
        self.storage, self.accumulation, self.rng = storage, accumulation, rng
        self.kinks = kinks or {}
        self.decided = {name: clean[name] for name in relu_inputs(clean)}
        self._unit: dict[int, float] = {}  # of each component's last operation
        self._cancelling: dict[int, Array] = {}
        self._delta: dict[int, Array] = {}  # what rounding makes of delta, which a softmax subtracts
        self._moved: dict[int, tuple[Array, Array]] = {}  # what a norm's mean adds to x_hat, and to output or grad_x

    def into(self, component: Component, arrays: Arrays, *, backward: bool) -> Arrays:
        """Change the terms of a component's sums."""
        n = _terms(component, arrays, backward=backward)
        unit = self._unit[id(component)] = math.sqrt(n) * self.accumulation.unit
        if isinstance(component, GELU):  # as x/2 (1 + erf), the common form, it cancels
            self._cancelling[id(component)] = arrays["grad_output" if backward else "x"]
        if isinstance(component, ScaledDotProductAttention) and backward and "weights" in arrays:
            terms = np.abs(arrays["grad_output"] * (arrays["weights"] @ arrays["value"])).sum(-1, keepdims=True)
            self._delta[id(component.softmax)] = max(self.storage.unit, unit) * terms * self._noise(terms.shape)
        if id(component) in self._delta and backward:
            moved = arrays["output"] * self._delta[id(component)]
            self._moved[id(component)] = moved, moved
        if n <= 1:
            return {}
        if isinstance(component, LayerNorm | AnnotatedLayerNorm):
            self._moved[id(component)] = self._by_the_mean(component, arrays, unit, backward=backward)
        return {name: self._noisy(array, unit) for name, array in arrays.items()}

    def out(self, component: Component, name: str, array: Array) -> Array:
        """Change a result, and round it."""
        if array.dtype.kind != "f":
            return array
        noisy = self._noisy(array, max(self.storage.unit, self._unit.get(id(component), 0.0)), self.storage.tiny)
        if id(component) in self._moved and self._moved[id(component)][0].shape == array.shape:
            normalised, scaled = self._moved[id(component)]
            noisy += normalised if name.endswith("x_hat") else scaled
        if id(component) in self._cancelling:
            noisy += self.accumulation.unit * self._cancelling[id(component)] * self._noise(array.shape)
        if name in self.decided:
            clean = self.decided[name]
            noisy = np.where((noisy > 0) == (clean > 0), noisy, clean)
        if name in self.kinks:
            noisy = np.where(self.kinks[name] > 0, self.kinks[name] * self.rng.uniform(-1, 1, array.shape), noisy)
        return noisy

    def _by_the_mean(
        self, norm: LayerNorm | AnnotatedLayerNorm, arrays: Arrays, unit: float, *, backward: bool
    ) -> tuple[Array, Array]:
        """Return what the rounding of a mean adds to all entries of a row: changed terms alone would cancel there."""
        terms = arrays["grad_output"] * norm.weight if backward else arrays["x"]
        if isinstance(norm, LayerNorm):
            rstd = arrays["rstd"] if backward else 1 / np.sqrt(terms.var(-1, keepdims=True) + norm.eps)
        else:
            rstd = 1 / ((arrays["std"] if backward else terms.std(-1, ddof=1, keepdims=True)) + norm.eps)
        error = unit * np.abs(terms).mean(-1, keepdims=True) * rstd
        moved = np.broadcast_to(error * self._noise(error.shape), terms.shape)
        return moved, moved if backward else moved * norm.weight

    def _noisy(self, array: Array, unit: float, tiny: float = 0.0) -> Array:
        constant = array == MASKED_SCORE  # kernels write another one, such as -inf, and none is computed
        return array + np.where(constant, 0.0, (np.abs(array) * unit + tiny * (array != 0)) * self._noise(array.shape))

    def _noise(self, shape: tuple[int, ...]) -> Array:
        return self.rng.standard_normal(shape)


def relu_inputs(run: Trace) -> list[str]:
    """Return the names of the arrays at whose zeros a gradient jumps."""
    names = [f"{path}.x".removeprefix(".") for path, part in run.parts.items() if isinstance(part, ReLU)]
    return [run.aliases.get(name, name) for name in names]


def _terms(component: Component, arrays: Arrays, *, backward: bool) -> int:
    """Return how many terms are added up in a component's own sums; 1 if it has none."""
    if isinstance(component, ELEMENTWISE) or _is_made_of_layers(component):
        return 1
    arrays = {name: array for name, array in arrays.items() if array.ndim}
    if not isinstance(component, SUMS_ROWS):  # not ours: it may add up anything
        return max((array.size for array in arrays.values()), default=1)
    lengths = [array.shape[-1] for array in arrays.values()]
    if isinstance(component, ScaledDotProductAttention):
        lengths += [array.shape[-2] for array in arrays.values()]
    elif backward and component.parameter_names:  # every row uses the parameters
        lengths += [array.size // array.shape[-1] for array in arrays.values()]
    return max(lengths, default=1)


def _is_made_of_layers(component: Component) -> bool:
    """Return whether a component leaves its sums to its parts; an attention core has parts, but its own sums."""
    children = component._children().values()
    parts = [part for child in children for part in (child if isinstance(child, list) else [child])]
    return any(
        isinstance(part, ScaledDotProductAttention) or flatten(part.parameters()) or _is_made_of_layers(part)
        for part in parts
    )
