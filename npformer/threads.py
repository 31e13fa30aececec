"""How many threads the products of matrices are spread over."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext

VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")


def one_thread() -> AbstractContextManager[object]:
    """Return a context in which BLAS computes in one thread, unless the environment says how many it is to be.

    Small products gain next to nothing from a second thread: its share is done before the threads have met. Where other
    programs are at work they lose much, for threads that wait for each other keep a core busy. NumPy cannot set the
    number itself; without threadpoolctl the context does nothing.
    """
    if any(os.environ.get(name) for name in VARIABLES):
        return nullcontext()
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return nullcontext()
    limits: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limits
