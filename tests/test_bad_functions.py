"""Bad arguments of the functions that make masks, go through trees and check gradients: each gets one sentence."""

import pytest
from bad_calls import FLOATS, Bad, check_nothing_changed, check_one_sentence, each, fill, names

MASKS: Bad = {
    **fill(
        {"padding_mask({})": "tokens", "length_mask({}, 3)": "lengths"},
        {
            **each(
                TypeError,
                "{} must be a NumPy array of integers",
                {"[1, 2]": "it is a list", "2": "it is an int", "None": "it is None"},
            ),
            **each(
                TypeError,
                "{} must be integers",
                {f"tokens.astype('{d}')": f"its dtype is {d}" for d in ("float64", "bool", "object", "<U21")},
            ),
        },
    ),
    "padding_mask(tokens[0])": (ValueError, "tokens must have the axes (batch, T), but its shape is (4,)"),
    "padding_mask(tokens[:0])": (ValueError, "tokens must have at least one entry, but its shape is (0, 4)"),
    **fill(
        ["padding_mask(tokens, {})"],
        each(
            TypeError,
            "pad must be a whole number",
            {"0.0": "it is a float", "'0'": "it is a str", "None": "it is None", "False": "it is a bool"},
        ),
    ),
    "length_mask(tokens, 3)": (ValueError, "lengths must have the axes (batch), but its shape is (3, 4)"),
    "length_mask(tokens[0, :0], 3)": (ValueError, "lengths must have at least one entry, but its shape is (0,)"),
    "length_mask(np.array([2, 4]), 3)": (ValueError, "lengths must lie in 0..3, but 4 is among them"),
    "length_mask(np.array([2, -1]), 3)": (ValueError, "lengths must lie in 0..3, but -1 is among them"),
}

TREES: Bad = {
    "flatten(None)": (TypeError, "tree must be a dict, but it is None"),
    "flatten([x])": (TypeError, "tree must be a dict, but it is a list"),
    "flatten({'a': {0: x}})": (TypeError, "tree must have names as keys, but one of them is an int"),
    "flatten({'a.b': x, 'a': {'b': x}})": (ValueError, "tree must have every name once, but a.b is in it twice"),
    "add_trees(None, {})": (TypeError, "left must be a dict, but it is None"),
    "add_trees({}, [x])": (TypeError, "right must be a dict, but it is a list"),
    "add_trees({'a': [1.0]}, {'a': [1.0]})": (ValueError, "the left tree does not fit: a is a list, expected an array"),
    **fill(
        ["add_trees({'a': {'b': x}}, {})"],
        {
            argument: (ValueError, f"the right tree does not fit: {wrong}")
            for argument, wrong in {
                "dict()": "a.b is missing",
                "{'a': {'c': x}}": "a.b is missing; a.c is unknown",
                "{'a': x}": "a is unknown; a.b is missing",
                "{'a': {'b': key}}": "a.b has shape (3, 5, 6), expected (3, 4, 6)",
                "{'a': {'b': x.astype(object)}}": f"a.b has dtype object, expected {FLOATS}",
                "{'a': {'b': x.tolist()}}": "a.b is a list, expected an array",
            }.items()
        },
    ),
}

