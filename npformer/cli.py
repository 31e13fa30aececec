"""The command line: each command is a thin face over one public function."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from npformer import __version__
from npformer.accuracy import format_accuracy, measure_accuracy
from npformer.bench.command import add_bench
from npformer.complaints import BAD_USAGE, complain
from npformer.exercise_command import add_exercise
from npformer.gradcheck.report import YARDSTICKS, without_infinities
from npformer.gradcheck.verdict import PASS
from npformer.oracle.case_commands import add_compare, add_vectors
from npformer.oracle.embed_command import add_embed
from npformer.train_command import add_train
from npformer.verify import DIRECTIONS, Row, Verification, conclude


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        """Add the default, if there is one."""
        return action.help if action.default is None or action.default is False else super()._get_help_string(action)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print one line, where argparse prints the whole usage first."""
        self.exit(BAD_USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = _Parser(prog="npformer", description="The Transformer encoder in NumPy, with every gradient proven.")
    parser.add_argument("--version", action="version", version=f"npformer {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    _add_verify(commands)
    _add_accuracy(commands)
    add_vectors(commands)
    add_compare(commands)
    add_embed(commands)
    add_bench(commands)
    add_exercise(commands)
    add_train(commands)
    with ExitStack() as stack:
        for stream, redirect in ((sys.stdout, redirect_stdout), (sys.stderr, redirect_stderr)):
            if stream is None:  # it was closed; whatever is opened next would take its place
                nothing = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
                stack.enter_context(redirect(nothing))
        return _finish(parser.parse_args(arguments))


def _finish(options: argparse.Namespace) -> int:
    """Run a command to its end, and return the exit status."""
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except MemoryError:
        return complain(options.command, "there is not enough memory for these sizes")
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left cannot be printed
        if isinstance(error, BrokenPipeError):  # the reader, such as head, has gone, and wants no more
            return BAD_USAGE
        return complain(options.command, f"the output cannot be written: {error.strerror}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return status


def _add_verify(commands: Any) -> None:
    parser = commands.add_parser(
        "verify",
        help="run a whole encoder over real text and prove every gradient",
        description="Run a whole encoder over real English text, forward and backward with dropout on, and check "
        "every gradient by complex-step differentiation, with a central difference as a second witness. "
        "Exit status: 0 all proven, 1 a gradient is not, 2 bad usage.",
        formatter_class=_HelpFormatter,
    )
    parser.add_argument("--file", metavar="PATH", help="text of your own (UTF-8) in place of Python's reference")
    parser.add_argument("--sentences", type=int, default=8, metavar="N", help="how many are drawn from the text")
    parser.add_argument("--max-words", type=int, default=24, metavar="N", help="longer sentences are cut here")
    parser.add_argument("--num-layers", type=int, default=2, metavar="N", help="layers of the encoder")
    parser.add_argument(
        "--d-model", type=int, default=32, metavar="N", help="size of a token's vector, a multiple of the heads"
    )
    parser.add_argument("--num-heads", type=int, default=4, metavar="N", help="heads of the attention")
    parser.add_argument("--d-ff", type=int, default=64, metavar="N", help="size inside the feed-forward network")
    parser.add_argument("--dropout", type=float, default=0.1, metavar="P", help="rate of every dropout")
    parser.add_argument(
        "--activation",
        choices=["relu", "gelu", "gelu_tanh", "silu"],
        default="relu",
        help="of the feed-forward network",
    )
    parser.add_argument("--post-norm", action="store_true", help="normalise after each sublayer, not before")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="for sentences, parameters, dropout and directions"
    )
    parser.add_argument(
        "--dtype",
        choices=["float64", "float32"],
        default="float64",
        help="of model and components; truth is in complex128",
    )
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    parser.set_defaults(run=_verify)


def _add_accuracy(commands: Any) -> None:
    parser = commands.add_parser(
        "accuracy",
        help="measure the special functions against many digits",
        description="Measure erf, the activations, softmax and layer norm against mpmath, in float64 and float32, and "
        "print the largest errors. Needs mpmath: pip install mpmath. Exit status: 0 done, 2 bad usage.",
        formatter_class=_HelpFormatter,
    )
    parser.add_argument("--points", type=int, default=100_000, metavar="N", help="points per function and dtype")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="for the random points")
    parser.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    parser.set_defaults(run=_accuracy)


def _accuracy(options: argparse.Namespace) -> int:
    try:
        print(format_accuracy(measure_accuracy(options.points, options.seed), options.markdown))
    except (ImportError, ValueError) as error:
        return complain("accuracy", str(error))
    return 0


def _verify(options: argparse.Namespace) -> int:
    start = time.perf_counter()
    names = ("sentences", "max_words", "num_layers", "d_model", "num_heads", "d_ff", "dropout", "activation")
    try:
        text = None if options.file is None else Path(options.file).read_text(encoding="utf-8")
        settings = {name: getattr(options, name) for name in (*names, "seed", "dtype")}
        settings["norm_first"] = not options.post_norm
        verification = Verification(text, **settings)
    except UnicodeDecodeError:
        return complain("verify", f"--file must be UTF-8 text, but {options.file} is not")
    except OSError as error:
        return complain("verify", f"--file must be a readable file, but {options.file} is not: {error.strerror}")
    except ValueError as error:
        return complain("verify", str(error))
    rows: list[Row] = []
    report = print if not options.json else _silent
    report(_describe(verification, options))
    sections = (
        ("Each component at a small size, entry by entry", verification.rows_of_components()),
        (f"The whole model on the text, {DIRECTIONS} random directions per tensor", verification.rows_of_model()),
    )
    for title, section in sections:
        report(f"\n{title}")
        report(
            f"{'component':<51}{'parameters':>10}{'complex step':>14}{'central diff.':>15}  {'verdict':<9}{'time':>8}"
        )
        for row in section:
            rows.append(row)
            report(
                f"{row.name:<51}{row.parameters:>10,}{row.error:>14.1e}{row.witness:>15.1e}"
                f"  {row.verdict:<9}{row.seconds:>6.2f} s"
            )
    seconds = time.perf_counter() - start
    conclusion = conclude(rows)
    report(f"\n{conclusion}. {seconds:.1f} s")
    if options.json:
        table = [asdict(row) for row in rows]
        document = {
            "file": options.file,
            "settings": settings,
            "rows": table,
            "conclusion": conclusion,
            "seconds": seconds,
        }
        print(json.dumps(without_infinities(document), indent=2, allow_nan=False))
    return 0 if all(row.verdict == PASS for row in rows) else 1


def _describe(verification: Verification, options: argparse.Namespace) -> str:
    lengths = verification.mask.sum(-1).ravel()
    return (
        f"Text: {len(lengths)} sentences of {lengths.min()} to {lengths.max()} words from "
        f"{options.file or 'the reference of the Python language'}, {len(verification.vocabulary):,} words known\n"
        f"Model: {verification.model!r}, {options.dtype}, dropout {options.dropout}, seed {options.seed}\n"
        f"Errors: relative to the largest entry of the gradient; * relative to {YARDSTICKS['terms'][1]};\n"
        f"** relative to {YARDSTICKS['conditioning'][1]}"
    )


def _silent(message: str) -> None:
    """Print nothing."""
