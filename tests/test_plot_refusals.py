"""Bad arguments of the functions that draw: each gets one sentence. Calls stand as text, their types being wrong."""

import numpy as np
import pytest

from npformer import make_encoder, plot

NAMES = vars(plot) | {
    "np": np,
    "weights": np.full((2, 3, 3), 1 / 3),
    "words": ["a", "b", "c"],
    "fine": plot.Magnitudes(np.ones(3), np.ones(3)),
    "encoder": make_encoder(1, 4, 2, 8, rng=0),
    "x": np.ones((1, 2, 4)),
}

TYPE_ERRORS = {
    "mask([[1]])": "mask must be a NumPy array of integers or booleans, but it is a list",
    "mask(None)": "mask must be a NumPy array of integers or booleans, but it is None",
    "mask(weights)": "mask must be integers or booleans (nonzero = may attend), but its dtype is float64; "
    "write mask > threshold for a float mask",
    "attention_weights(weights.tolist(), words)": "weights must be a NumPy array of float32, float64 or complex128, "
    "but it is a list",
    "attention_weights(weights + 0j, words)": "weights must be float32 or float64, but its dtype is complex128",
    "attention_weights(weights, 'abc')": "tokens must be a list of str, but it is a str",
    "attention_weights(weights, np.array(words))": "tokens must be a list of str, but it is a ndarray",
    "attention_weights(weights, ['a', 2, 'c'])": "tokens[1] must be a str, but it is an int",
    "attention_weights(weights, words, iter(words))": "keys must be a list of str, but it is a list_iterator",
    "attention_weights(weights, words, heads=1)": "heads must be a list of whole numbers, but it is an int",
    "attention_weights(weights, words, heads={0, 1})": "heads must be a list of whole numbers, but it is a set",
    "attention_weights(weights, words, heads='01')": "heads[0] must be a whole number, but it is a str",
    "attention_weights(weights, words, heads=[True, False])": "heads[0] must be a whole number, but it is a bool",
    "positional_encoding(10.0, 4)": "max_len must be a whole number, but it is a float",
    "positional_encoding(10, True)": "d_model must be a whole number, but it is a bool",
    "learning_curves(None)": "loss must be a list of numbers, but it is None",
    "learning_curves('1.0')": "loss must be a list of numbers, but it is a str",
    "learning_curves(iter([1.0]))": "loss must be a list of numbers, but it is a list_iterator",
    "learning_curves([1.0], ['0.5'])": "accuracy must be a list of numbers, but its dtype is <U3",
    "learning_curves([[1.0], [1.0, 2.0]])": "loss must be a list of numbers, but some of its entries are lists",
    "learning_curves([1.0], [0.5], score='0.9')": "score must be a number, but it is a str",
    "gradient_norms([[1.0]])": "norms must be a dict, but it is a list",
    "gradient_norms({0: [1.0]})": "norms must have names as keys, but one of them is an int",
    "gradient_norms({'a': None})": "norms['a'] must be a list of numbers, but it is None",
    "depth(fine)": "measured must be a dict, but it is a Magnitudes",
    "depth({'a': [1.0]})": "measured['a'] must be a Magnitudes, but it is a list",
    "measure_magnitudes(encoder.layers[0], x, x)": "encoder must be an Encoder, but it is an EncoderLayer",
    "measure_magnitudes(encoder, [x], x)": "x must be a NumPy array of float32, float64 or complex128, "
    "but it is a list",
    "pre_and_post_norm(rng='0')": "rng must be a numpy.random.Generator, a seed or None, but it is a str",
}

