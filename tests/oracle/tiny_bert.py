"""A BERT with random parameters in a folder of Hugging Face's layout, which tests load and break."""

import json
from pathlib import Path
from typing import Any

from npformer import BertModel, make_bert
from npformer.oracle.checkpoints import save_parameters

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "dog", "sleep", "##s", "and", ".", "Paris"]
CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "num_hidden_layers": 2,
    "hidden_size": 8,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "vocab_size": 13,
    "max_position_embeddings": 9,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.25,
    "attention_probs_dropout_prob": 0.5,
    "layer_norm_eps": 1e-6,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
}


def make_folder(folder: Path, without: str = "", **changes: Any) -> BertModel:
    """Write config.json with some fields changed or one left out, model.safetensors and vocab.txt; return the model."""
    model = make_bert(2, 8, 2, 12, 13, 9, dropout=0.25, attention_dropout=0.5, eps=1e-6, rng=0)
    folder.mkdir(exist_ok=True)
    config = {name: value for name, value in (CONFIG | changes).items() if name != without}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    save_parameters(folder / "model.safetensors", model, convention="bert")
    return model
