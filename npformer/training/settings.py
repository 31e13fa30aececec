"""All that decides how a training run goes, beside the data."""

from __future__ import annotations

from dataclasses import dataclass

from npformer.shapes import check_choice, check_count, check_flag, check_number

DTYPES = {"float32": "float32", "float64": "float64"}


@dataclass(frozen=True)
class Settings:
    """Sizes of the classifier, and how it is trained.

    Attributes
    ----------
    patch_size, num_layers, d_model, num_heads, d_ff, dropout, activation, norm_first
        As for make_image_classifier.
    epochs, batch_size : int
        How often all images are seen, and how many at a time; the last batch of an epoch may be smaller.
    learning_rate, warmup : float
        The largest, and the share of all steps in [0, 1) during which it rises to that; then it falls to 0 along half a
        cosine.
    weight_decay, label_smoothing : float
        As for AdamW and CrossEntropy.
    max_norm : float
        Gradients are clipped to this global norm.
    shift : int
        Images are moved by up to so many pixels in both directions, at random.
    flip : bool
        Whether half of the images are mirrored, at random; then the test images are scored with their mirror images.
    dtype : {"float32", "float64"}
    threads : int
        Parts of a batch that are computed at the same time, each in a thread of its own.
    seed : int
        Decides all that is drawn: initial weights, order of the images, shifts, flips and dropout.

    Raises
    ------
    TypeError, ValueError
        If a number is out of its range.

    Examples
    --------
    >>> from dataclasses import replace
    >>> replace(DIGITS, epochs=0)
    Traceback (most recent call last):
    ValueError: epochs must be at least 1, but it is 0
    """

    patch_size: int
    num_layers: int
    d_model: int
    num_heads: int
    d_ff: int
    epochs: int
    batch_size: int
    learning_rate: float
    dropout: float = 0.0
    activation: str = "relu"
    norm_first: bool = True
    warmup: float = 0.1
    weight_decay: float = 0.01
    label_smoothing: float = 0.0
    max_norm: float = 1.0
    shift: int = 0
    flip: bool = False
    dtype: str = "float32"
    threads: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what no component checks; the sizes of the model are checked where it is made."""
        check_count("epochs", self.epochs)
        check_count("batch_size", self.batch_size)
        check_number("learning_rate", self.learning_rate, 0, open_low=True)
        check_number("warmup", self.warmup, 0, 1)
        check_number("weight_decay", self.weight_decay, 0)
        check_number("label_smoothing", self.label_smoothing, 0, 1)
        check_number("max_norm", self.max_norm, 0, open_low=True)
        check_count("shift", self.shift, least=0)
        check_flag("flip", self.flip)
        check_choice("dtype", self.dtype, DTYPES)
        check_count("threads", self.threads)
        check_count("seed", self.seed, least=0)


DIGITS = Settings(
    patch_size=4,
    num_layers=2,
    d_model=64,
    num_heads=4,
    d_ff=128,
    epochs=80,
    batch_size=64,
    learning_rate=3e-3,
    warmup=0.1,
    weight_decay=0.05,
    label_smoothing=0.1,
    shift=1,
)
FASHION_MNIST = Settings(
    patch_size=7,
    num_layers=2,
    d_model=64,
    num_heads=4,
    d_ff=128,
    epochs=10,
    batch_size=256,
    learning_rate=6e-3,
    warmup=0.2,
    weight_decay=0.05,
    label_smoothing=0.1,
    flip=True,
    threads=2,
)
