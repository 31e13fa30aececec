"""`npformer train` as a user of the shell meets it."""

import io
import json
import re
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npformer.cli import main
from npformer.plot import learning_curves
from npformer.train_options import MODEL, TRAINING, option
from npformer.training import DIGITS, FASHION_MNIST, Settings

Captured = pytest.CaptureFixture[str]
SIZES = ["--patch-size", "4", "--num-layers", "1", "--d-model", "8", "--num-heads", "2", "--d-ff", "8"]
TINY = [*SIZES, "--activation", "relu", "--batch-size", "64", "--epochs", "2"]
LINE = r"epoch {}/2  step {}  loss \d\.\d{{4}}  accuracy 0\.\d{{4}}  \d+ s left"


class Terminal(io.StringIO):
    """A stream that says that a person looks at it."""

    def isatty(self) -> bool:
        return True


def looked_at(monkeypatch: pytest.MonkeyPatch) -> tuple[Terminal, Terminal]:
    """Replace stdout and stderr by terminals."""
    streams = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    return streams


def test_it_says_what_is_trained_how_it_goes_and_the_score_once(capsys: Captured) -> None:
    moves = ["--shift", "2", "--flip", "--threads", "2", "--seed", "7", "--label-smoothing", "0.2", "--dropout", "0.1"]
    optimizer = ["--learning-rate", "0.02", "--warmup", "0.1", "--weight-decay", "0.05", "--max-norm", "2"]
    assert main(["train", *TINY, *moves, *optimizer]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert lines[:6] == [
        "Data:     digits, 1,348 images of 8 x 8 to train on, 449 to test, 10 classes",
        "Model:    ImageClassifier(946 parameters), float32",
        "          patch size 4, 1 x pre-norm layer, d_model 8, 2 heads, d_ff 8, relu",
        "Training: 2 epochs of 22 steps of 64 images, shifted by up to 2 px, flipped, in 2 threads",
        "          AdamW, learning rate 0.02, warm-up 0.1, weight decay 0.05, clipped to 2",
        "          dropout 0.1, label smoothing 0.2, seed 7",
    ]
    assert re.fullmatch(LINE.format(1, 22), lines[6])
    assert re.fullmatch(LINE.format(2, 44), lines[7])
    assert re.fullmatch(r"Test accuracy: (0\.\d{4}) \((\d+) of 449\), in \d s", lines[8])
    assert len(lines) == 9


def test_json_stands_alone_and_has_the_same_numbers(capsys: Captured) -> None:
    assert main(["train", *TINY]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = time.perf_counter()
    assert main(["train", *TINY, "--json"]) == 0
    seconds = time.perf_counter() - start
    printed = capsys.readouterr()
    assert printed.err == ""
    document = json.loads(printed.out)
    score, correct = document["score"], document["correct"]
    assert lines[-1].startswith(f"Test accuracy: {score:.4f} ({correct} of 449), in ")
    assert score == correct / 449
    for line, epoch in zip(lines[6:8], document["epochs"], strict=True):
        assert f"loss {epoch['loss']:.4f}  accuracy {epoch['accuracy']:.4f}" in line
        found = 1348 * epoch["accuracy"]  # a mean over images: a whole number of them is found
        assert abs(found - round(found)) < 1e-9  # of sums of 22 shares, each rounded to half of 1e-16
    assert seconds / 10 < document["seconds"] < seconds  # what is not counted is short, on an idle machine
    assert document["settings"]["d_model"] == 8
    assert (document["parameters"], document["steps"], document["resumed_at"]) == (946, 44, 0)
    assert document["data"] == {"name": "digits", "train_images": 1348, "scored_images": 449, "held_out": False}


def test_held_out_images_are_called_so(capsys: Captured) -> None:
    assert main(["train", *TINY, "--hold-out", "100"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "1,248 images of 8 x 8 to train on, 100 held out, 10 classes" in lines[0]
    assert re.fullmatch(r"Held-out accuracy: 0\.\d{4} \(\d+ of 100\), in \d s", lines[-1])


def test_every_setting_has_an_option_whose_default_stands_in_the_help(capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    for each in fields(Settings):
        assert f"{option(each.name)} " in printed, each.name
    for name in MODEL | TRAINING:
        values = [getattr(settings, name) for settings in (DIGITS, FASHION_MNIST)]
        one = f"default: {values[0]}" if values[0] == values[1] else f"digits: {values[0]}"
        assert re.search(rf"{option(name)} \w [^(]*\({re.escape(one)}", printed), name
    assert "with the same NumPy and as many threads" in printed


def test_no_other_command_waits_for_it() -> None:
    program = "import sys, npformer.cli; print([name for name in sys.modules if name.startswith('npformer.training')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_on_a_terminal_there_is_a_bar_and_no_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = looked_at(monkeypatch)
    assert main(["train", *TINY]) == 0
    assert len(out.getvalue().splitlines()) == 7
    last = err.getvalue().split("\r")[-1]
    assert re.search(r"epoch 2/2 100%\|.*\| 44/44, 00:00 left, loss \d\.\d{4}, accuracy 0\.\d{4}\n", last)


def test_a_bar_beside_json_is_on_stderr_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out, err = looked_at(monkeypatch)
    monkeypatch.setattr(out, "isatty", lambda: False)
    assert main(["train", *TINY, "--json"]) == 0
    assert json.loads(out.getvalue())["steps"] == 44
    assert "44/44" in err.getvalue()


def test_without_tqdm_there_are_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    out, err = looked_at(monkeypatch)
    assert main(["train", *TINY]) == 0
    assert len(out.getvalue().splitlines()) == 9
    assert err.getvalue() == ""


def test_without_stderr_it_trains_as_well(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr(sys, "stderr", None)  # as after 2>&-
    assert main(["train", *TINY]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 9


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_where_no_person_looks_there_are_lines(monkeypatch: pytest.MonkeyPatch, stream: str) -> None:
    out, err = looked_at(monkeypatch)
    monkeypatch.setattr(getattr(sys, stream), "isatty", lambda: False)
    assert main(["train", *TINY]) == 0
    assert len(out.getvalue().splitlines()) == 9
    assert err.getvalue() == ""


def test_the_learning_curves_are_drawn(tmp_path: Path) -> None:
    for name, start in (("curves.png", b"\x89PNG"), ("curves.SVG", b"<?xml")):
        assert main(["train", *TINY, "--plot", str(tmp_path / name)]) == 0
        assert (tmp_path / name).read_bytes().startswith(start)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["curves.SVG", "curves.png"]


def test_only_a_score_of_the_test_images_is_drawn_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[Any]] = []

    def draw(*columns: Any, **named: Any) -> Any:
        given.append([*columns, *named.values()])
        return learning_curves(*columns, **named)

    monkeypatch.setattr("npformer.plot.learning_curves", draw)
    for number, options in enumerate([[], ["--hold-out", "100"]]):
        assert main(["train", *TINY, *options, "--plot", str(tmp_path / f"{number}.svg")]) == 0
    assert [any(isinstance(each, float) for each in arguments) for arguments in given] == [True, False]


def test_fashion_mnist_is_read_from_a_folder_which_may_move(tmp_path: Path, capsys: Captured) -> None:
    folder, moved, other = tmp_path / "folder", tmp_path / "moved", tmp_path / "other"
    write_fashion(folder, seed=0)
    write_fashion(other, seed=1)
    options = ["train", *TINY, "--checkpoint", str(tmp_path / "run.npz")]
    assert main([*options, "--data", "fashion-mnist", str(folder)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "Data:     Fashion-MNIST, 40 images of 28 x 28 to train on, 20 to test, 10 classes"
    folder.rename(moved)
    assert main([*options, "--resume"]) == 2
    assert str(folder) in capsys.readouterr().err
    assert main([*options, "--resume", "--data", "fashion-mnist", str(moved)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split(",")[0] == printed[-1].split(",")[0]
    assert main([*options, "--resume", "--data", "fashion-mnist", str(other)]) == 2
    sentence = "must go on with the data that it began with, but these are others"
    assert capsys.readouterr().err == f"npformer train: {tmp_path / 'run.npz'} {sentence}\n"


def write_fashion(folder: Path, seed: int) -> None:
    """Write the four files, with few images."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for part, count in (("train", 40), ("t10k", 20)):
        images = rng.integers(0, 256, (count, 28, 28), np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            sizes = b"".join(size.to_bytes(4) for size in array.shape)
            (folder / f"{part}-{kind}-ubyte").write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes())
