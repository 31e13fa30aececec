# %% [markdown]
# # 5. Multi-head attention
#
# Multi-head attention (Vaswani et al. 2017, section 3.2.2) runs attention num_heads times side by side, each time in a
# part of the space, d_head = d_model / num_heads wide, and mixes the results with one more matrix. Three questions:
#
# 1. Why several heads? What can two do that one cannot?
# 2. Why is *one* projection of d_model × d_model cut into heads, instead of a small one for each head?
# 3. Why does the cutting need a reshape *and* a transpose, and what happens with a reshape alone?

# %%
from collections.abc import Callable

import numpy as np

from npformer import Component, Linear, MultiHeadedAttention, ScaledDotProductAttention, attention, flatten
from npformer.gradcheck import check_gradients

rng = np.random.default_rng(0)
Split, Merge = Callable[[np.ndarray, int], np.ndarray], Callable[[np.ndarray], np.ndarray]

# %% [markdown]
# ## 1. Why heads: one head makes one mean
#
# A head gives each token *one* set of weights, and hands over one weighted mean of the values. Let the task be: hand
# over the word before and the word after, both. A head that looks at the one with weight a and at the other with
# 1 - a gets the mixture a·before + (1 - a)·after, and no matrix that follows can take a mixture apart.
#
# How good can it get? Let the contents be independent, with variance 1. If M is the best matrix for "before", the
# error of each number is (a M - 1)² + (1 - a)² M², least at M = a / (a² + (1 - a)²), where it is
# (1 - a)² / (a² + (1 - a)²). For "after" it is a² / (a² + (1 - a)²). Together they are 1 out of 2, *whatever a is*: one
# head loses half. We measure it with the best matrix that least squares can find.

# %%
T, content = 4096, 8
words = rng.standard_normal((T, content))
before, after = np.roll(words, 1, axis=0), np.roll(words, -1, axis=0)  # the text is a ring: no word is the first
target = np.concatenate([before, after], axis=1)
print("One head: part of the variance that the best matrix cannot explain")
print("  weight before, after   of before   of after   of both")
for a in (0.0, 0.25, 0.5, 0.75, 1.0):
    mixture = a * before + (1 - a) * after
    best, *_ = np.linalg.lstsq(mixture, target)
    missed = ((mixture @ best - target) ** 2).sum(axis=0)  # of each column
    of_before, of_after = missed[:content].sum() / (before**2).sum(), missed[content:].sum() / (after**2).sum()
    of_both = missed.sum() / (target**2).sum()
    print(f"  {a:13.2f}, {1 - a:.2f} {of_before:13.3f} {of_after:10.3f} {of_both:9.3f}")
    # A mean of 4096 · 8 products of two independent numbers is off by 1/√32,768 = 0.0055: four times that is rare.
    assert abs(of_before - (1 - a) ** 2 / (a**2 + (1 - a) ** 2)) < 0.022
    assert abs(of_after - a**2 / (a**2 + (1 - a) ** 2)) < 0.022
    assert abs(of_both - 0.5) < 0.022

# %% [markdown]
# Two heads do it without loss. Here they are, built by hand into npformer's layer. d_model is 16: 8 numbers of content
# and 8 that say the position, one-hot. Head 0 asks for the position before, head 1 for the one after, and both hand
# over the content.

# %%
places = 8
sentence = np.concatenate([words[:places], np.eye(places)], axis=1)[None]  # (1, T, d_model)
two_heads = MultiHeadedAttention(num_heads=2, d_model=16, bias=False, rng=0)
from_content, from_place = np.eye(8, 16), np.eye(8, 16, k=8)  # (8, 16): each takes one half of x
two_heads.q_proj.weight = 200 * np.concatenate([np.roll(from_place, -1, axis=0), np.roll(from_place, 1, axis=0)])
two_heads.k_proj.weight = np.concatenate([from_place, from_place])
two_heads.v_proj.weight = np.concatenate([from_content, from_content])
two_heads.out_proj.weight = np.eye(16)
output, cache = two_heads.forward(sentence)
ring = sentence[0, :, :content]
wanted = np.concatenate([np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0)], axis=1)
lost_by_two = ((output[0] - wanted) ** 2).sum() / (wanted**2).sum()
print(f"\nTwo heads: {lost_by_two:.1e} of the variance is lost. Where the word at place 3 looks:")
for head in range(2):
    print(f"  head {head}   " + "  ".join(f"{weight:.2f}" for weight in cache["attention"]["weights"][0, head, 3]))
assert lost_by_two < 1e-24

# %% [markdown]
# More heads cost no parameters: the four matrices stay d_model × d_model. What they cost is width. Each head compares
# queries and keys of d_head numbers, so that its T × T scores have rank d_head at most. Many heads are thin heads.

