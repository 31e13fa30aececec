"""What `npformer train` does not do: one sentence, and nothing half-done."""

import errno
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from npformer.cli import main
from npformer.oracle.files import read_arrays

Captured = pytest.CaptureFixture[str]
SIZES = ["--patch-size", "4", "--num-layers", "1", "--d-model", "8", "--num-heads", "2", "--d-ff", "8"]
TINY = [*SIZES, "--activation", "relu", "--batch-size", "64", "--epochs", "2"]


def test_numbers_that_are_not_finite_end_it_with_one_sentence(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "run.npz"
    options = [*TINY, "--learning-rate", "1e30", "--checkpoint", str(path), "--checkpoint-every", "1"]
    assert main(["train", *options, "--plot", str(tmp_path / "curves.png")]) == 1
    printed = capsys.readouterr()
    assert re.fullmatch(r"npformer train: step \d+ cannot be (taken|saved): [^\n]+\n", printed.err)
    assert "accuracy:" not in printed.out
    assert "nan" not in printed.out
    assert all(np.isfinite(array).all() for array in read_arrays(path).values())
    assert [each.name for each in tmp_path.iterdir()] == ["run.npz"]


def test_a_disk_that_gets_full_is_one_sentence_and_the_last_checkpoint_stays(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.npz"
    calls = 0

    def fill(_: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fill)
        assert main(["train", *TINY, "--checkpoint", str(path), "--checkpoint-every", "2"]) == 2
    assert capsys.readouterr().err == f"npformer train: {path}: No space left on device\n"
    assert len(read_arrays(path)["history.loss"]) == 8
    assert [each.name for each in tmp_path.iterdir()] == ["run.npz"]
    assert main(["train", "--checkpoint", str(path), "--resume"]) == 0


BAD_USAGE: list[tuple[list[str], str]] = [
    (["--data", "cifar"], '--data must be "digits" or "fashion-mnist", but it is \'cifar\''),
    (["--data", "fashion-mnist", "a", "b"], "--data must be a name and at most one folder, but fashion-mnist a b are"),
    (
        ["--data", "digits", "/a"],
        "the folder of --data must be None for digits, which come with this package, but it is /a",
    ),
    (["--data", "fashion-mnist", "no"], "no folder"),
    (["--hold-out", "-1"], "--hold-out must be at least 0, but it is -1"),
    (["--hold-out", "1348"], "--hold-out must be below the 1,348 images to train on, but it is 1348"),
    (["--epochs", "0"], "--epochs must be at least 1, but it is 0"),
    (["--epochs", "x"], "argument --epochs: invalid int value: 'x' (see npformer train --help)"),
    (["--d-model", "30"], "--d-model must be a multiple of num_heads, but d_model=30 and num_heads=4"),
    (["--epochs", "1" + 400 * "0"], "--epochs must "),
    (["--patch-size", "3"], "--patch-size must divide the height and the width of the images, 8 and 8, but it is 3"),
    (["--shift", "8"], "--shift must be below the height and the width of the images, 8 and 8, but it is 8"),
    (["--shift", "1000000000"], "--shift must be below the height"),
    (["--learning-rate", "nan"], "--learning-rate must lie in (0, inf), but it is nan"),
    (["--dropout", "1"], "must lie in [0, 1), but it is 1.0"),
    (["--checkpoint", "run.txt"], "a checkpoint must have the suffix .npz, but it is run.txt"),
    (["--checkpoint", "no/run.npz"], "no/run.npz: No such file or directory"),
    (["--checkpoint", "old.npz"], "--checkpoint must be a new file, but old.npz exists already; --resume goes on from"),
    (["--checkpoint", "run.npz", "--checkpoint-every", "0"], "--checkpoint-every must be at least 1, but it is 0"),
    (["--checkpoint-every", "5"], "--checkpoint-every needs --checkpoint FILE.npz"),
    (["--resume"], "--resume needs --checkpoint FILE.npz"),
    (["--checkpoint", "run.npz", "--resume"], "but there is no run.npz; without --resume a new run begins"),
    (["--checkpoint", "text.npz", "--resume"], "text.npz must be a whole .npz file, but "),
    (["--checkpoint", "old.npz", "--resume", "--epochs", "3"], "--epochs must be 2 as in old.npz, but it is 3"),
    (["--checkpoint", "old.npz", "--resume", "--flip"], "--flip must be False as in old.npz, but it is True"),
    (["--checkpoint", "old.npz", "--resume", "--hold-out", "9"], "--hold-out must be 0 as in old.npz, but it is 9"),
    (
        ["--checkpoint", "old.npz", "--resume", "--data", "fashion-mnist"],
        "--data must be digits as in old.npz, but it is fashion-mnist",
    ),
    (["--plot", "curves.jpg"], "--plot must have the suffix .png or .svg, but it is curves.jpg"),
    (["--plot", "no/curves.png"], "no/curves.png: No such file or directory"),
    (["--plot", "folder.png"], "--plot must be the path of a file, but folder.png is a folder"),
]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a checkpoint, and with files that are none."""
    folder = tmp_path_factory.mktemp("started")
    assert main(["train", *TINY, "--checkpoint", str(folder / "old.npz")]) == 0
    (folder / "text.npz").write_text("text")
    (folder / "folder.png").mkdir()
    return folder


@pytest.mark.parametrize(("arguments", "part"), BAD_USAGE)
def test_bad_usage_is_one_line_before_anything_is_trained(
    started: Path, arguments: list[str], part: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(started)
    before = sorted(each.name for each in started.iterdir())
    capsys.readouterr()
    try:
        status = main(["train", *arguments])
    except SystemExit as end:
        status = int(end.code or 0)
    printed = capsys.readouterr()
    assert (status, printed.out, printed.err.count("\n")) == (2, "", 1)
    assert printed.err.startswith("npformer train: ")
    assert part in printed.err
    assert sorted(each.name for each in started.iterdir()) == before


def test_without_matplotlib_one_line_says_what_to_install(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["train", "--plot", str(tmp_path / "curves.png")]) == 2
    sentence = "a picture needs the package matplotlib: pip install 'npformer[plot]'"
    assert capsys.readouterr() == ("", f"npformer train: {sentence}\n")
    assert list(tmp_path.iterdir()) == []