BY_POSITION = "must be given by position, since its gradient is checked, but it came by name"
CHECKS: Bad = {
    **fill(
        ["check_gradients(relu, x[0, :1], seed={})", "Verification('One.', seed={})"],
        {
            **each(
                TypeError,
                "seed must be a whole number",
                {"None": "it is None", "True": "it is a bool", "0.5": "it is a float", "'0'": "it is a str"},
            ),
            "-1": (ValueError, "seed must be at least 0, but it is -1"),
        },
    ),
    **fill(
        ["check_gradients(relu, x[0, :1], directions={})"],
        {
            **each(
                TypeError,
                "directions must be a whole number",
                {"True": "it is a bool", "1.5": "it is a float", "'2'": "it is a str"},
            ),
            "0": (ValueError, "directions must be at least 1, but it is 0"),
        },
    ),
    **fill(
        ["check_gradients(relu, x[0, :1], only={})"],
        {
            "3": (TypeError, "only must be a list of names, but it is an int"),
            "'x'": (TypeError, "only must be a list of names, but it is a str"),
            "[]": (ValueError, "only must have at least one name, but it is empty"),
            "['x', 'y']": (ValueError, "only must name inputs or parameters, such as x, but it has 'y'"),
            "[0]": (ValueError, "only must name inputs or parameters, such as x, but it has 0"),
        },
    ),
    **fill(
        ["check_gradients({}, x)"],
        each(
            TypeError,
            "subject must be a component, an object with forward and backward like one, or a pair of functions "
            "(forward(*arrays) -> array, backward(grad_output, *arrays) -> arrays)",
            {
                "3": "it is an int",
                "'relu'": "it is a str",
                "ReLU": "it is the class ReLU",
                "lambda x: x": "it is a function",
                "[norm]": "it is a list",
                "(np.sin,)": "it is a tuple",
            },
        ),
    ),
    **fill(
        ["check_gradients(norm, x, grad_output={})", "hvp(norm, x, grad_output={}, along=dict(x=x))"],
        {
            "x.tolist()": (TypeError, "grad_output must be a NumPy array, but it is a list"),
            "x[0]": (
                ValueError,
                "grad_output must be like the output, float64 of shape (3, 4, 6), but it is float64 of shape (4, 6)",
            ),
            "x * np.nan": (ValueError, "grad_output must be finite, but it is not"),
        },
    ),
    "hvp(norm, x, grad_output=None, along=dict(x=x))": (
        TypeError,
        "grad_output must be a NumPy array, but it is None",
    ),
    "check_gradients(norm, x, jointly=1)": (TypeError, "jointly must be True or False, but it is an int"),
    "check_gradients(norm, x, jointly=True)": (
        ValueError,
        "jointly must go with a number of directions, but directions is None",
    ),
    "check_gradients(norm, x.astype(np.float16))": (
        TypeError,
        "x must be float64, float32 or integers, but its dtype is float16",
    ),
    "check_gradients((np.isfinite, np.sin), x)": (
        TypeError,
        "the output of forward must be at least one float64 or float32 number, but it is bool of shape (3, 4, 6)",
    ),
    "check_gradients((np.shape, np.sin), x)": (
        TypeError,
        "the output of forward must be a NumPy array, but it is a tuple",
    ),
    "list(discriminating_cases('Linear', seed=-1))": (ValueError, "seed must be at least 0, but it is -1"),
    "check_gradients(norm, x.tolist())": (TypeError, "x must be a NumPy array, but it is a list"),
    "check_gradients(norm, x=x)": (ValueError, f"x {BY_POSITION}"),
    "check_gradients(mha, x, key=key, value=key)": (ValueError, f"key {BY_POSITION}"),
    "check_gradients(mha, x, mask=np.ones((4, 4)))": (
        TypeError,
        "mask must be integers or booleans (nonzero = may attend), but its dtype is float64; "
        "write mask > threshold for a float mask",
    ),
    **{
        f"check_gradients({call})": (
            TypeError,
            f"{name} must be real, since complex step checks it, but its dtype is complex128",
        )
        for call, name in (("relu, x + 0j", "x"), ("norm.astype(complex), x", "weight"))
    },
    **{
        f"check_gradients({call})": (ValueError, f"{name} must be finite, but {number} is among its entries")
        for call, name, number in (
            ("relu, np.array([1.0, np.nan])", "x", "nan"),
            ("softmax, np.array([1.0, np.inf])", "x", "inf"),
            ("assigned(LayerNorm(6), bias=np.full(6, -np.inf)), x", "bias", "-inf"),
        )
    },
    **fill(
        ["Verification({})"],
        {
            **each(
                TypeError,
                "text must be a str",
                {"3": "it is an int", "b'One.'": "it is a bytes", "['One.']": "it is a list"},
            ),
            **each(ValueError, "text must have at least one word", {"''": "it has none", "'...'": "it has none"}),
        },
    ),
}
BAD = MASKS | TREES | CHECKS
GOOD = [
    "padding_mask(tokens.astype(np.uint8), -100)",
    "length_mask(np.array([0, 3], np.uint8), 3)",
    "flatten({})",
    "add_trees({}, {})",
    "add_trees({'a': {}}, {})",
    "add_trees({'a': {'b': x}}, {'a.b': x})",
    "add_trees({'a.b': x}, {'a': {'b': x}})",
    "attention(x, x, x, mask=None, dropout=None, rng=None)",
    "attention(x, x, x, dropout=dropout)",
    "check_gradients(relu, x[0, :1], only={'x'})",
]


@pytest.mark.parametrize(("call", "kind", "sentence"), [(call, *bad) for call, bad in BAD.items()], ids=list(BAD))
def test_a_bad_call_gets_one_sentence(call: str, kind: type[Exception], sentence: str) -> None:
    check_one_sentence(call, kind, sentence)


@pytest.mark.parametrize("call", BAD)
def test_a_bad_call_changes_nothing(call: str) -> None:
    check_nothing_changed(call)


@pytest.mark.parametrize("call", GOOD)
def test_what_only_looks_bad_is_taken(call: str) -> None:
    assert eval(call, names()) is not None
