"""Killed at any moment, `npformer train --resume` goes on to the bits of a run that was never stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from npformer.cli import main
from npformer.component import Array
from npformer.oracle.files import read_arrays
from npformer.oracle.npz_file import write_npz
from npformer.training.interrupts import noted_interrupts
from npformer.training.optimizers import AdamW

SMALL = ["--num-layers", "1", "--d-model", "8", "--num-heads", "2", "--d-ff", "8", "--dropout", "0.2", "--flip"]
LONG = [*SMALL, "--epochs", "16", "--checkpoint-every", "1"]  # so often that many a kill comes while a file is written
SHORT = [*SMALL, "--epochs", "1", "--batch-size", "128", "--checkpoint-every", "1"]
KILLS = 10


def begin(checkpoint: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "npformer", "train", *arguments, "--checkpoint", str(checkpoint)]
    pipe = subprocess.PIPE
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)


def identity(path: Path) -> tuple[int, int] | None:
    """Return what changes when the file is replaced."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def steps_in(path: Path) -> int:
    """Return how many steps are saved."""
    return len(read_arrays(path)["history.loss"]) if path.exists() else 0


def kill_at_a_random_moment(process: subprocess.Popen[str], path: Path, rng: np.random.Generator) -> None:
    """Kill a process: sometimes while it starts, but mostly within or after one of its next thirty steps."""
    if rng.random() < 0.2:
        time.sleep(rng.uniform(0, 0.4))
    else:
        before, goal = identity(path), steps_in(path) + rng.integers(30)
        while (identity(path) == before or steps_in(path) < goal) and process.poll() is None:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.005))
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "the run was over before it could be killed; let it be longer"


def test_a_run_that_is_killed_at_ten_random_moments_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole" / "run.npz", tmp_path / "killed" / "run.npz"
    for path in (whole, killed):
        path.parent.mkdir()
    uninterrupted = begin(whole, *LONG)
    expected, complaints = uninterrupted.communicate()
    assert (uninterrupted.returncode, complaints) == (0, "")
    rng = np.random.default_rng()
    reached = []
    for _ in range(KILLS):
        kill_at_a_random_moment(begin(killed, *LONG, *["--resume"] * killed.exists()), killed, rng)
        reached.append(steps_in(killed))
    assert reached == sorted(reached)  # what was saved is never lost
    last = begin(killed, "--resume")  # all that is to be known is in the file
    printed, complaints = last.communicate()
    assert (last.returncode, complaints) == (0, "")
    assert printed.splitlines()[-1].split(", in ")[0] == expected.splitlines()[-1].split(", in ")[0]  # the score
    left, right = read_arrays(whole), read_arrays(killed)
    assert list(left) == list(right)
    assert {name.split(".")[0] for name in left} == {"about", "parameters", "optimizer", "history"}
    assert [name for name in left if left[name].tobytes() != right[name].tobytes()] == []
    assert whole.read_bytes() == killed.read_bytes()
    assert [each.name for each in killed.parent.iterdir()] == ["run.npz"]  # nothing half-written is left


class PowerCut(BaseException):
    """Nothing comes after it."""


@pytest.mark.parametrize("place", ["numpy.lib.format.write_array", "os.fsync", "pathlib.Path.replace"])
def test_a_stop_within_writing_leaves_the_file_before_and_what_is_left_over_goes(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = tmp_path / "whole" / "run.npz", tmp_path / "cut" / "run.npz"
    for path in (whole, cut):
        path.parent.mkdir()
    assert main(["train", *SHORT, "--checkpoint", str(whole)]) == 0
    saves = 0

    def write_and_fail_at_the_fifth(file: BinaryIO, arrays: dict[str, Array]) -> None:
        nonlocal saves
        saves += 1
        if saves == 5:
            patch.setattr(place, stop)
            patch.setattr("pathlib.Path.unlink", lambda path, missing_ok=False: None)  # not even that is done
        write_npz(file, arrays)

    def stop(*_: object, **__: object) -> None:
        raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr("npformer.oracle.files.write_npz", write_and_fail_at_the_fifth)
        with pytest.raises(PowerCut):
            main(["train", *SHORT, "--checkpoint", str(cut)])
    assert steps_in(cut) == 3
    assert len(list(cut.parent.iterdir())) == 2
    assert main(["train", "--checkpoint", str(cut), "--resume"]) == 0
    assert cut.read_bytes() == whole.read_bytes()
    assert [each.name for each in cut.parent.iterdir()] == ["run.npz"]


@pytest.fixture
def heard() -> Iterator[Callable[[signal.Signals], object]]:
    """Give a function that lets a signal do what it does in a shell; in a job in the background it may be ignored."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def usual(number: signal.Signals) -> object:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        return signal.getsignal(number)

    yield usual
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_second_ctrl_c_acts_at_once(heard: Callable[[signal.Signals], object]) -> None:
    handler = heard(signal.SIGINT)
    with noted_interrupts() as noted:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert noted == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_signal_that_is_ignored_stays_so(heard: Callable[[signal.Signals], object]) -> None:
    heard(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with noted_interrupts() as noted:
        signal.raise_signal(signal.SIGINT)
    assert noted == []
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_waits_for_the_end_of_the_step_and_loses_nothing(
    tmp_path: Path,
    number: signal.Signals,
    status: int,
    heard: Callable[[signal.Signals], object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The signal comes where half of the parameters are written, and no checkpoint would be due for a long time."""
    whole, stopped = tmp_path / "whole.npz", tmp_path / "stopped.npz"
    options = [*SHORT[:-1], "1000"]
    handler = heard(number)
    assert main(["train", *options, "--checkpoint", str(whole)]) == 0
    assert signal.getsignal(number) is handler
    write = AdamW._write

    def write_and_interrupt(self: AdamW, parameters: dict[str, Array]) -> None:
        names = list(parameters)
        write(self, {name: parameters[name] for name in names[:5]})
        if self.steps == 4:
            signal.raise_signal(number)
        write(self, {name: parameters[name] for name in names[5:]})

    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(AdamW, "_write", write_and_interrupt)
        assert main(["train", *options, "--checkpoint", str(stopped)]) == status
    assert signal.getsignal(number) is handler
    how = f"to go on: npformer train --checkpoint {stopped} --resume"
    assert capsys.readouterr().err == f"npformer train: interrupted after step 4 of 11; {how}\n"
    assert steps_in(stopped) == 4
    assert main(["train", "--checkpoint", str(stopped), "--resume"]) == 0
    assert stopped.read_bytes() == whole.read_bytes()


def test_a_run_that_is_over_is_only_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.npz"
    assert main(["train", *SHORT, "--checkpoint", str(path)]) == 0
    before, score = identity(path), capsys.readouterr().out.splitlines()[-1].split(", in ")[0]
    assert main(["train", *SHORT, "--checkpoint", str(path), "--resume"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:-1] == ["Resumed:  11 of 11 steps are done"]
    assert lines[-1].split(", in ")[0] == score
    assert identity(path) == before
    assert main(["train", "--checkpoint", str(path), "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["resumed_at"] == 11
