"""Whether settings and images fit together."""

from __future__ import annotations

from npformer.shapes import check_count
from npformer.training.data import Data
from npformer.training.settings import Settings

MOST_STEPS = 2**53  # above that, float64 does not hold every whole number


def count_steps(settings: Settings, data: Data) -> int:
    """Return the number of steps in an epoch, the last of which may have fewer images."""
    return -(-len(data.train_labels) // settings.batch_size)


def check_fit(settings: Settings, data: Data) -> None:
    """Check what neither the settings nor the data can check alone; ValueError names the setting."""
    height, width = data.train_images.shape[1:]
    sides = f"the height and the width of the images, {height} and {width}"
    if any(side % check_count("patch_size", settings.patch_size) for side in (height, width)):
        raise ValueError(f"patch_size must divide {sides}, but it is {settings.patch_size}")
    if settings.shift >= min(height, width):
        raise ValueError(f"shift must be below {sides}, but it is {settings.shift}")
    most = MOST_STEPS // count_steps(settings, data)
    if settings.epochs > most:
        raise ValueError(
            f"epochs must be at most {most:,}, or the steps cannot be counted, but it is {settings.epochs}"
        )
