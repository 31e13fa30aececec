"""The history of a training: norms go from the first layer to the last, and other models are refused."""

from typing import Any

import numpy as np
import pytest

from npformer import CrossEntropy, Linear
from npformer.component import Component
from npformer.training import SGD, History, Step, make_image_classifier, train


def one_step(model: Component, shape: tuple[int, ...]) -> Step:
    batch = np.random.default_rng(0).random((6, *shape)), np.arange(6) % 2
    (step,) = train(model, CrossEntropy(), SGD(0.1), [batch])
    return step


def test_norms_go_from_the_first_layer_to_the_last() -> None:
    model = make_image_classifier((4, 4), 2, num_classes=2, num_layers=11, d_model=4, num_heads=2, d_ff=8, rng=0)
    step = one_step(model, (4, 4))
    history = History()
    history.append(step)
    assert list(history.grad_norms) == ["embedding", *(f"layers.{n}" for n in range(11)), "norm", "head"]
    assert next(iter(step.grads)) == "head"  # whereas those of the step are in the order of the way back
    total = np.sqrt(sum(norm**2 for (norm,) in history.grad_norms.values()))
    assert total == pytest.approx(step.grad_norm, rel=1e-14)  # sums in another order


def test_a_step_of_another_model_is_refused_and_nothing_is_added() -> None:
    history = History()
    with pytest.raises(TypeError) as caught:
        history.append(one_step(Linear(3, 2, rng=0), (3,)))
    assert str(caught.value) == (
        "step must be of an ImageClassifier, with gradients of embedding, encoder.layers and head, "
        "but its gradients are weight, bias"
    )
    assert history == History()


def test_a_classifier_with_another_encoder_is_refused() -> None:
    model = make_image_classifier((4, 4), 2, num_classes=2, num_layers=1, d_model=4, num_heads=2, d_ff=8, rng=0)
    step = one_step(model, (4, 4))
    step.grads["encoder"] = {"weight": np.ones(2)}
    with pytest.raises(TypeError, match=r"^step must be of an ImageClassifier"):
        History().append(step)


def test_what_is_no_step_is_refused() -> None:
    step: Any = {"loss": 1.0}
    with pytest.raises(TypeError, match=r"^step must be a Step, but it is a dict$"):
        History().append(step)
