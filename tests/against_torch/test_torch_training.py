"""Training against PyTorch: optimizers, learning rates and clipping, each alone and then together on the same path."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_compare import DType, both_dtypes, to_numpy, to_torch
from torch_image_classifier import Paths, both_paths

from npformer.component import Array
from npformer.training import SGD, Adam, AdamW, CosineSchedule, NoamSchedule, Optimizer, clip_by_global_norm
from npformer.training.schedules import Schedule

RATE, BETAS, EPS, DECAY = 0.02, (0.8, 0.95), 1e-6, 0.3

Ours = Callable[[], Optimizer]
Theirs = Callable[[list[Tensor]], torch.optim.Optimizer]
OPTIMIZERS: dict[str, tuple[Ours, Theirs]] = {
    "SGD": (lambda: SGD(RATE), lambda p: torch.optim.SGD(p, RATE)),
    "momentum": (lambda: SGD(RATE, 0.9), lambda p: torch.optim.SGD(p, RATE, momentum=0.9)),
    "Adam's defaults": (Adam, torch.optim.Adam),
    "Adam": (lambda: Adam(RATE, BETAS, EPS), lambda p: torch.optim.Adam(p, RATE, BETAS, EPS)),
    "AdamW's defaults": (AdamW, torch.optim.AdamW),
    "AdamW": (lambda: AdamW(RATE, BETAS, EPS, DECAY), lambda p: torch.optim.AdamW(p, RATE, BETAS, EPS, DECAY)),
}
STEPS = 120


def gradients(number: int) -> dict[str, Array]:
    """Gradients of many sizes: Adam's eps is large, small and nothing beside them."""
    rng = np.random.default_rng(number)
    sizes = {"matrix": 1.0, "vector": 1e-7, "scale": 1e3}
    shapes: dict[str, tuple[int, ...]] = {"matrix": (5, 3), "vector": (4,), "scale": ()}
    return {name: np.asarray(size * rng.standard_normal(shapes[name])) for name, size in sizes.items()}


