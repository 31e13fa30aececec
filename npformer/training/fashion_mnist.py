"""Fashion-MNIST (Xiao et al. 2017): 70,000 pictures of clothes, from the files that its authors publish."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from npformer.component import Array
from npformer.shapes import describe
from npformer.training.data import Data
from npformer.training.idx import read_idx

FOLDER = Path("/usr/share/datasets/fashion-mnist")
DEBIAN_PACKAGE = "dataset-fashion-mnist"
BRIGHTEST = 255
CLASS_NAMES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


def load_fashion_mnist(folder: str | os.PathLike[str] | None = None) -> Data:
    """Return the 60,000 images to learn from and the 10,000 to be judged by, of 28 x 28 pixels each.

    Parameters
    ----------
    folder : str or path, optional
        Holds the four IDX files under their published names, as they are or compressed (.gz). If it is not given, that
        of Debian's package dataset-fashion-mnist.

    Raises
    ------
    ValueError
        If a file is missing or is not what it should be; one sentence that names it.

    Examples
    --------
    >>> load_fashion_mnist("nowhere")
    Traceback (most recent call last):
    ValueError: folder must be one with the files of Fashion-MNIST, such as that of Debian's package \
dataset-fashion-mnist, but there is no folder nowhere
    """
    if folder is not None and not isinstance(folder, str | os.PathLike):
        raise TypeError(f"folder must be a path, but it is {describe(folder)}")
    folder = FOLDER if folder is None else Path(folder)
    if not folder.is_dir():
        raise ValueError(
            "folder must be one with the files of Fashion-MNIST, such as that of Debian's package "
            f"{DEBIAN_PACKAGE}, but there is no folder {folder}"
        )
    paths = {
        part: (_find(folder, f"{part}-images-idx3-ubyte"), _find(folder, f"{part}-labels-idx1-ubyte"))
        for part in ("train", "t10k")
    }
    train, test = (_read_pair(*pair) for pair in paths.values())
    if train[0].shape[1:] != test[0].shape[1:]:
        raise ValueError(
            f"{paths['t10k'][0]} must have images of {train[0].shape[1:]} pixels as {paths['train'][0]} has, "
            f"but they are of {test[0].shape[1:]}"
        )
    return Data("Fashion-MNIST", *train, *test, CLASS_NAMES)


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    raise ValueError(f"{folder} must hold the file {name} or {name}.gz of Fashion-MNIST, but it holds neither")


def _read_pair(images_path: Path, labels_path: Path) -> tuple[Array, Array]:
    images = _read_bytes(images_path, 3, "images: bytes (count, height, width)")
    labels = _read_bytes(labels_path, 1, "labels: bytes (count,)")
    if len(labels) != len(images):
        raise ValueError(
            f"{labels_path} must hold a label for each of the {len(images):,} images of {images_path}, "
            f"but it holds {len(labels):,}"
        )
    if labels.max() >= len(CLASS_NAMES):
        raise ValueError(
            f"{labels_path} must hold labels in 0..{len(CLASS_NAMES) - 1}, but {labels.max()} is among them"
        )
    return images / np.float64(BRIGHTEST), labels.astype(np.int64)


def _read_bytes(path: Path, num_axes: int, what: str) -> Array:
    array = read_idx(path)
    if array.dtype != np.uint8 or array.ndim != num_axes:
        raise ValueError(f"{path} must hold {what}, but it holds {array.dtype} {array.shape}")
    return array
