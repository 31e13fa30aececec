"""Wrong backwards that were written from the formulas alone, before there was anything to diagnose them.

They measure a diagnosis honestly: neither the catalogue of mistakes nor any grader was looked at for them, and what a
good diagnosis would say was written down with them. The diagnosis was improved after the first list had been run
through it, so there is a second one, written without a look at the diagnosis or at the first.
"""

from __future__ import annotations

import held_out_activations
import held_out_attention
import held_out_blocks
import held_out_heads
import held_out_layers
import held_out_norms
import held_out_parts
import held_out_second
import held_out_second_attention
from held_out_form import HELD_OUT, HELD_OUT_SECOND, HeldOut

__all__ = ["FILES", "HELD_OUT", "HELD_OUT_SECOND", "HeldOut"]

# Importing them fills the lists.
FILES = (
    held_out_activations,
    held_out_parts,
    held_out_norms,
    held_out_attention,
    held_out_heads,
    held_out_blocks,
    held_out_layers,
    held_out_second,
    held_out_second_attention,
)
