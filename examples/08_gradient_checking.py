# %% [markdown]
# # 8. Gradient checking, and how it is fooled
#
# A backward is checked by the slopes of its forward: move one entry of the input a little, and see how much the output
# changes. This lesson measures how exact such slopes are, builds the usual checker, and fools it: with four wrong
# backwards that it accepts, and two right ones that it rejects. `npformer.gradcheck` is right about all six.
#
# An output is an array, so a *cotangent* makes it a number: `sum(cotangent * output)`. Its gradient is what
# `backward(cotangent, cache)` returns.

# %%
import functools

import numpy as np

from npformer import Component, LayerNorm, MultiHeadedAttention, ReLU, ScaledDotProductAttention, Softmax
from npformer.gradcheck import check_gradients, randomise

rng = np.random.default_rng(0)

# %% [markdown]
# ## The step size
#
# Three ways to get the slope of f at x from values of f:
#
#     forward difference    (f(x + h) - f(x)) / h              error h f''/2      + rounding / h
#     central difference    (f(x + h) - f(x - h)) / (2 h)      error h² f'''/6    + rounding / h
#     complex step          Im f(x + ih) / h                   error h² f'''/6, and nothing is subtracted
#
# A difference subtracts two nearly equal numbers, each with a rounding error of about 1e-16 of its size, and divides
# the small rest by h. A small h makes that worse, a large h bends the curve: the best h lies between, and the best is
# not good. The complex step (Squire and Trapp 1998) gets the change in a part of its own, the imaginary one, so that h
# can be 1e-200. Here is the slope of a layer norm's output for one entry of x, against the backward of lesson 4.

# %%
norm = LayerNorm(6)
norm.weight, norm.bias = rng.standard_normal((2, 6))
x, cotangent = rng.standard_normal((2, 1, 6))
true_slope = norm.backward(cotangent, norm.forward(x)[1])[0][0, 2]


def f(step: complex) -> complex:
    nudged = x.astype(type(step))
    nudged[0, 2] += step
    return (cotangent * norm(nudged)).sum()


METHODS = {
    "forward": lambda h: (f(h) - f(0.0)) / h,
    "central": lambda h: (f(h) - f(-h)) / (2 * h),
    "complex step": lambda h: f(1j * h).imag / h,
}
sizes = [10.0**-power for power in range(1, 16)] + [1e-200]
errors = {name: [abs(slope(h) / true_slope - 1) for h in sizes] for name, slope in METHODS.items()}
print("relative error of the slope\n      h" + "".join(f"{name:>15}" for name in METHODS))
for row, h in enumerate(sizes):
    print(f"{h:7.0e}" + "".join(f"{errors[name][row]:15.1e}" for name in METHODS))
best = {name: min(each) for name, each in errors.items()}
print("   best" + "".join(f"{best[name]:15.1e}" for name in METHODS))

# Bending costs 0.18 h and 0.099 h², as the table's first rows say, and rounding costs up to 3e-15 / h. The sums of both
# are least near h = 1e-7, where the first is 5e-8, and near h = 1e-5, where the second is 3e-10.
assert 1e-11 < best["forward"] < 1e-7, "a forward difference never sees the last five digits"
assert 1e-14 < best["central"] < 1e-9, "a central difference is better, and not exact"
assert np.max(errors["complex step"][8:]) < 1e-14, "the complex step is exact for every h from 1e-9 down"

# %% [markdown]
# The complex step needs a forward that treats complex numbers by the same formula as real ones. `np.abs`,
# `np.linalg.norm` and `.var()` drop the imaginary part, and the slope is 0.0, without a warning. The root of a sum of
# squares keeps it. `check_gradients` has a central difference beside it that tells, and takes extrapolated differences
# then.

# %%
vector, along = np.array([[3.0, 4.0]]), np.array([[1.0, 0.0]])
lengths = functools.partial(np.linalg.norm, axis=-1)  # the slope along the first axis is 3/5
by_norm, by_root = (
    length(vector + 1e-200j * along).imag[0] / 1e-200 for length in (lengths, lambda x: np.sqrt((x * x).sum(axis=-1)))
)
report = check_gradients((lengths, lambda grad_output, x: grad_output[:, None] * x / lengths(x)[:, None]), vector)
by, verdict = report.checks[0].method, report.verdict
print(
    f"\nslope of a length, in truth 0.6: complex step {by_norm:.1f} by np.linalg.norm, {by_root:.1f} by a root;",
    end=" ",
)
print(f"check_gradients: {verdict}, by {by}")
assert (by_norm, verdict, by) == (0.0, "PASS", "differences")
assert abs(by_root - 0.6) < 1e-15

# %% [markdown]
# ## The usual checker
#
# Central differences with h = 1e-5, entry by entry, and one of the two usual criteria: "absolute", with the defaults
# of `torch.autograd.gradcheck`, or "relative". By both it accepts a right softmax.


