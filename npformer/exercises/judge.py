"""The verdict on what a learner wrote, before anyone asks what is wrong with it: by the gradient checker."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from npformer.component import Component
from npformer.embedding import Embeddings, PositionalEncoding, TokenEncoder
from npformer.encoder import Encoder, make_encoder
from npformer.exercises.grade import ArrayGrade
from npformer.exercises.task import instance_of
from npformer.exercises.trial import BackwardTrial, ForwardTrial, Trial
from npformer.gradcheck import Report, check_gradients, randomise
from npformer.gradcheck.report import worst_verdict
from npformer.gradcheck.verdict import FAIL, PASS
from npformer.norm import AnnotatedLayerNorm

OF_FORWARD = 1e-9  # of the largest entry: forward is given, and may be written differently, but not be another function
OF_FUNCTION = 1e-11  # of the largest entry: two right forms of a formula may differ by rounding, as exp magnifies it
VOCAB_SIZE = 8
MANY = 100  # entries of all gradients, above which slopes are along directions: wrong entries are found as well
DIRECTIONS = 2
WITHIN = "an encoder that uses it"


def judge(trials: Sequence[Trial], written: Any, seed: int) -> tuple[ArrayGrade, ...]:
    """Return the verdict on each gradient of a learner's class, or on each call of a learner's function."""
    if all(isinstance(trial, BackwardTrial) for trial in trials):
        return _judge_backward([trial for trial in trials if isinstance(trial, BackwardTrial)], written, seed)
    return tuple(_judge_call(trial, written) for trial in trials if isinstance(trial, ForwardTrial))


def changed_forward(trial: BackwardTrial, written: Any) -> str:
    """Say what is wrong with the forward that a learner was given, if it no longer computes what it did."""
    instance = instance_of(written, trial.case.component)
    output = np.asarray(instance.forward(*trial.case.inputs, **copy.deepcopy(trial.case.options))[0])
    if output.shape != trial.output.shape:
        shapes = f"{output.shape} in place of {trial.output.shape}"
        return f"forward must stay what it was, but its output has the shape {shapes}"
    error = float(np.abs(output - trial.output).max(initial=0))
    if not error <= OF_FORWARD * float(np.abs(trial.output).max(initial=0)):
        return f"forward must stay what it was, but its output differs by up to {error:.2g}"
    return ""


def _judge_backward(trials: Sequence[BackwardTrial], written: Any, seed: int) -> tuple[ArrayGrade, ...]:
    reports: dict[str, Report] = {}
    for trial in trials:
        instance = instance_of(written, trial.case.component)
        many = sum(array.size for array in trial.truth.values()) > MANY
        reports[trial.situation] = check_gradients(
            instance,
            *trial.case.inputs,
            directions=DIRECTIONS if many else None,
            jointly=many,
            seed=seed,
            **trial.case.options,
        )
    grades = []
    for name in dict.fromkeys(check.name for report in reports.values() for check in report.checks):
        checks = [(where, check) for where, report in reports.items() for check in report.checks if check.name == name]
        verdict = worst_verdict(check.verdict for _, check in checks)
        reasons = [f"{check.reason} ({where})" for where, check in checks if check.verdict == verdict != PASS]
        grades.append(ArrayGrade(name, verdict, reasons[0] if reasons else ""))
    task = trials[0].task
    encoder = _encoder_with(task.component, written, seed) if task.in_encoder else None
    if encoder is not None and all(grade.verdict == PASS for grade in grades):
        tokens = np.random.default_rng(seed).integers(0, VOCAB_SIZE, (2, 5))
        report = check_gradients(
            encoder, tokens, directions=DIRECTIONS, jointly=True, seed=seed, rng=np.random.default_rng(seed)
        )
        wrong = [check.name for check in report.checks if check.verdict != PASS]
        reason = f"the gradient of {wrong[0]} is wrong in it" if wrong else ""
        grades.append(ArrayGrade(WITHIN, report.verdict, reason))
    return tuple(grades)


def _encoder_with(component: type[Component], written: Any, seed: int) -> TokenEncoder | None:
    """Return an encoder in which a learner's class has taken the place of a component; None if it has none of these."""
    rng = np.random.default_rng(seed)
    pre, post = (make_encoder(1, 6, 3, 7, 0.25, "gelu", first, rng=rng) for first in (True, False))
    encoder = Encoder([*pre.layers, *post.layers], AnnotatedLayerNorm(6))
    model = TokenEncoder(Embeddings(6, VOCAB_SIZE, rng=rng), PositionalEncoding(6, 0.25), encoder)
    randomise(model, rng)
    places = [part for part in _parts(model) if type(part) is component]
    for part in places:
        part.__class__ = written
    return model if places else None


def _parts(component: Component) -> list[Component]:
    children = [
        part
        for value in vars(component).values()
        for part in (value if isinstance(value, list) else [value])
        if isinstance(part, Component)
    ]
    return [component, *(part for child in children for part in _parts(child))]


def _judge_call(trial: ForwardTrial, written: Any) -> ArrayGrade:
    arrays = trial.arrays_of(written)
    for name, true in trial.truth.items():
        yours = arrays.get(name)
        if yours is None:
            return ArrayGrade(trial.situation, FAIL, f"there is no {name}")
        if yours.shape != true.shape:
            return ArrayGrade(trial.situation, FAIL, f"{name} has the shape {yours.shape}, but it must be {true.shape}")
        error = float(np.abs(yours - true).max(initial=0))
        if not error <= OF_FUNCTION * max(1.0, float(np.abs(true).max(initial=0))):  # NaN is no answer either
            return ArrayGrade(trial.situation, FAIL, f"{name} is off by up to {error:.2g}")
    return ArrayGrade(trial.situation, PASS)
