"""Bad arguments of every constructor, make_encoder among them: each gets one sentence, and draws nothing."""

import pytest
from bad_calls import Bad, check_nothing_changed, check_one_sentence, each, fill, names

SIZES = {
    "Linear({}, 6)": "d_in",
    "Linear(6, {})": "d_out",
    "LayerNorm({})": "d_model",
    "MultiHeadedAttention({}, 6)": "num_heads",
    "MultiHeadedAttention(2, {})": "d_model",
    "PositionwiseFeedForward({}, 8)": "d_model",
    "PositionwiseFeedForward(6, {})": "d_ff",
    "EncoderLayer({}, mha, feed_forward)": "d_model",
    "SharedEncoder(layer, {})": "N",
    "make_encoder({}, 6, 2, 8)": "num_layers",
    "make_encoder(1, {}, 2, 8)": "d_model",
    "make_encoder(1, 6, {}, 8)": "num_heads",
    "make_encoder(1, 6, 2, {})": "d_ff",
    "Embeddings({}, 7)": "d_model",
    "Embeddings(6, {})": "vocab_size",
    "PositionalEncoding({})": "d_model",
    "PositionalEncoding(6, max_len={})": "max_len",
    "BertEmbeddings({}, 7, 9)": "d_model",
    "BertEmbeddings(6, {}, 9)": "vocab_size",
    "BertEmbeddings(6, 7, {})": "max_len",
    "BertEmbeddings(6, 7, 9, {})": "type_vocab_size",
    "BertPooler({})": "d_model",
    "make_bert({}, 6, 2, 8, 7)": "num_layers",
    "make_bert(1, {}, 2, 8, 7)": "d_model",
    "make_bert(1, 6, {}, 8, 7)": "num_heads",
    "make_bert(1, 6, 2, {}, 7)": "d_ff",
    "make_bert(1, 6, 2, 8, {})": "vocab_size",
    "make_bert(1, 6, 2, 8, 7, {})": "max_len",
    "make_bert(1, 6, 2, 8, 7, 9, {})": "type_vocab_size",
    "BlockwiseAttention(block_size=({}, 2))": "block_size[0]",
    "BlockwiseAttention(block_size=(2, {}))": "block_size[1]",
    "clones(norm, {})": "N",
    "subsequent_mask({})": "size",
    "length_mask(np.array([1]), {})": "size",
    **{
        f"Verification('One.', {size}={{}})": size
        for size in ("sentences", "max_words", "num_layers", "d_model", "num_heads", "d_ff")
    },
}
MULTIPLE = "d_model must be a multiple of num_heads, but d_model=6 and num_heads"
ALL_SIZES: Bad = {
    **fill(SIZES, each(ValueError, "{} must be at least 1", {"0": "it is 0", "-1": "it is -1"})),
    **fill(
        SIZES | {"AnnotatedLayerNorm({})": "d_model"},
        each(
            TypeError,
            "{} must be a whole number",
            {
                "6.0": "it is a float",
                "True": "it is a bool",
                "'6'": "it is a str",
                "None": "it is None",
                "np.array(6)": "it is a ndarray",
            },
        ),
    ),
    **fill(
        ["BlockwiseAttention(block_size={})"],
        {
            **each(
                TypeError,
                "block_size must be a tuple (queries, keys)",
                {"8": "it is an int", "[8, 8]": "it is a list", "None": "it is None", "'88'": "it is a str"},
            ),
            "(8,)": (ValueError, "block_size must be a tuple (queries, keys), but it has length 1"),
        },
    ),
    "AnnotatedLayerNorm(1)": (ValueError, "d_model must be at least 2, but it is 1"),
    "MultiHeadedAttention(4, 6)": (ValueError, f"{MULTIPLE}=4"),
    "MultiHeadedAttention(12, 6)": (ValueError, f"{MULTIPLE}=12"),
    "make_encoder(1, 6, 4, 8)": (ValueError, f"{MULTIPLE}=4"),
    "Verification('One.', d_model=6)": (ValueError, f"{MULTIPLE}=4"),
    "make_bert(1, 6, 4, 8, 7)": (ValueError, f"{MULTIPLE}=4"),
}

