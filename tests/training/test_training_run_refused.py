"""What is wrong with a checkpoint, its data or the settings is one sentence."""

import itertools
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import DATA, TINY, few_digits

from npformer.component import Array
from npformer.oracle.files import read_arrays, write_arrays
from npformer.training import Run, Source, read_saved_run

Change = Callable[[dict[str, Array]], object]


def retold(about: Callable[[dict[str, Any]], object]) -> Change:
    """Return a change of what is not an array."""

    def change(arrays: dict[str, Array]) -> None:
        text = json.loads(arrays["about"].tobytes())
        about(text)
        arrays["about"] = np.frombuffer(json.dumps(text).encode(), np.uint8)

    return change


def recast(dtype: type, *names: str) -> Change:
    return lambda arrays: arrays.update({name: arrays[name].astype(dtype) for name in names})


def at_once(name: str, value: float) -> Change:
    """Return a change of the last entry of an array."""
    return lambda arrays: arrays[name].put(-1, value)


BIAS = "head.linear.bias"
ODD_FILES: dict[str, tuple[Change, str]] = {
    "another .npz file": (lambda arrays: arrays.pop("about"), "but it is another .npz file"),
    "no JSON": (lambda arrays: arrays.update(about=np.zeros(3, np.uint8)), "but it is another .npz file"),
    "another format": (retold(lambda about: about.update(format="x")), "but it is another .npz file"),
    "another version": (retold(lambda about: about.update(version=2)), "must be of version 1, but it is of version 2"),
    "other settings": (retold(lambda about: about["settings"].update(x=1)), "but it has odd settings: "),
    "bad settings": (retold(lambda about: about["settings"].update(epochs=0)), "epochs must be at least 1"),
    "no settings": (retold(lambda about: about.pop("settings")), "but it has odd settings: 'settings'"),
    "another source": (retold(lambda about: about.update(source={"name": "cifar"})), "but it has odd settings: "),
    "other data": (retold(lambda about: about.update(fingerprint="0")), "must go on with the data that it began with"),
    "another array": (lambda arrays: arrays.update(x=np.zeros(3)), "but 'x' is in it"),
    "no parameter": (lambda arrays: arrays.pop(f"parameters.{BIAS}"), f"{BIAS} is missing"),
    "float64": (recast(np.float64, f"parameters.{BIAS}"), f"{BIAS} is float64, not float32"),
    "no steps": (lambda arrays: arrays.pop("optimizer.steps"), "steps"),
    "other steps": (lambda arrays: arrays.update({"optimizer.steps": np.array(3)}), "it has 3 steps, 2 in its history"),
    "no memory": (lambda arrays: arrays.pop(f"optimizer.mean.{BIAS}"), f"{BIAS}"),
    "other memory": (
        lambda arrays: [arrays.update({f"optimizer.{kind}.{BIAS}": np.zeros(3, "f4")}) for kind in ("mean", "square")],
        f"{BIAS} has shape (3,), expected (10,)",
    ),
    "float64 memory": (
        recast(np.float64, f"optimizer.mean.{BIAS}", f"optimizer.square.{BIAS}"),
        f"mean.{BIAS} is float64, not float32",
    ),
    "nested JSON": (
        lambda arrays: arrays.update(about=np.full(200_000, ord("["), np.uint8)),
        "it is another .npz file",
    ),
    "version true": (retold(lambda about: about.update(version=True)), "of version 1, but it is of version True"),
    "odd dropout": (retold(lambda about: about["settings"].update(dropout=1.5)), "must lie in [0, 1), but it is 1.5"),
    "odd patches": (retold(lambda about: about["settings"].update(patch_size=3)), "patch_size must divide the height"),
    "odd activation": (retold(lambda about: about["settings"].update(activation="elu")), "but it is 'elu'"),
    "a NaN": (at_once(f"parameters.{BIAS}", np.nan), f"parameters.{BIAS} is not finite"),
    "a loss of NaN": (at_once("history.loss", np.nan), "in loss that are finite, but nan is among them"),
    "a norm of inf": (at_once("history.grad_norms.head", np.inf), "in grad_norms.head that are finite and at least 0"),
    "a rate below 0": (
        at_once("history.learning_rate", -1),
        "in learning_rate that are finite and at least 0, but -1",
    ),
    "accuracy of 7": (at_once("history.accuracy", 7), "in accuracy that are in [0, 1], but 7 is among them"),
    "a layer less": (lambda arrays: arrays.pop("history.grad_norms.norm"), "it has gradient norms of ['embedding', "),
    "no layers": (
        lambda arrays: [arrays.pop(name) for name in list(arrays) if name.startswith("history.grad_norms")],
        "it has gradient norms of [], not of ['embedding', 'head', 'layers.0', 'layers.1', 'norm']",
    ),
    "no loss": (lambda arrays: arrays.pop("history.loss"), "history must have"),
    "a short column": (lambda arrays: arrays.update({"history.accuracy": np.zeros(1)}), "of one length, but accuracy"),
    "an odd column": (lambda arrays: arrays.update({"history.x": np.zeros(2)}), "but x is among them"),
}


