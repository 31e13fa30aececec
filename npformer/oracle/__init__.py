"""npformer as an oracle for other implementations: outputs and gradients by name, and what may differ.

The way that data takes: `trace` runs a component and keeps every array that passes between its parts (`recorder`), with
what attention `kernels` save; `rounding` simulates what floating-point arithmetic does to them, from which comes the
`tolerance` of each entry of what is `expected`; `compare` holds another implementation's arrays against that, `slips`
says what a wrong one looks like, and `comparison` is what came out. `vectors` are the same for other languages, in
`files`. `checkpoints` knows the names and layouts of other libraries (`conventions`), `pretrained` runs a real model.
"""

from npformer.oracle.checkpoints import (
    from_convention,
    load_gradients,
    load_parameters,
    save_gradients,
    save_parameters,
    to_convention,
)
from npformer.oracle.compare import compare
from npformer.oracle.comparison import Comparison
from npformer.oracle.expected import Expected, expect
from npformer.oracle.files import read_arrays, write_arrays
from npformer.oracle.pretrained import Pretrained, load_bert
from npformer.oracle.trace import Trace, trace
from npformer.oracle.vectors import load_case, write_vectors

__all__ = [
    "Comparison",
    "Expected",
    "Pretrained",
    "Trace",
    "compare",
    "expect",
    "from_convention",
    "load_bert",
    "load_case",
    "load_gradients",
    "load_parameters",
    "read_arrays",
    "save_gradients",
    "save_parameters",
    "to_convention",
    "trace",
    "write_arrays",
    "write_vectors",
]