RATES = [
    "Dropout({})",
    "ScaledDotProductAttention({})",
    "BlockwiseAttention({})",
    "attention(x, x, x, None, {})",
    "MultiHeadedAttention(2, 6, {})",
    "PositionwiseFeedForward(6, 8, {})",
    "PreNormSublayerConnection(mha, norm, {})",
    "PostNormSublayerConnection(mha, norm, {})",
    "EncoderLayer(6, mha, feed_forward, {})",
    "make_encoder(1, 6, 2, 8, {})",
    "PositionalEncoding(6, {})",
    "BertEmbeddings(6, 7, 9, 2, {})",
    "make_bert(1, 6, 2, 8, 7, dropout={})",
    "make_bert(1, 6, 2, 8, 7, attention_dropout={})",
    "Verification('One.', dropout={})",
]
NO_NUMBERS = {"'1'": "it is a str", "True": "it is a bool", "1j": "it is a complex", "[]": "it is a list"}
NO_RATES = {"''": "it is a str", "False": "it is a bool", "np.zeros(2)": "it is a ndarray"}
NAN, INF = {"float('nan')": "it is nan"}, {"float('inf')": "it is inf"}
EPS = ["LayerNorm(6, {})", "AnnotatedLayerNorm(6, {})", "make_encoder(1, 6, 2, 8, eps={})"]
EPS += ["BertEmbeddings(6, 7, 9, eps={})", "make_bert(1, 6, 2, 8, 7, eps={})"]
SCALES = ["ScaledDotProductAttention(scale={})", "BlockwiseAttention(scale={})", "Embeddings(6, 7, scale={})"]
NUMBERS: Bad = {
    **fill(RATES, each(TypeError, "p, the dropout rate, must be a number", NO_NUMBERS | NO_RATES)),
    **fill(
        RATES,
        each(
            ValueError,
            "p, the dropout rate, must lie in [0, 1)",
            {"1": "it is 1", "1.5": "it is 1.5", "-0.1": "it is -0.1"} | NAN | INF,
        ),
    ),
    "Dropout(None)": (TypeError, "p, the dropout rate, must be a number, but it is None"),
    **fill(EPS, each(TypeError, "eps must be a number", NO_NUMBERS | {"None": "it is None"})),
    **fill(
        EPS,
        each(
            ValueError, "eps must lie in (0, inf)", {"0": "it is 0", "-0.0": "it is -0.0", "-1": "it is -1"} | NAN | INF
        ),
    ),
    **fill(
        ["CrossEntropy({})", "CrossEntropy(label_smoothing={})"],
        {
            **each(TypeError, "label_smoothing must be a number", NO_NUMBERS | NO_RATES | {"None": "it is None"}),
            **each(
                ValueError,
                "label_smoothing must lie in [0, 1)",
                {"1": "it is 1", "1.0": "it is 1.0", "-0.1": "it is -0.1"} | NAN | INF,
            ),
        },
    ),
    **fill(
        ["CrossEntropy(0.1, {})", "CrossEntropy(ignore_index={})"],
        each(
            TypeError,
            "ignore_index must be a whole number",
            {"-100.0": "it is a float", "True": "it is a bool", "'-100'": "it is a str", "[0, 1]": "it is a list"},
        ),
    ),
    **fill(SCALES, each(TypeError, "scale must be a number", NO_NUMBERS)),
    **fill(SCALES, each(ValueError, "scale must lie in (-inf, inf)", {"-float('inf')": "it is -inf"} | NAN | INF)),
}

