"""The loop: it is what one writes by hand, and it stops before it spoils anything."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from npformer import CrossEntropy, Linear, flatten
from npformer.component import Array, Component, Tree
from npformer.training import (
    SGD,
    AdamW,
    CosineSchedule,
    ImageClassifier,
    NotFiniteError,
    Optimizer,
    clip_by_global_norm,
    global_norm,
    make_image_classifier,
    train,
)

STEPS = 6
SCHEDULE = CosineSchedule(0.1, STEPS, warmup_steps=2, floor=0.01)
MAX_NORM = 3.0


def classifier(dtype: type = np.float64) -> ImageClassifier:
    return make_image_classifier((4, 4), 2, 3, 1, 8, 2, 16, dropout=0.2, rng=0).astype(dtype)


def batches(dtype: type = np.float64) -> list[tuple[Array, Array]]:
    rng = np.random.default_rng(1)
    return [(rng.random((5, 4, 4)).astype(dtype), rng.integers(0, 3, 5)) for _ in range(STEPS)]


def source(number: int) -> np.random.Generator:
    return np.random.default_rng([7, number])


def bits(tree: Tree) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in flatten(tree).items()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_loop_is_what_one_writes_by_hand(dtype: type) -> None:
    model, loss, optimizer = classifier(dtype), CrossEntropy(0.1), AdamW()
    by_hand, norms = [], []
    for number, (images, labels) in enumerate(batches(dtype), 1):
        logits, cache = model.forward(images, rng=source(number))
        value, loss_cache = loss.forward(logits, labels)
        grads = model.backward(loss.backward(np.ones((), dtype), loss_cache)[0][0], cache)[1]
        clipped, norm = clip_by_global_norm(grads, MAX_NORM)
        optimizer.learning_rate = SCHEDULE(number)
        optimizer.step(model.parameters(), clipped)
        by_hand.append((number, float(value), norm, SCHEDULE(number), logits.tobytes(), bits(grads)))
        norms.append(norm)
    assert min(norms) < MAX_NORM < max(norms)  # some are clipped, some are not

    same = classifier(dtype)
    steps = train(same, loss, AdamW(), batches(dtype), SCHEDULE, MAX_NORM, source)
    ours = [(s.number, s.loss, s.grad_norm, s.learning_rate, s.output.tobytes(), bits(s.grads)) for s in steps]
    assert ours == by_hand
    assert bits(same.parameters()) == bits(model.parameters())


def test_without_schedule_limit_and_source_nothing_is_changed_clipped_or_drawn() -> None:
    model, by_hand, loss = classifier(), classifier(), CrossEntropy()
    for (images, labels), step in zip(batches(), train(model, loss, SGD(0.3), batches()), strict=True):
        logits, cache = by_hand.forward(images)
        grads = by_hand.backward(loss.backward(np.array(1.0), loss.forward(logits, labels)[1])[0][0], cache)[1]
        for name, parameter in flatten(by_hand.parameters()).items():
            parameter -= 0.3 * flatten(grads)[name]
        assert bits(by_hand.parameters()) == bits(model.parameters())
        assert (step.learning_rate, step.grad_norm) == (0.3, global_norm(grads))
        assert step.targets is not None
        assert np.array_equal(step.targets, labels)


def test_a_run_that_is_taken_up_in_the_middle_ends_at_the_same_bits() -> None:
    whole, first, loss = classifier(), classifier(), CrossEntropy()
    losses = [step.loss for step in train(whole, loss, AdamW(), batches(), SCHEDULE, MAX_NORM, source)]
    optimizer = AdamW()
    halves = [s.loss for s in train(first, loss, optimizer, batches()[:2], SCHEDULE, MAX_NORM, source)]
    again = AdamW()
    again.load_state(optimizer.state())
    second = first.with_parameters({name: p.copy() for name, p in flatten(first.parameters()).items()})
    halves += [s.loss for s in train(second, loss, again, batches()[2:], SCHEDULE, MAX_NORM, source, first=3)]
    assert halves == losses
    assert bits(second.parameters()) == bits(whole.parameters())


def test_steps_can_be_compared_and_be_keys() -> None:
    first, second = (next(train(classifier(), CrossEntropy(), SGD(0.1), batches())) for _ in range(2))
    assert first != second  # each is itself alone: arrays have no single answer
    assert len({first, second, first}) == 2


def test_one_generator_is_drawn_from_step_after_step() -> None:
    def run(rng: Any) -> list[float]:
        return [step.loss for step in train(classifier(), CrossEntropy(), SGD(0.1), batches()[:1] * 3, rng=rng)]

    assert run(np.random.default_rng(3)) == run(np.random.default_rng(3))
    assert run(np.random.default_rng(3)) != run(None)
    assert run(np.random.default_rng(3)) != run(lambda _: np.random.default_rng(3))  # the same masks in each step


def test_steps_are_taken_when_they_are_asked_for() -> None:
    taken: list[int] = []

    def endless() -> Iterator[tuple[Array, Array]]:
        for number in itertools.count(1):
            taken.append(number)
            yield np.ones((2, 3)), np.array([0, 1])

    optimizer = SGD(0.1)
    steps = train(Linear(3, 2, rng=0), CrossEntropy(), optimizer, endless())  # a component without dropout
    assert (taken, optimizer.steps) == ([], 0)
    assert [step.number for step in itertools.islice(steps, 4)] == [1, 2, 3, 4]
    assert (taken, optimizer.steps) == ([1, 2, 3, 4], 4)


def test_a_loss_that_is_not_finite_stops_before_anything_is_written() -> None:
    model, optimizer = Linear(2, 2, rng=0), AdamW()
    good, bad = (np.ones((1, 2)), np.array([0])), (np.array([[np.nan, 1.0]]), np.array([0]))
    steps = train(model, CrossEntropy(), optimizer, [good, bad, good], first=7)
    next(steps)
    before, state = bits(model.parameters()), bits(optimizer.state())
    with pytest.raises(NotFiniteError, match="loss must be finite, but at step 8 it is nan; try a lower learning rate"):
        next(steps)
    assert (bits(model.parameters()), bits(optimizer.state())) == (before, state)


class Diverging(Linear):
    """Its forward is finite, its gradient is not."""

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        grad_x, grads = super().backward(grad_output, cache)
        return grad_x, grads | {"bias": grads["bias"] / 0 * 0}


@pytest.mark.parametrize("max_norm", [None, 1.0])
def test_a_gradient_that_is_not_finite_is_named(max_norm: float | None) -> None:
    model = Diverging(2, 2, rng=0)
    before = bits(model.parameters())
    with np.errstate(all="ignore"), pytest.raises(NotFiniteError, match=r"grads\.bias must be finite"):
        list(train(model, CrossEntropy(), SGD(0.1), [(np.ones((1, 2)), np.array([0]))], max_norm=max_norm))
    assert bits(model.parameters()) == before


class NotReduced(Component):
    """A loss for each row."""

    def forward(self, output: Array, targets: Array) -> tuple[Array, Tree]:
        return output.sum(-1), {}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
        raise NotImplementedError


GOOD: dict[str, Any] = {"model": Linear(2, 2, rng=0), "loss": CrossEntropy(), "optimizer": SGD(0.1), "batches": []}
BAD_ARGUMENTS: list[tuple[dict[str, Any], str]] = [
    ({"model": Linear}, "model must be a Component, but it is the class Linear"),
    ({"loss": "mse"}, "loss must be a Component, but it is a str"),
    ({"optimizer": 0.1}, "optimizer must be an Optimizer, but it is a float"),
    ({"batches": 3}, r"batches must be an iterable of pairs \(inputs, targets\), but it is an int"),
    ({"schedule": 0.1}, "schedule must be a function from step numbers to rates or None, but it is a float"),
    ({"max_norm": 0.0}, "max_norm must lie in"),
    ({"rng": 0}, "rng must be a generator, a function from step numbers to generators, or None, but it is an int"),
    ({"first": 0}, "first must be at least 1, but it is 0"),
]


@pytest.mark.parametrize(("bad", "sentence"), BAD_ARGUMENTS)
def test_bad_arguments_are_refused_at_once(bad: dict[str, Any], sentence: str) -> None:
    with pytest.raises((TypeError, ValueError), match=sentence):
        train(**(GOOD | bad))


PAIR = (np.ones((1, 2)), np.array([0]))
BAD_STEPS: list[tuple[dict[str, Any], str]] = [
    ({"batches": [np.ones((2, 2))]}, r"batches must give pairs \(inputs, targets\), but one is a ndarray of length 2"),
    ({"batches": [(*PAIR, 1)]}, r"batches must give pairs \(inputs, targets\), but one is a tuple of length 3"),
    ({"batches": [None]}, r"batches must give pairs \(inputs, targets\), but one is None$"),
    ({"batches": [PAIR], "loss": NotReduced()}, r"loss must give one number, but its shape is \(1,\)"),
    ({"batches": [PAIR], "schedule": lambda number: -number}, "learning_rate must lie in"),
]


@pytest.mark.parametrize(("bad", "sentence"), BAD_STEPS)
def test_bad_steps_are_refused(bad: dict[str, Any], sentence: str) -> None:
    optimizer: Optimizer = SGD(0.1)
    model = Linear(2, 2, rng=0)
    before = bits(model.parameters())
    with pytest.raises((TypeError, ValueError), match=sentence) as refused:
        list(train(**(GOOD | bad | {"optimizer": optimizer, "model": model})))
    assert not isinstance(refused.value, NotFiniteError)  # that is for numbers alone
    assert (bits(model.parameters()), optimizer.steps) == (before, 0)
