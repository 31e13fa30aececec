"""The main job: a whole encoder over real text, forward and backward, with every gradient checked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from npformer.component import Array, Component, flatten
from npformer.embedding import Embeddings, PositionalEncoding, TokenEncoder
from npformer.encoder import make_encoder
from npformer.gradcheck import CASES, ArrayCheck, Sizes, check_gradients, make_case, randomise
from npformer.gradcheck.report import YARDSTICKS, worst_verdict
from npformer.gradcheck.verdict import PASS
from npformer.masks import padding_mask
from npformer.shapes import check_choice, check_count, check_part

PAD = 0
DIRECTIONS = 3


def standard_text() -> str:
    """Return real English that every Python carries: the prose of the language's reference, `pydoc_data.topics`."""
    from pydoc_data import topics

    paragraphs = re.split(r"\n\s*\n", "\n\n".join(topics.topics.values()))
    return "\n\n".join(p for p in paragraphs if re.match(r"[A-Z]", p) and p.endswith("."))


def split_sentences(text: str) -> list[list[str]]:
    """Return the words of each sentence in lower case; a sentence ends with . ! ? or a blank line.

    Examples
    --------
    >>> split_sentences("It is so. Is it? Yes")
    [['it', 'is', 'so', '.'], ['is', 'it', '?'], ['yes']]
    """
    sentences = re.split(r"(?<=[.!?])\s+|\n\s*\n", text)
    words = (re.findall(r"\w+(?:'\w+)*|[.,;:!?]", sentence.lower()) for sentence in sentences)
    return [sentence for sentence in words if any(word[0].isalnum() for word in sentence)]


def make_batch(sentences: list[list[str]], vocabulary: dict[str, int]) -> Array:
    """Return the sentences as token ids (batch, T), padded with PAD to the longest."""
    tokens = np.full((len(sentences), max(map(len, sentences))), PAD)
    for row, sentence in zip(tokens, sentences, strict=True):
        row[: len(sentence)] = [vocabulary[word] for word in sentence]
    return tokens


@dataclass(frozen=True)
class Row:
    """One line of the table: a component, or an array of it whose errors are relative to something else."""

    name: str
    parameters: int
    error: float
    witness: float
    verdict: str
    seconds: float
    checks: list[ArrayCheck]


