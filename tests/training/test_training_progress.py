"""What is shown on a terminal of 80 columns, after a resumption, and where tqdm or a stream is missing."""

import fcntl
import io
import itertools
import os
import pty
import re
import struct
import sys
import termios
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_runs import DATA, TINY

from npformer.training import History, Run
from npformer.training.progress import Bar, Lines, Progress, epoch_means, make_progress

NORMS = {layer: [1.0] * 1757 for layer in ("embedding", "layers.0", "layers.1", "norm", "head")}


class Terminal(io.StringIO):
    """A stream that says that a person looks at it."""

    def isatty(self) -> bool:
        return True


def looked_at(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Replace stdout and stderr by terminals, and return the second."""
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setattr(sys, "stderr", stderr := Terminal())
    return stderr


def take_and_show(progress: Progress, run: Run, count: int) -> None:
    with progress:
        for _ in itertools.islice(run.steps(), count):
            progress.show()


def test_loss_accuracy_and_time_left_fit_in_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as the default run on the digits: the last of 1,760 steps, in epochs of 22."""
    data = replace(DATA, train_images=DATA.train_images[:176], train_labels=DATA.train_labels[:176])
    run = Run(data, replace(TINY, batch_size=8, epochs=80))
    assert (run.total_steps, run.steps_per_epoch) == (1760, 22)
    run.history = History([2.0] * 1757, [0.5] * 1757, [0.1] * 1757, [1.0] * 1757, NORMS)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with os.fdopen(ours, "rb", buffering=0) as screen, os.fdopen(theirs, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        take_and_show(Bar(run), run, 3)
        shown = screen.read(10_000).decode().rstrip().split("\r")
    assert all(len(line) <= 80 for line in shown)
    loss, accuracy = epoch_means(run, 79)
    numbers = rf"1760/1760, 00:0\d left, loss {loss:.4f}, accuracy {accuracy:.4f}"
    match = re.fullmatch(rf"epoch 80/80 100%\|(█+)\| {numbers}", shown[-1])
    assert match is not None, shown[-1]
    assert len(match[1]) >= 5  # a bar can be seen


def test_a_bar_goes_on_where_the_run_does(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(DATA, TINY)
    for _ in itertools.islice(run.steps(), 4):
        pass
    stderr = looked_at(monkeypatch)
    take_and_show(Bar(run), run, 3)
    lines = stderr.getvalue().split("\r")
    assert "| 4/10, ? left" in lines[1]
    assert re.search(r"epoch 2/2 +70%\|.*\| 7/10, 00:0\d left, loss", lines[-1])


@pytest.mark.parametrize("installed", [False, True])
def test_without_a_tqdm_that_can_be_imported_there_are_lines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, installed: bool
) -> None:
    run = Run(DATA, TINY)
    looked_at(monkeypatch)
    assert isinstance(make_progress(run, silent=False), Bar)
    if installed:
        (tmp_path / "tqdm.py").write_text("raise ImportError('no')")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "tqdm")
    else:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    assert isinstance(make_progress(run, silent=False), Lines)
    assert type(make_progress(run, silent=True)) is Progress


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_stream_that_was_closed_before_the_start_is_no_terminal(monkeypatch: pytest.MonkeyPatch, stream: str) -> None:
    looked_at(monkeypatch)
    monkeypatch.setattr(sys, stream, None)
    assert isinstance(make_progress(Run(DATA, TINY), silent=False), Lines)


def test_the_mean_over_an_epoch_is_over_its_images() -> None:
    """So the accuracy is a whole number of images, also in an epoch that has just begun."""
    run = Run(DATA, TINY)  # 48, 48, 48, 48 and 8 images
    sizes: list[int] = []
    for step in run.steps():
        sizes = [*sizes[: len(sizes) % 5 and len(sizes)], len(step.targets)]
        index = (len(run.history) - 1) // 5
        this = slice(5 * index, None)
        found = sum(round(size * share) for size, share in zip(sizes, run.history.accuracy[this], strict=True))
        loss = sum(size * value for size, value in zip(sizes, run.history.loss[this], strict=True)) / sum(sizes)
        assert epoch_means(run, index) == pytest.approx((loss, found / sum(sizes)), rel=1e-14)  # sums of five
    assert sum(sizes) == 200
