"""A small BERT, on which names and layouts show."""

from npformer import BertEncoder, BertModel, make_bert

NUM_LAYERS, D_MODEL, H, D_FF, VOCAB_SIZE, MAX_LEN = 2, 6, 2, 10, 11, 7


def bert_model() -> BertModel:
    """Return the whole."""
    return make_bert(NUM_LAYERS, D_MODEL, H, D_FF, VOCAB_SIZE, MAX_LEN, rng=0)


def bert_encoder() -> BertEncoder:
    """Return it without its pooler."""
    encoder = bert_model().encoder
    assert isinstance(encoder, BertEncoder)
    return encoder
