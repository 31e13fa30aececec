"""BERT as in Hugging Face's transformers: BertModel and BertLayer.

Under a head all names have the prefix "bert."; then names without it are the head's and are left alone. Files of former
days call weight and bias of a LayerNorm gamma and beta. embeddings.position_ids (0, 1, 2, …) is no parameter.
"""

from __future__ import annotations

from npformer.oracle.conventions.kind import Kind, same, within

LINEAR = LAYER_NORM = same("weight", "bias")
TABLE = same("weight")
LAYER = within(
    {
        ("self_attn.sublayer.q_proj.", "attention.self.query."): LINEAR,
        ("self_attn.sublayer.k_proj.", "attention.self.key."): LINEAR,
        ("self_attn.sublayer.v_proj.", "attention.self.value."): LINEAR,
        ("self_attn.sublayer.out_proj.", "attention.output.dense."): LINEAR,
        ("self_attn.norm.", "attention.output.LayerNorm."): LAYER_NORM,
        ("feed_forward.sublayer.linear1.", "intermediate.dense."): LINEAR,
        ("feed_forward.sublayer.linear2.", "output.dense."): LINEAR,
        ("feed_forward.norm.", "output.LayerNorm."): LAYER_NORM,
    }
)
ENCODER = within(
    {
        ("embeddings.word_embeddings.", "embeddings.word_embeddings."): TABLE,
        ("embeddings.position_embeddings.", "embeddings.position_embeddings."): TABLE,
        ("embeddings.token_type_embeddings.", "embeddings.token_type_embeddings."): TABLE,
        ("embeddings.norm.", "embeddings.LayerNorm."): LAYER_NORM,
        ("encoder.layers.{i}.", "encoder.layer.{i}."): LAYER,
    }
)
MODEL = within({("encoder.", ""): ENCODER, ("pooler.dense.", "pooler.dense."): LINEAR})
OLDER = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))
OTHERS = ("embeddings.position_ids",)

BERT = {
    "EncoderLayer": Kind(LAYER, older=OLDER),
    "BertEncoder": Kind(ENCODER, "bert.", older=OLDER, others=OTHERS),
    "BertModel": Kind(MODEL, "bert.", older=OLDER, others=OTHERS),
}
