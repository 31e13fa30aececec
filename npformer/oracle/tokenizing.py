"""The tokenizer of a folder in Hugging Face's layout, read by the package tokenizers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from npformer.shapes import check_flag, describe

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def read_tokenizer(folder: Path, vocab_size: int) -> Tokenizer:
    """Return the tokenizer of tokenizer.json, or else that of BERT with the words of vocab.txt.

    It neither pads nor truncates, whatever the file says.

    Raises
    ------
    ImportError
        If the package tokenizers is missing.
    OSError
        If a file cannot be read.
    TypeError, ValueError
        If it is no tokenizer, or has tokens that are not below vocab_size.
    """
    try:
        from tokenizers import Tokenizer
        from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer
    except ImportError:
        raise ImportError("reading a tokenizer needs the package tokenizers: pip install 'npformer[oracle]'") from None
    path = folder / "tokenizer.json"
    if not path.is_file():
        path = folder / "vocab.txt"
    lowercase = _lowercases(folder / "tokenizer_config.json")
    try:
        if path.suffix == ".json":
            tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        else:
            words = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
            vocabulary = {word: index for index, word in enumerate(words)}
            tokenizer = Tokenizer.from_str(BertWordPieceTokenizer(vocabulary, lowercase=lowercase).to_str())
    except OSError:
        raise
    except Exception as error:  # the package has no kinds of its own
        raise ValueError(f"{path} must be a tokenizer's file, but it is none: {error}") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    if largest >= vocab_size:
        raise ValueError(f"{path} must have tokens below vocab_size={vocab_size}, but it has {largest}")
    return tokenizer


def _lowercases(path: Path) -> bool:
    """Whether a tokenizer_config.json, if there is one, says so; BERT's default is yes."""
    if not path.is_file():
        return True
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} must be a JSON object, but it is none: {error}") from None
    if not isinstance(settings, dict):
        raise TypeError(f"{path} must be a JSON object, but it is {describe(settings)}")
    return check_flag(f"do_lower_case in {path}", settings.get("do_lower_case", True))
