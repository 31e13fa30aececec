"""Pictures of masks, attention, positions, training and depth; each function returns a matplotlib Figure.

They need the package matplotlib, of the extra ``plot``, when they are called, and leave its global state alone:
``figure.savefig("mask.png")`` writes a file, and a notebook shows a figure after ``%matplotlib inline``. Figures are 10
by 5.6 inches, those of heads over many words larger, and no letter is below 12 points. Colours can be told apart by
colour-blind eyes, and lines by their strokes or marks too. `matrices` draws masks and positions, `heads` the attention
weights over words, `training` what runs along the steps of a training, `magnitudes` what runs along the layers of an
encoder, which it measures too; `canvas` says how all of them look.
"""

from npformer.plot.heads import attention_weights
from npformer.plot.magnitudes import Magnitudes, depth, measure_magnitudes, pre_and_post_norm
from npformer.plot.matrices import mask, positional_encoding
from npformer.plot.training import gradient_norms, learning_curves

__all__ = [
    "Magnitudes",
    "attention_weights",
    "depth",
    "gradient_norms",
    "learning_curves",
    "mask",
    "measure_magnitudes",
    "positional_encoding",
    "pre_and_post_norm",
]
