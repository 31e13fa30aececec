"""The Transformer encoder in NumPy: every component with its forward and its backward, derived by hand.

The files are short and meant to be read, in the order of the imports below.
"""

from npformer.component import Component, add_trees, clones, flatten
from npformer.masks import length_mask, padding_mask, subsequent_mask
from npformer.linear import Linear
from npformer.activations import GELU, ReLU, SiLU, Softmax, Tanh
from npformer.dropout import Dropout, GivenMasks
from npformer.norm import AnnotatedLayerNorm, LayerNorm
from npformer.attention import MultiHeadedAttention, ScaledDotProductAttention, attention
from npformer.blockwise import BlockwiseAttention
from npformer.feed_forward import PositionwiseFeedForward
from npformer.sublayer import PostNormSublayerConnection, PreNormSublayerConnection, SublayerConnection
from npformer.encoder import Encoder, EncoderLayer, SharedEncoder, make_encoder
from npformer.embedding import Embeddings, PositionalEncoding, TokenEncoder
from npformer.bert_embedding import BertEmbeddings
from npformer.bert import BertEncoder, BertModel, BertPooler, make_bert
from npformer.loss import CrossEntropy, MeanSquaredError
from npformer.checkpoint import Checkpoint

__version__ = "0.1.0"

__all__ = [
    "GELU",
    "AnnotatedLayerNorm",
    "BertEmbeddings",
    "BertEncoder",
    "BertModel",
    "BertPooler",
    "BlockwiseAttention",
    "Checkpoint",
    "Component",
    "CrossEntropy",
    "Dropout",
    "Embeddings",
    "Encoder",
    "EncoderLayer",
    "GivenMasks",
    "LayerNorm",
    "Linear",
    "MeanSquaredError",
    "MultiHeadedAttention",
    "PositionalEncoding",
    "PositionwiseFeedForward",
    "PostNormSublayerConnection",
    "PreNormSublayerConnection",
    "ReLU",
    "ScaledDotProductAttention",
    "SharedEncoder",
    "SiLU",
    "Softmax",
    "SublayerConnection",
    "Tanh",
    "TokenEncoder",
    "add_trees",
    "attention",
    "clones",
    "flatten",
    "length_mask",
    "make_bert",
    "make_encoder",
    "padding_mask",
    "subsequent_mask",
]
