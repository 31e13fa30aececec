"""A BERT from a folder: it computes what was saved, tokenises by its own vocabulary, and embeds sentences."""

from pathlib import Path

import numpy as np
import pytest
from tiny_bert import WORDS, make_folder

from npformer import GELU, BertEncoder, BertModel, Component, Encoder, EncoderLayer, ReLU, SiLU, flatten
from npformer.oracle.bert_config import BertConfig, read_config
from npformer.oracle.checkpoints import save_parameters
from npformer.oracle.pretrained import TooLongError, load_bert


def encoder_of(model: BertModel) -> BertEncoder:
    assert isinstance(model.encoder, BertEncoder)
    return model.encoder


def first_layer(model: Component) -> EncoderLayer:
    assert isinstance(model, BertModel)
    stack = encoder_of(model).encoder
    assert isinstance(stack, Encoder)
    assert isinstance(stack.layers[0], EncoderLayer)
    return stack.layers[0]


def test_a_folder_gives_the_model_that_was_saved(tmp_path: Path) -> None:
    saved, loaded = make_folder(tmp_path), load_bert(tmp_path).model
    ours, theirs = flatten(saved.parameters()), flatten(loaded.parameters())
    assert {name: array.tobytes() for name, array in ours.items()} == {
        name: array.tobytes() for name, array in theirs.items()
    }
    tokens = np.array([[2, 5, 6, 3], [2, 7, 3, 0]])
    assert np.array_equal(
        loaded(tokens, mask=tokens[:, None, None] != 0), saved(tokens, mask=tokens[:, None, None] != 0)
    )
    # each dropout is where it was: the same generator drops the same
    dropped, expected = (model(tokens, rng=np.random.default_rng(1)) for model in (loaded, saved))
    assert np.array_equal(dropped, expected)


def test_parameters_have_the_dtype_that_is_asked_for(tmp_path: Path) -> None:
    make_folder(tmp_path)
    for dtype in (np.float64, np.float32):
        bert = load_bert(str(tmp_path), dtype)
        assert {array.dtype for array in flatten(bert.model.parameters()).values()} == {np.dtype(dtype)}
        assert bert.embed(["the cat"]).dtype == dtype


def test_rates_and_eps_come_from_the_config(tmp_path: Path) -> None:
    make_folder(tmp_path, hidden_dropout_prob=0.125, attention_probs_dropout_prob=0, layer_norm_eps=0.5)
    layer = first_layer(load_bert(tmp_path).model)
    assert layer.self_attn.dropout.p == layer.feed_forward.dropout.p == 0.125
    assert vars(layer.self_attn.sublayer)["attention"].dropout.p == 0
    assert vars(layer.feed_forward.sublayer)["dropout"].p == 0
    assert vars(layer.self_attn.norm)["eps"] == 0.5


@pytest.mark.parametrize(
    ("hidden_act", "activation"),
    [
        ("gelu", GELU()),
        ("gelu_new", GELU("tanh")),
        ("gelu_pytorch_tanh", GELU("tanh")),
        ("relu", ReLU()),
        ("silu", SiLU()),
        ("swish", SiLU()),
    ],
)
def test_activations_have_hugging_faces_names(tmp_path: Path, hidden_act: str, activation: Component) -> None:
    make_folder(tmp_path, hidden_act=hidden_act)
    x = np.linspace(-3, 3, 7)
    chosen = vars(first_layer(load_bert(tmp_path).model).feed_forward.sublayer)["activation"]
    assert np.array_equal(chosen(x), activation(x))


def test_a_file_without_a_pooler_gives_the_encoder(tmp_path: Path) -> None:
    model = make_folder(tmp_path)
    save_parameters(tmp_path / "model.safetensors", encoder_of(model), convention="bert")
    bert = load_bert(tmp_path)
    assert isinstance(bert.model, BertEncoder)
    make_folder(tmp_path)
    assert np.array_equal(bert.embed(["the cat"]), load_bert(tmp_path).embed(["the cat"]))


@pytest.mark.parametrize("field", ["hidden_dropout_prob", "layer_norm_eps", "pad_token_id", "position_embedding_type"])
def test_fields_that_hugging_face_leaves_out_have_its_defaults(tmp_path: Path, field: str) -> None:
    make_folder(tmp_path, without=field)
    config = read_config(tmp_path / "config.json")
    assert vars(config).get(field) == {"hidden_dropout_prob": 0.1, "layer_norm_eps": 1e-12, "pad_token_id": 0}.get(
        field
    )


@pytest.mark.parametrize("sizes", [(1, 2, 1, 3, 5, 7, 2), (3, 12, 4, 17, 11, 6, 1)])
def test_parameters_are_counted_without_making_them(sizes: tuple[int, int, int, int, int, int, int]) -> None:
    config = BertConfig(*sizes, hidden_act="gelu")
    made = flatten(config.make_model().parameters())
    assert config.parameter_count == sum(array.size for array in made.values())


