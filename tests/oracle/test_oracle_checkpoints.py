"""Names and layouts of other libraries: both ways to the bit, and one sentence for all that does not fit."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_bert import bert_encoder, bert_model

from npformer import (
    AnnotatedLayerNorm,
    Component,
    Embeddings,
    Encoder,
    EncoderLayer,
    LayerNorm,
    Linear,
    MultiHeadedAttention,
    PositionalEncoding,
    PositionwiseFeedForward,
    SharedEncoder,
    TokenEncoder,
    flatten,
    make_encoder,
)
from npformer.component import Array, Tree
from npformer.oracle.checkpoints import (
    from_convention,
    load_gradients,
    load_parameters,
    save_gradients,
    save_parameters,
    to_convention,
)

D_MODEL, H, D_FF = 4, 2, 6


def attention(bias: bool = True) -> MultiHeadedAttention:
    return MultiHeadedAttention(H, D_MODEL, bias=bias, rng=0)


def layer() -> EncoderLayer:
    return EncoderLayer(D_MODEL, attention(), feed_forward(), norm=AnnotatedLayerNorm(D_MODEL))


def feed_forward() -> PositionwiseFeedForward:
    return PositionwiseFeedForward(D_MODEL, D_FF, rng=1)


def encoder() -> Encoder:
    return make_encoder(12, D_MODEL, H, D_FF, rng=0)  # layer 1 is a beginning of 10 and 11


def model() -> TokenEncoder:
    return TokenEncoder(Embeddings(D_MODEL, 5, rng=2), PositionalEncoding(D_MODEL), make_encoder(2, D_MODEL, H, D_FF))


CASES: dict[str, tuple[str, Callable[[], Component]]] = {
    "npformer model": ("npformer", model),
    "npformer shared": ("npformer", lambda: SharedEncoder(layer(), 3)),
    "torch linear": ("torch", lambda: Linear(2, 3)),
    "torch norm": ("torch", lambda: LayerNorm(3)),
    "torch attention": ("torch", attention),
    "torch attention without bias": ("torch", lambda: attention(bias=False)),
    "torch layer": ("torch", layer),
    "torch encoder": ("torch", encoder),
    "torch post-norm": ("torch", lambda: make_encoder(2, D_MODEL, H, D_FF, norm_first=False)),
    "bert layer": ("bert", layer),
    "bert encoder": ("bert", bert_encoder),
    "bert model": ("bert", bert_model),
    "annotated attention": ("annotated", attention),
    "annotated feed-forward": ("annotated", feed_forward),
    "annotated layer": ("annotated", layer),
    "annotated encoder": ("annotated", encoder),
    "annotated model": ("annotated", model),
}
every_case = pytest.mark.parametrize(("convention", "make"), CASES.values(), ids=CASES)


def random_bits(component: Component, dtype: npt.DTypeLike, seed: int) -> dict[str, Array]:
    """Any bits at all: NaNs with payloads, infinities, subnormals and negative zeros are among them."""
    rng, size = np.random.default_rng(seed), np.dtype(dtype).itemsize
    shapes = {name: array.shape for name, array in flatten(component.parameters()).items()}
    return {name: np.frombuffer(rng.bytes(int(np.prod(s)) * size), dtype).reshape(s) for name, s in shapes.items()}


def bits(arrays: Tree) -> dict[str, tuple[np.dtype[np.generic], tuple[int, ...], bytes]]:
    return {name: (array.dtype, array.shape, array.tobytes()) for name, array in flatten(arrays).items()}


@every_case
@given(dtype=st.sampled_from([np.float32, np.float64, np.complex128]), seed=st.integers(0, 2**32))
def test_there_and_back_is_exact(convention: str, make: Callable[[], Component], dtype: type, seed: int) -> None:
    component = make()
    arrays = random_bits(component, dtype, seed)
    theirs = to_convention(arrays, component, convention)
    back = from_convention(theirs, component, convention)
    assert list(back) == list(arrays)
    assert bits(back) == bits(arrays)
    assert bits(to_convention(back, component, convention)) == bits(theirs)
    assert sum(array.nbytes for array in theirs.values()) == sum(array.nbytes for array in arrays.values())


@every_case
@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_files_there_and_back(convention: str, make: Callable[[], Component], suffix: str, tmp_path: Path) -> None:
    component, path = make(), tmp_path / f"arrays.{suffix}"
    other = component.with_parameters({name: -a - 1 for name, a in flatten(component.parameters()).items()})
    before = bits(other.parameters())
    save_parameters(path, component, convention)
    twin = load_parameters(other, path, convention)
    assert bits(twin.parameters()) == bits(component.parameters())
    assert bits(other.parameters()) == before
    assert type(twin) is type(component)
    grads = random_bits(component, np.float32, 0)
    save_gradients(path, grads, component, convention)
    assert bits(load_gradients(component, str(path), convention)) == bits(grads)


@every_case
def test_the_result_is_independent_and_contiguous(convention: str, make: Callable[[], Component]) -> None:
    component = make()
    fortran = {name: np.asfortranarray(array) for name, array in flatten(component.parameters()).items()}
    theirs = to_convention(fortran, component, convention)
    ours = from_convention(theirs, component, convention)
    for result, source in ((theirs, fortran), (ours, theirs)):
        assert all(array.flags.c_contiguous and array.flags.owndata for array in result.values())
        assert not any(np.shares_memory(new, old) for new in result.values() for old in source.values())


def test_in_proj_has_the_rows_of_q_then_k_then_v() -> None:
    names = [f"{letter}_proj.{kind}" for kind in ("weight", "bias") for letter in ("q", "k", "v", "out")]
    arrays = {n: np.full((2, 2) if "weight" in n else 2, float(i)) for i, n in enumerate(names)}
    theirs = to_convention(arrays, MultiHeadedAttention(1, 2), "torch")
    assert theirs.keys() == {"in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"}
    assert theirs["in_proj_weight"].tolist() == [[0, 0], [0, 0], [1, 1], [1, 1], [2, 2], [2, 2]]
    assert theirs["in_proj_bias"].tolist() == [4, 4, 5, 5, 6, 6]
    assert theirs["out_proj.bias"].tolist() == [7, 7]


@pytest.mark.parametrize(
    ("convention", "component", "ours", "theirs"),
    [
        ("torch", layer(), "self_attn.norm.weight", "norm1.weight"),
        ("torch", encoder(), "layers.10.feed_forward.norm.bias", "layers.10.norm2.bias"),
        ("torch", encoder(), "norm.bias", "norm.bias"),
        ("bert", bert_model(), "encoder.embeddings.norm.weight", "embeddings.LayerNorm.weight"),
        (
            "bert",
            bert_model(),
            "encoder.encoder.layers.1.self_attn.sublayer.k_proj.weight",
            "encoder.layer.1.attention.self.key.weight",
        ),
        (
            "bert",
            bert_encoder(),
            "encoder.layers.1.feed_forward.norm.weight",
            "encoder.layer.1.output.LayerNorm.weight",
        ),
        ("bert", layer(), "self_attn.sublayer.out_proj.bias", "attention.output.dense.bias"),
        ("annotated", layer(), "self_attn.sublayer.v_proj.weight", "self_attn.linears.2.weight"),
        ("annotated", encoder(), "layers.11.feed_forward.norm.weight", "encoder.layers.11.sublayer.1.norm.a_2"),
        ("annotated", encoder(), "norm.bias", "encoder.norm.b_2"),
        ("annotated", model(), "embeddings.weight", "src_embed.0.lut.weight"),
        (
            "annotated",
            model(),
            "encoder.layers.0.feed_forward.sublayer.linear2.bias",
            "encoder.layers.0.feed_forward.w_2.bias",
        ),
    ],
)
def test_names(convention: str, component: Component, ours: str, theirs: str) -> None:
    arrays = random_bits(component, np.float64, 0)
    assert bits(to_convention(arrays, component, convention))[theirs] == bits(arrays)[ours]
