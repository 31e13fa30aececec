"""Bad inputs of every forward: each gets one sentence, and nothing is half-changed, not even the generator."""

import pytest
from bad_calls import FLOATS, Bad, check_nothing_changed, check_one_sentence, each, fill, names

BAD_DTYPES = each(
    TypeError,
    f"{{}} must be {FLOATS}",
    {
        f"x.astype('{dtype}')": f"its dtype is {dtype}"
        for dtype in ("int64", "bool", "object", "float16", ">f8", "<U32")
    },
)
BAD_INPUTS: Bad = {
    **BAD_DTYPES,
    **each(
        TypeError,
        f"{{}} must be a NumPy array of {FLOATS}",
        {
            "x.tolist()": "it is a list",
            "1.0": "it is a float",
            "'x'": "it is a str",
            "None": "it is None",
            "np.ma.ones((3, 4, 6))": "it is a MaskedArray",
        },
    ),
    "x[:, :0]": (ValueError, "{} must have at least one entry, but its shape is (3, 0, 6)"),
}
ANY_AXES = {f"{part}.forward({{}})": "x" for part in ("relu", "gelu", "tanh", "silu", "hyperbolic", "dropout")}
ANY_AXES["dropout.forward({}, rng=rng)"] = "x"
LAST_AXIS = {f"{part}.forward({{}})": "d_model" for part in ("norm", "annotated", "feed_forward", "pre", "post")}
LAST_AXIS |= {"linear.forward({})": "d_in", "softmax.forward({})": "T"}
LOGITS = {f"{part}.forward({{}}, targets)": "logits" for part in ("loss", "ignoring")}
COMPARED = {"squared.forward({}, x)": "predictions", "squared.forward(x, {})": "targets"}
SEQUENCE = {f"{part}.forward({{}}, rng=rng)": "x" for part in ("positions", "layer", "encoder", "shared", "checkpoint")}
SEQUENCE["pooler.forward({})"] = "x"
SEQUENCE["mha.forward({}, rng=rng)"] = "query"
CROSS = {"mha.forward({}, key, key)": "query", "mha.forward(x, {}, x)": "key", "mha.forward(x, x, {})": "value"}
ALSO_CORES = ("attention", "blockwise.forward")
CORE = {"core.forward({}, x, x)": "query", "core.forward(x, {}, x)": "key", "core.forward(x, x, {})": "value"}
CORE |= {call.replace("core.forward", other): name for call, name in CORE.items() for other in ALSO_CORES}

