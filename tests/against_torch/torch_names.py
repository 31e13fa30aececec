"""PyTorch's names for the parts of an encoder, translated into npformer's."""

import re
from collections.abc import Mapping

from torch import Tensor

PARTS = {
    "self_attn": "self_attn.sublayer",
    "linear1": "feed_forward.sublayer.linear1",
    "linear2": "feed_forward.sublayer.linear2",
    "norm1": "self_attn.norm",
    "norm2": "feed_forward.norm",
}


def npformer_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the parameters of an nn.MultiheadAttention, of an encoder of them, or their gradients.

    in_proj_weight and in_proj_bias are cut into rows of Q, K and V.
    """
    renamed: dict[str, Tensor] = {}
    for torch_name, tensor in tensors.items():
        name = re.sub(r"\b(self_attn|linear1|linear2|norm1|norm2)\.", lambda part: PARTS[part[1]] + ".", torch_name)
        if packed := re.fullmatch(r"(.*)in_proj_(weight|bias)", name):
            for letter, rows in zip("qkv", tensor.chunk(3), strict=True):
                renamed[f"{packed[1]}{letter}_proj.{packed[2]}"] = rows
        else:
            renamed[name] = tensor
    return renamed
