"""Conformance vectors for implementations in any language.

The way to a folder: `cases` says what a case is, `attention_cases` and `component_cases` list them; `recipes` builds
their components, some of them from `layouts`; `recorded` is a case that was run, `conventions` says what its arrays
mean, and `write` writes it. `read` goes the way back.
"""

from npformer.oracle.vectors.read import load_case
from npformer.oracle.vectors.write import write_vectors

__all__ = ["load_case", "write_vectors"]