WIDTHS = {
    "linear.forward({})": "x has d_in=5, but this Linear was built with d_in=6",
    **{
        call: f"{name} has d_model=5, but this {owner} was built with d_model=6"
        for call, name, owner in (
            ("norm.forward({})", "x", "LayerNorm"),
            ("annotated.forward({})", "x", "AnnotatedLayerNorm"),
            ("feed_forward.forward({}, rng=rng)", "x", "PositionwiseFeedForward"),
            ("mha.forward({}, rng=rng)", "query", "MultiHeadedAttention"),
            ("mha.forward(x, {}, key)", "key", "MultiHeadedAttention"),
            ("mha.forward(x, key, {})", "value", "MultiHeadedAttention"),
            ("pre.forward({}, rng=rng)", "x", "LayerNorm"),
            ("post.forward({}, rng=rng)", "query", "MultiHeadedAttention"),
            ("layer.forward({}, rng=rng)", "x", "EncoderLayer"),
            ("encoder.forward({}, rng=rng)", "x", "EncoderLayer"),
            ("shared.forward({}, rng=rng)", "x", "EncoderLayer"),
            ("checkpoint.forward({}, rng=rng)", "x", "EncoderLayer"),
            ("positions.forward({}, rng=rng)", "x", "PositionalEncoding"),
            ("pooler.forward({})", "x", "BertPooler"),
        )
    },
}
TOGETHER = "key and value must be given together, or neither for self-attention, but"
INPUTS: Bad = {
    **fill(ANY_AXES | dict.fromkeys(LAST_AXIS, "x") | SEQUENCE | CORE | LOGITS | COMPARED, BAD_INPUTS),
    **fill(CROSS, {argument: bad for argument, bad in BAD_INPUTS.items() if argument != "None"}),
    **fill(LAST_AXIS, {"np.ones(())": (ValueError, "x must have the axes (..., {}), but its shape is ()")}),
    **fill(
        SEQUENCE | CROSS,
        each(
            ValueError,
            "{} must have the axes (batch, T, d_model)",
            {"x[0]": "its shape is (4, 6)", "x[None]": "its shape is (1, 3, 4, 6)"},
        ),
    ),
    **fill(LOGITS, {"np.ones(())": (ValueError, "{} must have the axes (..., num_classes), but its shape is ()")}),
    **fill(WIDTHS, {"x[..., :5]": (ValueError, "{}")}),
    "core.forward(x[0, 0], x, x)": (ValueError, "query must have the axes (..., T_q, d_k), but its shape is (6,)"),
    "core.forward(x, x[0, 0], x)": (ValueError, "key must have the axes (..., T_k, d_k), but its shape is (6,)"),
    "core.forward(x, x, x[0, 0])": (ValueError, "value must have the axes (..., T_k, d_v), but its shape is (6,)"),
    "core.forward(x, x[..., :5], x)": (ValueError, "key has d_k 5, but query has d_k 6"),
    "core.forward(x, x[:1], x)": (ValueError, "key has leading axes (1,), but query has leading axes (3,)"),
    "blockwise.forward(x[0, 0], x, x)": (ValueError, "query must have the axes (..., T_q, d_k), but its shape is (6,)"),
    "blockwise.forward(x, x[..., :5], x)": (ValueError, "key has d_k 5, but query has d_k 6"),
    "attention(x, x, x[0])": (ValueError, "value has leading axes (), but query has leading axes (3,)"),
    "attention(x, x, key)": (ValueError, "value has T_k 5, but key has T_k 4"),
    "mha.forward(x, key[:2], key[:2])": (ValueError, "key has leading axes (2,), but query has leading axes (3,)"),
    "mha.forward(x, key, x)": (ValueError, "value has T_k 4, but key has T_k 5"),
    "mha.forward(x, key)": (ValueError, f"{TOGETHER} value is None"),
    "mha.forward(x, value=key)": (ValueError, f"{TOGETHER} key is None"),
    "positions.forward(np.ones((1, 10, 6)), rng=rng)": (
        ValueError,
        "x has T=10 positions, but this PositionalEncoding was built with max_len=9",
    ),
    "EncoderLayer(6, mha, PositionwiseFeedForward(5, 8)).forward(x)": (
        ValueError,
        "x has d_model=6, but this PositionwiseFeedForward was built with d_model=5",
    ),
    "PositionwiseFeedForward(6, 8, activation=Linear(8, 5)).forward(x)": (
        ValueError,
        "x has d_in=5, but this Linear was built with d_in=8",
    ),
    "TokenEncoder(embeddings, PositionalEncoding(5), encoder).forward(tokens, rng=rng)": (
        ValueError,
        "x has d_model=6, but this PositionalEncoding was built with d_model=5",
    ),
    **{
        f"{connection}(Narrow(6, {width}), norm).forward(x, rng=rng)": (
            ValueError,
            f"the sublayer's output has shape (3, 4, {width}), but x has shape (3, 4, 6)",
        )
        for connection in ("PreNormSublayerConnection", "PostNormSublayerConnection")
        for width in (1, 5)
    },
}

TOKENS = fill(
    {
        "embeddings.forward({})": "tokens",
        "model.forward({}, rng=rng)": "tokens",
        "bert_embeddings.forward({}, rng=rng)": "tokens",
        "bert_encoder.forward({}, rng=rng)": "tokens",
        "bert.forward({}, rng=rng)": "tokens",
    },
    {
        **each(
            TypeError,
            "{} must be a NumPy array of integers",
            {"[[1]]": "it is a list", "None": "it is None", "np.ma.ones((3, 4), int)": "it is a MaskedArray"},
        ),
        **each(
            TypeError,
            "{} must be integers",
            {f"tokens.astype('{d}')": f"its dtype is {d}" for d in ("float64", "bool", "object", "<U21")},
        ),
        "tokens[0]": (ValueError, "{} must have the axes (batch, T), but its shape is (4,)"),
        "tokens[None]": (ValueError, "{} must have the axes (batch, T), but its shape is (1, 3, 4)"),
        "tokens[:0]": (ValueError, "{} must have at least one entry, but its shape is (0, 4)"),
        "np.array([[0, 7]])": (ValueError, "{} must lie in 0..6, but 7 is among them"),
        "np.array([[0, -1]])": (ValueError, "{} must lie in 0..6, but -1 is among them"),
    },
)

