"""The checker: wrong backwards are rejected, and a forward that is not analytic is not blamed on them."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npformer import LayerNorm, Linear, MultiHeadedAttention, ReLU, ScaledDotProductAttention, flatten
from npformer.component import Array, Component, Tree
from npformer.gradcheck import Terms, check_gradients, make_case, term_sizes
from npformer.gradcheck.cases import CASES, Sizes

Backward = Callable[[Any, Array, Tree], tuple[Any, Tree]]


class Planted(Component):
    """A component with another backward in place of its own."""

    def __init__(self, part: Component, backward: Backward):
        self.part = part
        self.wrong = backward

    def forward(self, *inputs: Array, **options: Any) -> tuple[Array, Tree]:
        output, cache = self.part.forward(*inputs, **options)
        return output, {"part": cache}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
        grad_inputs, grads = self.wrong(self.part, grad_output, cache["part"])
        return grad_inputs, {"part": grads}


def layer_norm(with_mean: float = 1, with_projection: float = 1, scale: float = 1) -> Backward:
    def backward(norm: Any, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        _, grads = norm.backward(grad_output, cache)
        x_hat, g = cache["x_hat"], grad_output * norm.weight
        projection = (g * x_hat).sum(-1)[..., None] / x_hat.shape[-1]
        mean_g = with_mean * g.mean(-1, keepdims=True)
        return scale * cache["rstd"] * (g - mean_g - with_projection * x_hat * projection), grads

    return backward


def gamma_outside_the_sums(norm: Any, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    grad_x, _ = LayerNorm(len(norm.weight), norm.eps).backward(grad_output, cache)
    return norm.weight * grad_x, norm.backward(grad_output, cache)[1]


def softmax_without_its_row_sum(softmax: Any, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    return cache["output"] * grad_output, {}


def softmax_with_its_sign_flipped(softmax: Any, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    return -softmax.backward(grad_output, cache)[0], {}


def linear_without_its_bias_sum(linear: Any, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    grad_x, grads = linear.backward(grad_output, cache)
    return grad_x, grads | {"bias": grad_output[0, 0]}


def linear_from_another_cache(linear: Any, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    grad_x, grads = linear.backward(grad_output, {"x": cache["x"][::-1]})
    return grad_x, grads


def core_that_forgets(what: str) -> Backward:
    def backward(core: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
        kept = {name: value for name, value in cache.items() if name != what}
        (grad_query, grad_key, grad_value), grads = core.backward(grad_output, kept)
        root = np.sqrt(cache["query"].shape[-1]) if what == "scale" else 1
        return (grad_query * root, grad_key * root, grad_value), grads

    return backward


def dropout_without_its_scale(dropout: Any, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    return grad_output * cache["mask"], {}


def connection_without_its_residual_path(connection: Any, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    grad_x, grads = connection.backward(grad_output, cache)
    return grad_x - grad_output, grads


def embeddings_that_forget_repeats(embeddings: Any, grad_output: Array, cache: Tree) -> tuple[None, Tree]:
    grad = np.zeros(embeddings.weight.shape)
    grad[cache["tokens"]] = embeddings.scale * grad_output
    return None, {"weight": grad}


def shared_gradients_of_the_last_use_only(shared: Any, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    grad_x, grads = shared.backward(grad_output, cache)
    grad_output, _ = shared.norm.backward(grad_output, cache["norm"])
    return grad_x, grads | {"layer": shared.layer.backward(grad_output, cache["layer"][str(shared.N - 1)])[1]}


def self_attention_through_the_query_only(attention: Any, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    gradients, grads = attention.backward(grad_output, cache | {"is_self_attention": False})
    return gradients[0], grads


MISTAKES: dict[str, tuple[str, Backward]] = {
    "layer norm without mean(g)": ("LayerNorm", layer_norm(with_mean=0)),
    "layer norm without x_hat mean(g x_hat)": ("LayerNorm", layer_norm(with_projection=0)),
    "layer norm with n-1 for n": ("LayerNorm", layer_norm(with_projection=6 / 5)),
    "layer norm off by a millionth": ("LayerNorm", layer_norm(scale=1 + 1e-6)),
    "layer norm with gamma outside the sums": ("LayerNorm", gamma_outside_the_sums),
    "softmax without its row sum": ("Softmax", softmax_without_its_row_sum),
    "softmax with its sign flipped": ("Softmax", softmax_with_its_sign_flipped),
    "linear without its bias sum": ("Linear", linear_without_its_bias_sum),
    "linear with a stale cache": ("Linear", linear_from_another_cache),
    "attention that forgets the mask": ("ScaledDotProductAttention", core_that_forgets("mask")),
    "attention that forgets the scale": ("ScaledDotProductAttention", core_that_forgets("scale")),
    "dropout without its scale": ("Dropout", dropout_without_its_scale),
    "pre-norm without the residual path": ("PreNormSublayerConnection", connection_without_its_residual_path),
    "embeddings that forget repeats": ("Embeddings", embeddings_that_forget_repeats),
    "shared weights of the last use only": ("SharedEncoder", shared_gradients_of_the_last_use_only),
    "self-attention through the query only": ("MultiHeadedAttention, self", self_attention_through_the_query_only),
}


@pytest.mark.parametrize("directions", [None, 3], ids=["entry by entry", "by directions"])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_backward_is_rejected(mistake: str, seed: int, directions: int | None) -> None:
    name, backward = MISTAKES[mistake]
    case = make_case(name, Sizes(vocab_size=3), np.random.default_rng(seed))
    checks = check_gradients(
        Planted(case.component, backward), *case.inputs, directions=directions, seed=seed, **case.options
    )
    assert "wrong" in {check.verdict for check in checks}, checks


def damage(entry: int, factor: float) -> Backward:
    """Multiply one entry of every gradient, among those above a thousandth of its largest."""

    def backward(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
        grad_inputs, grads = copy.deepcopy(component.backward(grad_output, cache))
        for grad in [*(grad_inputs if isinstance(grad_inputs, tuple) else [grad_inputs]), *flatten(grads).values()]:
            if grad is not None:
                large = np.flatnonzero(np.abs(grad) > 1e-3 * np.abs(grad).max())
                grad.flat[large[entry % len(large)]] *= factor
        return grad_inputs, grads

    return backward


@pytest.mark.parametrize("directions", [None, 3], ids=["entry by entry", "by directions"])
@pytest.mark.parametrize("name", CASES)
def test_one_entry_off_by_a_millionth_is_rejected_in_every_array(name: str, directions: int | None) -> None:
    case = make_case(name, Sizes(), np.random.default_rng(0))
    wrong = Planted(case.component, damage(entry=7, factor=1 + 1e-6))
    checks = check_gradients(wrong, *case.inputs, directions=directions, **case.options)
    # what is 0 in truth stays 0 when multiplied
    passed = [check.name for check in checks if check.verdict != "wrong" and not check.name.endswith("k_proj.bias")]
    assert passed == []


@pytest.mark.parametrize("size", [1e-3, 1e-9, 1e-11])
def test_a_key_bias_gradient_that_is_not_zero_is_rejected(size: float) -> None:
    def backward(attention: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
        grad_inputs, grads = attention.backward(grad_output, cache)
        return grad_inputs, grads | {"k_proj": {**grads["k_proj"], "bias": np.full(6, size)}}

    case = make_case("MultiHeadedAttention, self", Sizes(), np.random.default_rng(0))
    checks = check_gradients(Planted(case.component, backward), *case.inputs, **case.options)
    assert [check.name for check in checks if check.verdict == "wrong"] == ["part.k_proj.bias"]


class Triple(Component):
    """3x, with whatever backward and whatever forward does beside it."""

    def __init__(self, backward: Callable[[Array], Any], beside: Callable[[Array], object] = np.shape):
        self.of = backward
        self.beside = beside

    def forward(self, x: Array) -> tuple[Array, Tree]:
        self.beside(x)
        return 3 * x, {"x": x}

    def backward(self, grad_output: Array, cache: Tree) -> Any:
        return self.of(grad_output)


class Accumulator:
    """Keeps a gradient on itself, as some do."""

    def __init__(self) -> None:
        self.total = np.zeros(2)

    def __call__(self, grad_output: Array) -> tuple[Array, Tree]:
        self.total += 3 * grad_output
        return self.total, {}


def doubled(array: Array) -> Array:
    array *= 2
    return array


RIGHT = Triple(lambda g: (3 * g, {}))
WITH_A_REASON: dict[str, tuple[Component, str]] = {
    "writes into grad_output": (Triple(lambda g: (1.5 * doubled(g), {})), "forward or backward wrote into grad_output"),
    "writes into an input": (Triple(lambda g: (3 * g, {}), doubled), "forward or backward wrote into an input"),
    "accumulates": (Triple(Accumulator()), "backward did not repeat itself"),
    "inflates its terms": (Triple(lambda g: (g * 1e16 - g * 1e16, {})), "a slope of forward is"),
    "hides in its terms": (Triple(lambda g: ((3 * g + 1e16) - 1e16, {})), "a slope of forward is"),
    "no gradient": (Triple(lambda g: (None, {})), "of shape (2,), but it returned None"),
    "a list": (Triple(lambda g: ([3.0, 3.0], {})), "of shape (2,), but it returned a list"),
    "another shape": (Triple(lambda g: (g[:1], {})), "of shape (2,), but it returned one of shape (1,)"),
    "complex": (Triple(lambda g: (3 * g + 0j, {})), "must return a real gradient, but its dtype is complex128"),
    "not finite": (Triple(lambda g: (g * [1, np.nan], {})), "the gradient is not finite at (1,)"),
}


@pytest.mark.parametrize("fault", WITH_A_REASON)
def test_a_wrong_verdict_has_its_reason(fault: str) -> None:
    component, reason = WITH_A_REASON[fault]
    x = np.array([1.0, -2.0])
    (check,) = check_gradients(component, x)
    assert check.verdict == "wrong"
    assert reason in check.reason
    assert x.tolist() == [1.0, -2.0]
    assert check_gradients(RIGHT, x)[0].verdict == "proven"


def test_gradients_of_what_has_none_are_wrong() -> None:
    checks = check_gradients(Triple(lambda g: ((3 * g, g), {"ghost": g})), np.array([1.0, -2.0]))
    verdicts = {check.name: check.verdict for check in checks}
    assert verdicts == {"x": "proven", "ghost": "wrong", "gradient 1": "wrong"}


@pytest.mark.parametrize(("result", "kind"), [(3.0, "a float"), ((1, 2), "a tuple"), ((1, {}, 2), "a tuple")])
def test_a_backward_that_returns_no_pair_is_an_error(result: Any, kind: str) -> None:
    with pytest.raises(TypeError, match=f"backward must return a pair, .*, but it returned {kind}$"):
        check_gradients(Triple(lambda g: result), np.array([1.0, -2.0]))


def test_a_parameter_called_like_an_input_is_an_error() -> None:
    component = Triple(lambda g: (3 * g, {}))
    component.parameter_names = ("x",)
    vars(component)["x"] = np.ones(2)
    with pytest.raises(ValueError, match="parameters must have names of their own, but x is an input too"):
        check_gradients(component, np.ones(2))


@pytest.mark.parametrize("seed", range(10))
def test_what_is_zero_in_truth_is_not_wrong_where_its_terms_are_unknown(seed: int) -> None:
    def backward(attention: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
        if not isinstance(grad_output, np.ndarray):
            raise TypeError("this backward takes arrays alone")
        grad_inputs, grads = attention.backward(grad_output, cache)
        return grad_inputs, grads

    case = make_case("MultiHeadedAttention, self", Sizes(), np.random.default_rng(seed))
    checks = check_gradients(Planted(case.component, backward), *case.inputs, **case.options)
    (key_bias,) = [check for check in checks if check.yardstick != "largest" or check.verdict != "proven"]
    assert key_bias.name == "part.k_proj.bias"
    # beside what rounding does to forward it may be proven all the same; it is never wrong
    assert (key_bias.verdict, key_bias.yardstick) in [("proven", "conditioning"), ("undecided", "largest")]


def test_a_kink_is_named() -> None:
    checks = check_gradients(ReLU(), np.array([1.0, 0.0]))
    assert [check.verdict for check in checks] == ["undecided"]
    assert "an input lies on a kink" in checks[0].reason


@pytest.mark.parametrize("deviation", [1, 4, 16])
def test_the_gradients_of_a_saturated_core_are_proven(deviation: float) -> None:
    rng = np.random.default_rng(0)
    query, key, value = (deviation * rng.standard_normal((2, T, 4)) for T in (3, 5, 5))
    checks = check_gradients(ScaledDotProductAttention(), query, key, value)
    assert {check.verdict for check in checks} == {"proven"}, checks


class Absolute(Component):
    """|x|, through np.abs, which hides a complex step."""

    def forward(self, x: Array) -> tuple[Array, Tree]:
        return np.abs(x), {"x": x}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        return grad_output * np.sign(cache["x"]), {}


def test_a_forward_that_is_not_analytic_is_undecided_and_named() -> None:
    (check,) = check_gradients(Absolute(), np.array([1.0, -2.0]))
    assert check.verdict == "undecided"
    assert "forward is not analytic" in check.reason


class Loop(Component):
    """3x by a loop into an array of real numbers, which drops a complex step with a warning."""

    def forward(self, x: Array) -> tuple[Array, Tree]:
        output = np.zeros(len(x))
        for index, entry in enumerate(x):
            output[index] = 3 * entry
        return output, {}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
        return 3 * grad_output, {}


def test_a_forward_that_casts_to_real_is_undecided_without_a_warning() -> None:
    (check,) = check_gradients(Loop(), np.array([1.0, -2.0]))
    assert check.verdict == "undecided"
    assert "forward is not analytic" in check.reason


def test_only_what_has_a_gradient_can_be_asked_for() -> None:
    case = make_case("Embeddings", Sizes(), np.random.default_rng(0))
    with pytest.raises(ValueError, match="only must name inputs or parameters, such as weight, but it has 'tokens'"):
        check_gradients(case.component, *case.inputs, only=["tokens"])


def test_a_backward_that_is_zero_where_the_complex_step_is_blind_does_not_pass() -> None:
    blind = Planted(Absolute(), lambda part, grad_output, cache: (0 * grad_output, {}))
    (check,) = check_gradients(blind, np.array([1.0, -2.0]))
    assert check.verdict == "undecided"
    assert "forward is not analytic" in check.reason


def test_a_float32_decision_within_rounding_of_the_kink_is_undecided() -> None:
    x = np.ones((1, 2), np.float32)
    linear = Linear(2, 1).astype(np.float32)
    linear.weight = np.array([[1.0, 2.0**-30]], np.float32)
    linear.bias = np.array([-1.0], np.float32)  # 1 + 2^-30 - 1 is 0 in float32

    class Rectified(Component):
        def __init__(self) -> None:
            self.linear = linear

        def forward(self, x: Array) -> tuple[Array, Tree]:
            hidden, cache = self.linear.forward(x)
            return hidden * (hidden.real > 0), {"linear": cache, "positive": hidden.real > 0}

        def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
            grad_x, grads = self.linear.backward(grad_output * cache["positive"], cache["linear"])
            return grad_x, {"linear": grads}

    checks = check_gradients(Rectified(), x)
    assert {check.verdict for check in checks} == {"undecided"}
    assert all("fell otherwise in float64" in check.reason for check in checks)


def test_only_checks_what_is_asked() -> None:
    checks = check_gradients(Linear(3, 2, rng=0), np.ones((1, 3)), only=["bias"])
    assert [check.name for check in checks] == ["bias"]


def test_the_terms_of_a_key_bias_are_large_and_its_gradient_is_not() -> None:
    attention = MultiHeadedAttention(2, 4, rng=0)
    x, grad_output = (np.random.default_rng(seed).standard_normal((2, 5, 4)) for seed in (1, 2))
    _, cache = attention.forward(x)
    _, grads = attention.backward(grad_output, cache)
    sizes = term_sizes(attention, ["query"], grad_output, cache)
    assert np.abs(grads["k_proj"]["bias"]).max() < 1e-15
    assert sizes["k_proj.bias"].min() > 0.01
    for name, grad in flatten(grads).items():
        assert np.all(sizes[name] >= np.abs(grad))


def test_terms_add_up_in_quadrature() -> None:
    a, b = Terms(np.array([[3.0, 1.0]])), Terms(np.array([[4.0], [1.0]]))
    assert (a + 4.0).square.tolist() == [[49.0, 25.0]]  # never below the value's own square
    assert (a - 4.0).square.tolist() == [[25.0, 17.0]]
    assert (a @ b).value.tolist() == [[13.0]]
    assert (a @ b).square.tolist() == [[169.0]]
    assert (a @ -b).square.tolist() == [[169.0]]
    assert a.mean(-1, keepdims=True).square.tolist() == [[4.0]]
    assert np.einsum("ij,ij->i", a, a - 4.0).square.tolist() == [9.0 * 25.0 + 17.0]
