"""The parts of a batch, computed at the same time, give what the whole batch gives."""

import threading
from typing import Any

import numpy as np
import pytest

from npformer import Dropout, GivenMasks, Linear, flatten
from npformer.component import Array, Component, Tree
from npformer.gradcheck import check_gradients
from npformer.training import make_image_classifier
from npformer.training.data_parallel import DataParallel

MODEL = make_image_classifier((4, 4), 2, 3, num_layers=2, d_model=8, num_heads=2, d_ff=8, dropout=0.25, rng=0)
IMAGES = np.random.default_rng(1).standard_normal((5, 4, 4))
GRAD = np.random.default_rng(2).standard_normal((5, 3))


@pytest.mark.parametrize("threads", [1, 2, 3, 5, 9])
def test_outputs_and_gradients_are_those_of_the_whole_batch(threads: int) -> None:
    logits, cache = MODEL.forward(IMAGES)
    grad_images, grads = MODEL.backward(GRAD, cache)
    in_parts, parts = DataParallel(MODEL, threads).forward(IMAGES)
    grad_in_parts, sums = DataParallel(MODEL, threads).backward(GRAD, parts)
    assert list(parts) == [str(i) for i in range(min(threads, 5))]
    # the same products and sums, in another order: some roundings of numbers up to 10
    np.testing.assert_allclose(in_parts, logits, rtol=0, atol=1e-13)
    np.testing.assert_allclose(grad_in_parts, grad_images, rtol=0, atol=1e-13)
    assert list(flatten(sums)) == list(flatten(grads))
    for name, grad in flatten(grads).items():
        np.testing.assert_allclose(flatten(sums)[name], grad, rtol=0, atol=1e-13, err_msg=name)


def test_its_gradients_are_proven() -> None:
    model = make_image_classifier((2, 4), 2, 3, num_layers=1, d_model=4, num_heads=2, d_ff=4, rng=0)
    report = check_gradients(DataParallel(model, 2), IMAGES[:3, :2])
    assert report.verdict == "PASS", str(report)


def test_each_part_draws_its_own_masks_and_a_seed_decides_them_all() -> None:
    dropout = DataParallel(Dropout(0.5), 2)
    x = np.ones((2, 1000))
    first, second = dropout(x, rng=np.random.default_rng(7))
    assert (first != second).any()
    again = dropout(x, rng=np.random.default_rng(7))
    assert np.array_equal(again, [first, second])
    assert np.array_equal(dropout(x), x)


def test_the_order_in_which_threads_end_changes_no_bit() -> None:
    model = DataParallel(MODEL, 4)
    seen = set()
    for _ in range(20):
        logits, cache = model.forward(IMAGES, rng=np.random.default_rng(3))
        grad_images, grads = model.backward(GRAD, cache)
        seen.add(b"".join(array.tobytes() for array in (logits, grad_images, *flatten(grads).values())))
    assert len(seen) == 1


def test_it_has_the_parameters_of_its_model_as_if_it_were_not_there() -> None:
    model = DataParallel(MODEL, 2)
    named = flatten(MODEL.parameters())
    assert all(array is named[name] for name, array in flatten(model.parameters()).items())
    other = {name: array + 1 for name, array in named.items()}
    changed = model.with_parameters(other)
    assert (type(changed), changed.threads) == (DataParallel, 2)
    np.testing.assert_allclose(changed(IMAGES), MODEL.with_parameters(other)(IMAGES), rtol=0, atol=1e-12)
    assert model.component is MODEL
    assert model.astype(np.float32)(IMAGES.astype(np.float32)).dtype == np.float32


class Meeting(Component):
    """Goes on when as many threads are in it as parts: alone, one waits for ever."""

    def __init__(self, parts: int):
        self.barrier = threading.Barrier(parts, timeout=20)

    def forward(self, x: Array) -> tuple[Array, Tree]:
        self.barrier.wait()
        return x, {}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        self.barrier.wait()
        return grad_output, {}


def test_the_parts_are_computed_at_the_same_time() -> None:
    x = np.arange(6.0).reshape(3, 2)
    output, cache = DataParallel(Meeting(3), 3).forward(x)
    assert np.array_equal(output, x)
    assert np.array_equal(DataParallel(Meeting(3), 3).backward(x, cache)[0], x)


def test_what_numpy_is_told_to_do_about_an_overflow_holds_in_every_thread() -> None:
    huge = DataParallel(Linear(1, 1, rng=0), 2)
    huge.component.weight[...] = 1e300  # type: ignore[attr-defined]
    x = np.array([[1.0], [1e300]])
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        huge(x)
    with np.errstate(over="ignore"):
        assert np.isinf(huge(x)[1, 0])


ANYTHING: Any = [[1.0, 2.0]]


def test_bad_input_is_refused_in_one_sentence() -> None:
    linear = DataParallel(Linear(2, 2, rng=0), 2)
    with pytest.raises(TypeError, match="x must be a NumPy array, but it is a list"):
        linear.forward(ANYTHING)
    with pytest.raises(TypeError, match="rng must be a Generator, but it is a GivenMasks"):
        DataParallel(MODEL, 2).forward(IMAGES, rng=GivenMasks([]))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"x must have a batch as its first axis, but its shape is \(\)"):
        linear.forward(np.array(1.0))
    with pytest.raises(ValueError, match=r"grad_output must have a batch as its first axis, but its shape is \(\)"):
        linear.backward(np.array(1.0), linear.forward(np.ones((4, 2)))[1])
    with pytest.raises(ValueError, match="x must have at least one entry"):
        linear.forward(np.ones((0, 2)))
    with pytest.raises(ValueError, match="d_in=2"):
        linear.forward(np.ones((4, 3)))
    with pytest.raises(ValueError, match="threads must be at least 1, but it is 0"):
        DataParallel(MODEL, 0)
    with pytest.raises(TypeError, match="component must be a Component"):
        DataParallel(np.tanh, 2)  # type: ignore[arg-type]
