"""What is read and what is left alone in the files of others, and the one sentence for all that does not fit."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_bert import bert_encoder, bert_model

from npformer import (
    Embeddings,
    EncoderLayer,
    LayerNorm,
    MultiHeadedAttention,
    PositionalEncoding,
    PositionwiseFeedForward,
    TokenEncoder,
    flatten,
    make_encoder,
)
from npformer.component import Array, Component, Tree
from npformer.oracle.checkpoints import (
    from_convention,
    load_gradients,
    load_parameters,
    save_parameters,
    to_convention,
)

D_MODEL, H, D_FF = 4, 2, 6


def layer() -> EncoderLayer:
    return EncoderLayer(D_MODEL, MultiHeadedAttention(H, D_MODEL), PositionwiseFeedForward(D_MODEL, D_FF))


def written(component: Component, convention: str) -> dict[str, Array]:
    """Return the parameters as another library has them; each entry differs from all others."""
    counter = iter(range(10_000))
    parameters = flatten(component.parameters())
    arrays = {
        name: np.array([next(counter) for _ in range(array.size)], float).reshape(array.shape)
        for name, array in parameters.items()
    }
    return to_convention(arrays, component, convention)


def same(left: Tree, right: Tree) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


def sentence(read: Callable[[], object], error: type[Exception] = ValueError) -> str:
    """Return the error's text after checking that it is one sentence."""
    with pytest.raises(error) as caught:
        read()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_all_that_does_not_fit_is_in_one_sentence() -> None:
    theirs = written(layer(), "torch")
    theirs["self_attn.in_proj_weight"] = np.ones((9, 3))
    theirs["norm1.weight"] = theirs["norm1.weight"].astype(np.int64)
    theirs["norm3.weight"] = theirs.pop("norm2.weight")
    del theirs["linear1.bias"]
    assert sentence(lambda: from_convention(theirs, layer(), "torch")) == (
        'arrays must hold the arrays of EncoderLayer in the convention "torch", but linear1.bias is missing; '
        "norm1.weight has dtype int64, expected float16, float32, float64 or complex128; norm2.weight is missing; "
        "norm3.weight is unknown; self_attn.in_proj_weight has shape (9, 3), expected (12, 4)"
    )


@pytest.mark.parametrize("convention", ["npformer", "torch", "annotated"])
def test_a_transposed_weight_is_misshapen(convention: str) -> None:
    theirs = written(layer(), convention)
    name = next(name for name in theirs if name.endswith(("linear1.weight", "w_1.weight")))
    theirs[name] = theirs[name].T
    text = sentence(lambda: from_convention(theirs, layer(), convention))
    assert text.endswith(f"but {name} has shape (4, 6), expected (6, 4)")


def test_the_sentence_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "norm.npz"
    save_parameters(path, LayerNorm(3), "torch")
    assert sentence(lambda: load_parameters(LayerNorm(2), path, "torch")) == (
        f'{path} must hold the arrays of LayerNorm in the convention "torch", but bias has shape (3,), expected (2,); '
        "weight has shape (3,), expected (2,)"
    )


@pytest.mark.parametrize("make", [bert_model, bert_encoder])
def test_bert_with_former_names(make: Callable[[], Component]) -> None:
    theirs = written(make(), "bert")
    former = {n.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): a for n, a in theirs.items()}
    assert sum(name.endswith(("gamma", "beta")) for name in former) == 10
    former["embeddings.position_ids"] = np.arange(7)[None]
    assert same(from_convention(former, make(), "bert"), from_convention(theirs, make(), "bert"))
    former = {"embeddings.LayerNorm.weight": np.ones(6)} | former
    assert sentence(lambda: from_convention(former, make(), "bert")).endswith(
        "but embeddings.LayerNorm.gamma and embeddings.LayerNorm.weight are one array"
    )


@pytest.mark.parametrize("make", [bert_model, bert_encoder])
def test_bert_under_a_head(make: Callable[[], Component]) -> None:
    theirs = written(make(), "bert")
    whole = {f"bert.{name}": array for name, array in theirs.items()}
    whole |= {"bert.embeddings.position_ids": np.arange(7), "pooler.dense.weight": np.ones((1, 1))}
    whole |= {"cls.predictions.bias": np.ones(11), "classifier.weight": np.ones((2, 6))}
    assert same(from_convention(whole, make(), "bert"), from_convention(theirs, make(), "bert"))
    whole["bert.extra"] = whole.pop("bert.embeddings.LayerNorm.bias")
    assert sentence(lambda: from_convention(whole, make(), "bert")).endswith(
        "but bert.embeddings.LayerNorm.bias is missing; bert.extra is unknown"
    )


