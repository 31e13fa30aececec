"""The verdict on what a learner wrote, before anyone asks what is wrong with it: by the gradient checker."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from npformer.activations import GELU
from npformer.component import Array, Component, Tree, flatten
from npformer.embedding import Embeddings, PositionalEncoding, TokenEncoder
from npformer.encoder import Encoder, make_encoder
from npformer.exercises.grade import ArrayGrade
from npformer.exercises.task import instance_of
from npformer.exercises.trial import BackwardTrial, ForwardTrial, Trial
from npformer.gradcheck import Report, check_gradients, randomise
from npformer.gradcheck.report import worst_verdict
from npformer.gradcheck.subject import named_gradients
from npformer.gradcheck.verdict import FAIL, PASS, ArrayCheck
from npformer.norm import AnnotatedLayerNorm
from npformer.shapes import describe

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
    names, right_names = (list(flatten(each.parameters())) for each in (instance, trial.case.component))
    if sorted(names) != sorted(right_names):
        return f"the parameters must be {_listed(right_names)}, but those of the class are {_listed(names)}"
    output = np.asarray(instance.forward(*trial.case.inputs, **copy.deepcopy(trial.case.options))[0])
    if output.shape != trial.output.shape:
        shapes = f"{output.shape} in place of {trial.output.shape}"
        return f"forward must stay what it was, but its output has the shape {shapes}"
    error = float(np.abs(output - trial.output).max(initial=0))
    if not error <= OF_FORWARD * float(np.abs(trial.output).max(initial=0)):
        return f"forward must stay what it was, but its output differs by up to {error:.2g}"
    return ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def misformed_backward(trial: BackwardTrial, written: Any) -> str:
    """Say what is wrong with the form of what backward returns: gradients of the inputs, and a dict of the others."""
    instance = instance_of(written, trial.case.component)
    cache = instance.forward(*trial.case.inputs, **copy.deepcopy(trial.case.options))[1]
    returned = instance.backward(trial.grad_output.copy(), cache)
    right = trial.case.component.backward(trial.grad_output, trial.cache)[0]
    what = f"a tuple of {len(right)} gradients" if isinstance(right, tuple) else "one gradient, an array,"
    if not isinstance(returned, tuple) or len(returned) != 2 or not isinstance(returned[1], dict):
        came = [describe(each) for each in returned] if isinstance(returned, tuple) else [describe(returned)]
        return f"backward must return two things, {what} and a dict, but it returned {' and '.join(came) or 'nothing'}"
    fits = isinstance(returned[0], tuple) and len(returned[0]) == len(right) if isinstance(right, tuple) else True
    if not fits or (isinstance(returned[0], tuple | list | dict) and not isinstance(right, tuple)):
        return f"backward must return {what} first, but it returned {describe(returned[0])}"
    return ""


def _judge_backward(trials: Sequence[BackwardTrial], written: Any, seed: int) -> tuple[ArrayGrade, ...]:
    reports: dict[str, Report] = {}
    for trial in trials:
        instance = instance_of(written, trial.case.component)
        many = sum(array.size for array in trial.truth.values()) > MANY
        how = {"directions": DIRECTIONS if many else None, "jointly": many, "seed": seed} | trial.case.options
        failed = {check.name for each in reports.values() for check in each.checks if check.verdict == FAIL}
        only = [name for name in trial.truth if name not in failed] if failed else None  # one failure is enough
        if only == []:
            break
        report = check_gradients(instance, *trial.case.inputs, **how, only=only)
        if len(report.checks) > 1 and _is_one_fault(report):
            report = replace(report, checks=tuple(_alone(trial, written, check, how) for check in report.checks))
        reports[trial.situation] = report
    grades = []
    for name in dict.fromkeys(check.name for report in reports.values() for check in report.checks):
        checks = [(where, check) for where, report in reports.items() for check in report.checks if check.name == name]
        verdict = worst_verdict(check.verdict for _, check in checks)
        reasons = [f"{check.reason} ({where})" for where, check in checks if check.verdict == verdict != PASS]
        grades.append(ArrayGrade(name, verdict, reasons[0] if reasons else ""))
    task = trials[0].task
    encoder = _encoder_with(task.component, written, seed) if task.in_encoder else None
    if encoder is not None and all(grade.verdict == PASS for grade in grades):
        grades.append(_judge_within(encoder, seed))
    return tuple(grades)


def _judge_within(encoder: TokenEncoder, seed: int) -> ArrayGrade:
    for shape in ((2, 5), (1, 3)):  # the second has no batch to speak of
        tokens = np.random.default_rng(seed).integers(0, VOCAB_SIZE, shape)
        rng = np.random.default_rng(seed)
        report = check_gradients(encoder, tokens, directions=DIRECTIONS, jointly=True, seed=seed, rng=rng)
        wrong = [check.name for check in report.checks if check.verdict != PASS]
        if wrong:
            return ArrayGrade(
                WITHIN, report.verdict, f"the gradient of {wrong[0]} is wrong for tokens of shape {shape}"
            )
    return ArrayGrade(WITHIN, PASS)


def _is_one_fault(report: Report) -> bool:
    """Whether all arrays fail for one reason: that of how backward behaves as a whole."""
    reasons = {check.reason for check in report.checks}
    return report.verdict != PASS and len(reasons) == 1 and reasons != {""}


def _alone(trial: BackwardTrial, written: Any, check: ArrayCheck, how: dict[str, Any]) -> ArrayCheck:
    """Return the verdict on one gradient if all others are the right ones."""
    if check.name not in trial.truth:
        return check
    alone = _Alone(trial, written, check.name)
    by_position = f"inputs[{alone.names.index(check.name)}]" if check.name in alone.names else check.name
    [found] = check_gradients(alone, *trial.case.inputs, **how, only=[by_position]).checks
    return replace(found, name=check.name)


class _Alone:
    """A learner's backward of which one gradient is taken, and the others from the right one.

    The checker judges how a backward behaves as a whole; so that is found out for each gradient by itself.
    """

    def __init__(self, trial: BackwardTrial, written: Any, name: str):
        self.learner = instance_of(written, trial.case.component)
        self.right = instance_of(type(trial.case.component), self.learner)
        vars(self.right).update(vars(self.learner))  # the very arrays, so that the two move together
        self.names = list(trial.given)[:-1]  # without grad_output
        self.name = name

    def parameters(self) -> Tree:
        tree: Tree = self.right.parameters()
        return tree

    def forward(self, *inputs: Any, **options: Any) -> tuple[Array, Tree]:
        right = self.right.forward(*inputs, **copy.deepcopy(options))[1]
        output, cache = self.learner.forward(*inputs, **options)
        return output, {"learner": cache, "right": right}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
        yours = named_gradients(self.learner, self.names, grad_output, cache["learner"])
        right = named_gradients(self.right, self.names, grad_output, cache["right"])
        mixed = right | {self.name: yours.get(self.name)}
        return tuple(mixed.pop(name, None) for name in self.names), mixed


def _encoder_with(component: type[Component], written: Any, seed: int) -> TokenEncoder | None:
    """Return an encoder in which a learner's class has taken the place of a component; None if it has none of these."""
    rng = np.random.default_rng(seed)
    activation = "gelu" if component is GELU else "relu"  # statements say that the feed-forward network has a ReLU
    pre, post = (make_encoder(1, 6, 3, 7, 0.25, activation, first, rng=rng) for first in (True, False))
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
        if not np.isfinite(yours).all():
            return ArrayGrade(trial.situation, FAIL, f"{name} has entries that are NaN or infinite")
        error = float(np.abs(yours - true).max(initial=0))
        if not error <= OF_FUNCTION * max(1.0, float(np.abs(true).max(initial=0))):
            return ArrayGrade(trial.situation, FAIL, f"{name} is off by up to {error:.2g}")
    return ArrayGrade(trial.situation, PASS)