TOO_LONG = "tokens has T=10 positions, but this BertEmbeddings was built with max_len=9"
TOKEN_TYPES = fill(
    [f"{part}.forward(tokens, {{}}, rng=rng)" for part in ("bert_embeddings", "bert_encoder", "bert")],
    {
        **each(
            TypeError,
            "token_types must be a NumPy array of integers",
            {"[[1]]": "it is a list", "0": "it is an int"},
        ),
        "x[..., 0]": (TypeError, "token_types must be integers, but its dtype is float64"),
        "tokens[0]": (ValueError, "token_types must have the axes (batch, T), but its shape is (4,)"),
        "tokens[:1] % 2": (ValueError, "token_types has shape (1, 4), but tokens has shape (3, 4)"),
        "tokens[:, :1] % 2": (ValueError, "token_types has shape (3, 1), but tokens has shape (3, 4)"),
        "np.full((3, 4), 2)": (ValueError, "token_types must lie in 0..1, but 2 is among them"),
        "np.full((3, 4), -1)": (ValueError, "token_types must lie in 0..1, but -1 is among them"),
    },
) | {
    f"{part}.forward(np.zeros((1, 10), int), rng=rng)": (ValueError, TOO_LONG)
    for part in ("bert_embeddings", "bert_encoder", "bert")
}

ROWS = "logits without its last axis has shape"
IGNORING = "targets other than ignore_index=-100 must lie in 0..5"
TARGETS = fill(
    {"loss.forward(x, {})": "targets", "ignoring.forward(x, {})": "targets"},
    {
        **each(
            TypeError,
            "{} must be a NumPy array of integers",
            {"targets.tolist()": "it is a list", "3": "it is an int", "None": "it is None"},
        ),
        **each(
            TypeError,
            "{} must be integers",
            {
                "x": "its dtype is float64",
                "targets.astype(bool)": "its dtype is bool",
                "targets * 1j": "its dtype is complex128",
            },
        ),
        "targets[:, :0]": (ValueError, "{} must have at least one entry, but its shape is (3, 0)"),
        "targets[0]": (ValueError, f"{{}} has shape (4,), but {ROWS} (3, 4)"),
        "targets[:1]": (ValueError, f"{{}} has shape (1, 4), but {ROWS} (3, 4)"),
        "targets[..., None]": (ValueError, f"{{}} has shape (3, 4, 1), but {ROWS} (3, 4)"),
        "np.array(1)": (ValueError, f"{{}} has shape (), but {ROWS} (3, 4)"),
    },
) | {
    "loss.forward(x, np.full((3, 4), 6))": (ValueError, "targets must lie in 0..5, but 6 is among them"),
    "loss.forward(x, np.full((3, 4), -1))": (ValueError, "targets must lie in 0..5, but -1 is among them"),
    "loss.forward(x, np.full((3, 4), -100))": (ValueError, "targets must lie in 0..5, but -100 is among them"),
    "ignoring.forward(x, np.full((3, 4), 6))": (ValueError, f"{IGNORING}, but 6 is among them"),
    "ignoring.forward(x, np.repeat([[-100, -1, 0]], 4, axis=0).T)": (ValueError, f"{IGNORING}, but -1 is among them"),
}

