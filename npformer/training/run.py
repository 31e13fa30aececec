"""A training run, which can stop after any step and go on to the same bits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Self

import numpy as np

from npformer.component import Array, flatten
from npformer.image_classifier import make_image_classifier
from npformer.loss import CrossEntropy
from npformer.shapes import check_part, check_same_arrays
from npformer.training.augmentation import flip, shift
from npformer.training.data import Data
from npformer.training.data_parallel import DataParallel
from npformer.training.fit import check_fit, count_steps
from npformer.training.gradients import NotFiniteError
from npformer.training.history import History, by_layer
from npformer.training.loop import Step, train
from npformer.training.optimizers import AdamW
from npformer.training.saved_run import SavedRun, read_saved_run
from npformer.training.schedules import CosineSchedule
from npformer.training.settings import Settings
from npformer.training.source import Source

PARAMETERS, ORDER, AUGMENTATION, DROPOUT = range(4)  # what is drawn: each has random numbers of its own
SCORED_AT_ONCE = 500  # images
BETAS = (0.9, 0.98)  # of Adam, as in Vaswani et al. 2017, section 5.3: runs are short for a memory of 1,000 steps


class DivergedError(ArithmeticError):
    """Training has left the finite numbers: one sentence that names the step."""


class Run:
    """An ImageClassifier in training on images, with AdamW, warm-up and cosine.

    The model sees images less the mean of all pixels of the training images, and divided by their standard deviation.

    Whatever is drawn at a step is a function of the seed, what it is for, and the number of the step or the epoch.
    So no generator has a state to be kept: a run that stops, is saved and goes on ends with the same bits as one that
    never stopped, on the same machine with the same NumPy and as many threads.

    Parameters
    ----------
    data : Data
    settings : Settings
    source : Source, optional
        Where the data are from, so that a checkpoint can say it.

    Attributes
    ----------
    model : ImageClassifier
    history : History
        Of all steps so far.
    steps_per_epoch, total_steps : int

    Raises
    ------
    TypeError, ValueError
        If the settings do not fit each other or the images.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from npformer.training import DIGITS, load_digits
    >>> run = Run(load_digits(), replace(DIGITS, epochs=1, num_layers=1))
    >>> losses = [step.loss for step in run.steps()]
    >>> len(losses) == run.total_steps == 22, losses[-1] < losses[0]
    (True, True)
    """

    def __init__(self, data: Data, settings: Settings, source: Source | None = None):
        check_part("data", data, Data)
        check_part("settings", settings, Settings)
        check_fit(settings, data)
        self.settings = settings
        self.source = source
        self.model = make_image_classifier(
            data.train_images.shape[1:],
            settings.patch_size,
            len(data.class_names),
            settings.num_layers,
            settings.d_model,
            settings.num_heads,
            settings.d_ff,
            settings.dropout,
            settings.activation,
            settings.norm_first,
            self._generator(PARAMETERS),
        ).astype(settings.dtype)
        self.data = data.astype(settings.dtype)
        self._mean = self.data.train_images.mean()
        self._std = self.data.train_images.std() or 1.0
        self.optimizer = AdamW(settings.learning_rate, BETAS, weight_decay=settings.weight_decay)
        self.history = History()
        self.steps_per_epoch = count_steps(settings, data)
        self.total_steps = settings.epochs * self.steps_per_epoch

    def steps(self) -> Iterator[Step]:
        """Take the steps that are left; each is in the history when it comes.

        Raises
        ------
        DivergedError
            If the loss or a gradient is not finite.
        """
        settings, first = self.settings, len(self.history) + 1
        warmup_steps = int(settings.warmup * self.total_steps)
        steps = train(
            self.model if settings.threads == 1 else DataParallel(self.model, settings.threads),
            CrossEntropy(settings.label_smoothing),
            self.optimizer,
            self._batches(first),
            CosineSchedule(settings.learning_rate, self.total_steps, warmup_steps),
            settings.max_norm,
            lambda number: self._generator(DROPOUT, number),
            first,
        )
        for number in range(first, self.total_steps + 1):
            try:
                with np.errstate(over="ignore", invalid="ignore"):  # the loop says where that leads to
                    step = next(steps)
            except NotFiniteError as error:
                raise DivergedError(f"step {number} cannot be taken: {error}") from None
            self.history.append(step)
            yield step

    def score(self) -> float:
        """Return the share of the test images whose class is found.

        Where half of the training images are mirrored, logits are added up over each image and its mirror image.

        Raises
        ------
        DivergedError
            If the model's outputs are not finite.
        """
        images, labels = self.data.test_images, self.data.test_labels
        with np.errstate(over="ignore", invalid="ignore"):
            logits = np.concatenate(
                [self._logits(images[i : i + SCORED_AT_ONCE]) for i in range(0, len(images), SCORED_AT_ONCE)]
            )
        if not np.isfinite(logits).all():
            raise DivergedError(f"the model of step {len(self.history)} cannot be scored: its outputs are not finite")
        return float(np.mean(logits.argmax(-1) == labels))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint, an .npz file, whole or not at all.

        Raises
        ------
        DivergedError
            If a number to be kept is not finite: what was there before is untouched.
        ValueError
            If the path has another suffix than .npz.
        OSError
            If the file cannot be written.
        """
        arrays = {
            "parameters": flatten(self.model.parameters()),
            "optimizer": flatten(self.optimizer.state()),
            "history": self.history.arrays(),
        }
        for group in arrays.values():
            for name, array in group.items():
                if not np.isfinite(array).all():
                    raise DivergedError(f"step {len(self.history)} cannot be saved: {name} is not finite")
        SavedRun(self.settings, self.source, self.data.fingerprint, arrays).write(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], data: Data) -> Self:
        """Return the run that was saved, with the data that it was saved with.

        Raises
        ------
        ValueError
            If the file is no whole checkpoint, or the data are others.
        OSError
            If it cannot be read.
        """
        return cls.resume(read_saved_run(path), data, str(path))

    @classmethod
    def resume(cls, checkpoint: SavedRun, data: Data, name: str) -> Self:
        """Return the run of a checkpoint; `name` is what a sentence calls it."""
        check_part("data", data, Data)
        data = data.astype(checkpoint.settings.dtype)
        if data.fingerprint != checkpoint.fingerprint:
            raise ValueError(f"{name} must go on with the data that it began with, but these are others")
        try:
            run = cls(data, checkpoint.settings, checkpoint.source)
            run.model = run.model.with_parameters(checkpoint.arrays["parameters"])
            run.optimizer.load_state(dict(checkpoint.arrays["optimizer"]))
            run.history = History.from_arrays(checkpoint.arrays["history"])
            run._check_whole()
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} must be a whole checkpoint of a training run, but {error}") from None
        return run

    def _check_whole(self) -> None:
        """Check that what was loaded fits together."""
        parameters, steps = flatten(self.model.parameters()), len(self.history)
        if not steps == self.optimizer.steps <= self.total_steps:
            raise ValueError(f"it has {self.optimizer.steps} steps, {steps} in its history, of {self.total_steps}")
        layers = by_layer(self.model.parameters()).keys() if steps else set()
        if self.history.grad_norms.keys() != layers:
            raise ValueError(f"it has gradient norms of {sorted(self.history.grad_norms)}, not of {sorted(layers)}")
        for kind, arrays in {"parameters": parameters, **(self.optimizer.memory if steps else {})}.items():
            check_same_arrays(kind, arrays, parameters)
            for name, array in arrays.items():
                if array.dtype != self.settings.dtype:
                    raise TypeError(f"{kind}.{name} is {array.dtype}, not {self.settings.dtype}")
                if not np.isfinite(array).all():
                    raise ValueError(f"{kind}.{name} is not finite")

    def _batches(self, first: int) -> Iterator[tuple[Array, Array]]:
        """Return images and labels of the steps from `first` on."""
        images, labels, size = self.data.train_images, self.data.train_labels, self.settings.batch_size
        for number in range(first, self.total_steps + 1):
            epoch, index = divmod(number - 1, self.steps_per_epoch)
            if index == 0 or number == first:
                order = self._generator(ORDER, epoch).permutation(len(labels))
            chosen = order[index * size : (index + 1) * size]
            yield self._standardized(self._augmented(images[chosen], number)), labels[chosen]

    def _augmented(self, images: Array, number: int) -> Array:
        rng = self._generator(AUGMENTATION, number)
        if self.settings.shift:
            images = shift(images, self.settings.shift, rng)
        return flip(images, rng) if self.settings.flip else images

    def _standardized(self, images: Array) -> Array:
        standardized: Array = (images - self._mean) / self._std
        return standardized

    def _logits(self, images: Array) -> Array:
        logits = self.model(self._standardized(images))
        return logits + self.model(self._standardized(images[:, :, ::-1])) if self.settings.flip else logits

    def _generator(self, purpose: int, number: int = 0) -> np.random.Generator:
        return np.random.default_rng([self.settings.seed, purpose, number])