def test_without_the_prefix_a_head_is_unknown() -> None:
    theirs = written(bert_model(), "bert") | {"classifier.weight": np.ones((2, 6))}
    assert sentence(lambda: from_convention(theirs, bert_model(), "bert")).endswith("but classifier.weight is unknown")
    assert len(from_convention(theirs, bert_model(), "bert", ignore=["classifier.weight"])) == 39


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_a_pooler_that_the_component_lacks_is_left_alone_on_request_only(prefix: str) -> None:
    whole = {prefix + name: array for name, array in written(bert_model(), "bert").items()}
    assert sentence(lambda: from_convention(whole, bert_encoder(), "bert")).endswith(
        f"but {prefix}pooler.dense.bias is unknown; {prefix}pooler.dense.weight is unknown"
    )
    sentence(lambda: from_convention(whole, bert_encoder(), "bert", ignore=["pooler"]))  # a beginning ends in a dot
    everything = from_convention(whole, bert_model(), "bert")
    for ignore in (["pooler."], [f"{prefix}pooler."]):
        encoder = from_convention(whole, bert_encoder(), "bert", ignore)
        assert same(encoder, {n.removeprefix("encoder."): a for n, a in everything.items() if "pooler" not in n})


def annotated_model() -> TokenEncoder:
    return TokenEncoder(Embeddings(D_MODEL, 5), PositionalEncoding(D_MODEL), make_encoder(2, D_MODEL, H, D_FF))


def test_the_annotated_decoder_and_positions_are_left_alone() -> None:
    theirs = written(annotated_model(), "annotated")
    others = ("src_embed.1.pe", "tgt_embed.1.pe", "decoder.norm.a_2", "tgt_embed.0.lut.weight", "generator.proj.bias")
    whole = theirs | dict.fromkeys(others, np.ones(1))
    ours = from_convention(theirs, annotated_model(), "annotated")
    assert same(from_convention(whole, annotated_model(), "annotated"), ours)
    whole |= {"src_embed.2.weight": np.ones(1), "encoder.extra": np.ones(1), "decode": np.ones(1)}
    assert sentence(lambda: from_convention(whole, annotated_model(), "annotated")).endswith(
        "but decode is unknown; encoder.extra is unknown; src_embed.2.weight is unknown"
    )


def test_an_annotated_encoder_is_read_from_the_whole_and_alone() -> None:
    whole = written(annotated_model(), "annotated") | {"decoder.norm.a_2": np.ones(1)}
    encoder = annotated_model().encoder
    expected = from_convention(whole, annotated_model(), "annotated")
    expected = {name.removeprefix("encoder."): array for name, array in expected.items() if name.startswith("encoder.")}
    alone = {name.removeprefix("encoder."): array for name, array in whole.items() if name.startswith("encoder.")}
    assert same(from_convention(whole, encoder, "annotated"), expected)
    assert same(from_convention(alone, encoder, "annotated"), expected)
    alone["decoder.norm.a_2"] = np.ones(1)
    del alone["norm.a_2"]
    assert sentence(lambda: from_convention(alone, encoder, "annotated")).endswith(
        "but decoder.norm.a_2 is unknown; norm.a_2 is missing"
    )


def test_float16_becomes_float32_and_other_dtypes_stay() -> None:
    halves = {"weight": np.array([1.5, -0.0], np.float16), "bias": np.array([6e-8, np.inf], np.float16)}
    loaded = load_parameters(LayerNorm(2), halves, "torch")
    assert loaded.weight.dtype == loaded.bias.dtype == np.float32
    assert loaded.bias.tolist() == halves["bias"].tolist()
    for dtype in (np.float32, np.float64):
        assert load_parameters(LayerNorm(2).astype(dtype), written(LayerNorm(2), "torch")).weight.dtype == np.float64
        grads = load_gradients(LayerNorm(2), {name: array.astype(dtype) for name, array in halves.items()})
        assert {array.dtype for array in grads.values()} == {np.dtype(dtype)}
