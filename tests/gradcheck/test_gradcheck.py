"""The verdicts of the checker: what is wrong fails with its reason, what is right passes, what is open says so."""

from typing import Any

import numpy as np
import pytest
from subjects import Accumulator, StateOnSelf, Triple, damaged, planted

from npformer import Embeddings, LayerNorm, Linear, ScaledDotProductAttention, Softmax
from npformer.component import Array, Component, Tree
from npformer.gradcheck import CASES, Sizes, check_gradients, make_case

depths = pytest.mark.parametrize("directions", [None, 3], ids=["entry by entry", "by directions"])


@depths
@pytest.mark.parametrize("name", CASES)
def test_one_entry_off_by_a_millionth_fails_in_every_array_and_is_found(name: str, directions: int | None) -> None:
    case = make_case(name, Sizes(), np.random.default_rng(0))
    wrong = planted(case.component, damaged(entry=7, factor=1 + 1e-6))
    options = {} if name == "Embeddings" else case.options
    for check in check_gradients(wrong, *case.inputs, directions=directions, **options).checks:
        if check.name.endswith("k_proj.bias"):
            assert check.verdict == "PASS"  # what is 0 in truth stays 0 when multiplied
            continue
        assert (check.verdict, check.wrong_entries) == ("FAIL", 1), check
        (found,) = check.wrong
        assert found.ours / found.true == pytest.approx(1 + 1e-6, rel=1e-9)


