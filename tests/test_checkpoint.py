"""Checkpoint: the same to the bit with and without it, wherever it stands and whatever draws the dropout masks."""

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npformer import (
    AnnotatedLayerNorm,
    BertEmbeddings,
    Checkpoint,
    Component,
    Embeddings,
    Encoder,
    EncoderLayer,
    GivenMasks,
    LayerNorm,
    MultiHeadedAttention,
    PositionalEncoding,
    PositionwiseFeedForward,
    SharedEncoder,
    SiLU,
    TokenEncoder,
    flatten,
    make_bert,
    make_encoder,
    subsequent_mask,
)
from npformer.component import Array, Tree
from npformer.gradcheck import randomise

BATCH, T, D_MODEL, HEADS, D_FF = 2, 4, 6, 2, 8
RATE = 0.4
X, GRAD = np.random.default_rng(0).standard_normal((2, BATCH, T, D_MODEL))
TOKENS = np.random.default_rng(1).integers(0, 7, (BATCH, T))


class Golden:
    """A random source of one's own, with nothing but random(shape)."""

    def __init__(self) -> None:
        self.drawn = 0

    def random(self, shape: tuple[int, ...]) -> Array:
        """Return the multiples of the golden ratio, modulo 1."""
        first, self.drawn = self.drawn, self.drawn + int(np.prod(shape))
        return (np.arange(first, self.drawn) * 0.6180339887498949 % 1).reshape(shape)


def given_masks() -> GivenMasks:
    """Make masks for three layers or fewer."""
    rng = np.random.default_rng(5)
    shapes = [(BATCH, HEADS, T, T), (BATCH, T, D_MODEL), (BATCH, T, D_FF), (BATCH, T, D_MODEL)]
    return GivenMasks([rng.random(shape) > RATE for _ in range(3) for shape in shapes])


SOURCES: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "PCG64": lambda: np.random.default_rng(3),
    "MT19937": lambda: np.random.Generator(np.random.MT19937(3)),
    "RandomState": lambda: np.random.RandomState(3),
    "given masks": given_masks,
    "one's own": Golden,
}
MASKS: dict[str, Array | None] = {
    "none": None,
    "causal": subsequent_mask(T),
    "padding": np.array([[[[1, 1, 1, 0]]], [[[0, 0, 0, 0]]]], bool),
    "random": np.random.default_rng(4).integers(0, 2, (BATCH, 1, T, T)),
}


def each_layer(plain: Encoder) -> Component:
    """Wrap as one does to save memory."""
    return Encoder([Checkpoint(layer) for layer in plain.layers], plain.norm)


def first_layer(plain: Encoder) -> Component:
    """Wrap one, so that what follows needs the generator to be where it belongs."""
    return Encoder([Checkpoint(plain.layers[0]), *plain.layers[1:]], plain.norm)


def nested(plain: Encoder) -> Component:
    """Wrap the whole, and twice each layer of it."""
    return Checkpoint(each_layer(Encoder([Checkpoint(layer) for layer in plain.layers], plain.norm)))


def parts_of_layers(plain: Encoder) -> Component:
    """Wrap the sublayers, a norm, the core of the attention, the activation and a connection."""
    wrapped = copy.deepcopy(plain)
    twin: Any = wrapped
    for layer in twin.layers:
        attention, network = layer.self_attn.sublayer, layer.feed_forward.sublayer
        attention.attention, network.activation = Checkpoint(attention.attention), Checkpoint(network.activation)
        layer.self_attn.sublayer, layer.feed_forward.sublayer = Checkpoint(attention), Checkpoint(network)
        layer.self_attn.norm = Checkpoint(layer.self_attn.norm)
        layer.feed_forward = Checkpoint(layer.feed_forward)
    return wrapped


PLACES = [each_layer, first_layer, nested, parts_of_layers]


def layer(norm_first: bool = True, annotated: bool = False) -> EncoderLayer:
    """Make a layer with dropout everywhere, and random parameters."""
    attention = MultiHeadedAttention(HEADS, D_MODEL, RATE)
    network = PositionwiseFeedForward(D_MODEL, D_FF, RATE, SiLU())
    norm = AnnotatedLayerNorm(D_MODEL) if annotated else LayerNorm(D_MODEL)
    made = EncoderLayer(D_MODEL, attention, network, RATE, norm_first, norm)
    randomise(made, np.random.default_rng(2))
    return made


def position(rng: Any) -> Any:
    """Say where a source stands: what it would draw next."""
    return rng.used if isinstance(rng, GivenMasks) else None if rng is None else rng.random((3,)).tolist()


def run(component: Component, source: str, *inputs: Array, times: int = 1, **options: Any) -> dict[str, bytes]:
    """Return the bytes of output and gradients, and where the caller's source stands, after so many backwards."""
    rng = SOURCES[source]()
    output, cache = component.forward(*inputs, rng=rng, **options)
    for _ in range(times):
        grad_inputs, grads = component.backward(GRAD.astype(output.dtype), cache)
    of_inputs = grad_inputs if isinstance(grad_inputs, tuple) else (grad_inputs,)
    arrays = {"output": output} | {f"input {i}": grad for i, grad in enumerate(of_inputs)} | flatten(grads)
    bytes_of = {name: b"" if array is None else array.tobytes() for name, array in arrays.items()}
    return bytes_of | {"source": repr(position(rng)).encode()}


