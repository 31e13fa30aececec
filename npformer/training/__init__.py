"""Training on real data: losses, optimizers, learning rates, clipping, the loop that joins them, models and data."""

from npformer.image_classifier import FlatHead, ImageClassifier, Patches, make_image_classifier
from npformer.loss import CrossEntropy, MeanSquaredError
from npformer.training.augmentation import flip, shift
from npformer.training.clipping import clip_by_global_norm, global_norm
from npformer.training.data import Data, hold_out, stratified_split
from npformer.training.digits import load_digits
from npformer.training.fashion_mnist import load_fashion_mnist
from npformer.training.gradients import NotFiniteError
from npformer.training.history import History
from npformer.training.idx import read_idx
from npformer.training.loop import Step, train
from npformer.training.optimizer import Optimizer
from npformer.training.optimizers import SGD, Adam, AdamW
from npformer.training.run import DivergedError, Run
from npformer.training.saved_run import SavedRun, read_saved_run
from npformer.training.schedules import CosineSchedule, NoamSchedule
from npformer.training.settings import DIGITS, FASHION_MNIST, Settings
from npformer.training.source import Source

__all__ = [
    "DIGITS",
    "FASHION_MNIST",
    "SGD",
    "Adam",
    "AdamW",
    "CosineSchedule",
    "CrossEntropy",
    "Data",
    "DivergedError",
    "FlatHead",
    "History",
    "ImageClassifier",
    "MeanSquaredError",
    "NoamSchedule",
    "NotFiniteError",
    "Optimizer",
    "Patches",
    "Run",
    "SavedRun",
    "Settings",
    "Source",
    "Step",
    "clip_by_global_norm",
    "flip",
    "global_norm",
    "hold_out",
    "load_digits",
    "load_fashion_mnist",
    "make_image_classifier",
    "read_idx",
    "read_saved_run",
    "shift",
    "stratified_split",
    "train",
]
