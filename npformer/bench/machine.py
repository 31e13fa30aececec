"""On what it was measured."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import numpy as np

from npformer.bench.peak import CLEAR
from npformer.bench.torch_steps import find_torch
from npformer.threads import VARIABLES


def describe_machine() -> dict[str, str | int | None]:
    """Return the processor, its cores, and the versions and threads of what computes; threads are left as they are."""
    cores = _cores()
    configuration = np.show_config(mode="dicts")
    blas = configuration["Build Dependencies"]["blas"]["name"] if isinstance(configuration, dict) else None
    given = next((os.environ[name] for name in VARIABLES if os.environ.get(name, "").isdecimal()), None)
    torch = find_torch()
    return {
        "processor": _processor(),
        "cores": cores,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": blas,
        "blas_threads": cores if given is None else int(given),
        "torch": None if torch is None else str(torch.__version__),
        "torch_threads": None if torch is None else int(torch.get_num_threads()),
        "peak_memory": "measured" if CLEAR.exists() else "not measured on this system: its columns say -",
    }


def format_machine(machine: dict[str, str | int | None]) -> str:
    """Return the machine as a line."""
    torch = (
        "PyTorch is not installed: its columns say -"
        if machine["torch"] is None
        else "torch {torch}, {torch_threads} threads"
    )
    line = "{processor}, {cores} cores; Python {python}; NumPy {numpy}, {blas}, {blas_threads} threads; " + torch
    if machine["peak_memory"] != "measured":
        line += "; peak memory is {peak_memory}"
    return line.format(**machine)


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # Linux has it
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), flags=re.M)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()
