"""The sizes of small cases: all different, so that a swapped axis shows, or equal on purpose."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """The sizes that a case is made with; T_k is also the length of self-attention."""

    batch: int = 2
    T_q: int = 5
    T_k: int = 4
    num_heads: int = 3
    d_head: int = 2
    d_ff: int = 7
    vocab_size: int = 8

    @property
    def d_model(self) -> int:
        return self.num_heads * self.d_head


SITUATIONS = {
    "all sizes differ": Sizes(),
    "T equal to num_heads": Sizes(T_k=3),
    "batch equal to num_heads": Sizes(batch=3, T_q=6),
    "one head": Sizes(num_heads=1, d_head=6, T_q=3),
    "heads of size 1": Sizes(num_heads=5, d_head=1, T_q=3),
}
