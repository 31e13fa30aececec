"""The pytest fixture `gradcheck`, in a module outside the package: pytest loads it at every start, without NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from npformer.gradcheck import Report


@pytest.fixture(scope="session")
def gradcheck() -> Callable[..., Report]:
    """Return npformer.gradcheck.assert_gradient: it fails the test unless every gradient is a PASS."""
    from npformer.gradcheck import assert_gradient

    return assert_gradient
