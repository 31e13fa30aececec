# %% [markdown]
# # 3. Why the scores are divided by √d_k
#
# The scores of attention are dot products of queries and keys, divided by √d_k (Vaswani et al. 2017, eq. 1). The
# reason given there (section 3.2.1 and its footnote) is that the variance of a dot product is d_k, and that the
# gradients of a softmax become tiny where its inputs are large. This lesson measures both. The second turns out to be
# about the scores: it holds from d_k = 64 on, for most queries and not for all. The queries' own gradients are another
# matter.

# %%
import itertools
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
entropy, largest, of_scores, of_query, spread = ({} for _ in range(5))
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
        # Backward, first to the scores that the softmax is given, then to the queries (lesson 4 derives the first).
        grad_weights = grad_output @ value.swapaxes(1, 2)
        grad_scores = weights * (grad_weights - (weights * grad_weights).sum(axis=-1, keepdims=True))
        grad_query = grad_scores @ key / divisor(d_k)
        (npformers, _, _), _ = core.backward(grad_output, cache)
        # Two ways to sum up to 1,024 products in float64: apart by some 1e-15 of the largest.
        assert np.abs(grad_query - npformers).max() < 1e-13 * np.abs(npformers).max()
        lengths = np.sqrt((grad_query**2).sum(axis=-1))  # of the gradient of each query
        of_scores[d_k, name] = float(np.median(np.sqrt((grad_scores**2).sum(axis=-1))))
        of_query[d_k, name] = float(np.median(lengths))
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
# ## What it does to the gradient of the scores
#
# The softmax's Jacobian is w_i (1 if i = j, else 0) - w_i w_j (lesson 4). Where one weight is nearly 1 and the rest
# nearly 0, every entry is nearly 0: whatever the loss asks for, hardly anything arrives at the scores. Measured for the
# typical query, the median, with and without the division:

# %%
show("Median length of the gradient of a query's scores", of_scores, ".1e")
ratio = {d_k: of_scores[d_k, "1"] / of_scores[d_k, "√d_k"] for d_k in sizes}
print(f"{'1 over √d_k':>20}   " + "   ".join(f"d_k = {d_k}: {each:.2g}" for d_k, each in ratio.items()))
assert ratio[4] > 1.1
assert ratio[16] > 1.1
assert 0.4 < ratio[64] < 0.7
assert ratio[256] < 0.15
assert ratio[1024] < 0.001
for name in ("√d_k", "d_k"):  # whatever d_k is
    assert np.max([of_scores[d_k, name] for d_k in sizes]) < 1.5 * np.min([of_scores[d_k, name] for d_k in sizes])

# %% [markdown]
# The claim holds from d_k = 64 on: there the undivided scores of a typical query get about half the gradient that
# the divided ones get, then about a tenth, then less than a thousandth. At 4 and 16 they get *more*: their weights are
# sharper, but not yet near 0 and 1. And dividing by d_k costs the scores little, 0.12 against 0.17 at most: where all
# weights are equal, the entries of the Jacobian are small, but they do not vanish.
#
# ## What it does to the gradient of the queries
#
# What learns is not the score but the query: grad_query = Σ_j grad_scores_j key_j / divisor. This brings one more
# factor, the length of a key over the divisor, and a key is √d_k long. The factor is √d_k undivided, 1 with √d_k, and
# 1 / √d_k with d_k.

# %%
show("Median length of a query's gradient", of_query, ".1e")
show("Its 99th percentile over its median", spread, ".1f")
assert all(of_query[d_k, "1"] > of_query[d_k, "√d_k"] for d_k in (4, 16, 64, 256))
assert of_query[64, "1"] > 4 * of_query[64, "√d_k"]
assert of_query[1024, "1"] < 0.1 * of_query[1024, "√d_k"]
assert all(spread[small, "1"] < spread[large, "1"] for small, large in itertools.pairwise(sizes))
assert spread[256, "1"] > 50
assert spread[1024, "1"] > 10_000
assert np.max([spread[d_k, "√d_k"] for d_k in sizes]) < 5
without_factor = [of_query[d_k, "d_k"] * math.sqrt(d_k) for d_k in sizes]
assert np.max(without_factor) < 1.25 * np.min(without_factor)  # divided by d_k it falls as 1/√d_k, like the factor
divided = [of_query[d_k, "√d_k"] for d_k in sizes]
assert np.max(divided) < 1.5 * np.min(divided)  # divided by √d_k it does not depend on d_k

# %% [markdown]
# Undivided, the factor outweighs what the softmax loses, up to d_k = 256: the typical query gets a *larger* gradient
# than with √d_k, at 64 more than four times as large. Only at 1024 it gets next to nothing. What goes wrong earlier is
# that queries fare so differently. Some have two keys in a near tie at the top; the softmax passes their gradient on,
# and the factor makes it large. At 256 the largest 1 % are more than fifty times the median, at 1024 more than ten
# thousand times, and one learning rate cannot suit both. A mean would hide this.
#
# Divided by d_k, the gradient falls, and not because of the softmax: what falls is the factor.
#
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