# %%
def differences(component: Component, inputs: list[np.ndarray], cotangent: np.ndarray, array: np.ndarray) -> np.ndarray:
    """Return the slope for each entry of an array, an input or a parameter, which is moved and put back."""
    h, slopes = 1e-5, np.zeros_like(array)
    for place in np.ndindex(array.shape):
        kept = array[place]
        array[place] = kept + h
        above = (cotangent * component(*inputs)).sum()
        array[place] = kept - h
        below = (cotangent * component(*inputs)).sum()
        array[place], slopes[place] = kept, (above - below) / (2 * h)
    return slopes


def accepts(criterion: str, ours: np.ndarray, slopes: np.ndarray) -> bool:
    difference = np.abs(ours - slopes)
    relative = 1e-5 * (np.abs(ours) + np.abs(slopes))
    return bool((difference <= (relative if criterion == "relative" else 1e-5 + 1e-3 * np.abs(slopes))).all())


x, cotangent = rng.standard_normal((2, 2, 5))
softmax = Softmax()
ours, _ = softmax.backward(cotangent, softmax.forward(x)[1])
slopes = differences(softmax, [x], cotangent, x)
assert accepts("absolute", ours, slopes)
assert accepts("relative", ours, slopes)

verdicts = {}  # trap: whether the backward is right, whether the usual checker accepts it, and npformer's verdict

# %% [markdown]
# ## Trap 1: a cotangent of ones
#
# Many take the sum of the output as the loss. But each row of a softmax adds up to 1: that loss has gradient 0, and a
# backward of zeros is accepted. `check_gradients` draws random, signed cotangents; handed ones, it never says PASS.


# %%
class ZeroSoftmax(Softmax):
    def backward(self, grad_output: np.ndarray, cache: dict) -> tuple[np.ndarray, dict]:
        return np.zeros_like(grad_output), {}


x, ones = rng.standard_normal((2, 5)), np.ones((2, 5))
softmax = ZeroSoftmax()
ours, _ = softmax.backward(ones, softmax.forward(x)[1])
usual = accepts("absolute", ours, differences(softmax, [x], ones, x))
verdicts["1 cotangent of ones"] = False, usual, check_gradients(softmax, x).verdict
assert {check_gradients(each, x, grad_output=ones).verdict for each in (softmax, Softmax())} == {"UNDECIDED"}

# %% [markdown]
# ## Trap 2: parameters as they are initialised
#
# A layer norm starts with weight (gamma) 1. This backward multiplies by the weight outside the two means. While all
# entries of the weight are equal it is right, so no checker can see it, npformer's neither. It is wrong after the
# first step of training. So parameters must be drawn at random first: `randomise`.


# %%
class WeightOutsideTheMeans(LayerNorm):
    def backward(self, grad_output: np.ndarray, cache: dict) -> tuple[np.ndarray, dict]:
        x_hat, rstd, g = cache["x_hat"], cache["rstd"], grad_output
        inner = g - g.mean(-1, keepdims=True) - x_hat * (g * x_hat).mean(-1, keepdims=True)
        return self.weight * rstd * inner, super().backward(grad_output, cache)[1]


x, cotangent = rng.standard_normal((2, 3, 6))
wrong_norm = WeightOutsideTheMeans(6)
ours, _ = wrong_norm.backward(cotangent, wrong_norm.forward(x)[1])
usual = accepts("absolute", ours, differences(wrong_norm, [x], cotangent, x))
assert check_gradients(wrong_norm, x).verdict == "PASS"
randomise(wrong_norm, rng)
verdicts["2 gamma = 1"] = False, usual, check_gradients(wrong_norm, x).verdict

# %% [markdown]
# ## Trap 3: a sequence of length 1
#
# The weight of a single key is 1 whatever query and key are: their gradients are 0, and so are those with a wrong
# sign. Sizes must be above 1, and all different, so that no axis can be taken for another.
# `discriminating_cases(name)` of npformer.gradcheck yields inputs for each component on which mistakes show.


# %%
class WrongSign(ScaledDotProductAttention):
    def backward(self, grad_output: np.ndarray, cache: dict) -> tuple[tuple[np.ndarray, ...], dict]:
        (grad_query, grad_key, grad_value), grads = super().backward(grad_output, cache)
        return (-grad_query, grad_key, grad_value), grads


core = WrongSign()
short = list(rng.standard_normal((3, 2, 1, 4)))  # batch 2, T 1, d_k 4
cotangent = rng.standard_normal((2, 1, 4))
ours, _ = core.backward(cotangent, core.forward(*short)[1])
usual = all(accepts("absolute", ours[i], differences(core, short, cotangent, short[i])) for i in range(3))
query, key, value = (rng.standard_normal((2, T, 4)) for T in (3, 5, 5))
verdicts["3 sequence length 1"] = False, usual, check_gradients(core, query, key, value).verdict

