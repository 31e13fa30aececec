# %% [markdown]
# # 4. Deriving the backward of softmax and of layer normalisation
#
# A backward is given grad_y, the gradient of the loss with respect to the output y, and returns grad_x. The chain rule:
#
#     grad_x_j = Σ_i grad_y_i ∂y_i/∂x_j                that is: grad_x = grad_y J, with the Jacobian J_ij = ∂y_i/∂x_j
#
# Both functions of this lesson mix all entries of a row, so J is a full matrix. For both: derive J, check it, find the
# short form that never builds it. Then come the classic mistakes, and what lets them pass.
#
# Truth is the complex step: for a function that NumPy can compute with complex numbers, f(x + ih).imag / h with
# h = 1e-200 is the derivative to the last digits, because nothing is subtracted (Squire and Trapp 1998; lesson 8).

# %%
from collections.abc import Callable

import numpy as np

from npformer import LayerNorm, Softmax
from npformer.gradcheck import check_gradients

rng = np.random.default_rng(0)
errors: dict[str, float] = {}  # the check at the end looks at all of them


def jacobian_by_complex_step(function: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    return np.stack([function(x + 1e-200j * unit).imag / 1e-200 for unit in np.eye(len(x))], axis=1)


def relative_error(ours: np.ndarray, true: np.ndarray) -> float:
    return float(np.abs(ours - true).max() / np.abs(true).max())


# %% [markdown]
# ## Softmax: the Jacobian
#
#     y_i = exp(x_i) / s,    s = Σ_k exp(x_k),    ∂s/∂x_j = exp(x_j)
#
# By the quotient rule, with δ_ij = 1 if i = j and 0 otherwise:
#
#     ∂y_i/∂x_j = δ_ij exp(x_i)/s - exp(x_i) exp(x_j)/s² = y_i (δ_ij - y_j)
#
# In matrix form J = diag(y) - y yᵀ. It is symmetric. Each row adds up to 0: adding the same number to all x changes
# nothing. Each column adds up to 0 too: the y always add up to 1.


# %%
def softmax(x: np.ndarray) -> np.ndarray:
    exp = np.exp(x - x.real.max(axis=-1, keepdims=True))  # the largest becomes exp(0): no overflow, the same quotient
    return exp / exp.sum(axis=-1, keepdims=True)


x = np.array([1.0, 2.0, 0.5])
y = softmax(x)
jacobian = np.diag(y) - np.outer(y, y)
print("softmax of", x, "is", y.round(4), "\nJ = diag(y) - y yᵀ")
print("\n".join("  " + "".join(f"{entry:>9.4f}" for entry in row) for row in jacobian))
assert np.abs(jacobian - jacobian.T).max() == 0
assert np.abs(jacobian.sum(axis=0)).max() < 1e-15
errors["softmax: Jacobian"] = relative_error(jacobian, jacobian_by_complex_step(softmax, x))

# %% [markdown]
# ## Softmax: the short form
#
# Put J into the chain rule and multiply out:
#
#     grad_x_j = Σ_i grad_y_i y_i (δ_ij - y_j) = y_j grad_y_j - y_j Σ_i grad_y_i y_i
#
#     grad_x = y * (grad_y - sum(grad_y * y))          the sum over the row
#
# That is one number for each row instead of a T×T matrix for each row: for 512 keys, J has 262,144 entries.


# %%
def softmax_backward(grad_y: np.ndarray, x: np.ndarray) -> np.ndarray:
    y = softmax(x)
    return y * (grad_y - (grad_y * y).sum(axis=-1, keepdims=True))


grad_y = rng.standard_normal(3)
errors["softmax: short form"] = relative_error(softmax_backward(grad_y, x), grad_y @ jacobian)

# %% [markdown]
# ## Softmax: the mistakes, and how a check is fooled
#
# Each of these is easily written. They are judged twice: with a random grad_y, and with grad_y = 1 everywhere, which is
# what `loss = y.sum()` gives. The sum of a softmax is always 1, so with ones the right answer is 0, and a backward that
# returns 0, or has the wrong sign, gets away with it.


# %%
def compare_mistakes(mistakes: dict[str, Callable[..., np.ndarray]], right: Callable[..., np.ndarray], *arrays) -> None:
    """Print by how much each is off, for two cotangents, relative to the largest right entry for a random one."""
    random = rng.standard_normal(arrays[0].shape)
    unit = np.abs(right(random, *arrays)).max()
    print(f"\n{'error with grad_y':<34}{'random':>10}{'ones':>10}")
    for name, wrong in mistakes.items():
        off = [np.abs(wrong(g, *arrays) - right(g, *arrays)).max() / unit for g in (random, np.ones_like(random))]
        print(f"  {name:<32}{off[0]:>10.1e}{off[1]:>10.1e}")
        assert off[0] > 0.01, "a random cotangent sees every mistake"


rows = rng.standard_normal((3, 4))
softmax_mistakes = {
    "only the diagonal of J": lambda g, x: g * softmax(x) * (1 - softmax(x)),  # right for a sigmoid
    "the sum over the wrong axis": lambda g, x: softmax(x) * (g - (g * softmax(x)).sum(axis=-2, keepdims=True)),
    "the wrong sign": lambda g, x: -softmax_backward(g, x),
    "zeros": lambda g, x: np.zeros_like(x),
}
compare_mistakes(softmax_mistakes, softmax_backward, rows)
for row in rows:
    wrong = np.stack([softmax_mistakes["only the diagonal of J"](unit, row) for unit in np.eye(4)])
    assert np.abs(wrong - np.diag(np.diag(jacobian_by_complex_step(softmax, row)))).max() < 1e-15  # entries below 1/4
for blind in ("the wrong sign", "zeros"):  # what ones cannot see
    assert np.abs(softmax_mistakes[blind](np.ones_like(rows), rows)).max() < 1e-14

# %% [markdown]
# ## Layer normalisation: step by step
#
#     y = weight * x_hat + bias,    x_hat = (x - mean(x)) * rstd,    rstd = 1 / √(var(x) + eps)
#
# (Ba et al. 2016, eq. 4; each mean is over the n entries of a row.) Write forward as small steps, then go back through
# them, the last one first. x reaches x_hat on three paths: directly, through the mean and through rstd.
#
# | forward | backward |
# | --- | --- |
# | c = x - mean(x) | grad_x = grad_c - mean(grad_c) |
# | var = mean(c²) | grad_c += grad_var · 2 c / n |
# | rstd = (var + eps)^(-1/2) | grad_var = grad_rstd · (-1/2) rstd³ |
# | x_hat = c · rstd | grad_rstd = Σ g c,    grad_c = g · rstd |
# | y = weight · x_hat + bias | g = grad_y · weight,    grad_weight = grad_y · x_hat,    grad_bias = grad_y |
#
# Read the right column from the bottom to the top. c forks, into x_hat and into var: its gradients add up.

# %%
EPS = 1e-5


def mean(rows: np.ndarray) -> np.ndarray:
    return rows.mean(axis=-1, keepdims=True)


def x_hat_and_rstd(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    c = x - mean(x)
    rstd = 1 / np.sqrt(mean(c**2) + EPS)
    return c * rstd, rstd


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return weight * x_hat_and_rstd(x)[0] + bias


def backward_in_steps(grad_y: np.ndarray, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    n, c = x.shape[-1], x - mean(x)
    _, rstd = x_hat_and_rstd(x)
    g = grad_y * weight
    grad_c, grad_rstd = g * rstd, (g * c).sum(axis=-1, keepdims=True)
    grad_var = grad_rstd * (-1 / 2) * rstd**3
    grad_c += grad_var * 2 * c / n
    return grad_c - mean(grad_c)


# %% [markdown]
# ## Layer normalisation: the Jacobian and the short form
#
# Put the steps into one line: grad_c = rstd (g - c rstd² mean(g c)) = rstd (g - x_hat mean(g x_hat)). The mean of x_hat
# is 0, so the mean of grad_c is rstd · mean(g):
#
#     grad_x = rstd * (g - mean(g) - x_hat * mean(g * x_hat))
#
# As a Jacobian, ∂x_hat_i/∂x_j = rstd (δ_ij - 1/n - x_hat_i x_hat_j / n). It takes from g its part along (1, …, 1) and
# its part along x_hat: moving all x by the same amount, or stretching them about their mean, does not change x_hat
# (the second but for eps).


# %%
def backward_short(grad_y: np.ndarray, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    x_hat, rstd = x_hat_and_rstd(x)
    g = grad_y * weight
    return rstd * (g - mean(g) - x_hat * mean(g * x_hat))


n = 6
x, weight, bias, grad_y = rng.standard_normal((4, n))
x_hat, rstd = x_hat_and_rstd(x)
jacobian = weight[:, None] * rstd * (np.eye(n) - 1 / n - np.outer(x_hat, x_hat) / n)
true = grad_y @ jacobian_by_complex_step(lambda x: layer_norm(x, weight, bias), x)
errors["layer norm: Jacobian"] = relative_error(grad_y @ jacobian, true)
errors["layer norm: steps"] = relative_error(backward_in_steps(grad_y, x, weight), true)
errors["layer norm: short form"] = relative_error(backward_short(grad_y, x, weight), true)

assert np.abs(jacobian.sum(axis=1)).max() < 1e-14  # moving all x by the same amount changes nothing
left_by_eps = weight * EPS * rstd**3 * x_hat
assert np.abs(jacobian @ x_hat - left_by_eps).max() < 1e-14  # stretching changes nothing but what eps leaves

# %% [markdown]
# ## Layer normalisation: the mistakes
#
# The first two forget a path: they are the gradients of another function, in which mean or rstd is a constant. The
# other two are right as long as the weight is 1, which is how every layer starts: a check has to draw the weights at
# random first.

# %%
rows = rng.standard_normal((3, n))
layer_norm_mistakes = {
    "without the path through mean": lambda g, x, weight: (
        backward_short(g, x, weight) + x_hat_and_rstd(x)[1] * mean(g * weight)
    ),
    "without the path through rstd": lambda g, x, weight: x_hat_and_rstd(x)[1] * (g * weight - mean(g * weight)),
    "weight outside the means": lambda g, x, weight: weight * backward_short(g, x, np.ones(n)),
    "weight forgotten": lambda g, x, weight: backward_short(g, x, np.ones(n)),
}
compare_mistakes(layer_norm_mistakes, backward_short, rows, weight)
row, mean_of_row, rstd_of_row = rows[0], mean(rows[0]), x_hat_and_rstd(rows[0])[1]
for name, with_a_constant in (
    ("without the path through mean", lambda x: weight * (x - mean_of_row) * x_hat_and_rstd(x)[1]),
    ("without the path through rstd", lambda x: weight * (x - mean(x)) * rstd_of_row),
):
    of_another = grad_y @ jacobian_by_complex_step(with_a_constant, row)
    assert relative_error(layer_norm_mistakes[name](grad_y, row, weight), of_another) < 1e-14  # rounding, as below
for hidden in ("weight outside the means", "weight forgotten"):  # what a weight of 1 does not show
    assert (layer_norm_mistakes[hidden](rows, rows, np.ones(n)) == backward_short(rows, rows, np.ones(n))).all()

# %% [markdown]
# ## The check
#
# `check_gradients` compares a backward with complex steps of its own, entry by entry, on a batch of rows. It passes
# ours and fails every mistake. In the complete layer norm, weight and bias get gradients too: every row used them, so
# their gradients add up over the rows. At last npformer's own backward stands beside ours.


# %%
def layer_norm_backward(grad_y: np.ndarray, x: np.ndarray, weight: np.ndarray, _: np.ndarray) -> tuple[np.ndarray, ...]:
    return backward_short(grad_y, x, weight), (grad_y * x_hat_and_rstd(x)[0]).sum(axis=0), grad_y.sum(axis=0)


verdicts = {
    "softmax": check_gradients((softmax, softmax_backward), rows).verdict,
    "layer norm": check_gradients((layer_norm, layer_norm_backward), rows, weight, bias).verdict,
}
for name, wrong in softmax_mistakes.items():
    verdicts[f"softmax, {name}"] = check_gradients((softmax, wrong), rows).verdict
for name, wrong in layer_norm_mistakes.items():
    pair = (lambda x: layer_norm(x, weight, bias), lambda g, x, wrong=wrong: wrong(g, x, weight))
    verdicts[f"layer norm, {name}"] = check_gradients(pair, rows).verdict
print(f"\n{'check_gradients':<44}verdict\n" + "\n".join(f"  {name:<42}{each}" for name, each in verdicts.items()))
assert list(verdicts.values()) == 2 * ["PASS"] + 8 * ["FAIL"]

grad_y = rng.standard_normal(rows.shape)
norm = LayerNorm(n).with_parameters({"weight": weight, "bias": bias})
for name, component, ours in (
    ("softmax: npformer", Softmax(), softmax_backward(grad_y, rows)),
    ("layer norm: npformer", norm, backward_short(grad_y, rows, weight)),
):
    errors[name] = relative_error(ours, component.backward(grad_y, component.forward(rows)[1])[0])
print(f"\n{'largest relative errors':<26}\n" + "\n".join(f"  {name:<24}{error:.1e}" for name, error in errors.items()))
# Some ten operations in float64, each off by at most 1.1e-16, on rows that are not nearly constant.
error = np.max(list(errors.values()))
assert error < 1e-14
print(f"\ncheck: {error:.1e} (must be below 1e-14)")