@pytest.mark.parametrize("size", [1e-3, 1e-9, 1e-11])
def test_a_key_bias_gradient_that_is_not_zero_fails(size: float) -> None:
    def backward(attention: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
        grad_inputs, grads = attention.right(grad_output, cache)
        wrong = size * np.resize(grad_output.ravel(), 6)  # linear in grad_output all the same
        return grad_inputs, grads | {"k_proj": {**grads["k_proj"], "bias": wrong}}

    case = make_case("MultiHeadedAttention, self", Sizes(), np.random.default_rng(0))
    report = check_gradients(planted(case.component, backward), *case.inputs, **case.options)
    assert [check.name for check in report.checks if check.verdict == "FAIL"] == ["k_proj.bias"]


def doubled(array: Array) -> Array:
    array *= 2
    return array


def normalised(g: Array) -> tuple[Array, Tree]:
    return 3 * g * (0.1 / np.maximum(np.abs(g).max(), 0.1)), {}


def raises_when_zero(g: Array) -> tuple[Array, Tree]:
    if not g.any():
        raise FloatingPointError("no signal")
    return 3 * g, {}


FAULTS: dict[str, tuple[Component, str]] = {
    "writes into grad_output": (Triple(lambda g: (1.5 * doubled(g), {})), "forward or backward wrote into grad_output"),
    "writes into an input": (Triple(lambda g: (3 * g, {}), doubled), "forward or backward wrote into an input"),
    "accumulates": (Triple(Accumulator()), "backward did not repeat itself"),
    "keeps state on itself": (StateOnSelf(), "it used what that one left outside the cache"),
    "clips": (
        Triple(lambda g: (3 * np.clip(g, -2, 2), {})),
        "backward is not linear in grad_output: that of a multiple",
    ),
    "normalises": (Triple(normalised), "backward is not linear in grad_output"),
    "adds a constant": (
        Triple(lambda g: (3 * g + 1e-9, {})),
        "backward returned 1e-09 at (0,) in x for a grad_output of z",
    ),
    "raises": (Triple(raises_when_zero), "backward raised FloatingPointError (no signal) when it was called again"),
    "inflates its terms": (Triple(lambda g: (g * 1e16 - g * 1e16, {})), "a slope of forward is"),
    "hides in its terms": (Triple(lambda g: ((3 * g + 1e4 * g) - 1e4 * g + 1e-8 * g, {})), "a slope of forward is"),
    "no gradient": (Triple(lambda g: (None, {})), "of shape (2,), but it returned None"),
    "a list": (Triple(lambda g: ([3.0, 3.0], {})), "of shape (2,), but it returned a list"),
    "another shape": (Triple(lambda g: (g[:1], {})), "of shape (2,), but it returned one of shape (1,)"),
    "complex": (Triple(lambda g: (3 * g + 0j, {})), "must return a real gradient, but its dtype is complex128"),
    "not finite": (Triple(lambda g: (g * [1, np.nan], {})), "the gradient is not finite at (1,)"),
    "infinite": (Triple(lambda g: (g * [np.inf, 1], {})), "the gradient is not finite at (0,)"),
}


@depths
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fail_has_its_reason(fault: str, directions: int | None) -> None:
    component, reason = FAULTS[fault]
    x = np.array([1.0, -2.0])
    (check,) = check_gradients(component, x, directions=directions).checks
    assert check.verdict == "FAIL"
    assert reason in check.reason
    assert x.tolist() == [1.0, -2.0]


@depths
def test_what_is_right_passes(directions: int | None) -> None:
    assert (
        check_gradients(Triple(lambda g: (3 * g, {})), np.array([1.0, -2.0]), directions=directions).verdict == "PASS"
    )


def test_an_output_that_is_not_finite_fails_and_says_where() -> None:
    def forward(x: Array) -> Array:
        return np.log(x)

    report = check_gradients((forward, lambda g, x: g / x), np.array([[1.0, 0.0]]))
    assert report.verdict == "FAIL"
    assert report.checks[0].reason == "the output of forward is -inf at (0, 1)"


def test_a_forward_that_does_not_repeat_itself_is_undecided() -> None:
    random = np.random.default_rng(0)

    def forward(x: Array) -> Array:
        return x * random.random(x.shape)

    report = check_gradients((forward, lambda g, x: g), np.ones(3))
    assert report.verdict == "UNDECIDED"
    assert "forward did not repeat itself: hand it its randomness as rng" in report.checks[0].reason


def test_gradients_of_what_has_none_fail() -> None:
    report = check_gradients(Triple(lambda g: ((3 * g, g), {"ghost": g})), np.array([1.0, -2.0]))
    verdicts = {check.name: check.verdict for check in report.checks}
    assert verdicts == {"x": "PASS", "ghost": "FAIL", "gradient 1": "FAIL"}


@pytest.mark.parametrize("seed", range(10))
def test_what_is_zero_in_truth_does_not_fail_where_its_terms_are_unknown(seed: int) -> None:
    def backward(attention: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
        if not isinstance(grad_output, np.ndarray):
            raise TypeError("this backward takes arrays alone")
        grad_inputs, grads = attention.right(grad_output, cache)
        return grad_inputs, grads

    case = make_case("MultiHeadedAttention, self", Sizes(), np.random.default_rng(seed))
    report = check_gradients(planted(case.component, backward), *case.inputs, **case.options)
    (key_bias,) = [check for check in report.checks if check.yardstick != "largest" or check.verdict != "PASS"]
    assert key_bias.name == "k_proj.bias"
    # beside what rounding does to forward it may pass all the same
    assert (key_bias.verdict, key_bias.yardstick) in [("PASS", "conditioning"), ("UNDECIDED", "largest")]


@pytest.mark.parametrize("deviation", [1, 4, 16])
def test_the_gradients_of_a_saturated_core_pass(deviation: float) -> None:
    rng = np.random.default_rng(0)
    query, key, value = (deviation * rng.standard_normal((2, T, 4)) for T in (3, 5, 5))
    assert check_gradients(ScaledDotProductAttention(), query, key, value).verdict == "PASS"


def softmax_without_its_row_sum(softmax: Any, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    return cache["output"] * (grad_output - grad_output.mean(-1, keepdims=True)), {}


@pytest.mark.parametrize("component", [Softmax(), planted(Softmax(), softmax_without_its_row_sum)])
def test_a_constant_cotangent_never_passes(component: Component) -> None:
    x = np.array([[1.0, 2.0, 4.0]])
    for grad_output in (np.ones((1, 3)), np.array([[1.0, 1.0, 1.0 + 1e-15]])):
        report = check_gradients(component, x, grad_output=grad_output)
        assert report.verdict == "UNDECIDED"
        assert "a grad_output that is constant along an axis hides mistakes" in report.checks[0].reason
    rows = np.array([[1.0, 1.0, 1.0], [-2.0, -2.0, -2.0]])
    assert check_gradients(component, np.vstack([x, -x]), grad_output=rows).verdict == "UNDECIDED"


def test_a_constant_cotangent_can_fail_and_one_of_a_single_entry_can_pass() -> None:
    x = np.array([[1.0, 2.0, 4.0]])
    wrong = planted(LayerNorm(3), lambda norm, g, cache: (2 * g, norm.right(g, cache)[1]))
    assert check_gradients(wrong, x, grad_output=np.ones((1, 3))).verdict == "FAIL"
    assert check_gradients(Linear(3, 1, rng=0), x, grad_output=np.ones((1, 1))).verdict == "PASS"
    assert check_gradients(Softmax(), x, grad_output=np.array([[1.0, -1.0, 0.5]])).verdict == "PASS"


def test_forward_in_float32_that_is_far_off_is_not_blamed_on_backward() -> None:
    # float32's mean of two nearly equal entries is off by more than they differ
    from npformer import AnnotatedLayerNorm

    x = np.array([[1.0, 1.0 + 2.0**-23]], np.float32)
    for eps in (1e-6, 1e-12):
        report = check_gradients(AnnotatedLayerNorm(2, eps).astype(np.float32), x)
        assert "FAIL" not in {check.verdict for check in report.checks}, report


def test_only_checks_what_is_asked() -> None:
    report = check_gradients(Linear(3, 2, rng=0), np.ones((1, 3)), only=["bias"])
    assert [check.name for check in report.checks] == ["bias"]
    with pytest.raises(ValueError, match="only must name inputs or parameters, such as weight, but it has 'tokens'"):
        check_gradients(Embeddings(2, 3), np.array([[1]]), only=["tokens"])


def test_what_came_in_is_as_before() -> None:
    case = make_case("EncoderLayer, pre-norm", Sizes(), np.random.default_rng(0))
    state = case.options["rng"].bit_generator.state
    parameters = case.component.parameters()["self_attn"]["norm"]["weight"].copy()
    check_gradients(case.component, *case.inputs, directions=1, **case.options)
    assert case.options["rng"].bit_generator.state == state
    assert np.array_equal(case.component.parameters()["self_attn"]["norm"]["weight"], parameters)


def test_an_ill_conditioned_entry_does_not_excuse_another() -> None:
    def forward(x: Array) -> Array:
        return np.asarray(np.sin(x * [1e9, 3.0]))

    def backward(grad_output: Array, x: Array) -> Array:
        return np.asarray(grad_output * np.cos(x * [1e9, 3.0]) * [1e9, 3.0])

    x = np.array([1.0, 0.4])
    assert check_gradients((forward, backward), x).verdict != "FAIL"
    assert check_gradients((forward, lambda g, x: backward(g, x) * [1, 2]), x).verdict != "PASS"


def test_whole_numbers_of_numpy_are_taken_and_go_into_json() -> None:
    numbers: dict[str, Any] = {"directions": np.int64(2), "seed": np.int64(3)}
    report = check_gradients(LayerNorm(3), np.array([[1.0, 2.0, 4.0]]), **numbers)
    assert (report.to_dict()["directions"], report.to_dict()["seed"]) == (2, 3)
    assert '"seed": 3' in report.to_json()


def test_a_write_into_a_list_of_the_cache_fails() -> None:
    class Saved(Component):
        def forward(self, x: Array) -> tuple[Array, Tree]:
            return x * x, {"saved": [x.copy()]}

        def backward(self, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
            grad_x = 2 * cache["saved"][0] * grad_output
            doubled(cache["saved"][0])
            return grad_x, {}

    assert check_gradients(Saved(), np.array([1.0, 2.0])).checks[0].reason == "forward or backward wrote into its cache"