def test_texts_become_padded_tokens_between_cls_and_sep(tmp_path: Path) -> None:
    make_folder(tmp_path, pad_token_id=4)
    tokens, mask = load_bert(tmp_path).encode(["The cat sleeps.", "", "dog café"])
    assert tokens.tolist() == [[2, 5, 6, 8, 9, 11, 3], [2, 3, 4, 4, 4, 4, 4], [2, 7, 1, 3, 4, 4, 4]]
    assert mask.shape == (3, 1, 1, 7)
    assert mask[:, 0, 0].tolist() == [[1] * 7, [1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0]]


@pytest.mark.parametrize(("settings", "token"), [("{}", 1), ('{"do_lower_case": false}', 12)])
def test_a_vocabulary_lowercases_unless_told_otherwise(tmp_path: Path, settings: str, token: int) -> None:
    make_folder(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(settings, encoding="utf-8")
    assert load_bert(tmp_path).encode(["Paris"])[0].tolist() == [[2, token, 3]]


def test_tokenizer_json_comes_first_and_neither_pads_nor_truncates(tmp_path: Path) -> None:
    make_folder(tmp_path)
    tokenizer = load_bert(tmp_path).tokenizer
    tokenizer.enable_padding(length=9, pad_id=1)
    tokenizer.enable_truncation(3)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "vocab.txt").write_text("\n".join(["[UNK]", "[CLS]", "[SEP]", "the", "cat", "dog"]), encoding="utf-8")
    assert load_bert(tmp_path).encode(["the cat and the dog"])[0].tolist() == [[2, 5, 6, 10, 5, 7, 3]]


def test_long_texts_are_refused_or_cut_before_sep(tmp_path: Path) -> None:
    make_folder(tmp_path)
    bert = load_bert(tmp_path)
    longest, longer = "the cat and the dog and the", "the cat and the dog and the cat"
    assert bert.encode([longest])[0].shape == (1, 9)
    for call in (bert.encode, bert.embed):
        with pytest.raises(
            TooLongError, match=r"^texts\[1\] must have at most 9 tokens, but it has 10; truncate=True "
        ):
            call([longest, longer])
    cut, _ = bert.encode([longest, longer], truncate=True)
    assert cut[0].tolist() == cut[1].tolist() == [2, 5, 6, 10, 5, 7, 10, 5, 3]


def test_embeddings_are_of_length_1_and_do_not_depend_on_their_company(tmp_path: Path) -> None:
    make_folder(tmp_path)
    bert = load_bert(tmp_path)
    texts = [" ".join(WORDS[5:8][: 1 + index % 3] * (1 + index % 2)) for index in range(70)] + [""]
    together = bert.embed(texts)
    assert together.shape == (71, 8)
    np.testing.assert_allclose((together**2).sum(-1), 1, rtol=1e-14)
    for text, embedding in zip(texts, together, strict=True):
        alone = bert.encoder(bert.encode([text])[0])[0].mean(0)
        # of length 1, after some 30 steps of a few roundings each
        np.testing.assert_allclose(embedding, alone / np.linalg.norm(alone), rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("texts", "kind", "sentence"),
    [
        ("the cat", TypeError, "texts must be a list of str, but it is a str"),
        (None, TypeError, "texts must be a list of str, but it is None"),
        ([], ValueError, "texts must have at least one str, but it is empty"),
        (["the", 3], TypeError, "texts[1] must be a str, but it is an int"),
        (["the \ud83d"], ValueError, "texts[0] must be Unicode text, but it has half of a surrogate pair"),
    ],
)
def test_bad_texts_get_one_sentence(tmp_path: Path, texts: list[str], kind: type[Exception], sentence: str) -> None:
    make_folder(tmp_path)
    bert = load_bert(tmp_path)
    for call in (bert.encode, bert.embed):
        with pytest.raises(kind) as caught:
            call(texts)
        assert str(caught.value) == sentence


@pytest.mark.parametrize(("weight", "length"), [(0.0, "0.0"), (1e300, "inf")])
def test_a_mean_without_a_direction_is_no_embedding(tmp_path: Path, weight: float, length: str) -> None:
    model = make_folder(tmp_path)
    last = flatten(model.parameters())["encoder.encoder.layers.1.feed_forward.norm.weight"]
    last[...] = weight
    save_parameters(tmp_path / "model.safetensors", model, convention="bert")
    with pytest.raises(ValueError, match=rf"^the mean over texts\[0\] must have .* above 0, but that is {length}$"):
        load_bert(tmp_path).embed(["the cat"])