COMPONENTS = {
    "MultiHeadedAttention(2, 6, attention={})": "attention",
    "PositionwiseFeedForward(6, 8, activation={})": "activation",
    "PreNormSublayerConnection({}, norm)": "sublayer",
    "PreNormSublayerConnection(mha, {})": "norm",
    "PostNormSublayerConnection({}, norm)": "sublayer",
    "PostNormSublayerConnection(mha, {})": "norm",
    "EncoderLayer(6, {}, feed_forward)": "self_attn",
    "EncoderLayer(6, mha, {})": "feed_forward",
    "EncoderLayer(6, mha, feed_forward, norm={})": "norm",
    "Encoder([layer, {}])": "layers[1]",
    "Encoder([layer], {})": "norm",
    "SharedEncoder({}, 2)": "layer",
    "SharedEncoder(layer, 2, {})": "norm",
    "TokenEncoder({}, positions, encoder)": "embeddings",
    "TokenEncoder(embeddings, {}, encoder)": "positions",
    "TokenEncoder(embeddings, positions, {})": "encoder",
    "BertEncoder({}, encoder)": "embeddings",
    "BertEncoder(bert_embeddings, {})": "encoder",
    "BertModel({}, pooler)": "encoder",
    "BertModel(bert_encoder, {})": "pooler",
    "Checkpoint({})": "component",
    "clones({}, 2)": "module",
}
SEEDED = ["Linear(6, 6, rng={})", "MultiHeadedAttention(2, 6, rng={})", "PositionwiseFeedForward(6, 8, rng={})"]
SEEDED += ["make_encoder(1, 6, 2, 8, rng={})", "Embeddings(6, 7, rng={})"]
SEEDED += ["BertEmbeddings(6, 7, 9, rng={})", "BertPooler(6, {})", "make_bert(1, 6, 2, 8, 7, rng={})"]
FLAGS = {
    "Linear(6, 6, {})": "bias",
    "MultiHeadedAttention(2, 6, 0.1, {})": "bias",
    "EncoderLayer(6, mha, feed_forward, 0.1, {})": "norm_first",
    "make_encoder(1, 6, 2, 8, norm_first={})": "norm_first",
    "Verification('One.', norm_first={})": "norm_first",
}
ACTIVATIONS = 'activation must be "relu" or "gelu" or "gelu_tanh" or "silu"'
CHOICES = {
    "GELU({})": 'approximate must be "none" or "tanh"',
    "ScaledDotProductAttention(fully_masked={})": 'fully_masked must be "uniform" or "zero"',
    "BlockwiseAttention(fully_masked={})": 'fully_masked must be "uniform" or "zero"',
    "make_encoder(1, 6, 2, 8, activation={})": ACTIVATIONS,
    "make_bert(1, 6, 2, 8, 7, activation={})": ACTIVATIONS,
    "Verification('One.', activation={})": ACTIVATIONS,
    "Verification('One.', dtype={})": 'dtype must be "float64" or "float32"',
}
OTHERS: Bad = {
    **fill(
        COMPONENTS,
        each(
            TypeError,
            "{} must be a Component",
            {
                "'relu'": "it is a str",
                "ReLU": "it is the class ReLU",
                "lambda x: x": "it is a function",
                "[norm]": "it is a list",
            },
        ),
    ),
    "TokenEncoder(embeddings, None, encoder)": (TypeError, "positions must be a Component, but it is None"),
    **fill(
        SEEDED,
        {
            **each(
                TypeError,
                "rng must be a numpy.random.Generator, a seed or None",
                {
                    "0.5": "it is a float",
                    "'0'": "it is a str",
                    "True": "it is a bool",
                    "[0]": "it is a list",
                    "np.random": "it is a module",
                    "np.random.RandomState(0)": "it is a RandomState",
                },
            ),
            "-1": (ValueError, "rng must be at least 0, but it is -1"),
        },
    ),
    **fill(
        FLAGS,
        each(
            TypeError,
            "{} must be True or False",
            {"'no'": "it is a str", "0": "it is an int", "None": "it is None", "rng": "it is a Generator"},
        ),
    ),
    **fill(
        CHOICES,
        each(
            ValueError,
            "{}",
            {"'erf'": "it is 'erf'", "None": "it is None", "np.ones((2, 2))": "it is a ndarray"},
        ),
    ),
    **fill(
        ["Encoder({})"],
        {
            **each(
                TypeError,
                "layers must be a list of at least one Component",
                {
                    "None": "it is None",
                    "(norm for _ in range(2))": "it is a generator",
                    "np.ones((2, 2))": "it is a ndarray",
                },
            ),
            **each(
                ValueError,
                "layers must be a list of at least one Component",
                {"[]": "it is empty", "()": "it is empty"},
            ),
        },
    ),
    **fill(
        ["GivenMasks({})"],
        {
            **each(
                TypeError,
                "masks must be a list of arrays",
                {"None": "it is None", "3": "it is an int", "'101'": "it is a str"},
            ),
            **each(
                TypeError,
                "masks[1] must be a NumPy array of numbers or booleans",
                {"[x, [1, 0]]": "it is a list", "[x, None]": "it is None", "[x, 1.0]": "it is a float"},
            ),
            **each(
                TypeError,
                "masks[1] must be numbers or booleans",
                {"[x, x.astype(object)]": "its dtype is object", "[x, x.astype('<U32')]": "its dtype is <U32"},
            ),
        },
    ),
}

