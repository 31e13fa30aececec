"""`npformer bench` as a user of the shell meets it. Nothing that is timed is asserted."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from npformer.bench import importing
from npformer.bench.checkpointing import Checkpointing, CheckpointRow
from npformer.bench.importing import Importing
from npformer.bench.lengths import CONTESTANTS, LengthRow
from npformer.bench.picture import draw_lengths
from npformer.bench.run import SECTIONS
from npformer.bench.section import Settings
from npformer.cli import main

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the short form prints as JSON, without PyTorch; a picture is drawn on the way."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "torch.py").write_text("raise ImportError")
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "npformer", "bench", "--smoke", "--json", "--picture", str(folder / "cost.png")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path})
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "cost.png").read_bytes()[:4] == b"\x89PNG"
    assert sorted(file.name for file in folder.iterdir() if file.is_file()) == ["cost.png", "torch.py"]
    return json.loads(done.stdout)


def test_the_short_form_measures_every_section(document: Any) -> None:
    assert list(document) == ["machine", "settings", *SECTIONS, "agree", "seconds"]
    assert {name: len(document[name]["rows"]) for name in SECTIONS} == {
        "layers": 2 * 2 * 2 * 2,  # sizes, dtypes, activations, forward alone and with backward
        "memory": 1,
        "lengths": 2,
        "checkpoint": 2,
        "import": 1,
    }
    assert document["agree"] is True


def test_a_row_of_layers_has_times_and_ratios(document: Any) -> None:
    row = document["layers"]["rows"][1]
    assert row["size"] == {"batch": 1, "T": 8, "d_model": 64, "num_heads": 4, "d_ff": 256, "num_layers": 1}
    assert (row["dtype"], row["activation"], row["mode"], row["rounds"]) == (
        "float32",
        "relu",
        "forward + backward",
        1,
    )
    assert row["milliseconds"]["npformer"] > row["milliseconds"]["floor"] / 100 > 0
    assert row["to_floor"] == pytest.approx(row["milliseconds"]["npformer"] / row["milliseconds"]["floor"])


def test_without_pytorch_its_columns_are_empty(document: Any) -> None:
    assert document["machine"]["torch"] is None
    rows = document["layers"]["rows"]
    assert {(row["milliseconds"]["torch"], row["to_torch"], row["torch_to_floor"]) for row in rows} == {(None,) * 3}
    assert {row["peak"]["torch"] for row in document["memory"]["rows"]} == {None}
    assert {row["milliseconds"]["torch"] for row in document["lengths"]["rows"]} == {None}


def test_json_says_if_nothing_was_compared(no_torch: None, capsys: Captured) -> None:
    assert main(["bench", "--smoke", "--only", "import", "--no-rest", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["agree"] is None
    assert document["settings"]["rest"] is False


def test_an_import_that_fails_gets_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr(importing, "PROGRAM", "raise ImportError('no such thing')")
    assert main(["bench", "--smoke", "--only", "import"]) == 2
    assert capsys.readouterr().err == "npformer bench: the import was not measured: ImportError: no such thing\n"


def test_the_table_is_printed_row_by_row(no_torch: None, capsys: Captured) -> None:
    assert main(["bench", "--smoke", "--only", "layers", "--dtype", "float64", "--activation", "gelu"]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert printed.err == ""
    assert lines[0].endswith("; PyTorch is not installed: its columns say -")
    table = [line for line in lines if line.startswith("(1,8,64,4,256)")]
    assert [line.count("  -") for line in table] == [3] * 4
    assert lines[-1].startswith("No outputs or gradients were compared. ")


def test_no_line_is_wider_than_110_columns() -> None:
    for section in SECTIONS.values():
        header = section.line(section.columns)
        assert max(map(len, [*section.title.splitlines(), header])) <= 110, section.title


def test_rounds_are_as_many_as_asked_for(no_torch: None, capsys: Captured) -> None:
    assert main(["bench", "--smoke", "--only", "layers", "--rounds", "3", "--dtype", "float32", "--json"]) == 0
    assert {row["rounds"] for row in json.loads(capsys.readouterr().out)["layers"]["rows"]} == {3}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--only", "layers,speed"],
            "--only must name sections among layers, memory, lengths, checkpoint, import, but 'speed' is none of them",
        ),
        (["--rounds", "0"], "--rounds must be at least 1, but it is 0"),
        (["--rounds", "x"], "argument --rounds: invalid int value: 'x' (see npformer bench --help)"),
        (["--picture", "cost.jpg"], "--picture must have the suffix .png or .svg, but it is cost.jpg"),
        (["--picture", "no/cost.png"], "no/cost.png: No such file or directory"),
        (
            ["--picture", "cost.png", "--only", "layers"],
            "--picture needs the section lengths, but --only is layers",
        ),
    ],
)
def test_bad_usage_is_one_line_before_anything_is_measured(
    arguments: list[str], sentence: str, capsys: Captured
) -> None:
    try:
        status = main(["bench", *arguments])
    except SystemExit as end:
        status = int(end.code or 0)
    assert (status, *capsys.readouterr()) == (2, "", f"npformer bench: {sentence}\n")


def test_a_folder_is_no_picture(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "cost.svg").mkdir()
    assert main(["bench", "--picture", str(tmp_path / "cost.svg")]) == 2
    sentence = f"--picture must be the path of a file, but {tmp_path / 'cost.svg'} is a folder"
    assert capsys.readouterr() == ("", f"npformer bench: {sentence}\n")


def test_without_matplotlib_one_line_says_what_to_install(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["bench", "--picture", str(tmp_path / "cost.png")]) == 2
    sentence = "a picture needs the package matplotlib: pip install 'npformer[bench]'"
    assert capsys.readouterr() == ("", f"npformer bench: {sentence}\n")
    assert not list(tmp_path.iterdir())


def test_a_picture_has_a_curve_for_each_contestant_that_was_measured(tmp_path: Path) -> None:
    rows = [
        LengthRow(
            T, 1, dict.fromkeys(CONTESTANTS, float(T)) | {"torch": None}, {}, dict.fromkeys(CONTESTANTS, T), 0.0, ()
        )
        for T in (256, 512)
    ]
    with (tmp_path / "cost.svg").open("wb") as file:
        draw_lengths(rows, file, "svg")
    assert (tmp_path / "cost.svg").read_text(encoding="utf-8").count("<svg") == 1


def test_a_process_that_fails_is_one_line(no_torch: None, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert main(["bench", "--smoke", "--json", "--only", "memory"]) == 2
    sentence = "the memory of plain, encoder (1,8,64,4,256), was not measured: exit status 1"
    assert capsys.readouterr() == ("", f"npformer bench: {sentence}\n")


def test_memory_grows_by_what_lies_between_depths() -> None:
    mib = 2**20
    rows = [
        CheckpointRow(
            Checkpointing.size_of(depth, smoke=False), depth * 40 * mib, depth * 8 * mib, depth * 7 * mib, mib
        )
        for depth in (1, 2, 24)
    ]
    assert SECTIONS["checkpoint"].summary(rows) == {
        "MiB of one activation (batch, T, d_model)": 1.0,
        "MiB a layer beyond its gradients, plain": 33.0,
        "MiB a layer beyond its gradients, checkpoint": 1.0,
    }


def test_the_import_row_is_a_median(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = iter(["9 9", "1 0.5", "2 0.25", "4 0.75"])  # the first is left out

    def fake_run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 0, next(runs))

    monkeypatch.setattr(subprocess, "run", fake_run)
    (row,) = Importing().rows(Settings(rounds=3))
    assert (row.rounds, row.numpy, row.npformer) == (3, 2000, 500)