@pytest.mark.parametrize("case", ODD_FILES)
def test_an_odd_checkpoint_is_one_sentence_that_begins_with_its_path(tmp_path: Path, case: str) -> None:
    change, part = ODD_FILES[case]
    path = tmp_path / "run.npz"
    run = Run(DATA, TINY)
    for _ in itertools.islice(run.steps(), 2):
        pass
    run.save(path)
    arrays = read_arrays(path)
    change(arrays)
    write_arrays(path, arrays)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} ") as caught:
        Run.load(path, DATA)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_that_is_cut_or_damaged_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    Run(DATA, TINY).save(path)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    for broken in (b"", whole[: len(whole) // 2], whole[:-1], bytes(damaged)):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=f"^{re.escape(str(path))} must be a whole .npz file, but [^\n]+$"):
            Run.load(path, DATA)


def test_other_data_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    Run(DATA, TINY).save(path)
    relabelled = DATA.train_labels.copy()
    relabelled[-1] = (relabelled[-1] + 1) % 10
    others = [few_digits(201), replace(DATA, train_labels=relabelled)]
    others += [replace(DATA, test_images=1 - DATA.test_images), replace(DATA, test_labels=DATA.test_labels[::-1])]
    for other in others:
        with pytest.raises(ValueError, match="must go on with the data that it began with, but these are others"):
            Run.load(path, other)


def test_checkpoints_can_be_compared_and_be_keys(tmp_path: Path) -> None:
    Run(DATA, TINY).save(tmp_path / "run.npz")
    first, second = (read_saved_run(tmp_path / "run.npz") for _ in range(2))
    assert first != second  # each is itself alone: arrays have no single answer
    assert len({first, second, first}) == 2


def test_the_largest_shift_leaves_something_to_see() -> None:
    next(Run(DATA, replace(TINY, shift=7)).steps())


def test_data_that_are_none_are_not_the_fault_of_the_checkpoint(tmp_path: Path) -> None:
    Run(DATA, TINY).save(tmp_path / "run.npz")
    data: Any = None
    with pytest.raises(TypeError, match=r"^data must be a Data, but it is None$"):
        Run.load(tmp_path / "run.npz", data)


def test_a_checkpoint_has_one_suffix(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a checkpoint must have the suffix \.npz, but it is a\.safetensors"):
        Run(DATA, TINY).save("a.safetensors")


SIDES = "the height and the width of the images, 8 and 8"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"epochs": 0}, "epochs must be at least 1, but it is 0"),
        ({"batch_size": 2.5}, "batch_size must be a whole number, but it is a float"),
        ({"learning_rate": 0.0}, "learning_rate must lie in (0, inf), but it is 0.0"),
        ({"learning_rate": math.nan}, "learning_rate must lie in (0, inf), but it is nan"),
        ({"warmup": 1.0}, "warmup must lie in [0, 1), but it is 1.0"),
        ({"weight_decay": -1}, "weight_decay must lie in [0, inf), but it is -1"),
        ({"label_smoothing": 1}, "label_smoothing must lie in [0, 1), but it is 1"),
        ({"max_norm": 0}, "max_norm must lie in (0, inf), but it is 0"),
        ({"shift": -1}, "shift must be at least 0, but it is -1"),
        ({"shift": 8}, f"shift must be below {SIDES}, but it is 8"),
        ({"patch_size": 3}, f"patch_size must divide {SIDES}, but it is 3"),
        ({"patch_size": 0}, "patch_size must be at least 1, but it is 0"),
        (
            {"epochs": 10**300},  # which float holds, but not times the warm-up
            f"epochs must be at most 1,801,439,850,948,198, or the steps cannot be counted, but it is {10**300}",
        ),
        ({"flip": 1}, "flip must be True or False, but it is an int"),
        ({"dtype": "float16"}, 'dtype must be "float32" or "float64", but it is \'float16\''),
        ({"seed": -1}, "seed must be at least 0, but it is -1"),
        ({"d_model": 9}, "d_model must be a multiple of num_heads, but d_model=9 and num_heads=2"),
    ],
)
def test_bad_settings_are_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(sentence)}$"):
        Run(DATA, replace(TINY, **changes))


def test_a_source_is_checked() -> None:
    for arguments, part in (
        (("cifar",), 'data must be "digits" or "fashion-mnist", but it is \'cifar\''),
        (("digits", "folder"), "folder must be None for digits, which come with this package, but it is folder"),
        (("digits", None, -1), "hold_out must be at least 0, but it is -1"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(part)}$"):
            Source(*arguments)
    with pytest.raises(ValueError, match=r"^hold_out must be below the 1,348 images to train on, but it is 1348$"):
        Source("digits", hold_out=1348).load(0)