# %%
d_model = 32
x = rng.standard_normal((1, 48, d_model))
print(f"\nd_model = {d_model}, T = 48\n{'heads':>8}{'d_head':>9}{'parameters':>13}{'rank of the scores of a head':>31}")
for num_heads in (1, 2, 4, 8, 16):
    layer, d_head = MultiHeadedAttention(num_heads, d_model, rng=1), d_model // num_heads
    parameters = sum(array.size for array in flatten(layer.parameters()).values())
    scores = layer.q_proj(x)[0, :, :d_head] @ layer.k_proj(x)[0, :, :d_head].T  # of head 0
    rank = np.linalg.matrix_rank(scores)
    print(f"{num_heads:>8}{d_head:>9}{parameters:>13,}{rank:>31}")
    assert parameters == 4 * (d_model * d_model + d_model)
    assert rank == d_head

# %% [markdown]
# ## 2. One projection, cut into slices
#
# The paper writes a matrix for each head, (d_head, d_model). Stack them on top of each other and you have one matrix
# (d_model, d_model): its rows h·d_head to (h+1)·d_head are those of head h, and so are the same entries of each result.
# It is the same work in one large product instead of many small ones, and one parameter instead of many. The numbers
# are equal:

# %%
B, T, num_heads, d_head = 2, 5, 4, 8
x = rng.standard_normal((B, T, d_model))
layer = MultiHeadedAttention(num_heads, d_model, rng=2)
for proj in (layer.q_proj, layer.k_proj, layer.v_proj, layer.out_proj):
    proj.bias = rng.standard_normal(d_model)  # a bias of 0 would hide one that is cut wrongly


def slices(proj: Linear) -> list[np.ndarray]:
    """Return what a small projection for each head computes, from its rows of the weight and of the bias."""
    rows = [slice(h * d_head, (h + 1) * d_head) for h in range(num_heads)]
    return [x @ proj.weight[row].T + proj.bias[row] for row in rows]


