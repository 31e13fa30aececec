"""Checkpoints of the annotated transformer, written here in a few lines with its names."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_formulas import annotated_layer_norm
from torch_state import arrays_of, check_values, normal, randomised

from npformer import (
    AnnotatedLayerNorm,
    Component,
    Embeddings,
    Encoder,
    EncoderLayer,
    MultiHeadedAttention,
    PositionalEncoding,
    PositionwiseFeedForward,
    TokenEncoder,
    clones,
)
from npformer.oracle.checkpoints import load_parameters, to_convention

NUM_LAYERS, B, H, T, D_MODEL, D_FF, VOCAB_SIZE = 3, 4, 2, 5, 12, 17, 7


class Norm(nn.Module):
    """With the names of the annotated transformer, as all below."""

    def __init__(self) -> None:
        super().__init__()
        self.a_2, self.b_2 = nn.Parameter(torch.ones(D_MODEL)), nn.Parameter(torch.zeros(D_MODEL))

    def forward(self, x: Tensor) -> Tensor:
        return annotated_layer_norm(x, self.a_2, self.b_2)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(D_MODEL, D_MODEL) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self.linears[i](x).unflatten(-1, (H, -1)).transpose(1, 2) for i in range(3))
        heads = torch.softmax(q @ k.mT / math.sqrt(D_MODEL // H), -1) @ v
        output: Tensor = self.linears[3](heads.transpose(1, 2).flatten(2))
        return output


class FeedForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w_1, self.w_2 = nn.Linear(D_MODEL, D_FF), nn.Linear(D_FF, D_MODEL)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.w_2(self.w_1(x).relu())
        return output


class Connection(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = Norm()

    def forward(self, x: Tensor, sublayer: nn.Module) -> Tensor:
        output: Tensor = x + sublayer(self.norm(x))
        return output


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self_attn, self.feed_forward = Attention(), FeedForward()
        self.sublayer = nn.ModuleList([Connection(), Connection()])

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.sublayer[1](self.sublayer[0](x, self.self_attn), self.feed_forward)
        return output


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers, self.norm = nn.ModuleList(Layer() for _ in range(NUM_LAYERS)), Norm()

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        output: Tensor = self.norm(x)
        return output


class Lookup(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lut = nn.Embedding(VOCAB_SIZE, D_MODEL)

    def forward(self, tokens: Tensor) -> Tensor:
        output: Tensor = self.lut(tokens) * math.sqrt(D_MODEL)
        return output


class Positions(nn.Module):
    pe: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("pe", torch.tensor(PositionalEncoding(D_MODEL, max_len=T).table)[None])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pe


class Model(nn.Module):
    """The encoder's side, with something of each part beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Stack()
        self.decoder, self.generator = Norm(), nn.Linear(D_MODEL, VOCAB_SIZE)
        self.src_embed = nn.Sequential(Lookup(), Positions())
        self.tgt_embed = nn.Sequential(Lookup(), Positions())

    def forward(self, tokens: Tensor) -> Tensor:
        output: Tensor = self.encoder(self.src_embed(tokens))
        return output


def attention() -> MultiHeadedAttention:
    return MultiHeadedAttention(H, D_MODEL)


def feed_forward() -> PositionwiseFeedForward:
    return PositionwiseFeedForward(D_MODEL, D_FF)


def layer() -> EncoderLayer:
    return EncoderLayer(D_MODEL, attention(), feed_forward(), norm=AnnotatedLayerNorm(D_MODEL))


def encoder() -> Encoder:
    return Encoder(clones(layer(), NUM_LAYERS), AnnotatedLayerNorm(D_MODEL))


def model() -> TokenEncoder:
    return TokenEncoder(Embeddings(D_MODEL, VOCAB_SIZE), PositionalEncoding(D_MODEL), encoder())


@pytest.mark.parametrize(
    ("component", "module"), [(attention(), Attention()), (feed_forward(), FeedForward()), (layer(), Layer())]
)
def test_parts(component: Component, module: nn.Module) -> None:
    check_values(component, randomised(module), normal(B, T, D_MODEL), "annotated")


def test_encoder() -> None:
    check_values(encoder(), randomised(Stack()), normal(B, T, D_MODEL), "annotated", prefix="encoder.")


def test_model() -> None:
    tokens = np.array([[6, 3, 3, 1, 2], [3, 1, 0, 0, 0]])  # 4 and 5 do not occur
    beside = ("src_embed.1.pe", "decoder.", "tgt_embed.", "generator.")
    check_values(model(), randomised(Model()), tokens, "annotated", beside=beside)


def test_the_encoder_of_a_whole_model() -> None:
    whole = arrays_of(randomised(Model()).state_dict())
    loaded = load_parameters(encoder(), whole, "annotated")
    written = to_convention(loaded.parameters(), loaded, "annotated")
    expected = {name: array for name, array in whole.items() if name.startswith("encoder.")}
    assert written.keys() == expected.keys()
    assert all(written[name].tobytes() == array.tobytes() for name, array in expected.items())
