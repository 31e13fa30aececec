"""No .npy file inside an .npz file gives anything but an array of plain numbers, whatever its header says."""

from pathlib import Path

import numpy as np
import pytest
from hostile import headed, npy, refusal, zipped

from npformer.oracle.files import read_arrays

X = np.arange(12.0).reshape(3, 4)
HEADERS = {
    "objects": (npy(np.zeros(2, "i4,f8")), "'x' has dtype [('f0', '<i4'), ('f1', '<f8')]"),
    "structured": (headed("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"c"), "'x' has dtype object"),
    "texts": (npy(np.array(["text"])), "'x' has dtype <U4"),
    "bytes": (npy(np.array([b"text"])), "'x' has dtype |S4"),
    "complex": (npy(np.ones(2, complex)), "'x' has dtype complex128"),
    "time": (npy(np.zeros(2, "M8[s]")), "'x' has dtype datetime64[s]"),
    "long double": (npy(np.zeros(2, np.longdouble)), "'x' has dtype float128"),
    "subarray": (headed("{'descr': ('<f8', (2,)), 'fortran_order': False, 'shape': (1,)}", bytes(16)), "has dtype ("),
    "negative": (headed("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -1)}", bytes(8)), "'x' is (-1, -1)"),
    "true": (headed("{'descr': '<f8', 'fortran_order': False, 'shape': (True,)}", bytes(8)), "'x' is (True,)"),
    "fraction": (headed("{'descr': '<f8', 'fortran_order': False, 'shape': (1.0,)}", bytes(8)), "is not one"),
    "huge": (headed(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({10**12},)}}"), "needs 8000000000"),
    "beyond 64 bits": (headed(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({10**30},)}}"), "NumPy can have"),
    "huge and empty": (headed(f"{{'descr': '<f8', 'fortran_order': False, 'shape': (0, {2**62})}}"), "NumPy can have"),
    "65 axes": (headed(f"{{'descr': '<f8', 'fortran_order': False, 'shape': {(1,) * 65}}}", bytes(8)), "NumPy can ha"),
    "short": (npy(X)[:-1], "'x' needs 224 bytes by its shape, and has 223"),
    "long": (npy(X) + b"\0", "'x' needs 224 bytes by its shape, and has 225"),
    "no magic": (b"nothing of the kind", "the header of 'x' is not one"),
    "nothing": (b"", "the header of 'x' is not one"),
    "version 9": (headed("{}", version=(9, 0)), "the header of 'x' is not one"),
    "long header": (headed("{" + " " * 20_000 + "}"), "the header of 'x' is not one"),
    "endless header": (headed("{", version=(2, 0), length=2**32 - 1), "the header of 'x' is not one"),
    "code": (headed("__import__('os').abort()"), "the header of 'x' is not one"),
    "nested": (headed("(" * 5000), "the header of 'x' is not one"),
    "signs": (headed("-" * 9000 + "1"), "the header of 'x' is not one"),
    "odd escape": (headed(r"'\d'"), "the header of 'x' is not one"),
    "booleans": (headed("{'descr': '|b1', 'fortran_order': False, 'shape': (2,)}", b"\1\2"), "'x' has others"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_an_array_that_is_not_plain_is_refused(tmp_path: Path, case: str) -> None:
    content, part = HEADERS[case]
    assert part in refusal(zipped(tmp_path / "a.npz", ("x.npy", content)))


def test_a_header_of_which_numpy_warns_is_read_in_silence(tmp_path: Path) -> None:
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1L,)}"  # as Python 2 wrote it
    path = zipped(tmp_path / "a.npz", ("x.npy", headed(header, np.ones(1).tobytes())))
    assert read_arrays(path)["x"] == 1