VALUE_ERRORS = {
    "mask(np.array(1))": "mask must have the axes (T_q, T_k), or (1, T_q, T_k), but its shape is ()",
    "mask(np.ones((2, 3, 3), dtype=int))": "mask must have the axes (T_q, T_k), or (1, T_q, T_k), "
    "but its shape is (2, 3, 3)",
    "mask(np.ones((3, 0), dtype=int))": "mask must have the axes (T_q, T_k), or (1, T_q, T_k), but its shape is (3, 0)",
    "attention_weights(weights[None], words)": "weights must have the axes (heads, T_q, T_k), "
    "but its shape is (1, 2, 3, 3)",
    "attention_weights(weights - 1, words)": "weights must be finite and not negative, but some are",
    "attention_weights(weights * np.nan, words)": "weights must be finite and not negative, but some are",
    "attention_weights(np.ones((33, 3, 3)), words)": "heads must be at most 32 to be readable, but 33 are to be drawn; "
    "choose some, such as heads=range(8)",
    "attention_weights(np.ones((1, 1, 65)), words)": "weights must have at most 64 tokens to be readable, "
    "but its shape is (1, 1, 65); a part such as weights[:, :8, :8] can be drawn",
    "attention_weights(weights, words[:2])": "tokens must be as many as weights has, 3, but they are 2",
    "attention_weights(weights[:, :2], words[:2])": "keys must be given where T_k=3 differs from T_q=2, but it is None",
    "attention_weights(weights[:, :2], words[:2], words[:2])": "keys must be as many as weights has, 3, but they are 2",
    "attention_weights(weights, words, heads=[])": "heads must have at least one entry, but it is empty",
    "attention_weights(weights, words, heads=[0, 2])": "heads must lie in 0..1, but 2 is among them",
    "attention_weights(weights, words, heads=[0, -1])": "heads[1] must be at least 0, but it is -1",
    "attention_weights(weights, words, heads=[1, 0, 1])": "heads must differ, but 1 is twice among them",
    "positional_encoding(0, 4)": "max_len must be at least 1, but it is 0",
    "learning_curves([])": "loss must have at least one entry, but it is empty",
    "learning_curves(x)": "loss must be a list of numbers, but its shape is (1, 2, 4)",
    "learning_curves([1.0, np.nan])": "loss must be finite, but entry 1 is nan",
    "learning_curves([1.0], learning_rate=[np.inf])": "learning_rate must be finite, but entry 0 is inf",
    "learning_curves([1.0, 0.5], [0.5])": "accuracy has length 1, but loss has length 2",
    "learning_curves([1.0], [98.6])": "accuracy must lie in [0, 1], but 98.6 does not",
    "learning_curves([1.0], [0.5], score=-0.1)": "score must lie in [0, 1], but -0.1 does not",
    "learning_curves([1.0], score=0.9)": "accuracy must be given with score, but it is None",
    "gradient_norms({})": "norms must have at least one layer, but it is empty",
    "gradient_norms({'a': [1.0], 'b': [1.0, 2.0]})": "norms['b'] has length 2, but norms['a'] has length 1",
    "gradient_norms({'a': [1.0, -2.0]})": "norms['a'] must not be negative, but -2 is among its entries",
    "gradient_norms({'a': [0.0, 0.0]})": "norms must have an entry above 0, but it has none",
    "depth({})": "measured must have 1 to 4 encoders, but it has 0",
    "depth(dict.fromkeys('abcde', fine))": "measured must have 1 to 4 encoders, but it has 5",
    "depth({'a': Magnitudes(np.ones(2), np.zeros(2))})": "measured['a'].gradients must be above 0, "
    "but 0 is among its entries",
    "depth({'a': Magnitudes(np.array([np.nan]), np.ones(2))})": "measured['a'].activations must be finite, "
    "but entry 0 is nan",
    "measure_magnitudes(encoder, x, x[0])": "grad_output must have the output's shape (1, 2, 4), "
    "but its shape is (2, 4)",
    "pre_and_post_norm(T=0)": "T must be at least 1, but it is 0",
}

BAD = [(call, TypeError, text) for call, text in TYPE_ERRORS.items()] + [
    (call, ValueError, text) for call, text in VALUE_ERRORS.items()
]


@pytest.mark.parametrize(("call", "kind", "sentence"), BAD, ids=[call for call, *_ in BAD])
def test_one_sentence(call: str, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind) as caught:
        eval(call, dict(NAMES))
    assert type(caught.value) is kind
    assert str(caught.value) == sentence
