# %% [markdown]
# # 3. Why the scores are divided by √d_k
#
# The scores of attention are dot products of queries and keys, divided by √d_k (Vaswani et al. 2017, eq. 1). The
# reason given there (section 3.2.1 and its footnote) is that the variance of a dot product is d_k, and that the
# gradients of a softmax become tiny where its inputs are large. This lesson measures both. The sentence about gradients
# turns out to be true of most queries, but not of all.

# %%
import math

import numpy as np

from npformer import MultiHeadedAttention, ScaledDotProductAttention

rng = np.random.default_rng(0)
sizes = (4, 16, 64, 256, 1024)

# %% [markdown]
# ## The variance of a dot product
#
# Let the entries of q and k be independent, with mean 0 and variance 1. Then each product q_i k_i has mean 0 and
# variance E[q_i²] E[k_i²] = 1. The variances of independent terms add up:
#
#     Var(q · k) = Σ_i Var(q_i k_i) = d_k
#
# So a score is a number of size √d_k, and dividing by √d_k makes the variance 1, whatever d_k is. Dividing by d_k would
# make it 1 / d_k. The same from 10,000 pairs for each size:

# %%
pairs = 10_000
deviations = []
print(f"{'variance of':>20}{'q · k':>12}{'q · k / √d_k':>16}{'q · k / d_k':>14}")
for d_k in sizes:
    q, k = rng.standard_normal((2, pairs, d_k))
    products = np.einsum("ri,ri->r", q, k)
    raw, by_root, by_size = (float((products / divisor).var()) for divisor in (1, math.sqrt(d_k), d_k))
    deviations.append(abs(by_root - 1))
    print(f"{f'd_k = {d_k}':>20}{raw:>12.2f}{by_root:>16.3f}{by_size:>14.5f}")

# %% [markdown]
# The assumption holds at the start of training. LayerNorm hands on rows of mean 0 and variance 1. The weights of
# `Linear` are uniform in ±√(6 / (d_in + d_out)) (Glorot and Bengio 2010, eq. 16), with variance 2 / (d_in + d_out), so
# each entry of q_proj(x) is a sum of d_model terms of variance 1 / d_model. The variance of q's entries is 1 again.

