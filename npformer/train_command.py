"""The command `npformer train`: a thin face over Run, and what a person sees of it."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from npformer.complaints import complain, sentence_of
from npformer.train_options import HelpFormatter, add_options, option

if TYPE_CHECKING:
    from npformer.training.history import History
    from npformer.training.keeping import Keeper
    from npformer.training.progress import Progress
    from npformer.training.run import Run
    from npformer.training.settings import Settings
    from npformer.training.source import Source


class InterruptedRunError(Exception):
    """A signal stopped the run between two steps."""

    def __init__(self, number: signal.Signals):
        self.number = number


def add_train(commands: Any) -> None:
    """Add `npformer train` to the commands."""
    parser = commands.add_parser(
        "train",
        help="train an encoder on images, and score it",
        description="Train an encoder on images: patches, linear embedding, positions, encoder, and a head that reads "
        "all tokens; with AdamW, warm-up and cosine. At the end the test images are scored, once. By default it learns "
        "the handwritten digits that come with this package, in seconds. A seed decides everything: the same command "
        "gives the same bits on the same machine with the same NumPy and as many threads. What is not given is as it "
        "suits the data. Exit status: 0 done, 1 the numbers are not finite any more, 2 bad usage or a file that cannot "
        "be read or written, 130 Ctrl-C, 143 SIGTERM.",
        formatter_class=HelpFormatter,
    )
    add_options(parser)
    parser.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> int:
    from npformer.picture_file import picture_file
    from npformer.replacement import naming
    from npformer.threads import one_thread
    from npformer.training.progress import make_progress
    from npformer.training.report import describe_run, format_outcome, outcome
    from npformer.training.run import DivergedError

    start = time.perf_counter()
    try:
        with one_thread(), picture_file("--plot", options.plot, "plot") as picture:
            run = _make_run(options)
            resumed_at = len(run.history)
            keeper = _make_keeper(run, options)
            if not options.json:
                print(describe_run(run), flush=True)
            _take_steps(run, keeper, make_progress(run, silent=options.json))
            score = run.score()
            result = outcome(run, resumed_at, time.perf_counter() - start, score)
            print(json.dumps(result, indent=2, allow_nan=False) if options.json else format_outcome(result))
            if picture is not None:
                test_accuracy = None if result["data"]["held_out"] else score
                with naming(options.plot):
                    _draw(run.history, test_accuracy, picture, Path(options.plot).suffix)
    except DivergedError as error:
        complain("train", str(error))
        return 1
    except InterruptedRunError as interrupted:
        complain("train", f"interrupted after step {len(run.history)} of {run.total_steps}{_how_to_go_on(options)}")
        return 128 + interrupted.number
    except OSError as error:
        if error.filename is None:  # then it is the output that cannot be written
            raise
        return complain("train", sentence_of(error))
    except (ImportError, TypeError, ValueError) as error:
        return complain("train", _in_options(str(error)))
    return 0


def _make_run(options: argparse.Namespace) -> Run:
    """Return the run that is to be begun, or taken up again."""
    from npformer.shapes import check_count
    from npformer.training.run import Run
    from npformer.training.saved_run import check_suffix, read_saved_run
    from npformer.training.settings import Settings

    given = {each.name: value for each in fields(Settings) if (value := getattr(options, each.name)) is not None}
    path = options.checkpoint
    if path is None and (options.resume or options.checkpoint_every is not None):
        raise ValueError(f"{'--resume' if options.resume else '--checkpoint-every'} needs --checkpoint FILE.npz")
    if path is not None and check_suffix(path).is_dir():
        raise ValueError(f"--checkpoint must be the path of a file, but {path} is a folder")
    if options.checkpoint_every is not None:
        check_count("--checkpoint-every", options.checkpoint_every)
    if not options.resume:
        if path is not None and Path(path).exists():
            raise ValueError(f"--checkpoint must be a new file, but {path} exists already; --resume goes on from it")
        source = _source(options)
        settings = replace(source.settings, **given)
        return Run(source.load(settings.seed), settings, source)
    if not Path(path).exists():
        raise ValueError(f"--resume needs a checkpoint, but there is no {path}; without --resume a new run begins")
    checkpoint = read_saved_run(path)
    source = _same_source(options, checkpoint.source)
    _check_same(given, checkpoint.settings, path)
    return Run.resume(replace(checkpoint, source=source), source.load(checkpoint.settings.seed), path)


def _source(options: argparse.Namespace) -> Source:
    from npformer.training.source import Source

    name, *folders = options.data or ["digits"]
    if len(folders) > 1:
        raise ValueError(f"--data must be a name and at most one folder, but {' '.join(options.data)} are more")
    return Source(name, str(Path(folders[0]).absolute()) if folders else None, options.hold_out or 0)


def _same_source(options: argparse.Namespace, source: Source | None) -> Source:
    """Return where the data are from; a folder may have been moved."""
    if source is None:
        return _source(options)
    if options.data is not None:
        given = _source(options)
        if given.name != source.name:
            raise ValueError(f"--data must be {source.name} as in {options.checkpoint}, but it is {given.name}")
        source = replace(source, folder=given.folder)
    if options.hold_out not in (None, source.hold_out):
        raise ValueError(
            f"--hold-out must be {source.hold_out} as in {options.checkpoint}, but it is {options.hold_out}"
        )
    return source


def _check_same(given: dict[str, Any], settings: Settings, path: str) -> None:
    for name, value in given.items():
        if value != getattr(settings, name):
            raise ValueError(f"{option(name)} must be {getattr(settings, name)} as in {path}, but it is {value}")


def _make_keeper(run: Run, options: argparse.Namespace) -> Keeper | None:
    """Return what saves the run, if that is wanted and there is something left to do."""
    from npformer.training.keeping import Keeper

    if options.checkpoint is None or len(run.history) == run.total_steps:
        return None
    return Keeper(run, options.checkpoint, options.checkpoint_every)


def _take_steps(run: Run, keeper: Keeper | None, progress: Progress) -> None:
    """Take all steps that are left."""
    from npformer.training.interrupts import noted_interrupts

    with noted_interrupts() as noted, progress:
        for step in run.steps():
            progress.show()
            if keeper is not None:
                keeper.after(step)
            if noted:
                break
    if keeper is not None:
        keeper.save()
    if noted:
        raise InterruptedRunError(noted[0])


def _draw(history: History, test_accuracy: float | None, picture: BinaryIO, suffix: str) -> None:
    from npformer.plot import learning_curves

    figure = learning_curves(history.loss, history.accuracy, history.learning_rate, test_accuracy)
    figure.savefig(picture, format=suffix.lower().removeprefix("."))


def _how_to_go_on(options: argparse.Namespace) -> str:
    if options.checkpoint is None:
        return "; nothing is kept without --checkpoint"
    return f"; to go on: npformer train --checkpoint {shlex.quote(options.checkpoint)} --resume"


def _in_options(sentence: str) -> str:
    """Return a sentence on an argument as one on its option."""
    from npformer.training.settings import Settings

    options = {name: option(name) for name in ("data", "hold_out", *(each.name for each in fields(Settings)))}
    name, _, rest = sentence.partition(" ")
    return f"{(options | {'folder': 'the folder of --data'}).get(name, name)} {rest}"