NEVER_BROADCAST = {
    f"squared.forward({predictions}, {targets})": (
        ValueError,
        f"targets has shape {shape}, but predictions, to which it is never broadcast, has shape {expected}",
    )
    for predictions, targets, shape, expected in (
        ("x[0, :, :1]", "x[0, :, 0]", (4,), (4, 1)),  # the classic one: the result would be of shape (4, 4)
        ("x[0, :, 0]", "x[0, :, :1]", (4, 1), (4,)),
        ("x", "x[0]", (4, 6), (3, 4, 6)),
        ("x", "x[..., :1]", (3, 4, 1), (3, 4, 6)),
        ("x", "np.array(1.0)", (), (3, 4, 6)),
        ("np.array(1.0)", "x[0, 0]", (6,), ()),
        ("x", "key", (3, 5, 6), (3, 4, 6)),
        ("x", "x.ravel()", (72,), (3, 4, 6)),
    )
}

ATTENDING = [f"{part}.forward(x" for part in ("mha", "pre", "post", "layer", "encoder", "shared", "checkpoint")]
ATTENDING += ["model.forward(tokens", "bert_encoder.forward(tokens", "bert.forward(tokens"]
CORES = (
    *("core.forward(x, x, x, mask={}, rng=rng)", "blockwise.forward(x, x, x, mask={}, rng=rng)"),
    "attention(x, x, x, {}, 0.5, rng)",
)
MASKED = {f"{call}, mask={{}}, rng=rng)": "(batch, heads, T_q, T_k) = (3, 2, 4, 4)" for call in ATTENDING}
CROSS_MASKED = {"mha.forward(x, key, key, mask={}, rng=rng)": "(batch, heads, T_q, T_k) = (3, 2, 4, 5)"}
ONE_MASKED = {"mha.forward(x[:1], mask={}, rng=rng)": "(batch, heads, T_q, T_k) = (1, 2, 4, 4)"}


def bad_shapes(*shapes: tuple[int, ...], remedy: str = "") -> Bad:
    came = {f"np.ones({shape}, int)": f"its shape {'' if remedy else 'is '}{shape}{remedy}" for shape in shapes}
    return each(ValueError, "mask must broadcast to {}", came)


def without_heads(*shape: int) -> Bad:
    return bad_shapes(shape, remedy=" lacks the heads; write mask[:, None]")


BAD_MASKS: Bad = {
    **each(
        TypeError,
        "mask must be a NumPy array of integers or booleans",
        {"[[1]]": "it is a list", "True": "it is a bool", "np.ma.ones((4, 4), int)": "it is a MaskedArray"},
    ),
    **each(
        TypeError,
        "mask must be integers or booleans (nonzero = may attend)",
        {
            f"np.ones((4, 4), '{dtype}')": f"its dtype is {dtype}; write mask > threshold for a float mask"
            for dtype in ("float64", "complex128", "object", "<U1")
        },
    ),
    **bad_shapes((4, 3), (0, 4), (3, 4), (5, 4, 4), (2, 1, 4, 4), (1, 3, 2, 4, 4)),
}
MASKS: Bad = {
    **fill(MASKED | dict.fromkeys(CORES, "the scores' shape = (3, 4, 4)"), BAD_MASKS),
    **fill(MASKED, without_heads(3, 4, 4)),
    **fill(CROSS_MASKED, bad_shapes((5, 4), (4, 4)) | without_heads(3, 4, 5)),
    **fill(ONE_MASKED, bad_shapes((3, 1, 4, 4), (3, 1, 1, 4), (3, 4, 4))),
}