# %%
d_model, num_heads = 512, 8
x = rng.standard_normal((1, 128, d_model))
layer = MultiHeadedAttention(num_heads, d_model, rng=1)
q, k = (proj(x).reshape(128, num_heads, d_model // num_heads).swapaxes(0, 1) for proj in (layer.q_proj, layer.k_proj))
scores = q @ k.swapaxes(1, 2) / math.sqrt(d_model // num_heads)
print(f"\nMultiHeadedAttention({num_heads}, {d_model}) as it is made, variances")
print(f"  entries of q      {q.var():.3f}\n  entries of k      {k.var():.3f}\n  scaled scores     {scores.var():.3f}")
assert abs(q.var() - 1) < 0.05
assert abs(k.var() - 1) < 0.05
assert abs(scores.var() - 1) < 0.05

# %% [markdown]
# ## What large scores do to the softmax
#
# The ratio of two weights is exp of the difference of their scores. A key that is 10 ahead of another has
# exp(10) = 22,026 times its weight. With a standard deviation of √1024 = 32, the top key is often that far ahead of the
# next, and attention picks one key, at random, before anything has been learnt. The entropy -Σ w log w of the weights w
# says how many keys take part: log 64 = 4.159 if 64 keys share alike, 0 if one has all.

# %%
heads, queries, T = 50, 20, 64  # fifty sets of keys, so that no number hangs on one of them
divisors = {"1": lambda d_k: 1.0, "√d_k": math.sqrt, "d_k": float}
entropy, largest, median, spread = ({} for _ in range(4))
for d_k in sizes:
    query = rng.standard_normal((heads, queries, d_k))
    key, value = rng.standard_normal((2, heads, T, d_k))
    grad_output = rng.standard_normal(query.shape) / math.sqrt(d_k)  # then grad_weights have variance 1
    for name, divisor in divisors.items():
        core = ScaledDotProductAttention(scale=1 / divisor(d_k))
        output, cache = core.forward(query, key, value)
        weights = cache["weights"]
        entropy[d_k, name] = float(-(weights * np.log(np.maximum(weights, 1e-300))).sum(axis=-1).mean())
        largest[d_k, name] = float(weights.max(axis=-1).mean())
        (grad_query, _, _), _ = core.backward(grad_output, cache)
        lengths = np.sqrt((grad_query**2).sum(axis=-1))  # of the gradient of each query
        median[d_k, name] = float(np.median(lengths))
        spread[d_k, name] = float(np.quantile(lengths, 0.99) / np.median(lengths))


def show(title: str, table: dict[tuple[int, str], float], form: str) -> None:
    """Print one measure, with a row for each d_k and a column for each divisor."""
    print(f"\n{title}\n{'divided by':>20}" + "".join(f"{name:>12}" for name in divisors))
    for d_k in sizes:
        print(f"{f'd_k = {d_k}':>20}" + "".join(f"{table[d_k, name]:>12{form}}" for name in divisors))


show(f"Mean entropy of the weights of {T} keys (at most {math.log(T):.3f})", entropy, ".3f")
show(f"Mean of the largest weight of a row (at least {1 / T:.3f})", largest, ".3f")
assert largest[1024, "1"] > 0.9  # one key has nearly all
assert entropy[1024, "1"] < 0.2
assert entropy[1024, "d_k"] > math.log(T) - 0.01  # all keys have the same weight: attention cannot tell them apart
assert np.ptp([entropy[d_k, "√d_k"] for d_k in sizes]) < 0.1

# %% [markdown]
# ## What it does to the gradient
#
# The softmax's Jacobian is w_i (1 if i = j, else 0) - w_i w_j (lesson 4). Where one weight is nearly 1 and the rest
# nearly 0, every entry is nearly 0: whatever the loss asks for, hardly anything arrives at the scores.
#
# That is the *typical* query. But some have two keys in a near tie at the top. Those get a large gradient, all the
# larger because no 1/√d_k makes it smaller on its way to the query. So without the division, at a large d_k, most
# queries learn next to nothing and a few jump about, and one learning rate cannot suit both. A mean would hide this:
# look at the median, and at how far the largest 1 % lie above it.

# %%
show("Median length of a query's gradient", median, ".1e")
show("Its 99th percentile over its median", spread, ".1f")
assert median[1024, "1"] < 0.1 * median[1024, "√d_k"]  # divided by 1: in the end it vanishes
assert spread[1024, "1"] > 100
assert median[1024, "d_k"] < 0.04 * median[1024, "√d_k"]  # divided by d_k: it falls as well, as 1/√d_k
assert np.max([spread[d_k, "√d_k"] for d_k in sizes]) < 5
assert 0.5 < median[1024, "√d_k"] / median[4, "√d_k"] < 2  # divided by √d_k: it does not depend on d_k

# %% [markdown]
# So √d_k is not a detail: it is the one power of d_k for which neither the weights nor the gradients depend on the size
# of a head. It settles only where training *begins*. A model that wants sharp attention learns longer queries and keys.
#
# ## The check
#
# The variance of the scaled dot products is 1 for every d_k. A variance measured from n draws has the standard error
# √((κ - 1) / n), where κ = 3 + 6 / d_k is the kurtosis of q · k: 0.019 for d_k = 4 and 0.014 for d_k = 1024.

# %%
error = np.max(deviations)
# Five standard errors of the least certain one, 5 · √(3.5 / 10,000) = 0.094: a correct formula stays below that.
assert error < 0.094
print(f"\ncheck: {error:.3f} (must be below 0.094)")
