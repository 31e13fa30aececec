"""`npformer train` leaves one core to others, unless it is told how many to take."""

import sys
from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from npformer.cli import main
from npformer.threads import VARIABLES, one_thread
from npformer.training import Run

ONE_STEP = ["train", "--epochs", "1", "--batch-size", "2000", "--num-layers", "1", "--d-model", "8", "--d-ff", "8"]


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with threadpool_limits(2, user_api="blas"):
        assert blas_threads() == {2}
        yield


def test_one_thread_is_for_as_long_as_it_is_asked_for() -> None:
    with one_thread():
        assert blas_threads() == {1}
    assert blas_threads() == {2}


@pytest.mark.parametrize("name", VARIABLES)
def test_who_says_how_many_threads_gets_them(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "2")
    with one_thread():
        assert blas_threads() == {2}


def test_without_threadpoolctl_threads_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    with one_thread():
        assert blas_threads() == {2}


def test_the_command_trains_and_scores_in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Watched(Run):
        def _logits(self, images):  # type: ignore[no-untyped-def]
            seen.append(blas_threads())
            return super()._logits(images)

    monkeypatch.setattr("npformer.training.run.Run", Watched)
    assert main(ONE_STEP) == 0
    assert seen == [{1}]
    assert blas_threads() == {2}
