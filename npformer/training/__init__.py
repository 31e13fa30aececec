"""Training: losses, optimizers, learning rates, clipping, and the loop that joins them."""

from npformer.loss import CrossEntropy
from npformer.training.clipping import clip_by_global_norm, global_norm
from npformer.training.loop import Step, train
from npformer.training.optimizers import SGD, Adam, AdamW, Optimizer
from npformer.training.schedules import CosineSchedule, NoamSchedule

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "CosineSchedule",
    "CrossEntropy",
    "NoamSchedule",
    "Optimizer",
    "Step",
    "clip_by_global_norm",
    "global_norm",
    "train",
]
