"""Named wrong backwards: what people forget and confuse, each with one line that explains it.

They certify the gradient checker, which must reject every one of them, and tell a learner which mistake a wrong
gradient comes from.
"""

from importlib import import_module

from npformer.mistakes.catalogue import MISTAKES, Mistake, mistake_in, plant

for module in (  # each registers its mistakes, and this is their order
    "linear",
    "activations",
    "dropout",
    "norm",
    "attention",
    "blockwise",
    "multi_head",
    "feed_forward",
    "sublayer",
    "encoder",
    "embedding",
    "bert",
    "loss",
    "image_classifier",
    "checkpoint",
    "anywhere",
):
    import_module(f"npformer.mistakes.{module}")

__all__ = ["MISTAKES", "Mistake", "mistake_in", "plant"]
