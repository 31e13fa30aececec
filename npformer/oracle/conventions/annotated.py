"""The annotated transformer: its EncoderDecoder, as far as it encodes, and the parts of that.

An Encoder is written with the prefix "encoder." that it has in the whole, and read with or without it; if there is one,
names without it are left alone. Beside a TokenEncoder the decoder is left alone, and so is src_embed.1.pe, the float32
table of positions, since npformer has its own in float64.
"""

from __future__ import annotations

from npformer.oracle.conventions.kind import Kind, Names, same, within

LINEAR = same("weight", "bias")
LAYER_NORM: Names = {("weight",): "a_2", ("bias",): "b_2"}
ATTENTION = within(
    {
        ("q_proj.", "linears.0."): LINEAR,
        ("k_proj.", "linears.1."): LINEAR,
        ("v_proj.", "linears.2."): LINEAR,
        ("out_proj.", "linears.3."): LINEAR,
    }
)
FEED_FORWARD = within({("linear1.", "w_1."): LINEAR, ("linear2.", "w_2."): LINEAR})
LAYER = within(
    {
        ("self_attn.sublayer.", "self_attn."): ATTENTION,
        ("self_attn.norm.", "sublayer.0.norm."): LAYER_NORM,
        ("feed_forward.sublayer.", "feed_forward."): FEED_FORWARD,
        ("feed_forward.norm.", "sublayer.1.norm."): LAYER_NORM,
    }
)
ENCODER = within({("layers.{i}.", "layers.{i}."): LAYER, ("norm.", "norm."): LAYER_NORM})
MODEL = within({("embeddings.", "src_embed.0.lut."): same("weight"), ("encoder.", "encoder."): ENCODER})

ANNOTATED = {
    "MultiHeadedAttention": Kind(ATTENTION),
    "PositionwiseFeedForward": Kind(FEED_FORWARD),
    "EncoderLayer": Kind(LAYER),
    "Encoder": Kind(ENCODER, "encoder.", writes_prefix=True),
    "TokenEncoder": Kind(MODEL, others=("src_embed.1.pe", "decoder.", "tgt_embed.", "generator.")),
}
