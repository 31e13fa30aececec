"""The image classifier in PyTorch, and the path that it and npformer's take from the same weights."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from npformer import CrossEntropy, flatten
from npformer.component import Array
from npformer.oracle.checkpoints import from_convention, to_convention
from npformer.training import Adam, ImageClassifier, load_digits, make_image_classifier, train

torch.set_num_threads(1)  # the tensors are tiny: threads would only cost time

SIDE, PATCH, NUM_CLASSES = 8, 2, 10
NUM_LAYERS, D_MODEL, NUM_HEADS, D_FF = 2, 16, 2, 32
PER_SIDE = SIDE // PATCH
T = PER_SIDE**2
BATCH_SIZE = 32


class TorchImageClassifier(nn.Module):
    """Patches, a linear map, sines and cosines, PyTorch's encoder, and a linear map of all tokens."""

    def __init__(self, norm_first: bool):
        super().__init__()
        layer = nn.TransformerEncoderLayer(D_MODEL, NUM_HEADS, D_FF, 0.0, batch_first=True, norm_first=norm_first)
        norm = nn.LayerNorm(D_MODEL) if norm_first else None
        self.embedding = nn.Linear(PATCH**2, D_MODEL)
        self.encoder = nn.TransformerEncoder(layer, NUM_LAYERS, norm, enable_nested_tensor=False)
        self.head = nn.Linear(T * D_MODEL, NUM_CLASSES)
        self.double()

    def forward(self, images: Tensor) -> Tensor:
        frequencies = torch.exp(torch.arange(0, D_MODEL, 2, dtype=torch.float64) * (-math.log(10000.0) / D_MODEL))
        angles = torch.arange(T)[:, None] * frequencies
        positions = torch.stack([angles.sin(), angles.cos()], -1).flatten(1)
        rows = images.unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH)  # (batch, row, column, and the two of a patch)
        tokens = self.embedding(rows.reshape(-1, T, PATCH**2)) + positions
        logits: Tensor = self.head(self.encoder(tokens).flatten(1))
        return logits

    def load(self, model: ImageClassifier) -> None:
        """Take the numbers of one of npformer's, by other names."""
        ours = flatten(model.parameters())
        arrays = to_convention(model.encoder.parameters(), model.encoder, "torch")
        renamed = {f"encoder.{name}": array for name, array in arrays.items()}
        renamed |= {name: array for name, array in ours.items() if name.startswith("embedding.")}
        renamed |= {f"head.{part}": ours[f"head.linear.{part}"] for part in ("weight", "bias")}
        self.load_state_dict({name: torch.tensor(array) for name, array in renamed.items()})

    def by_our_names(self, model: ImageClassifier) -> dict[str, Array]:
        """Return the parameters under npformer's names."""
        theirs = {name: tensor.detach().numpy() for name, tensor in self.named_parameters()}
        encoder = {name[len("encoder.") :]: array for name, array in theirs.items() if name.startswith("encoder.")}
        named = {f"encoder.{name}": a for name, a in from_convention(encoder, model.encoder, "torch").items()}
        named |= {name: array for name, array in theirs.items() if name.startswith("embedding.")}
        return named | {f"head.linear.{part}": theirs[f"head.{part}"] for part in ("weight", "bias")}


@dataclass(frozen=True)
class Paths:
    """The losses of both sides, how far apart each parameter ended, and how far npformer's moved at most."""

    losses: tuple[Array, Array]
    differences: Mapping[str, float]
    moved: Mapping[str, float]

    def without_key_biases(self) -> dict[str, float]:
        return {name: apart for name, apart in self.differences.items() if not name.endswith("k_proj.bias")}


def both_paths(norm_first: bool, steps: int, eps: float = 1e-8) -> Paths:
    """Train both from the same weights on the same batches of digits: float64, Adam, no dropout."""
    model = make_image_classifier(
        (SIDE, SIDE), PATCH, NUM_CLASSES, NUM_LAYERS, D_MODEL, NUM_HEADS, D_FF, 0.0, norm_first=norm_first, rng=0
    )
    reference = TorchImageClassifier(norm_first)
    reference.load(model)
    before = {name: array.copy() for name, array in flatten(model.parameters()).items()}
    data, rng = load_digits(seed=0), np.random.default_rng(1)
    drawn = [rng.integers(0, len(data.train_labels), BATCH_SIZE) for _ in range(steps)]
    batches = [(data.train_images[indices], data.train_labels[indices]) for indices in drawn]

    optimizer = torch.optim.Adam(reference.parameters(), eps=eps)
    theirs = []
    for images, labels in batches:
        value = functional.cross_entropy(reference(torch.tensor(images)), torch.tensor(labels))
        optimizer.zero_grad()
        torch.autograd.backward(value)
        optimizer.step()
        theirs.append(value.item())
    ours = [step.loss for step in train(model, CrossEntropy(), Adam(eps=eps), batches)]

    parameters, their_parameters = flatten(model.parameters()), reference.by_our_names(model)
    assert parameters.keys() == their_parameters.keys()
    differences = {name: float(np.abs(a - their_parameters[name]).max()) for name, a in parameters.items()}
    moved = {name: float(np.abs(array - before[name]).max()) for name, array in parameters.items()}
    return Paths((np.array(ours), np.array(theirs)), differences, moved)
