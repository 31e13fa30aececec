"""`npformer train` where files, streams and numbers are not as they should be."""

import itertools
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_training_command import SIZES, TINY, write_fashion
from tiny_runs import TINY as SETTINGS

from npformer.cli import main
from npformer.training import Run, Source, read_saved_run
from npformer.training.keeping import Keeper

Captured = pytest.CaptureFixture[str]
WITHOUT_ROOM = (
    "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); "
    "from npformer.cli import main; sys.exit(main(sys.argv[1:]))"
)
MAIN = "import sys; from npformer.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_picture_that_cannot_be_written_is_named_and_the_score_is_not_lost(tmp_path: Path, form: list[str]) -> None:
    path = tmp_path / "curves.png"
    command = [sys.executable, "-c", WITHOUT_ROOM, "train", *TINY, *form, "--plot", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr == f"npformer train: {path}: File too large\n"
    assert ("Test accuracy" if not form else '"score"') in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ["2>&-", "2>/dev/full"])
@pytest.mark.parametrize(("epochs", "status"), [("1", 0), ("0", 2)])
def test_a_stderr_that_cannot_be_written_changes_nothing(ending: str, epochs: str, status: int) -> None:
    words = [sys.executable, "-c", MAIN, "train", *TINY, "--epochs", epochs]
    command = f"{shlex.join(words)} {ending}"
    done = subprocess.run(command, shell=True, stdout=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == status
    assert ("Test accuracy" in done.stdout) == (status == 0)
    assert "must" not in done.stdout


def test_a_folder_that_moved_is_kept_in_the_checkpoint(tmp_path: Path) -> None:
    folder, moved, path = tmp_path / "folder", tmp_path / "moved", tmp_path / "run.npz"
    write_fashion(folder, seed=0)
    source = Source("fashion-mnist", str(folder))
    run = Run(source.load(0), SETTINGS, source)
    for _ in itertools.islice(run.steps(), 1):
        run.save(path)
    folder.rename(moved)
    assert main(["train", "--checkpoint", str(path), "--resume", "--data", "fashion-mnist", str(moved)]) == 0
    assert read_saved_run(path).source == Source("fashion-mnist", str(moved))


def test_what_is_said_after_a_stop_can_be_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    path = tmp_path / "a run's.npz"
    monkeypatch.setattr(Keeper, "after", lambda self, step: os.kill(os.getpid(), signal.SIGTERM))
    assert main(["train", *TINY, "--checkpoint", str(path)]) == 128 + signal.SIGTERM
    said = capsys.readouterr().err.rpartition("to go on: ")[2]
    assert shlex.split(said) == ["npformer", "train", "--checkpoint", str(path), "--resume"]


def test_a_checkpoint_is_a_file(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "folder.npz"
    path.mkdir()
    for more in ([], ["--resume"]):
        assert main(["train", *SIZES, "--checkpoint", str(path), *more]) == 2
        expected = f"npformer train: --checkpoint must be the path of a file, but {path} is a folder\n"
        assert capsys.readouterr().err == expected


BEYOND = "must lie within -1.8e+308 and 1.8e+308, but it is beyond that"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--epochs", "0"], "--epochs must be at least 1, but it is 0"),
        (["--hold-out", "-1"], "--hold-out must be at least 0, but it is -1"),
        (["--learning-rate", "nan"], "--learning-rate must lie in (0, inf), but it is nan"),
        (["--epochs", "1" * 400], f"--epochs {BEYOND}"),
        (["--d-ff", "1" * 400], f"--d-ff {BEYOND}"),
    ],
)
def test_sentences_name_the_option_as_it_was_typed(words: list[str], sentence: str, capsys: Captured) -> None:
    assert main(["train", *words]) == 2
    assert capsys.readouterr().err == f"npformer train: {sentence}\n"