@given(
    place=st.sampled_from(PLACES),
    sizes=st.tuples(st.integers(1, 3), st.sampled_from(["relu", "gelu", "gelu_tanh", "silu"])),
    norm_first=st.booleans(),
    source=st.sampled_from(list(SOURCES)),
    mask=st.sampled_from(list(MASKS)),
    dtype=st.sampled_from([np.float32, np.float64, np.complex128]),
    seed=st.integers(0, 2**32 - 1),
)
def test_an_encoder_is_the_same_with_and_without(
    place: Callable[[Encoder], Component],
    sizes: tuple[int, str],
    norm_first: bool,
    source: str,
    mask: str,
    dtype: type,
    seed: int,
) -> None:
    layers, activation = sizes
    plain = make_encoder(layers, D_MODEL, HEADS, D_FF, RATE, activation, norm_first, rng=seed)
    randomise(plain, np.random.default_rng(seed))
    plain, x = plain.astype(dtype), X.astype(dtype)
    for times in (1, 2):  # a backward must not use up what the next one needs
        assert run(place(plain), source, x, times=times, mask=MASKS[mask]) == run(plain, source, x, mask=MASKS[mask])


def wrap_all(component: Component) -> Component:
    """Wrap every part that was handed in, and the parts of parts, but not the whole."""
    if isinstance(component, PositionwiseFeedForward | BertEmbeddings):  # they made their parts themselves
        return component
    twin = copy.copy(component)
    for name, child in component._children().items():
        wrapped = [Checkpoint(wrap_all(part)) for part in (child if isinstance(child, list) else [child])]
        vars(twin)[name] = wrapped if isinstance(child, list) else wrapped[0]
    return twin


encoder = make_encoder(2, D_MODEL, HEADS, D_FF, RATE, rng=0)
bert = make_bert(2, D_MODEL, HEADS, D_FF, 7, T, dropout=RATE, rng=0)
attention = MultiHeadedAttention(HEADS, D_MODEL, RATE, rng=0)
WHOLE: dict[str, tuple[Component, tuple[Array, ...]]] = {
    "annotated layer": (layer(annotated=True), (X,)),
    "shared": (SharedEncoder(layer(norm_first=False), 3), (X,)),
    "tokens": (TokenEncoder(Embeddings(D_MODEL, 7, rng=0), PositionalEncoding(D_MODEL, RATE), encoder), (TOKENS,)),
    "BERT": (bert.encoder, (TOKENS, TOKENS % 2)),
    "cross-attention": (attention, (X, GRAD, X + 1)),
}


@pytest.mark.parametrize("source", sorted(SOURCES.keys() - {"given masks"}))
@pytest.mark.parametrize("name", WHOLE)
def test_every_component_is_the_same_as_a_whole_and_in_parts(name: str, source: str) -> None:
    component, inputs = WHOLE[name]
    for wrapped in (Checkpoint(component), wrap_all(component)):
        assert run(wrapped, source, *inputs, times=2) == run(component, source, *inputs)


def test_two_calls_in_flight_keep_apart() -> None:
    plain = layer()
    rng, twin_rng = np.random.default_rng(0), np.random.default_rng(0)
    inputs = X, 2 * X, -X
    calls = [Checkpoint(plain).forward(x, rng=rng) for x in inputs]
    twins = [plain.forward(x, rng=twin_rng) for x in inputs]
    for (output, cache), (same, kept) in reversed(list(zip(calls, twins, strict=True))):
        assert output.tobytes() == same.tobytes()
        assert pickle.dumps(Checkpoint(plain).backward(GRAD, cache)) == pickle.dumps(plain.backward(GRAD, kept))


def test_threads_do_not_meet() -> None:
    plain = make_encoder(2, D_MODEL, HEADS, D_FF, RATE, rng=0)
    wrapped = each_layer(plain)
    inputs = [X * scale for scale in np.linspace(0.5, 2, 32)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda x: run(wrapped, "PCG64", x, times=2), inputs))
    assert results == [run(plain, "PCG64", x) for x in inputs]


def test_a_source_in_any_place_is_copied_and_one_given_twice_stays_one() -> None:
    class Twice(Component):
        """Draws from two sources in turn, which may be one."""

        def forward(self, x: Array, first: Any, *, second: Any) -> tuple[Array, Tree]:
            factor = first.random(x.shape) + 2 * second.random(x.shape) + 4 * first.random(x.shape)
            return x * factor, {"factor": factor}

        def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
            return grad_output * cache["factor"], {}

    rng, ones = np.random.default_rng(0), np.ones((2, 3))
    output, cache = Checkpoint(Twice()).forward(ones, rng, second=rng)
    assert np.array_equal(Checkpoint(Twice()).backward(ones, cache)[0], output)
    in_turn = iter(np.random.default_rng(0).random((3, 2, 3)))
    assert np.array_equal(output, next(in_turn) + 2 * next(in_turn) + 4 * next(in_turn))


def test_a_failing_forward_leaves_the_generator_where_the_component_does() -> None:
    narrow = EncoderLayer(D_MODEL, attention, PositionwiseFeedForward(D_MODEL + 1, D_FF), RATE)
    failing: list[tuple[Component, Array, dict[str, Any]]] = [
        (narrow, X, {}),  # the attention has drawn by then
        (WHOLE["tokens"][0], TOKENS, {"mask": np.ones((5, 5), int)}),  # puts it back
    ]
    moved = []
    for component, x, options in failing:
        states = []
        for each in (component, Checkpoint(component)):
            rng = np.random.default_rng(0)
            with pytest.raises(ValueError, match=r"d_model|mask"):
                each.forward(x, rng=rng, **options)
            states.append(rng.random())
        assert states[0] == states[1]
        moved.append(states[0] != np.random.default_rng(0).random())
    assert moved == [True, False]
