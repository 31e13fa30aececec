"""The peak of this process's resident memory, as the kernel counts it: it sees NumPy and PyTorch alike."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from pathlib import Path

CLEAR = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")


def peak_of(call: Callable[[], object]) -> int | None:
    """Return by how many bytes the memory peaked during a call above what it was before, or None if no one counts.

    It is counted on Linux. Everything that the call returns is alive at the end, and counts.
    """
    if not CLEAR.exists():
        return None
    _give_back_free_memory()
    try:
        CLEAR.write_text("5")  # the peak is from now on that of now
        before = _read("VmRSS")
        _kept = call()
        return _read("VmHWM") - before
    except (OSError, LookupError):
        return None


def _read(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB$", STATUS.read_text(), flags=re.M)
    if found is None:
        raise LookupError(field)
    return int(found[1]) * 1024


def _give_back_free_memory() -> None:
    """What was freed but is still resident would be used again unseen."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim is not None:
        trim(0)