def split(x: np.ndarray, num_heads: int) -> np.ndarray:
    """(B, T, d_model) to (B, num_heads, T, d_head): cut the last axis in two, then bring the heads to the front."""
    B, T, d_model = x.shape
    return x.reshape(B, T, num_heads, d_model // num_heads).transpose(0, 2, 1, 3)


off_sliced = np.abs(split(layer.q_proj(x), num_heads) - np.stack(slices(layer.q_proj), axis=1)).max()
print(f"\nOne sliced projection against {num_heads} small ones: they differ by {off_sliced:.1e}")
assert off_sliced < 1e-13

# %% [markdown]
# The last matrix can be cut as well, by columns: "put the heads side by side and multiply" is the *sum* of what each
# head adds on its own.

# %%
per_head = [
    attention(q, k, v)[0]
    for q, k, v in zip(slices(layer.q_proj), slices(layer.k_proj), slices(layer.v_proj), strict=True)
]
columns = np.split(layer.out_proj.weight, num_heads, axis=1)
added = sum(head @ column.T for head, column in zip(per_head, columns, strict=True)) + layer.out_proj.bias
error = np.abs(added - layer(x)).max()
print(f"Sum over {num_heads} separate heads against npformer's layer: they differ by {error:.1e}")

# %% [markdown]
# ## 3. Reshape against transpose
#
# `split` does two things. The reshape cuts each token's d_model numbers into num_heads groups of d_head, which gives
# (B, T, num_heads, d_head). The transpose swaps the axes T and num_heads. The same *shape* comes from one reshape to
# (B, num_heads, T, d_head), and it is wrong: a reshape never moves a number, it only reads the same row of memory in
# other steps.
#
# Take T = 2, 2 heads, d_head = 2, and numbers that say where they belong: token·10 + position in d_model.

# %%
tagged = np.array([[[0, 1, 2, 3], [10, 11, 12, 13]]])  # (1, 2, 4): heads are 0, 1 and 2, 3
right, wrong = tagged.reshape(1, 2, 2, 2).transpose(0, 2, 1, 3), tagged.reshape(1, 2, 2, 2)
print("\n            reshape, transpose     reshape alone")
for head in range(2):
    for row in range(2):
        print(f"  head {head}, row {row}{right[0, head, row]!s:>12}{wrong[0, head, row]!s:>20}")
assert (right[0, 0] == [[0, 1], [10, 11]]).all()  # head 0 has the first half of both tokens
assert (wrong[0, 0] == [[0, 1], [2, 3]]).all()  # "head 0" has both halves of token 0, as if they were two tokens

# %% [markdown]
# So with a reshape alone a head does not see a part of every token but *all parts of some tokens*: of one group of
# T / num_heads neighbours. Words in different groups cannot meet. Everything else looks well: the shapes fit, merging
# undoes splitting, and the gradients are right. They are the right gradients of the wrong function, so that no gradient
# check can object. What shows it is a look at which tokens reach which.


# %%
def merge(heads: np.ndarray) -> np.ndarray:
    B, num_heads, T, d_head = heads.shape
    return heads.transpose(0, 2, 1, 3).reshape(B, T, num_heads * d_head)


def split_by_reshape_alone(x: np.ndarray, num_heads: int) -> np.ndarray:
    B, T, d_model = x.shape
    return x.reshape(B, num_heads, T, d_model // num_heads)


def merge_by_reshape_alone(heads: np.ndarray) -> np.ndarray:
    B, num_heads, T, d_head = heads.shape
    return heads.reshape(B, T, num_heads * d_head)


class Heads(Component):
    """Multi-head attention with the projections of a layer, and with any way to split and to merge.

    Splitting and merging only move numbers. So merge is the backward of split, and split that of merge.
    """

    def __init__(self, layer: MultiHeadedAttention, split: Split, merge: Merge) -> None:
        self.q_proj, self.k_proj, self.v_proj = layer.q_proj, layer.k_proj, layer.v_proj
        self.out_proj, self.attention = layer.out_proj, ScaledDotProductAttention()
        self.num_heads, self.split, self.merge = layer.num_heads, split, merge

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, dict]:
        cache, heads = {}, []
        for name in ("q_proj", "k_proj", "v_proj"):
            projected, cache[name] = getattr(self, name).forward(x)
            heads.append(self.split(projected, self.num_heads))
        attended, cache["attention"] = self.attention.forward(*heads)
        output, cache["out_proj"] = self.out_proj.forward(self.merge(attended))
        return output, cache

    def backward(self, grad_output: np.ndarray, cache: dict) -> tuple[np.ndarray, dict]:
        grad_merged, out_grads = self.out_proj.backward(grad_output, cache["out_proj"])
        grad_heads, _ = self.attention.backward(self.split(grad_merged, self.num_heads), cache["attention"])
        grad_x, grads = 0.0, {"out_proj": out_grads, "attention": {}}
        for name, grad in zip(("q_proj", "k_proj", "v_proj"), grad_heads, strict=True):
            through, grads[name] = getattr(self, name).backward(self.merge(grad), cache[name])
            grad_x = grad_x + through  # x forks into three
        return grad_x, grads


def reach(layer: Component, x: np.ndarray) -> np.ndarray:
    """Return a (T, T) table: 1 where a gradient on the output of a row arrives at the input of a column."""
    output, cache = layer.forward(x)
    table = np.zeros((x.shape[1], x.shape[1]), dtype=int)
    for t in range(x.shape[1]):
        grad_output = np.zeros_like(output)
        grad_output[0, t] = rng.standard_normal(output.shape[-1])
        table[t] = np.abs(layer.backward(grad_output, cache)[0][0]).max(axis=-1) > 0
    return table


x = rng.standard_normal((1, 6, 8))
npformers = MultiHeadedAttention(2, 8, rng=3)
layers = {
    "reshape, transpose": Heads(npformers, split, merge),
    "reshape alone": Heads(npformers, split_by_reshape_alone, merge_by_reshape_alone),
}
reached = {}
for name, each in layers.items():
    assert (each.merge(each.split(x, 2)) == x).all()
    reached[name], verdict = reach(each, x), check_gradients(each, x).verdict
    print(f"\n{name}: gradient check {verdict}; which tokens (columns) reach which outputs (rows)")
    print("\n".join("  " + " ".join(map(str, row)) for row in reached[name]))
    assert verdict == "PASS"
assert reached["reshape, transpose"].all()
assert (reached["reshape alone"] == np.kron(np.eye(2), np.ones((3, 3)))).all()  # two groups that never meet

# %% [markdown]
# Another test that finds it: without a mask and without positions, attention does not care about order (lesson 2).
# Shuffle the words, and the outputs must be shuffled in the same way.

# %%
order = rng.permutation(6)
print("\nChange of a word's output when the words are shuffled")
for name, each in layers.items():
    change = np.abs(each(x[:, order]) - each(x)[:, order]).max()
    print(f"  {name:<22}{change:.1e}")
    assert (change < 1e-13) == (name == "reshape, transpose")

# %% [markdown]
# ## The check
#
# Section 2 computed the whole layer from separate heads, with small projections of their own and without one reshape.
# Section 3 computed it with a split and a merge of our own, forward and backward. Both must be what npformer computes.

# %%
ours, theirs = layers["reshape, transpose"], npformers
grad_output = rng.standard_normal(x.shape)
(output, cache), (their_output, their_cache) = ours.forward(x), theirs.forward(x)
grad_x, their_grad_x = ours.backward(grad_output, cache)[0], theirs.backward(grad_output, their_cache)[0]
error = np.max([error, np.abs(output - their_output).max(), np.abs(grad_x - their_grad_x).max()])
# A few hundred float64 operations for each number, of size 1, each off by at most 1.1e-16.
assert error < 1e-13
print(f"\ncheck: {error:.1e} (must be below 1e-13)")
