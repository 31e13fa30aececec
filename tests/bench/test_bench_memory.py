"""The peak of resident memory, and the fresh processes that measure it."""

import sys
from pathlib import Path

import numpy as np
import pytest

from npformer.bench import peak
from npformer.bench.peak import peak_of
from npformer.bench.probe import ProbeError, Task, measure_peak
from npformer.bench.sizes import Size

MIB = 2**20
WIDE = Size(1, 512, 64, 8, 64)  # 8 matrices of 512 × 512 weights are 8 MiB


def test_an_array_of_64_mib_is_seen_also_when_it_is_gone_at_the_end() -> None:
    for call in (lambda: np.ones(8 * MIB), lambda: float(np.ones(8 * MIB)[0])):
        seen = peak_of(call)
        assert seen is not None
        assert 60 * MIB < seen < 80 * MIB


def test_memory_that_was_freed_before_does_not_hide_what_is_allocated_in_its_place() -> None:
    def in_small_arrays() -> list[object]:
        return [np.ones(2048) for _ in range(4096)]  # 16 KiB each

    arrays = in_small_arrays()
    del arrays[:-1]  # the last keeps the allocator from giving back what lies below it
    seen = peak_of(in_small_arrays)
    assert seen is not None
    assert 60 * MIB < seen < 80 * MIB


def test_where_no_one_counts_nothing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(peak, "CLEAR", tmp_path / "clear_refs")
    assert peak_of(list) is None
    monkeypatch.setattr(peak, "CLEAR", tmp_path / "there")
    (tmp_path / "there").touch()
    monkeypatch.setattr(peak, "STATUS", tmp_path / "status")
    (tmp_path / "status").write_text("Name: python\n")
    assert peak_of(list) is None


def test_a_fresh_process_sees_the_weights_of_the_plain_core_and_none_of_the_blockwise_one() -> None:
    plain, blockwise = (measure_peak(Task(name, WIDE, "float32", core_alone=True)) for name in ("plain", "blockwise"))
    assert plain is not None
    assert blockwise is not None
    assert plain > 3 * 8 * MIB > 2 * blockwise


def test_a_process_that_fails_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(
        ProbeError, match=r"^the memory of plain, encoder \(1,512,64,8,64\), was not measured: exit sta"
    ):
        measure_peak(Task("plain", WIDE, "float32"))
