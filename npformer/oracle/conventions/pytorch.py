"""PyTorch: nn.MultiheadAttention, nn.TransformerEncoderLayer and nn.TransformerEncoder, with norms before or after.

The projections of query, key and value are stacked, in this order, in in_proj_weight (3 d_model, d_model) and
in_proj_bias (3 d_model,). nn.Linear and nn.LayerNorm have the names that they have here.
"""

from __future__ import annotations

from npformer.oracle.conventions.kind import Kind, same, within

LINEAR = LAYER_NORM = same("weight", "bias")
ATTENTION = {
    ("q_proj.weight", "k_proj.weight", "v_proj.weight"): "in_proj_weight",
    ("q_proj.bias", "k_proj.bias", "v_proj.bias"): "in_proj_bias",
    ("out_proj.weight",): "out_proj.weight",
    ("out_proj.bias",): "out_proj.bias",
}
LAYER = within(
    {
        ("self_attn.sublayer.", "self_attn."): ATTENTION,
        ("self_attn.norm.", "norm1."): LAYER_NORM,
        ("feed_forward.sublayer.linear1.", "linear1."): LINEAR,
        ("feed_forward.sublayer.linear2.", "linear2."): LINEAR,
        ("feed_forward.norm.", "norm2."): LAYER_NORM,
    }
)
ENCODER = within({("layers.{i}.", "layers.{i}."): LAYER, ("norm.", "norm."): LAYER_NORM})

PYTORCH = {
    "Linear": Kind(LINEAR),
    "LayerNorm": Kind(LAYER_NORM),
    "MultiHeadedAttention": Kind(ATTENTION),
    "EncoderLayer": Kind(LAYER),
    "Encoder": Kind(ENCODER),
}
