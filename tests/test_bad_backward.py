"""Bad gradients for every backward, and bad parameters: each gets one sentence, and nothing is half-changed."""

import pytest
from bad_calls import FLOATS, Bad, check_nothing_changed, check_one_sentence, each, fill

PLAIN = (
    *("linear", "relu", "gelu", "tanh", "silu", "hyperbolic", "softmax", "dropout"),
    *("norm", "annotated", "mha", "feed_forward"),
)
PARTS = (*PLAIN, "pre", "post", "layer", "encoder", "shared", "positions", "checkpoint")
DRAWING = ("dropout", "mha", "feed_forward", "pre", "post", "layer", "encoder", "shared", "positions", "checkpoint")
IDLE = ("dropout", "positions")  # without a mask their backward hands grad_output on as it is
BACKWARDS = [
    *(f"{part}.backward({{}}, {part}.forward(x)[1])" for part in PARTS if part not in IDLE),
    *(f"{part}.backward({{}}, {part}.forward(x, rng=np.random.default_rng(0))[1])" for part in DRAWING),
    "core.backward({}, core.forward(x, key, key)[1])",
    "core.backward({}, core.forward(x, key, key, rng=np.random.default_rng(0))[1])",
    "blockwise.backward({}, blockwise.forward(x, key, key, rng=np.random.default_rng(0))[1])",
    "mha.backward({}, mha.forward(x, key, key)[1])",
    "embeddings.backward({}, embeddings.forward(tokens)[1])",
    "model.backward({}, model.forward(tokens)[1])",
    "bert_encoder.backward({}, bert_encoder.forward(tokens)[1])",
    "bert_embeddings.backward({}, bert_embeddings.forward(tokens)[1])",
    "bert_embeddings.backward({}, bert_embeddings.forward(tokens, rng=np.random.default_rng(0))[1])",
]
BAD_GRADIENTS: Bad = {
    **each(
        TypeError,
        f"grad_output must be a NumPy array of {FLOATS}",
        {"x.tolist()": "it is a list", "1.0": "it is a float", "None": "it is None"},
    ),
    **each(
        TypeError,
        f"grad_output must be {FLOATS}",
        {
            f"x.astype('{dtype}')": f"its dtype is {dtype}"
            for dtype in ("int64", "bool", "object", "float16", ">f8", "<U32")
        },
    ),
    **each(
        ValueError,
        "grad_output must have the output's shape (3, 4, 6)",
        {
            "x.sum()": "its shape is ()",
            "x[0]": "its shape is (4, 6)",
            "x[None]": "its shape is (1, 3, 4, 6)",
            "x[:1]": "its shape is (1, 4, 6)",
            "x[..., :1]": "its shape is (3, 4, 1)",
            "x[:, :0]": "its shape is (3, 0, 6)",
            "key": "its shape is (3, 5, 6)",
        },
    ),
}

FIRST = "self_attn.sublayer.q_proj.weight"
NORMS = ("LayerNorm", "AnnotatedLayerNorm")
ASSIGNED: Bad = {
    **fill(
        ["assigned(Linear(6, 6), weight={}).forward(x)"],
        {
            "x.tolist()": (TypeError, f"weight must be a NumPy array of {FLOATS}, but it is a list"),
            "np.eye(6, dtype=int)": (TypeError, f"weight must be {FLOATS}, but its dtype is int64"),
            "np.ones(6)": (ValueError, "weight must have the axes (d_out, d_in), but its shape is (6,)"),
        },
    ),
    **fill(
        [
            "assigned(Linear(6, 6), bias={}).forward(x)",
            *(f"assigned({norm}(6), bias={{}}).forward(x)" for norm in NORMS),
        ],
        {
            "[0.0] * 6": (TypeError, f"bias must be a NumPy array of {FLOATS}, but it is a list"),
            **each(
                ValueError,
                "bias must have shape (6,)",
                {
                    "np.ones(5)": "its shape is (5,)",
                    "np.ones(1)": "its shape is (1,)",
                    "np.ones((4, 6))": "its shape is (4, 6)",
                },
            ),
        },
    ),
    **fill(
        [f"assigned({norm}(6), weight={{}}).forward(x)" for norm in NORMS],
        {"np.ones((4, 6))": (ValueError, "weight must have the axes (d_model), but its shape is (4, 6)")},
    ),
    "assigned(Embeddings(6, 7), weight=np.ones(7)).forward(tokens)": (
        ValueError,
        "weight must have the axes (vocab_size, d_model), but its shape is (7,)",
    ),
    "assigned(LayerNorm(6), bias=[0.0] * 6).parameters()": (
        TypeError,
        f"bias must be a NumPy array of {FLOATS}, but it is a list",
    ),
    **{
        call: (
            ValueError,
            f"{names} are one array, but a component has one place in the tree; "
            "use clones for copies, or SharedEncoder to share the weights of layers",
        )
        for call, names in (
            ("Encoder([layer, layer]).parameters()", f"layers.0.{FIRST} and layers.1.{FIRST}"),
            ("Encoder([layer, layer]).astype(np.float32)", f"layers.0.{FIRST} and layers.1.{FIRST}"),
            ("Encoder([layer, layer]).with_parameters({})", f"layers.0.{FIRST} and layers.1.{FIRST}"),
            ("PreNormSublayerConnection(norm, norm).parameters()", "sublayer.weight and norm.weight"),
            ("assigned(norm.astype(float), weight=x[0, 0], bias=x[0, 0, :]).parameters()", "weight and bias"),
        )
    },
}