RANDOM = "rng must be a source with random(shape), such as numpy.random.default_rng(0)"
NOT_SOURCES = {
    "3": "it is an int",
    "'a'": "it is a str",
    "True": "it is a bool",
    "np.ones((2, 2))": "it is a ndarray",
    "Random(0)": "it is a Random",
}
DRAWING = [f"{call}, rng={{}})" for call in ATTENDING]
DRAWING.append("bert_embeddings.forward(tokens, rng={})")
DRAWING += [f"{part}.forward(x, rng={{}})" for part in ("dropout", "feed_forward", "positions")]
DRAWING += ["core.forward(x, x, x, rng={})", "blockwise.forward(x, x, x, rng={})", "attention(x, x, x, None, 0.5, {})"]
SOURCES: Bad = {
    **fill(DRAWING, each(TypeError, RANDOM, NOT_SOURCES)),
    "Dropout(0.0).forward(x, rng=3)": (TypeError, f"{RANDOM}, but it is an int"),
    **fill(
        ["dropout.forward(x, rng=Same({}))"],
        each(
            ValueError,
            "rng.random must return numbers of shape (3, 4, 6)",
            {"0.3": "their shape is ()", "np.ones((2, 3, 4, 6))": "their shape is (2, 3, 4, 6)"},
        ),
    ),
    "dropout.forward(x, rng=GivenMasks([]))": (
        ValueError,
        "masks must hold one for each dropout, but there are only 0",
    ),
    "blockwise.forward(x, x, x, rng=GivenMasks([np.ones((4, 4))]))": (
        ValueError,
        "masks[0] must have shape (3, 4, 4), but its shape is (4, 4)",
    ),
    "layer.forward(x, rng=GivenMasks([np.ones((3, 2, 4, 4))]))": (
        ValueError,
        "masks must hold one for each dropout, but there are only 1",
    ),
    **fill(
        ["checkpoint.forward(x, rng={})"],
        each(
            TypeError,
            "rng must be a random source that copy.deepcopy makes a copy of",
            {
                "np.random": "it is a module",
                "np.random.Generator": "it is the class Generator",
                "Same(x for _ in x)": "it is a Same",
            },
        ),
    ),
    "checkpoint.forward(x, None, np.random)": (
        TypeError,
        "inputs[2] must be a random source that copy.deepcopy makes a copy of, but it is a module",
    ),
    "feed_forward.forward(x, rng=GivenMasks([np.ones((4, 8))]))": (
        ValueError,
        "masks[0] must have shape (3, 4, 8), but its shape is (4, 8)",
    ),
}
BAD = INPUTS | TOKENS | TOKEN_TYPES | TARGETS | NEVER_BROADCAST | MASKS | SOURCES
GOOD = [
    "relu.forward(np.ones(()))",
    "linear.forward(x[0, 0])",
    "linear.forward(np.asfortranarray(x.astype(np.float32)))",
    "dropout.forward(np.ones(()), rng=rng)",
    "dropout.forward(x, rng=np.random.RandomState(0))",
    "dropout.forward(x, rng=Same(np.ones((3, 4, 6))))",
    "core.forward(x[0], key[0], key[0, :, :2])",
    "blockwise.forward(x[0], key[0], key[0, :, :2], np.array(1))",
    "embeddings.forward(tokens.astype('>u2'))",
    "loss.forward(x[0, 0], np.array(5))",
    "ignoring.forward(x, np.full((3, 4), -100))",
    "squared.forward(np.array(1.0), np.array(2.0))",
    "squared.forward(x.astype(np.float32), np.asfortranarray(x))",
    "mha.forward(x, mask=None)",
    "checkpoint.forward(x, None, rng)",
    "checkpoint.forward(x, rng=np.random.RandomState(0))",
    "mha.forward(x, mask=np.array(1))",
    "mha.forward(x, mask=np.ones((3, 1, 1, 4), '>i4'))",
    "mha.forward(x, key, key, mask=np.ones((3, 1, 4, 5), bool))",
    "mha.forward(x, mask=subsequent_mask(4))",
    "mha.forward(x[:1], mask=subsequent_mask(4))",
    "bert.forward(tokens.astype(np.uint8), (tokens % 2).astype('>i2'), mask=padding_mask(tokens), rng=rng)",
    "model.forward(tokens[:1], mask=subsequent_mask(4) & padding_mask(tokens[:1]), rng=rng)",
]


@pytest.mark.parametrize(("call", "kind", "sentence"), [(call, *bad) for call, bad in BAD.items()], ids=list(BAD))
def test_a_bad_forward_gets_one_sentence(call: str, kind: type[Exception], sentence: str) -> None:
    check_one_sentence(call, kind, sentence)


@pytest.mark.parametrize("call", BAD)
def test_a_bad_forward_changes_nothing(call: str) -> None:
    check_nothing_changed(call)


@pytest.mark.parametrize("call", GOOD)
def test_what_only_looks_bad_is_taken(call: str) -> None:
    output, _ = eval(call, names())
    assert output.size