# %% [markdown]
# ## Trap 4: an absolute tolerance
#
# A mean of squares over 500 errors of size 1e-3 has a gradient with entries near 4e-6. This backward forgot the factor
# 2, so that it is off by half, and still by less than 1e-5. Errors must be relative to the gradient's own size: in
# npformer, to the largest entry of its array.


# %%
class MeanSquareWithoutTwo(Component):
    def forward(self, x: np.ndarray) -> tuple[np.ndarray, dict]:
        return np.asarray((x * x).mean()), {"x": x}

    def backward(self, grad_output: np.ndarray, cache: dict) -> tuple[np.ndarray, dict]:
        return grad_output * cache["x"] / cache["x"].size, {}


small_errors = 1e-3 * rng.standard_normal(500)
mean_square, one = MeanSquareWithoutTwo(), np.array(1.0)
ours, _ = mean_square.backward(one, mean_square.forward(small_errors)[1])
slopes = differences(mean_square, [small_errors], one, small_errors)
assert np.abs(slopes - 2 * ours).max() < 1e-12, "off by half"
usual = accepts("absolute", ours, slopes)
verdicts["4 absolute tolerance"] = False, usual, check_gradients(mean_square, small_errors).verdict

# %% [markdown]
# ## Trap 5: a relative error where the truth is 0
#
# The opposite choice fails on a right backward. A key projection's bias adds the same number to all scores of a row,
# which softmax does not see: its gradient is 0. What backward returns is rounding, and so is what differences return:
# 100 % apart. npformer also measures how large the terms were that cancelled, and holds the error against these.

# %%
self_attention = MultiHeadedAttention(num_heads=2, d_model=4, dropout=0.0, rng=1)
randomise(self_attention, rng)
x, cotangent = rng.standard_normal((2, 2, 3, 4))
_, grads = self_attention.backward(cotangent, self_attention.forward(x)[1])
ours, slopes = grads["k_proj"]["bias"], differences(self_attention, [x], cotangent, self_attention.k_proj.bias)
print(f"\ngradient of the key bias: ours {ours[0]:.0e}, by differences {slopes[0]:.0e}, in truth 0")
report = check_gradients(self_attention, x)
verdicts["5 relative error of 0"] = True, accepts("relative", ours, slopes), report.verdict
assert [check.name for check in report.checks if check.yardstick == "terms"] == ["k_proj.bias"]

# %% [markdown]
# ## Trap 6: kinks
#
# ReLU has slope 0 on the left of 0, and 1 on the right. A difference across the kink is a mixture: 0.7 at x = 4e-6,
# and 0.5 at 0. The backward is right: the slope at 4e-6 is 1, and at 0 every number from 0 to 1 is a subgradient. The
# complex step moves x by 1e-200 alone, and at a kink npformer compares with the slopes of both sides.

# %%
x = np.array([4e-6, 0.0, -1.5, 2.0])
relu, ones = ReLU(), np.ones(4)
ours, _ = relu.backward(ones, relu.forward(x)[1])
slopes = differences(relu, [x], ones, x)
print(f"\nx      {x}\nours   {ours}\nslopes {slopes.round(3)}")
verdicts["6 kinks"] = True, accepts("absolute", ours, slopes), check_gradients(relu, x).verdict
assert np.abs(slopes[:2] - [0.7, 0.5]).max() < 1e-6

# %% [markdown]
# ## The check
#
# What came out; and last a right layer norm, with the random parameters of trap 2. Its largest error, first by complex
# steps of our own, entry by entry, then as `check_gradients` says it. A checker may be wrong itself: npformer's must
# reject each wrong backward in `npformer.mistakes`, and no right one.

# %%
print(f"\n{'trap':<24}{'backward is':<14}{'usual checker':<16}{'npformer'}")
for trap, (is_right, usual, verdict) in verdicts.items():
    print(f"{trap:<24}{'right' if is_right else 'wrong':<14}{'accepts' if usual else 'rejects':<16}{verdict}")
    assert usual != is_right, "the usual checker is fooled"
    assert verdict == ("PASS" if is_right else "FAIL"), "npformer is not"

right, (x, cotangent) = LayerNorm(6).with_parameters(wrong_norm.parameters()), rng.standard_normal((2, 3, 6))
ours, slopes = right.backward(cotangent, right.forward(x)[1])[0], np.zeros_like(x)
for place in np.ndindex(x.shape):
    nudged = x.astype(complex)
    nudged[place] += 1e-200j
    slopes[place] = (cotangent * right(nudged)).sum().imag / 1e-200
report = check_gradients(right, x)
error = np.max([np.abs(ours - slopes).max() / np.abs(slopes).max(), *(check.error for check in report.checks)])
assert report.verdict == "PASS"
# Relative to the largest entry: a few operations in float64, each off by 1.1e-16 of its result, leave about 1e-15.
assert error < 1e-13
print(f"\ncheck: {error:.1e} (must be below 1e-13)")