GIVEN: Bad = {
    **fill(
        ["norm.with_parameters({})"],
        {
            "None": (TypeError, "parameters must be a dict, but it is None"),
            "[norm.weight, norm.bias]": (TypeError, "parameters must be a dict, but it is a list"),
            "{0: norm.weight}": (TypeError, "parameters must have names as keys, but one of them is an int"),
            "dict()": (ValueError, "parameters does not fit: bias is missing; weight is missing"),
        },
    ),
    **fill(
        ["norm.with_parameters(dict(norm.parameters(), {}))"],
        {
            argument: (ValueError, f"parameters does not fit: {wrong}")
            for argument, wrong in {
                "gain=norm.bias": "gain is unknown",
                "weight=np.ones(5)": "weight has shape (5,), expected (6,)",
                "weight=np.ones(6, int)": f"weight has dtype int64, expected {FLOATS}",
                "weight=np.ones(6, '>f8')": f"weight has dtype >f8, expected {FLOATS}",
                "weight=np.ones(6, object)": f"weight has dtype object, expected {FLOATS}",
                "weight=[1.0] * 6": "weight is a list, expected an array",
                "weight=None": "weight is None, expected an array",
                "weight=dict(a=norm.bias)": "weight is missing; weight.a is unknown",
            }.items()
        },
    ),
    "pre.with_parameters({**pre.parameters(), 'norm.bias': norm.bias})": (
        ValueError,
        "tree must have every name once, but norm.bias is in it twice",
    ),
    **fill(
        ["norm.astype({})"],
        each(
            TypeError,
            f"dtype must be {FLOATS}",
            {
                "int": "it is int64",
                "np.float16": "it is float16",
                "np.complex64": "it is complex64",
                "'>f8'": "it is >f8",
                "'double or so'": "it is 'double or so'",
                "3": "it is an int",
                "None": "it is None",
            },
        ),
    ),
    "norm.astype(complex).astype(float)": (
        TypeError,
        "dtype must be complex128 because weight is complex128, but it is float64",
    ),
}

POOLED = [
    "pooler.backward({}, pooler.forward(x)[1])",
    "bert.backward({}, bert.forward(tokens)[1])",
    "bert.backward({}, bert.forward(tokens, tokens % 2, rng=np.random.default_rng(0))[1])",
]
BAD_POOLED: Bad = {
    **each(
        TypeError,
        f"grad_output must be a NumPy array of {FLOATS}",
        {"x[:, 0].tolist()": "it is a list", "None": "it is None"},
    ),
    "x[:, 0].astype(int)": (TypeError, f"grad_output must be {FLOATS}, but its dtype is int64"),
    **each(
        ValueError,
        "grad_output must have the output's shape (3, 6)",
        {"x": "its shape is (3, 4, 6)", "x[0, 0]": "its shape is (6,)", "x[:, :1]": "its shape is (3, 1, 6)"},
    ),
}

OF_LOSSES = ["loss.backward({}, loss.forward(x, targets)[1])", "ignoring.backward({}, ignoring.forward(x, targets)[1])"]
OF_LOSSES.append("squared.backward({}, squared.forward(x, 2 * x)[1])")
BAD_OF_LOSSES: Bad = {
    **each(
        TypeError,
        f"grad_output must be a NumPy array of {FLOATS}",
        {"1.0": "it is a float", "[1.0]": "it is a list", "None": "it is None"},
    ),
    "np.array(1)": (TypeError, f"grad_output must be {FLOATS}, but its dtype is int64"),
    **each(
        ValueError,
        "grad_output must have the output's shape ()",
        {"np.ones(1)": "its shape is (1,)", "x[..., 0]": "its shape is (3, 4)", "x": "its shape is (3, 4, 6)"},
    ),
}

BAD = fill(BACKWARDS, BAD_GRADIENTS) | fill(POOLED, BAD_POOLED) | fill(OF_LOSSES, BAD_OF_LOSSES) | ASSIGNED | GIVEN


@pytest.mark.parametrize(("call", "kind", "sentence"), [(call, *bad) for call, bad in BAD.items()], ids=list(BAD))
def test_a_bad_call_gets_one_sentence(call: str, kind: type[Exception], sentence: str) -> None:
    check_one_sentence(call, kind, sentence)


@pytest.mark.parametrize("call", BAD)
def test_a_bad_call_changes_nothing(call: str) -> None:
    check_nothing_changed(call)