class Verification:
    """A model over some sentences of a text, and the checks of all its gradients and of each component's.

    Parameters
    ----------
    text : str, optional
        The prose of Python's reference if not given.
    sentences, max_words : int
        How many sentences are drawn, and where longer ones are cut.
    num_layers, d_model, num_heads, d_ff, dropout, activation, norm_first
        As for make_encoder.
    seed : int
        For the choice of sentences, the parameters, the dropout masks and the directions.
    dtype : {"float64", "float32"}
        Of the model and the components; truth is always computed in complex128.

    Raises
    ------
    ValueError
        If the text has no words or a size does not fit.

    Examples
    --------
    >>> verification = Verification("One. Two and three.", num_layers=1, d_model=4, num_heads=2, d_ff=4)
    >>> {row.verdict for row in verification.rows_of_model()}
    {'PASS'}
    """

    def __init__(
        self,
        text: str | None = None,
        *,
        sentences: int = 8,
        max_words: int = 24,
        num_layers: int = 2,
        d_model: int = 32,
        num_heads: int = 4,
        d_ff: int = 64,
        dropout: float = 0.1,
        activation: str = "relu",
        norm_first: bool = True,
        seed: int = 0,
        dtype: str = "float64",
    ):
        self.seed = check_count("seed", seed, least=0)
        self.dtype = np.dtype(check_choice("dtype", dtype, {"float64": np.float64, "float32": np.float32}))
        rng = np.random.default_rng(seed)
        text = standard_text() if text is None else text
        check_part("text", text, str)
        found = split_sentences(text)
        if not found:
            raise ValueError("text must have at least one word, but it has none")
        drawn = rng.permutation(len(found))[: check_count("sentences", sentences)]
        batch = [found[index][: check_count("max_words", max_words)] for index in drawn]
        words = sorted({word for sentence in found for word in sentence})
        self.vocabulary = {word: token for token, word in enumerate(words, start=PAD + 1)}
        self.tokens = make_batch(batch, self.vocabulary)
        self.mask = padding_mask(self.tokens, PAD)
        model = TokenEncoder(
            Embeddings(d_model, len(words) + 1),
            PositionalEncoding(d_model, dropout, max_len=self.tokens.shape[1]),
            make_encoder(num_layers, d_model, num_heads, d_ff, dropout, activation, norm_first),
        )
        randomise(model, rng)
        self.model = model.astype(self.dtype)

    def rows_of_components(self) -> Iterator[Row]:
        """Check each component at a small size, entry by entry."""
        for name in CASES:
            case = make_case(name, Sizes(), np.random.default_rng(self.seed))
            component = case.component.astype(self.dtype)
            inputs = [x.astype(self.dtype) if x.dtype.kind == "f" else x for x in case.inputs]
            report = check_gradients(component, *inputs, seed=self.seed, **case.options)
            yield from _rows(name, count_parameters(component), list(report.checks))

    def rows_of_model(self) -> Iterator[Row]:
        """Check the whole model on the text, along random directions of each tensor."""
        settings: dict[str, Any] = {"directions": DIRECTIONS, "seed": self.seed}
        settings |= {"mask": self.mask, "rng": np.random.default_rng(self.seed)}
        x = self.model.positions(self.model.embeddings(self.tokens))
        of_input = check_gradients(self.model.encoder, x, only=["x"], **settings)
        yield from _rows("encoder, input", 0, list(of_input.checks))
        of_parameters = check_gradients(self.model, self.tokens, **settings)
        for place, group in groupby(of_parameters.checks, key=_place):
            members = list(group)
            yield from _rows(place, sum(check.entries for check in members), members)


def count_parameters(component: Component) -> int:
    """Return the number of entries of all parameters."""
    return sum(array.size for array in flatten(component.parameters()).values())


def conclude(rows: list[Row]) -> str:
    """Return one line that says what all the rows amount to."""
    checks = [check for row in rows for check in row.checks]
    failed = [f"{row.name}: {check.name}" for row in rows for check in row.checks if check.verdict != PASS]
    if failed:
        return f"NOT PROVEN: {len(failed)} of {len(checks)} gradients, the first of them {failed[0]}"
    proven = []
    for yardstick, (mark, meaning) in YARDSTICKS.items():
        errors = [check.error for check in checks if check.yardstick == yardstick]
        if errors:
            proven.append(f"{len(errors)}{mark} to within {max(errors):.1e} of {meaning}")
    return f"All {len(checks)} gradients proven: {', '.join(proven)}"


def _place(check: ArrayCheck) -> str:
    """encoder.layers.0.self_attn for encoder.layers.0.self_attn.sublayer.q_proj.weight."""
    return ".".join(check.name.split(".")[:-1][:4])


def _rows(name: str, parameters: int, checks: list[ArrayCheck]) -> Iterator[Row]:
    """One row for the component, then one for each of its arrays whose errors are relative to something else."""
    yield _row(name, parameters, [check for check in checks if check.yardstick == "largest"])
    for check in checks:
        if check.yardstick != "largest":
            yield _row(f"  {check.name}{YARDSTICKS[check.yardstick][0]}", check.entries, [check])


def _row(name: str, parameters: int, checks: list[ArrayCheck]) -> Row:
    return Row(
        name,
        parameters,
        max((check.error for check in checks), default=0.0),
        max((check.witness for check in checks), default=0.0),
        worst_verdict(check.verdict for check in checks),
        sum(check.seconds for check in checks),
        checks,
    )
