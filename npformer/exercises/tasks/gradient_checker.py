"""The gradient checker: write the function that judges all other exercises.

forward(*arrays) returns an array, the output. backward(grad_output, *arrays) returns a tuple with a gradient for each
of the arrays: that of the number Σ(grad_output * output). grad_output may be any array of the output's shape.

Return True if backward is right for these arrays, and False if it is not: if any entry of any gradient is wrong, or
NaN, or if a gradient has another shape than its array.

forward is smooth. The arrays are real, with entries of size 1 or so; forward takes complex arrays as well. A gradient
counts as right if it is off by no more than 1e-5 of the largest entry of the same gradient. There are gradients that
are exactly 0, and right, though slopes that you measure there are not 0 but rounding; tiny ones (1e-6) and large ones
(1e8), and wrong ones among the tiny and the large. Some mistakes show only where grad_output differs from entry to
entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from npformer import GELU, Component, LayerNorm, Linear, ScaledDotProductAttention, SiLU, Softmax, flatten
from npformer.component import Array
from npformer.exercises.quoting import kind_of
from npformer.exercises.task import Call, ForwardTask
from npformer.exercises.wrong_checkers import WRONG_CHECKERS
from npformer.gradcheck import randomise
from npformer.gradcheck.cases import signed
from npformer.mistakes import MISTAKES, plant


def gradient_is_right(
    forward: Callable[..., Array], backward: Callable[..., tuple[Array, ...]], *arrays: Array
) -> bool:
    """Return whether backward gives the gradients of forward at these arrays."""
    output = forward(*arrays)
    grad_output = np.random.default_rng(0).standard_normal(output.shape)
    for index, grad in enumerate(backward(grad_output, *arrays)):
        slopes = np.zeros(arrays[index].shape)
        for entry in np.ndindex(slopes.shape):
            step = np.zeros(slopes.shape)
            step[entry] = 1e-5
            above = forward(*arrays[:index], arrays[index] + step, *arrays[index + 1 :])
            below = forward(*arrays[:index], arrays[index] - step, *arrays[index + 1 :])
            slopes[entry] = (grad_output * (above - below)).sum() / 2e-5
        # a slope of 0 comes out as the rounding of forward, which the small step magnifies
        allowed = 1e-6 * np.abs(slopes).max() + 1e-9 * np.abs(output).max()
        if grad.shape != slopes.shape or not np.abs(grad - slopes).max() <= allowed:
            return False
    return True


def call(component: Component, *inputs: Array, scale: float = 1.0) -> Call:
    """A component as a pair of functions of its inputs and parameters, with outputs times scale."""
    parameters = flatten(component.parameters())

    def run(arrays: tuple[Array, ...]) -> tuple[Component, Array, Any]:
        twin = component.with_parameters(dict(zip(parameters, arrays[len(inputs) :], strict=True)))
        return twin, *twin.forward(*arrays[: len(inputs)])

    def forward(*arrays: Array) -> Array:
        return scale * run(arrays)[1]

    def backward(grad_output: Array, *arrays: Array) -> tuple[Array, ...]:
        twin, _, cache = run(arrays)
        grad_inputs, grads = twin.backward(scale * grad_output, cache)
        flat = flatten(grads)
        first = grad_inputs if isinstance(grad_inputs, tuple) else (grad_inputs,)
        return *first, *(flat[name] for name in parameters)

    return Call((forward, backward, *inputs, *parameters.values()))


def zeros(grad_output: Array, array: Array) -> tuple[Array]:
    return (np.zeros(array.shape),)


def calls(seed: int) -> Iterator[tuple[str, Call]]:
    rng = np.random.default_rng(seed)
    x = np.sort(signed(rng, (2, 3), 0.5, 1.5) + np.array([-1.0, 0.0, 1.0]))  # no row is nearly constant
    wide = rng.standard_normal((4, 5))
    query, key, value = (signed(rng, shape, 0.5, 1.5) for shape in ((3, 3), (2, 3), (2, 2)))
    subjects: dict[type[Component], tuple[Component, tuple[Array, ...]]] = {
        Linear: (Linear(3, 2), (x,)),
        Softmax: (Softmax(), (x,)),
        LayerNorm: (LayerNorm(3), (x,)),
        GELU: (GELU(), (wide,)),
        ScaledDotProductAttention: (ScaledDotProductAttention(), (query, key, value)),
    }
    for component, _ in subjects.values():
        randomise(component, rng)
    # so that the last entry of grad_x is among the large ones, and 1 % of it shows
    subjects[Linear][0].parameters()["weight"][:, -1] *= 8
    for kind, (component, inputs) in subjects.items():
        yield f"a right {kind.__name__}", call(component, *inputs)
    yield "a right SiLU times 1e-6", call(SiLU(), x, scale=1e-6)
    yield "a right GELU times 1e8", call(GELU(), x, scale=1e8)
    yield "a right square", Call((lambda x: x * x, lambda grad_output, x: (2 * x * grad_output,), x))
    yield "a right softmax of x + b, as a function of b", Call((lambda b: Softmax()(wide + b), zeros, np.ones((4, 1))))
    yield "a right constant", Call((lambda x: 0 * x + 3, zeros, x))
    for name, kind, scale in (
        ("Softmax.row_sum_missing", Softmax, 1.0),
        ("LayerNorm.mean_term_missing", LayerNorm, 1.0),
        ("LayerNorm.weight_gradient_from_the_input", LayerNorm, 1.0),
        ("LayerNorm.bias_gradient_times_gamma", LayerNorm, 1.0),
        ("Linear.weight_gradient_reshaped", Linear, 1.0),
        ("Linear.bias_gradient_not_summed", Linear, 1.0),
        ("GELU.tanh_slope_for_erf", GELU, 1.0),
        ("ScaledDotProductAttention.scale_missing", ScaledDotProductAttention, 1.0),
        ("Component.sign_flipped", Softmax, 1.0),
        ("Component.sign_flipped", GELU, 1e-6),
        ("Component.doubled", GELU, 1e8),
        ("Component.one_entry_off_by_one_percent", Linear, 1.0),
        ("Component.not_a_number", LayerNorm, 1.0),
    ):
        component, inputs = subjects[kind]
        where = f" in {kind.__name__}" if name.startswith("Component.") else ""
        times = "" if scale == 1 else f" times {scale:g}"
        yield f"{name}{where}{times}", call(plant(MISTAKES[name], component), *inputs, scale=scale)


def look(result: Any, *arguments: Any) -> dict[str, bool]:
    if not isinstance(result, bool | np.bool_):
        raise TypeError(f"gradient_is_right must return True or False, but it returned {kind_of(result)}")
    return {"verdict": bool(result)}


TASK = ForwardTask(
    name="gradient_checker",
    title="The gradient checker",
    statement=__doc__,
    solution=gradient_is_right,
    blank="gradient_is_right",
    partial_credit=False,  # a checker that always says the same would have half of them
    points=8,
    calls=calls,
    look=look,
    wrong=WRONG_CHECKERS,
    hints=(
        "backward claims slopes. Move one entry of one array a little, call forward, and see how far "
        "Σ(grad_output * output) has moved. Then do it for every entry of every array.",
        "(f(x + h) - f(x - h)) / 2h is off by about h² times the third derivative, and by the rounding of f, 1e-16, "
        "divided by h. With h = 1e-5 both are about 1e-10 or less.",
        "Draw grad_output at random, the same for backward and for the slopes. Ones would hide every mistake that "
        "cancels in the sum of the outputs, and the outputs of a softmax add up to 1.",
        "Compare the largest error with the largest slope of the array, not entry with entry, and allow a little of "
        "the size of the outputs besides, since a slope of 0 comes out as 1e-11 of it.",
        "Write the comparison as `not error <= allowed`: NaN is neither smaller nor larger than a number. Compare the "
        "shapes first, or broadcasting makes them fit.",
    ),
    derivation="""
    L = Σ(grad_output * forward(*arrays)) is a number, and backward claims its slope along each entry. Along one of them

        L(x ± h) = L(x) ± h L'(x) + (h²/2) L''(x) ± (h³/6) L'''(x) + …
        (L(x + h) - L(x - h)) / 2h = L'(x) + (h²/6) L'''(x) + …

    Rounding adds about 1e-16 |L| / h. If all is of size 1, the sum of both errors is least near h = 1e-5: about 1e-11.

    So slopes are trusted to 1e-6 of the largest of their array. An entry that is much smaller than that, or 0, has no
    digits of its own to compare, which is why the error is not divided entry by entry. Where a whole gradient is 0,
    rounding is all there is: 1e-16 / h = 1e-11 of the size of the outputs, a little more for a sum. A fixed number
    would be too much for outputs of 1e-6 and too little for those of 1e8.

    grad_output is random, so that no sum over it vanishes by itself. And a gradient with NaN fails any comparison that
    a right one has to pass.
    """,
)