@both_dtypes
@pytest.mark.parametrize("steered", [False, True], ids=["one rate", "schedule"])
@pytest.mark.parametrize(("ours", "theirs"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_optimizers_over_many_steps(ours: Ours, theirs: Theirs, steered: bool, dtype: DType) -> None:
    """PyTorch's numbers are float64: what float32 is off by is rounding in each of the steps."""
    parameters: dict[str, Array] = {
        name: np.asarray(array / abs(array).max(), dtype) for name, array in gradients(0).items()
    }
    tensors = {name: to_torch(array).requires_grad_() for name, array in parameters.items()}
    optimizer, reference = ours(), theirs(list(tensors.values()))
    schedule = NoamSchedule(4, 30, 0.1)
    for number in range(1, STEPS + 1):
        grads = {name: np.asarray(array, dtype) for name, array in gradients(number).items()}
        if steered:
            optimizer.learning_rate = reference.param_groups[0]["lr"] = schedule(number)
        for name, tensor in tensors.items():
            tensor.grad = to_torch(grads[name])
        reference.step()
        optimizer.step(parameters, grads)
    for name, tensor in tensors.items():
        truth = to_numpy(tensor)
        # some 10 roundings in each of 120 steps, of numbers up to the largest that the parameter went through
        tolerance = 1200 * np.finfo(dtype).eps * max(abs(truth).max(), 1) / 2
        np.testing.assert_allclose(parameters[name], truth, rtol=0, atol=tolerance, err_msg=name)
        assert parameters[name].dtype == np.dtype(dtype)


def rates_of(scheduler: Callable[[torch.optim.Optimizer], Any], rate: float, steps: int) -> list[float]:
    """The rates with which PyTorch takes its steps 1, 2, ..."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], rate)
    made, found = scheduler(optimizer), []
    for _ in range(steps):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        made.step()
    return found


def rates(schedule: Schedule, first: int, last: int) -> list[float]:
    return [schedule(step) for step in range(first, last + 1)]


def test_noam_is_a_lambda_of_pytorchs() -> None:
    def factor(steps_before: int) -> float:
        step = steps_before + 1
        return float(64**-0.5 * min(step**-0.5, step * 20**-1.5))

    theirs = rates_of(lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, factor), 2.0, 100)
    ours = rates(NoamSchedule(d_model=64, warmup_steps=20, factor=2.0), 1, 100)
    assert ours == pytest.approx(theirs, rel=2e-15)  # a few roundings


def test_cosine_is_pytorchs_after_a_linear_warm_up() -> None:
    def cosine(optimizer: torch.optim.Optimizer) -> Any:
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=80, eta_min=0.01)

    theirs = rates_of(cosine, 0.5, 80)
    # PyTorch computes each rate from the one before: its roundings of 1e-16 add up over 80 steps
    assert rates(CosineSchedule(0.5, 80, 0, 0.01), 1, 80) == pytest.approx(theirs, rel=1e-13)
    warmed = CosineSchedule(0.5, 99, 20, 0.01)
    assert rates(warmed, 20, 99) == pytest.approx(theirs, rel=1e-13)
    linear = rates_of(lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: (n + 1) / 20), 0.5, 20)
    assert rates(warmed, 1, 20) == pytest.approx(linear, rel=1e-15)


@both_dtypes
@pytest.mark.parametrize("max_norm", [1e-3, 1.0, 1e5])
def test_clipping_is_pytorchs_but_for_what_it_adds_to_the_norm(max_norm: float, dtype: DType) -> None:
    """PyTorch divides by norm + 1e-6, so that it stays a little below the limit; npformer comes to the limit."""
    grads = {name: np.asarray(array, dtype) for name, array in gradients(3).items()}
    tensors = [to_torch(array).requires_grad_() for array in grads.values()]
    for tensor in tensors:
        tensor.grad = tensor.detach().clone()
    their_norm = float(torch.nn.utils.clip_grad_norm_(tensors, max_norm))
    clipped, norm = clip_by_global_norm(grads, max_norm)
    assert norm == pytest.approx(their_norm, rel=1e-15)
    assert (clipped is grads) == (max_norm == 1e5)
    added = (norm + 1e-6) / norm if norm > max_norm else 1.0
    for array, tensor in zip(clipped.values(), tensors, strict=True):
        assert tensor.grad is not None
        np.testing.assert_allclose(array, to_numpy(tensor.grad) * added, rtol=4 * float(np.finfo(dtype).eps))


@pytest.fixture(scope="module", params=[True, False], ids=["pre-norm", "post-norm"])
def paths(request: pytest.FixtureRequest) -> Paths:
    return both_paths(request.param, steps=200)


def test_a_model_takes_the_same_path(paths: Paths) -> None:
    """200 steps of Adam with its defaults on digits: every loss and every parameter, to 1e-9."""
    ours, theirs = paths.losses
    assert len(ours) == 200
    assert ours[0] > 2  # the losses of a model that learns: from guessing among 10 classes, ln 10 = 2.3 or worse
    assert np.mean(ours[-20:]) < 0.5
    assert np.abs(ours - theirs).max() <= 1e-9
    assert max(paths.differences.values()) <= 1e-9
    assert max(paths.moved.values()) > 0.1
    # The two sides only round differently, and training does not enlarge that: measured are 9e-16 for the losses, 8e-16
    # for all parameters but the key biases, and 7e-11 for those.
    assert np.abs(ours - theirs).max() <= 1e-13
    assert max(paths.without_key_biases().values()) <= 1e-13


def test_key_biases_are_moved_by_rounding_alone(paths: Paths) -> None:
    """A key bias adds the same to all scores of a row, which softmax does not see: its true gradient is 0.

    What is computed is rounding, of the order of 1e-18, another on each side. Adam divides it by √square + eps, where
    eps = 1e-8 is all that counts, so a step of 1e-3 becomes one of 1e-13: in 200 steps that is far below 1e-9.
    """
    biases = {name: difference for name, difference in paths.differences.items() if name.endswith("k_proj.bias")}
    assert len(biases) == 2
    assert all(paths.moved[name] <= 1e-9 for name in biases)  # ours, from where they began
    assert all(paths.moved[name] > 1e-4 for name in paths.without_key_biases())


def test_without_eps_adam_makes_steps_of_rounding() -> None:
    """With eps far below rounding, key biases take steps of the learning rate in directions that mean nothing.

    They differ by as much as they move, while nothing else sees it: neither the losses nor another parameter.
    """
    paths = both_paths(norm_first=True, steps=30, eps=1e-25)
    biases = [difference for name, difference in paths.differences.items() if name.endswith("k_proj.bias")]
    assert min(biases) > 1e-4
    ours, theirs = paths.losses
    assert np.abs(ours - theirs).max() <= 1e-13
    assert max(paths.without_key_biases().values()) <= 1e-9
