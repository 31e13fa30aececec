"""What a config.json of Hugging Face says about a BERT, and the model of these sizes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npformer.bert import BertModel, make_bert
from npformer.shapes import check_choice, check_count, check_number, describe

ACTIVATIONS = {  # Hugging Face's names, and make_bert's
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


@dataclass(frozen=True)
class BertConfig:
    """The fields of a config.json that decide what a BERT computes, under Hugging Face's names.

    Those with a default here may be missing in the file.

    Examples
    --------
    >>> config = BertConfig(2, 8, 2, 32, 100, 16, 2, hidden_act="gelu")
    >>> config.make_model(), config.parameter_count
    (BertModel(2,776 parameters), 2776)
    """

    num_hidden_layers: int
    hidden_size: int
    num_attention_heads: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    type_vocab_size: int
    hidden_act: str
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0

    @property
    def parameter_count(self) -> int:
        """How many numbers the parameters are, pooler included, without making them."""
        d_model, d_ff = self.hidden_size, self.intermediate_size
        of_embeddings = self.vocab_size + self.max_position_embeddings + self.type_vocab_size + 2
        of_a_layer = 4 * (d_model + 1) + 2 * d_ff + 1 + 4  # rows of d_model numbers; linear1 has a bias of d_ff
        return d_model * (of_embeddings + self.num_hidden_layers * of_a_layer + d_model + 1) + (
            self.num_hidden_layers * d_ff
        )

    def make_model(self) -> BertModel:
        """Return a BERT of these sizes, with random parameters."""
        return make_bert(
            self.num_hidden_layers,
            self.hidden_size,
            self.num_attention_heads,
            self.intermediate_size,
            self.vocab_size,
            self.max_position_embeddings,
            self.type_vocab_size,
            self.hidden_dropout_prob,
            ACTIVATIONS[self.hidden_act],
            self.layer_norm_eps,
            rng=0,
            attention_dropout=self.attention_probs_dropout_prob,
        )


def read_config(path: Path) -> BertConfig:
    """Return the config of a file.

    Raises
    ------
    OSError
        If it cannot be read.
    TypeError, ValueError
        If it is no JSON object, or a field is missing, of another type, or asks for what is not here: a decoder, or
        positions that are relative.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or nested without end
        raise ValueError(f"{path} must be a JSON object, but it is none: {error}") from None
    if not isinstance(document, dict):
        raise TypeError(f"{path} must be a JSON object, but it is {describe(document)}")
    return _checked(document, str(path))


def _checked(document: Mapping[str, Any], path: str) -> BertConfig:
    def name(field: str) -> str:
        return f"{field} in {path}"

    def required(field: str) -> Any:
        if field not in document:
            raise ValueError(f"{path} must have the field {field}, but it is missing")
        return document[field]

    def optional(field: str) -> Any:
        return document.get(field, getattr(BertConfig, field))

    def count(field: str) -> int:
        return check_count(name(field), required(field))

    def rate(field: str) -> float:
        return check_number(name(field), optional(field), 0, 1)

    check_choice(name("model_type"), required("model_type"), {"bert": None})
    check_choice(
        name("position_embedding_type"), document.get("position_embedding_type", "absolute"), {"absolute": None}
    )
    if document.get("is_decoder", False) is not False:
        raise ValueError(f"{name('is_decoder')} must be false, but it is {document['is_decoder']!r:.60}")
    check_choice(name("hidden_act"), required("hidden_act"), ACTIVATIONS)
    config = BertConfig(
        count("num_hidden_layers"),
        count("hidden_size"),
        count("num_attention_heads"),
        count("intermediate_size"),
        count("vocab_size"),
        count("max_position_embeddings"),
        count("type_vocab_size"),
        document["hidden_act"],
        rate("hidden_dropout_prob"),
        rate("attention_probs_dropout_prob"),
        check_number(name("layer_norm_eps"), optional("layer_norm_eps"), 0, open_low=True),
        check_count(name("pad_token_id"), optional("pad_token_id"), least=0),
    )
    if config.hidden_size % config.num_attention_heads:
        raise ValueError(
            f"{name('hidden_size')} must be a multiple of num_attention_heads, but they are {config.hidden_size} and "
            f"{config.num_attention_heads}"
        )
    if config.pad_token_id >= config.vocab_size:
        raise ValueError(
            f"{name('pad_token_id')} must be below vocab_size, but they are {config.pad_token_id} and "
            f"{config.vocab_size}"
        )
    return config
