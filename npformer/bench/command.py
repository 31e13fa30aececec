"""The command `npformer bench`."""

from __future__ import annotations

import argparse
import json
from typing import Any

from npformer.complaints import complain, sentence_of


def add_bench(commands: Any) -> None:
    """Add `npformer bench` to the commands."""
    parser = commands.add_parser(
        "bench",
        help="measure time and memory beside PyTorch",
        description="Measure the time of encoder layers beside PyTorch, if it is installed, and beside the bare matrix "
        "products; peak memory; attention against length; recomputation; and the import. Outputs and gradients are "
        "compared in the same run. It takes about ten minutes. Exit status: 0 done, 1 npformer and PyTorch disagree, "
        "2 bad usage.",
    )
    parser.add_argument(
        "--only",
        metavar="SECTIONS",
        help="of layers, memory, lengths, checkpoint and import those that are wanted, with commas between",
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of each contest (default: by the clock)")
    parser.add_argument("--dtype", choices=["float32", "float64"], help="of layers and memory (default: both)")
    parser.add_argument("--activation", choices=["relu", "gelu"], help="of layers (default: both)")
    parser.add_argument(
        "--no-rest",
        action="store_true",
        help="do not wait between contestants until the threads of the last one sleep, which slow the next one down, "
        "nor warm up for longer than one call",
    )
    parser.add_argument("--smoke", action="store_true", help="one round at the smallest sizes, to see that all works")
    parser.add_argument("--picture", metavar="FILE", help="draw cost against length as .png or .svg (needs matplotlib)")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the tables")
    parser.set_defaults(run=_bench)


def _bench(options: argparse.Namespace) -> int:
    from npformer.bench.picture import draw_lengths
    from npformer.bench.probe import ProbeError
    from npformer.bench.run import SECTIONS, run_bench
    from npformer.bench.section import ACTIVATIONS, DTYPES, Settings
    from npformer.bench.torch_steps import find_torch
    from npformer.gradcheck.report import without_infinities
    from npformer.picture_file import picture_file
    from npformer.shapes import check_count

    only = list(SECTIONS) if options.only is None else options.only.split(",")
    try:
        for name in only:
            if name not in SECTIONS:
                raise ValueError(f"--only must name sections among {', '.join(SECTIONS)}, but {name!r} is none of them")
        if options.picture is not None and "lengths" not in only:
            raise ValueError(f"--picture needs the section lengths, but --only is {options.only}")
        settings = Settings(
            DTYPES if options.dtype is None else (options.dtype,),
            ACTIVATIONS if options.activation is None else (options.activation,),
            None if options.rounds is None else check_count("--rounds", options.rounds),
            options.smoke,
            find_torch() is not None,
            not options.no_rest,
        )
        with picture_file("--picture", options.picture, "bench") as file:
            measurements = run_bench(settings, only, _silent if options.json else _print_at_once)
            if file is not None:
                draw_lengths(measurements.rows["lengths"], file, options.picture.lower().rpartition(".")[2])
    except OSError as error:
        return complain("bench", sentence_of(error))
    except (ImportError, ProbeError, ValueError) as error:
        return complain("bench", str(error))
    if options.json:
        print(json.dumps(without_infinities(measurements.to_dict()), indent=2, allow_nan=False))
    return 1 if measurements.faults else 0


def _print_at_once(line: str) -> None:
    print(line, flush=True)


def _silent(line: str) -> None:
    """Print nothing."""
