"""Exact derivatives as tools: Jacobian- and Hessian-vector products, by complex step through forward and backward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from npformer.component import Array
from npformer.gradcheck.arguments import check_along, check_cotangent
from npformer.gradcheck.objective import STEP
from npformer.gradcheck.subject import Subject, silence

WITNESS_STEP = 1e-6
# A difference of step 1e-6 is off by some 1e-10 from rounding and curvature, and by more if it crosses a kink. What a
# cast to real has lost is mostly off by 100 %.
OF_WITNESS = 0.01


@silence()
def jvp(subject: Any, *inputs: Array, along: Mapping[str, Array], **options: Any) -> Array:
    """Return the Jacobian-vector product: how the output moves when the arrays move along given vectors.

    It is forward(a + ihv).imag / h with h = 1e-200, exact to rounding (Squire and Trapp 1998).

    Parameters
    ----------
    subject, *inputs, **options
        As for check_gradients. forward must take complex arrays; every component of this package does.
    along : dict of arrays
        A vector for each array that moves, in its shape, by name of input or dotted name of parameter.

    Returns
    -------
    array
        float64, in the shape of the output.

    Raises
    ------
    ValueError
        If a vector does not fit, or a central difference contradicts the result: then forward is not analytic here.

    Examples
    --------
    >>> from npformer import Softmax
    >>> jvp(Softmax(), np.zeros((1, 2)), along={"x": np.array([[1.0, 0.0]])})
    array([[ 0.25, -0.25]])
    """
    checked = Subject(subject, inputs, options)
    vectors, length = _scaled(check_along(along, checked.arrays()))
    output = _moved(checked, vectors, 1j * STEP).forward()[0]
    above, below = (_moved(checked, vectors, side * WITNESS_STEP).forward()[0] for side in (1, -1))
    return length * _derivative("forward", {"output": output}, {"output": above}, {"output": below})["output"]


@silence()
def hvp(
    subject: Any, *inputs: Array, grad_output: Array, along: Mapping[str, Array], **options: Any
) -> dict[str, Array]:
    """Return the Hessian-vector product of f = Σ grad_output * forward: how its gradients move along given vectors.

    It is a complex step through forward and then backward. Since H is symmetric, u·Hv = v·Hu for all u and v.

    Parameters
    ----------
    subject, *inputs, **options
        As for check_gradients. forward and backward must take complex arrays.
    grad_output : array
        In the shape and dtype of the output.
    along : dict of arrays
        A vector for each array that moves, by name of input or dotted name of parameter.

    Returns
    -------
    dict of arrays
        float64, for every floating input and every parameter by name.

    Raises
    ------
    ValueError
        If a vector does not fit, or a central difference contradicts the result: then backward is not analytic here.

    Examples
    --------
    >>> def forward(x):
    ...     return x**3
    >>> def backward(grad_output, x):
    ...     return grad_output * 3 * x**2
    >>> hvp((forward, backward), np.array([2.0]), grad_output=np.ones(1), along={"x": np.ones(1)})
    {'x': array([12.])}
    """
    checked = Subject(subject, inputs, options)
    vectors, length = _scaled(check_along(along, checked.arrays()))
    cotangent = check_cotangent(grad_output, checked.cast(None).forward()[0])

    def gradients(step: complex) -> dict[str, Any]:
        moved = _moved(checked, vectors, step)
        output, cache = moved.forward()
        return moved.backward(cotangent.astype(output.dtype), cache)

    products = _derivative("backward", gradients(1j * STEP), gradients(WITNESS_STEP), gradients(-WITNESS_STEP))
    return {name: length * product for name, product in products.items()}


def _scaled(vectors: dict[str, Array]) -> tuple[dict[str, Array], float]:
    """Return the vectors over their largest entry, so that a step is a step, and that entry."""
    length = max(float(np.abs(vector).max()) for vector in vectors.values()) or 1.0
    return {name: vector / length for name, vector in vectors.items()}, length


def _moved(subject: Subject, vectors: dict[str, Array], step: complex) -> Subject:
    twin = subject.cast(np.complex128 if isinstance(step, complex) else np.float64)
    arrays = twin.arrays()
    for name, vector in vectors.items():
        arrays[name] += step * vector
    return twin


def _derivative(what: str, exact: dict[str, Any], above: dict[str, Any], below: dict[str, Any]) -> dict[str, Array]:
    derivatives: dict[str, Array] = {name: np.imag(array) / STEP for name, array in exact.items()}
    largest = max(float(np.abs(array).max()) for array in above.values())
    noise = 1e3 * float(np.finfo(np.float64).eps) * largest / WITNESS_STEP
    for name, derivative in derivatives.items():
        difference = (above[name] - below[name]) / (2 * WITNESS_STEP)
        off = float(np.abs(difference - derivative).max())
        if not off <= OF_WITNESS * float(np.abs(difference).max()) + noise:
            raise ValueError(
                f"{what} must be analytic here, but a complex step and a central difference of its {name} differ "
                f"by {off:.2g}"
            )
    return derivatives
