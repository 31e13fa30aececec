"""The commands for conformance cases: to write them, and to compare an implementation's arrays with one of them."""

from __future__ import annotations

import argparse
from typing import Any

from npformer.complaints import complain, sentence_of
from npformer.oracle.compare import compare
from npformer.oracle.files import read_arrays
from npformer.oracle.vectors import load_case, write_vectors

ROOM = 16  # times the size of the case's own arrays: what else a file of theirs may hold
LEAST_ROOM = 2**26


def add_vectors(commands: Any) -> None:
    """Add `npformer vectors` to the commands."""
    parser = commands.add_parser(
        "vectors",
        help="write conformance cases for implementations in any language",
        description="Write conformance cases into a folder: inputs, parameters, every intermediate, output and "
        "gradient in float64, with the tolerance of each entry, and manifest.json, which spells out the conventions. "
        "Exit status: 0 done, 2 bad usage.",
    )
    parser.add_argument("folder", metavar="DIR", help="is made when all cases are there; must not exist, or be empty")
    parser.add_argument(
        "--format",
        choices=["safetensors", "npz"],
        default="safetensors",
        help="of the files of arrays (default: safetensors, which needs pip install 'npformer[oracle]')",
    )
    parser.add_argument(
        "--only", metavar="PATTERN", action="append", help="write the cases with such names, such as 'attention_*'"
    )
    parser.set_defaults(run=_vectors)


def add_compare(commands: Any) -> None:
    """Add `npformer compare` to the commands."""
    parser = commands.add_parser(
        "compare",
        help="find the first wrong array of an implementation",
        description="Compare the arrays that an implementation computed with those of a conformance case, in order of "
        "execution: which is the first wrong one, and whether it is wrong there or follows from what came before. "
        "Exit status: 0 all right, 1 an array is wrong or a result is missing, 2 bad usage.",
    )
    parser.add_argument(
        "theirs",
        metavar="THEIRS",
        nargs="+",
        help="a .safetensors or .npz file with arrays under the names of the case; several, if runs differ",
    )
    parser.add_argument("expected", metavar="EXPECTED", help="the folder of the case, as npformer vectors writes it")
    parser.add_argument(
        "--only",
        metavar="PATTERN",
        action="append",
        help="compare the arrays with such names, such as 'output' or '*.grad_weight', all of which must be given",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_compare)


def _vectors(options: argparse.Namespace) -> int:
    try:
        cases = write_vectors(options.folder, options.format, options.only, progress=print)
    except OSError as error:
        return complain("vectors", sentence_of(error))
    except (ImportError, ValueError) as error:
        return complain("vectors", str(error))
    count = "1 case" if len(cases) == 1 else f"{len(cases)} cases"
    print(f"{count} in {options.folder}; manifest.json says what the arrays mean")
    return 0


def _compare(options: argparse.Namespace) -> int:
    try:
        expected = load_case(options.expected)
        limit = LEAST_ROOM + ROOM * sum(array.nbytes for array in expected.truth.values())
        comparison = compare([read_arrays(path, limit) for path in options.theirs], expected, options.only)
    except OSError as error:
        return complain("compare", sentence_of(error))
    except (ImportError, TypeError, ValueError) as error:
        return complain("compare", str(error))
    print(comparison.to_json() if options.json else comparison)
    return 0 if comparison.passed else 1
