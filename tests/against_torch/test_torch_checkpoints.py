"""Checkpoints of PyTorch and of Hugging Face's BERT: names, layouts, values and gradients."""

import pytest
from small_bert import D_FF as BERT_D_FF
from small_bert import D_MODEL as BERT_D_MODEL
from small_bert import MAX_LEN, VOCAB_SIZE, bert_encoder, bert_model
from small_bert import NUM_LAYERS as BERT_LAYERS
from small_bert import H as BERT_H
from torch import Tensor, nn
from torch_state import arrays_of, check_values, normal, randomised
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, BertModel

from npformer import (
    GELU,
    Encoder,
    EncoderLayer,
    LayerNorm,
    Linear,
    MultiHeadedAttention,
    PositionwiseFeedForward,
    make_encoder,
)
from npformer.oracle.checkpoints import from_convention, load_parameters, to_convention

NUM_LAYERS, B, H, T, D_MODEL, D_FF = 3, 4, 2, 5, 12, 17


@pytest.mark.parametrize("final_norm", [True, False], ids=["final norm", "no final norm"])
@pytest.mark.parametrize("norm_first", [True, False], ids=["pre-norm", "post-norm"])
def test_torch_encoder(norm_first: bool, final_norm: bool) -> None:
    torch_layer = nn.TransformerEncoderLayer(D_MODEL, H, D_FF, 0.0, batch_first=True, norm_first=norm_first)
    torch_norm = nn.LayerNorm(D_MODEL) if final_norm else None
    module = randomised(nn.TransformerEncoder(torch_layer, NUM_LAYERS, torch_norm, enable_nested_tensor=False))
    layers = make_encoder(NUM_LAYERS, D_MODEL, H, D_FF, 0, norm_first=norm_first).layers
    encoder = Encoder(layers, LayerNorm(D_MODEL) if final_norm else None)
    check_values(encoder, module, normal(B, T, D_MODEL), "torch")


@pytest.mark.parametrize("norm_first", [True, False], ids=["pre-norm", "post-norm"])
def test_torch_layer(norm_first: bool) -> None:
    module = nn.TransformerEncoderLayer(D_MODEL, H, D_FF, 0.0, batch_first=True, norm_first=norm_first)
    parts = MultiHeadedAttention(H, D_MODEL), PositionwiseFeedForward(D_MODEL, D_FF)
    layer = EncoderLayer(D_MODEL, *parts, norm_first=norm_first)
    check_values(layer, randomised(module), normal(B, T, D_MODEL), "torch")


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_torch_attention(bias: bool) -> None:
    module = randomised(nn.MultiheadAttention(D_MODEL, H, bias=bias, batch_first=True))
    attention = MultiHeadedAttention(H, D_MODEL, bias=bias)
    check_values(attention, module, normal(B, T, D_MODEL), "torch", lambda x: module(x, x, x)[0])


def test_torch_norm_and_linear() -> None:
    check_values(LayerNorm(D_MODEL), randomised(nn.LayerNorm(D_MODEL)), normal(B, D_MODEL), "torch")
    check_values(Linear(D_MODEL, D_FF), randomised(nn.Linear(D_MODEL, D_FF)), normal(B, D_MODEL), "torch")


def test_torch_layers_without_any_bias_are_told_what_is_missing() -> None:
    module = nn.TransformerEncoderLayer(D_MODEL, H, D_FF, bias=False)
    attention, feed_forward = MultiHeadedAttention(H, D_MODEL, bias=False), PositionwiseFeedForward(D_MODEL, D_FF)
    with pytest.raises(
        ValueError, match=r"but linear1\.bias is missing; linear2\.bias is missing; norm1\.bias is missing"
    ):
        from_convention(arrays_of(module.state_dict()), EncoderLayer(D_MODEL, attention, feed_forward), "torch")


def test_tensors_are_told_to_become_arrays() -> None:
    state = nn.LayerNorm(2).state_dict()
    with pytest.raises(TypeError, match=r"^weight must be a NumPy array, but it is a Tensor; call \.detach\(\)\.numpy"):
        load_parameters(LayerNorm(2), state, "torch")


def bert_config() -> BertConfig:
    return BertConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=BERT_D_MODEL,
        num_hidden_layers=BERT_LAYERS,
        num_attention_heads=BERT_H,
        intermediate_size=BERT_D_FF,
        max_position_embeddings=MAX_LEN,
    )


@pytest.mark.parametrize("pooler", [True, False], ids=["pooler", "no pooler"])
def test_bert_names_and_shapes(pooler: bool) -> None:
    component = bert_model() if pooler else bert_encoder()
    state = arrays_of(BertModel(bert_config(), add_pooling_layer=pooler).state_dict())
    written = to_convention(component.parameters(), component, "bert")
    assert {name: array.shape for name, array in written.items()} == {name: a.shape for name, a in state.items()}


@pytest.mark.parametrize("head", [BertForMaskedLM, BertForSequenceClassification])
def test_bert_under_a_head(head: type[BertForMaskedLM] | type[BertForSequenceClassification]) -> None:
    state = arrays_of(head(bert_config()).state_dict())
    component = bert_model() if "bert.pooler.dense.weight" in state else bert_encoder()
    loaded = load_parameters(component, state, "bert")
    written = to_convention(loaded.parameters(), loaded, "bert")
    assert {f"bert.{name}": array.tobytes() for name, array in written.items()} == {
        name: array.tobytes() for name, array in state.items() if name.startswith("bert.")
    }


def test_bert_layer() -> None:
    module = randomised(BertModel(bert_config())).eval().get_submodule("encoder.layer.1")
    layer = EncoderLayer(
        BERT_D_MODEL,
        MultiHeadedAttention(BERT_H, BERT_D_MODEL),
        PositionwiseFeedForward(BERT_D_MODEL, BERT_D_FF, activation=GELU()),
        norm_first=False,
        norm=LayerNorm(BERT_D_MODEL, 1e-12),
    )

    def run(x: Tensor) -> Tensor:
        output = module(x)
        result: Tensor = output[0] if isinstance(output, tuple) else output
        return result

    check_values(layer, module, normal(B, T, BERT_D_MODEL), "bert", run)
