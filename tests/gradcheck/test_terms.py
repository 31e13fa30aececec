"""How large the terms of a gradient were."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npformer import MultiHeadedAttention, flatten
from npformer.gradcheck.subject import Subject
from npformer.gradcheck.terms import Terms, term_sizes


def test_the_terms_of_a_key_bias_are_large_and_its_gradient_is_not() -> None:
    attention = MultiHeadedAttention(2, 4, rng=0)
    x, grad_output = (np.random.default_rng(seed).standard_normal((2, 5, 4)) for seed in (1, 2))
    _, cache = attention.forward(x)
    _, grads = attention.backward(grad_output, cache)
    sizes = term_sizes(Subject(attention, [x], {}), grad_output, cache)
    assert np.all(np.abs(grads["k_proj"]["bias"]) < 1e-14 * sizes["k_proj.bias"])  # what rounding leaves of its terms
    assert sizes["k_proj.bias"].min() > 0.01
    for name, grad in flatten(grads).items():
        assert np.all(sizes[name] >= np.abs(grad))


def test_terms_add_up_in_quadrature() -> None:
    a, b = Terms(np.array([[3.0, 1.0]])), Terms(np.array([[4.0], [1.0]]))
    assert (a + 4.0).square.tolist() == [[49.0, 25.0]]  # never below the value's own square
    assert (a - 4.0).square.tolist() == [[25.0, 17.0]]
    assert (a @ b).value.tolist() == [[13.0]]
    assert (a @ b).square.tolist() == [[169.0]]
    assert (a @ -b).square.tolist() == [[169.0]]
    assert a.mean(-1, keepdims=True).square.tolist() == [[4.0]]
    assert np.einsum("ij,ij->i", a, a - 4.0).square.tolist() == [9.0 * 25.0 + 17.0]


COLUMN = np.array([[1.0], [-1.0]])
WAYS: dict[str, Callable[[Any], Any]] = {
    "np.sum": lambda t: np.sum(t, axis=0),
    "np.sum over all": lambda t: np.sum(t)[None],
    "method sum": lambda t: t.sum(0),
    "np.dot": lambda t: np.dot(np.ones(2), t),
    "np.tensordot": lambda t: np.tensordot(np.ones(2), t, 1),
    "np.einsum": lambda t: np.einsum("ij->j", t),
    "np.add.reduce": lambda t: np.add.reduce(t, 0),
    "np.mean": lambda t: 2 * np.mean(t, axis=0),
    "np.mean over all": lambda t: 2 * np.mean(t)[None],
    "np.concatenate": lambda t: np.concatenate([t[:1], t[1:]]).sum(0),
    "np.stack and np.squeeze": lambda t: np.stack([np.squeeze(t), np.squeeze(t)])[0].sum()[None],
    "np.where": lambda t: np.where(t > 0, t, t).sum(0),
    "np.transpose": lambda t: np.transpose(t).sum(1),
    "a loop": lambda t: t[0] + t[1],
    "writing into zeros": lambda t: written(np.zeros_like(t), t).sum(0),
}


def written(target: Any, t: Any) -> Any:
    for index in range(len(t)):
        target[index] = t[index]
    return target


@pytest.mark.parametrize("way", WAYS)
def test_terms_survive_in_every_way_to_write_a_sum(way: str) -> None:
    big = 1e8 * COLUMN
    total = WAYS[way](Terms(big))
    assert total.value.tolist() == [0.0] == WAYS[way](big).tolist()
    assert np.sqrt(total.square).tolist() == pytest.approx([np.sqrt(2) * 1e8])


def test_a_backward_that_cannot_carry_terms_has_none() -> None:
    def backward(grad_output: Any, x: Any) -> Any:
        return np.array([float(entry) for entry in grad_output])

    subject = Subject((lambda x: x, backward), [np.ones(2)], {})
    _, cache = subject.forward()
    assert term_sizes(subject, np.ones(2), cache) == {}