BAD = ALL_SIZES | NUMBERS | OTHERS
DRAWING = [
    "Linear(6, 6, 'no', rng)",
    "Embeddings(6, 7, scale='1', rng=rng)",
    "MultiHeadedAttention(2, 6, 1.0, rng=rng)",
    "MultiHeadedAttention(2, 6, bias='no', rng=rng)",
    "MultiHeadedAttention(2, 6, attention='core', rng=rng)",
    "PositionwiseFeedForward(6, 0, rng=rng)",
    "PositionwiseFeedForward(6, 8, 1.0, rng=rng)",
    "PositionwiseFeedForward(6, 8, activation='relu', rng=rng)",
    "make_encoder(1, 6, 2, 0, rng=rng)",
    "make_encoder(1, 6, 2, 8, 1.0, rng=rng)",
    "make_encoder(1, 6, 2, 8, norm_first='no', rng=rng)",
    "BertEmbeddings(6, 7, 0, rng=rng)",
    "BertEmbeddings(6, 7, 9, 0, rng=rng)",
    "BertEmbeddings(6, 7, 9, eps=0, rng=rng)",
    "make_bert(1, 6, 4, 8, 7, rng=rng)",
    "make_bert(1, 6, 2, 8, 7, 0, rng=rng)",
    "make_bert(1, 6, 2, 8, 7, attention_dropout=1, rng=rng)",
]
GOOD = [
    "Linear(np.int64(6), np.uint8(200), np.bool_(False), np.int64(3))",
    "Dropout(0)",
    "Dropout(np.float32(0.5))",
    "LayerNorm(6, 1)",
    "ScaledDotProductAttention(scale=-1)",
    "BlockwiseAttention(block_size=(np.int64(6), 10**9))",
    "Embeddings(6, 7, scale=0)",
    "CrossEntropy(np.float32(0.5), np.int64(-100))",
    "CrossEntropy(0, None)",
    "Encoder((layer,))",
    "Encoder([norm], None)",
    "GivenMasks(iter([x, x > 0, tokens]))",
    "GivenMasks(x)",
    # 5001 words are more than PositionalEncoding has places by default
    "Verification('one ' * 5001, max_words=6000, d_model=4).model.positions(np.ones((1, 5001, 4)))",
]


@pytest.mark.parametrize(("call", "kind", "sentence"), [(call, *bad) for call, bad in BAD.items()], ids=list(BAD))
def test_a_bad_constructor_gets_one_sentence(call: str, kind: type[Exception], sentence: str) -> None:
    check_one_sentence(call, kind, sentence)


@pytest.mark.parametrize("call", DRAWING)
def test_a_bad_constructor_draws_nothing(call: str) -> None:
    check_nothing_changed(call)


@pytest.mark.parametrize("call", ["Component()", "SublayerConnection(mha, norm)"])
def test_what_has_no_forward_cannot_be_made(call: str) -> None:
    with pytest.raises(TypeError, match=f"abstract class {call.split('(')[0]}"):
        eval(call, names())


@pytest.mark.parametrize("call", GOOD)
def test_what_only_looks_bad_is_taken(call: str) -> None:
    assert eval(call, names()) is not None
