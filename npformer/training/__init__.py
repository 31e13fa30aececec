"""Training on real data: losses, optimizers, learning rates, clipping, the loop that joins them, models and data."""

from npformer.loss import CrossEntropy
from npformer.training.clipping import clip_by_global_norm, global_norm
from npformer.training.data import Data, hold_out, stratified_split
from npformer.training.digits import load_digits
from npformer.training.image_classifier import FlatHead, ImageClassifier, Patches, make_image_classifier
from npformer.training.loop import Step, train
from npformer.training.optimizer import Optimizer
from npformer.training.optimizers import SGD, Adam, AdamW
from npformer.training.schedules import CosineSchedule, NoamSchedule

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "CosineSchedule",
    "CrossEntropy",
    "Data",
    "FlatHead",
    "ImageClassifier",
    "NoamSchedule",
    "Optimizer",
    "Patches",
    "Step",
    "clip_by_global_norm",
    "global_norm",
    "hold_out",
    "load_digits",
    "make_image_classifier",
    "stratified_split",
    "train",
]
