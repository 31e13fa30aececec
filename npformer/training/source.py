"""Where the images of a training run are from: so little that a checkpoint can say it."""

from __future__ import annotations

from dataclasses import dataclass

from npformer.shapes import check_choice, check_count
from npformer.training.data import Data, hold_out
from npformer.training.digits import load_digits
from npformer.training.fashion_mnist import load_fashion_mnist
from npformer.training.settings import DIGITS, FASHION_MNIST, Settings

SETTINGS = {"digits": DIGITS, "fashion-mnist": FASHION_MNIST}


@dataclass(frozen=True)
class Source:
    """A data set by its name, and how much of its training part is held out.

    Attributes
    ----------
    name : {"digits", "fashion-mnist"}
    folder : str, optional
        Of the files of Fashion-MNIST, if they are not in their usual place.
    hold_out : int
        So many training images take the place of the test images, which are left out; 0 for none.

    Examples
    --------
    >>> Source("digits", hold_out=100).load(seed=0)
    Data(digits, held out: 1,248 images to learn from, 100 to be judged by, 8 x 8 pixels, 10 classes)
    """

    name: str
    folder: str | None = None
    hold_out: int = 0

    def __post_init__(self) -> None:
        """Check that there is such a data set."""
        check_choice("data", self.name, SETTINGS)
        check_count("hold_out", self.hold_out, least=0)
        if self.folder is not None and self.name == "digits":
            raise ValueError(f"folder must be None for digits, which come with this package, but it is {self.folder}")

    @property
    def settings(self) -> Settings:
        """Return the settings with which these images are learned best."""
        return SETTINGS[self.name]

    def load(self, seed: int) -> Data:
        """Return the data; the seed draws which of the digits are the test images, and which images are held out."""
        data = load_digits(seed) if self.name == "digits" else load_fashion_mnist(self.folder)
        if self.hold_out >= len(data.train_labels):
            raise ValueError(
                f"hold_out must be below the {len(data.train_labels):,} images to train on, but it is {self.hold_out}"
            )
        return hold_out(data, self.hold_out, seed) if self.hold_out else data
