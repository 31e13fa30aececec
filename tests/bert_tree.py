"""Components with the names of BERT's parameters, and nothing else of it."""

from typing import Any

from npformer import Component, Embeddings, LayerNorm, Linear, make_encoder
from npformer.component import Array, Tree

NUM_LAYERS, D_MODEL, H, D_FF, VOCAB_SIZE, MAX_LEN = 2, 6, 2, 10, 11, 7


class Parts(Component):
    """Children by name; it computes nothing."""

    def __init__(self, **children: Component):
        vars(self).update(children)

    def forward(self, *inputs: Any, **options: Any) -> tuple[Array, Tree]:
        raise NotImplementedError

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
        raise NotImplementedError


def bert_encoder() -> Parts:
    """Return the names of a BertEncoder."""
    embeddings = Parts(
        word_embeddings=Embeddings(D_MODEL, VOCAB_SIZE, rng=0),
        position_embeddings=Embeddings(D_MODEL, MAX_LEN, rng=1),
        token_type_embeddings=Embeddings(D_MODEL, 2, rng=2),
        norm=LayerNorm(D_MODEL),
    )
    return Parts(embeddings=embeddings, encoder=make_encoder(NUM_LAYERS, D_MODEL, H, D_FF, norm_first=False, rng=3))


def bert_model() -> Parts:
    """Return the names of a BertModel."""
    return Parts(encoder=bert_encoder(), pooler=Parts(dense=Linear(D_MODEL, D_MODEL, rng=4)))
