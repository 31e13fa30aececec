"""npformer as an oracle for other implementations: outputs and gradients by name, and what may differ.

The way that data takes: `trace` runs a component and keeps every array that passes between its parts, with what
attention `kernels` save; `rounding` simulates what floating-point arithmetic does to them, from which `expected` has
the tolerances; `compare` holds another implementation's arrays against those, `slips` says what a wrong one looks like,
and `comparison` is what came out.
"""

from npformer.oracle.compare import compare
from npformer.oracle.comparison import Comparison
from npformer.oracle.expected import Expected, expect
from npformer.oracle.trace import Trace, trace
from npformer.oracle.vectors import load_case, write_vectors

__all__ = ["Comparison", "Expected", "Trace", "compare", "expect", "load_case", "trace", "write_vectors"]
