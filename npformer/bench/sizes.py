"""The sizes that are measured."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Size:
    """The shape of an encoder and of its input.

    Examples
    --------
    >>> print(Size(8, 128, 384, 12, 1536, num_layers=6))
    (8,128,384,12,1536) x 6
    """

    batch: int
    T: int
    d_model: int
    num_heads: int
    d_ff: int
    num_layers: int = 1

    @property
    def x_shape(self) -> tuple[int, int, int]:
        """Return the shape of the input and of the output."""
        return self.batch, self.T, self.d_model

    def __str__(self) -> str:
        shape = f"({self.batch},{self.T},{self.d_model},{self.num_heads},{self.d_ff})"
        return shape if self.num_layers == 1 else f"{shape} x {self.num_layers}"


MEANING = "(batch,T,d_model,heads,d_ff) x layers"
TINY = Size(1, 8, 64, 4, 256)
LARGE = (Size(8, 128, 512, 8, 2048), Size(16, 64, 768, 12, 3072))
MINILM = Size(8, 128, 384, 12, 1536)  # the shape of all-MiniLM-L6-v2
SIZES = (TINY, Size(32, 32, 128, 4, 512), *LARGE, replace(MINILM, num_layers=6))
SMOKE_SIZES = (TINY, replace(TINY, num_layers=2))
WARM_UP = Size(2, 3, 8, 2, 16)  # none of those that are measured
