# %% [markdown]
# # 1. Masks: who may attend to whom
#
# In attention every token, as a *query*, takes a weighted mean over tokens, as *keys*. A mask is the table of which
# keys a query may look at. In npformer, rows are queries, columns are keys, 1 means "may attend", 0 means "may not".
# Other libraries use other signs: in PyTorch's `nn.MultiheadAttention` a boolean True means "may *not*". Read the
# documentation before you hand a mask from one library to another.
#
# This lesson builds the usual masks from NumPy calls, shows what goes wrong with a wrong one, and ends in a number.

# %%
import numpy as np

from npformer import (
    ScaledDotProductAttention,
    Softmax,
    attention,
    length_mask,
    make_encoder,
    padding_mask,
    subsequent_mask,
)


def show(title: str, table: np.ndarray, rows: list[str], columns: list[str], form: str = "d") -> None:
    """Print a matrix with a label for each row (a query) and each column (a key)."""
    width = 2 + max(map(len, [*columns, *(f"{entry:{form}}" for entry in table.flat)]))
    print(f"\n{title}\n{'':10}" + "".join(f"{label:>{width}}" for label in columns))
    for label, row in zip(rows, table, strict=True):
        print(f"{label:<10}" + "".join(f"{entry:>{width}{form}}" for entry in row))


# %% [markdown]
# ## `np.triu` with k = -1, 0, 1
#
# `np.triu(a, k)` keeps the entries of `a` on and above its k-th diagonal: those where column - row ≥ k. On a matrix of
# ones it marks, for each query, the keys from k places after it to the end. These are the keys to be *hidden*. Hence
# the `1 -` in front: the mask is 1 where column - row < k. With k = 1 and without the `1 -`, a query would see nothing
# but the future.
#
# | k | `1 - triu(ones, k)` lets a query see |
# | --- | --- |
# | -1 | only tokens at least two places before it: the first two tokens see nothing |
# | 0 | only tokens before it: the first token sees nothing |
# | 1 | itself and all tokens before it: this is the causal mask |

# %%
words = ["the", "cat", "sat", "down"]
T = len(words)
for k in (-1, 0, 1):
    mask = 1 - np.triu(np.ones((T, T), dtype=int), k=k)
    show(f"1 - triu(ones, k={k})", mask, words, words)
    keys_seen = mask.sum(axis=1)
    print("keys that each query sees:", keys_seen.tolist())
    assert keys_seen.tolist() == [max(0, row + k) for row in range(T)]  # row counts from 0

causal = 1 - np.triu(np.ones((T, T), dtype=int), k=1)
assert (causal == np.tril(np.ones((T, T)))).all()  # the same in one call
assert (causal == subsequent_mask(T)[0]).all()  # npformer's has a leading axis, (1, T, T)

# %% [markdown]
# ## Why the future is hidden from a decoder
#
# A decoder is trained to predict the next token, at all positions of a text at once: at position t it has to say which
# token stands at t + 1. That token is part of the input of the same call. A decoder that may look at t + 1 can copy it,
# and get everything right without having learnt anything. When it then writes a text, there is no token t + 1 yet.
#
# Here is that cheat, built by hand. The tokens are random, ten kinds of them, so that nobody can predict the next one
# better than 1 time in 10. The query of position t asks for position t + 1, and the value is the token itself.

# %%
rng = np.random.default_rng(0)
kinds, length = 10, 400
tokens = rng.integers(kinds, size=length)
position, one_hot = np.eye(length + 1), np.eye(kinds)[tokens]
query, key = 50 * position[1:], 50 * position[:-1]  # token t has the key "I am t"; its query is "who is t + 1?"


def next_token_accuracy(output: np.ndarray) -> float:
    guesses = output[:-1].round(12).argmax(axis=1)  # rounded, so that equal votes are equal; the last has no next token
    return float((guesses == tokens[1:]).mean())


visible, _ = attention(query, key, one_hot)
hidden, _ = attention(query, key, one_hot, mask=subsequent_mask(length)[0])
written = np.concatenate(  # one token after the other: at position t there is nothing but the tokens up to t
    [attention(query[t : t + 1], key[: t + 1], one_hot[: t + 1])[0] for t in range(length)]
)
print("\nAccuracy of the copying decoder on random tokens (chance is 0.10)")
for name, output in (("training, future visible", visible), ("training, future hidden", hidden), ("writing", written)):
    print(f"  {name:<27}{next_token_accuracy(output):.3f}")
assert next_token_accuracy(visible) == 1.0
assert abs(next_token_accuracy(written) - 1 / kinds) < 0.06  # four standard deviations of 399 guesses at rate 0.1
assert next_token_accuracy(hidden) == next_token_accuracy(written)
assert np.abs(hidden - written).max() < 1e-13  # with the mask, training sees what writing will see

# %% [markdown]
# ## Why it is not hidden from an encoder
#
# An encoder does not predict what comes next. It gets the whole sentence and says what each word means *there*. What a
# word means often depends on what follows: "bank" is not the same in "bank lends money" and "bank grows reeds". An
# encoder with a causal mask has to give "bank" the same encoding in both, to the last bit, because at that position it
# has seen the same input.

# %%
vocabulary = ["bank", "lends", "money", "grows", "reeds"]
table = rng.standard_normal((len(vocabulary), 16))
encoder = make_encoder(num_layers=2, d_model=16, num_heads=4, d_ff=32, rng=1)
finance, river = (
    table[[vocabulary.index(word) for word in sentence.split()]][None]  # (1, T, d_model)
    for sentence in ("bank lends money", "bank grows reeds")
)
both_sides, left_only = (
    np.abs(encoder(finance, mask=mask) - encoder(river, mask=mask))[0, 0].max() for mask in (None, subsequent_mask(3))
)
print("\nLargest difference between the two encodings of 'bank'")
print(f"  no mask       {both_sides:.3f}")
print(f"  causal mask   {left_only:.3f}")
assert both_sides > 0.1
assert left_only == 0.0

# %% [markdown]
# The backward shows the same. Put a gradient on the output of one token only and look how much of it arrives at each
# input: where the mask has a 0, none does, even through two layers.

# %%
output, cache = encoder.forward(finance, mask=subsequent_mask(3))
influence = np.zeros((3, 3))
for t in range(3):
    grad_output = np.zeros_like(output)
    grad_output[0, t] = rng.standard_normal(16)
    grad_x, _ = encoder.backward(grad_output, cache)
    influence[t] = np.sqrt((grad_x[0] ** 2).sum(axis=-1))
sentence = ["bank", "lends", "money"]
show("Size of the gradient from the output of a row to the input of a column", influence, sentence, sentence, ".3f")
assert ((influence > 0) == (subsequent_mask(3)[0] == 1)).all()

# %% [markdown]
# ## `np.where` as masked fill
#
# A hidden key must get weight 0, and the weights of a row must still add up to 1. So the mask acts on the scores,
# *before* the softmax: `np.where(mask, scores, -1e9)` takes the score where the mask is nonzero, and -1e9 elsewhere.
# exp(-1e9 - largest score) is exactly 0 in float64. Two tempting short cuts are wrong:
#
# - `scores * mask` sets the score to 0, and 0 is a score like any other: exp(0) = 1. It may even become the largest.
# - `softmax(scores) * mask` has the right zeros, but what is left no longer adds up to 1.

# %%
softmax = Softmax()
scores = np.array([[-1.0, -2.0, 3.0, 0.5]])
mask = np.array([[1, 1, 0, 0]])
filled = softmax(np.where(mask, scores, -1e9))
times_before, times_after = softmax(scores * mask), softmax(scores) * mask
print(f"\nscores {scores[0]}, mask {mask[0]}")
print(f"{'':27}{'weights':<34}{'of hidden keys':>14}{'sum':>8}")
for name, weights in (
    ("where, then softmax", filled),
    ("scores * mask", times_before),
    ("softmax * mask", times_after),
):
    row = "  ".join(f"{weight:.4f}" for weight in weights[0])
    print(f"{name:<27}{row:<34}{(weights * (1 - mask)).sum():>14.4f}{weights.sum():>8.4f}")
assert (filled * (1 - mask)).sum() == 0.0
assert abs(filled.sum() - 1) < 1e-14
assert (times_before * (1 - mask)).sum() > 0.5
assert times_after.sum() < 0.5

# %% [markdown]
# ## Padding, and how masks combine
#
# Sentences of a batch have different lengths, so the short ones are filled up with a padding token. It must not be a
# *key* for anybody: its column is hidden from every query of every head. Hence the shape (batch, 1, 1, T), which
# broadcasts to the scores' (batch, heads, T_q, T_k). A token may be seen if *all* masks allow it: combine with `&`.
#
# The rows of padding stay. Those queries compute something that nobody uses, and the loss has to leave it out.

# %%
batch = np.array([[5, 7, 9, 4], [6, 8, 0, 0]])  # 0 is padding
no_padding = padding_mask(batch, pad=0)
assert (no_padding == length_mask(np.array([4, 2]), 4)).all()
combined = no_padding & subsequent_mask(4)
print("\nshapes:", no_padding.shape, "&", subsequent_mask(4).shape, "->", combined.shape)
show(
    "Second sentence: padding only",
    np.broadcast_to(no_padding[1, 0], (4, 4)),
    ["6", "8", "pad", "pad"],
    ["6", "8", "pad", "pad"],
)
show("Second sentence: padding & causal", combined[1, 0], ["6", "8", "pad", "pad"], ["6", "8", "pad", "pad"])
assert (combined[1, 0] == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]]).all()

embedded = rng.standard_normal((10, 16))[batch]
padded = encoder(embedded, mask=no_padding)[1, :2]
alone = encoder(embedded[1:, :2])[0]  # the same two words in a batch of their own, without padding
forgotten = encoder(embedded)[1, :2]
off_padded, off_forgotten = (np.abs(encoding - alone).max() for encoding in (padded, forgotten))
print("\nDifference from the encoding of the short sentence on its own")
print(f"  padded, with the mask      {off_padded:.1e}")
print(f"  padded, mask forgotten     {off_forgotten:.1e}")
assert off_forgotten > 0.1

# %% [markdown]
# ## Rows that may see nothing
#
# With padding on the *left* and a causal mask, the first queries see no key at all. There is no right answer for such
# a row, only a safe one:
#
# - -inf as the fill gives (-inf) - (-inf) = NaN, and one row of NaN makes a whole weight gradient NaN, because that is
#   a sum over rows.
# - -1e9 makes all scores of the row equal, so that it attends to all keys alike. This is npformer's default.
# - `ScaledDotProductAttention(fully_masked="zero")` makes the weights, and so the output, 0.

# %%
left_padded = padding_mask(np.array([[0, 0, 6, 8]])) & subsequent_mask(4)
show("Left padding & causal", left_padded[0, 0], ["pad", "pad", "6", "8"], ["pad", "pad", "6", "8"])
assert not left_padded[0, 0, :2].any()

q, k, v = rng.standard_normal((3, 1, 1, 4, 8))  # (batch, heads, T, d_head) each
raw_scores = q @ k.swapaxes(-1, -2) / np.sqrt(8)
with np.errstate(invalid="ignore"):  # NumPy warns of the NaN that we want to see
    minus_infinity = np.where(left_padded, raw_scores, -np.inf)
    shifted = np.exp(minus_infinity - minus_infinity.max(-1, keepdims=True))
    with_infinity = shifted / shifted.sum(-1, keepdims=True)
uniform = attention(q, k, v, mask=left_padded)[1]
zero = ScaledDotProductAttention(fully_masked="zero").forward(q, k, v, mask=left_padded)[1]["weights"]
print("\nWeights of the first row, which may see nothing")
for name, weights in (("-inf", with_infinity), ("-1e9", uniform), ("zero", zero)):
    print(f"  {name:<6}" + "".join(f"{weight:>7.2f}" for weight in weights[0, 0, 0]))
assert np.isnan(with_infinity[0, 0, :2]).all()
grad_weight = np.ones((4, 8)).T @ (with_infinity @ v)[0, 0]  # of a Linear that follows: grad_outputᵀ x
assert np.isnan(grad_weight).all()
assert (uniform[0, 0, :2] == 0.25).all()
assert (zero[0, 0, :2] == 0).all()

# %% [markdown]
# ## The check
#
# Masked attention in three lines of our own, from a mask of our own, against npformer's, for all rows. And the padded
# sentence against the one on its own: padding under a mask changes nothing but the order of some additions.

# %%
own_mask = (1 - np.triu(np.ones((4, 4), dtype=int), k=1)) & (np.array([0, 0, 6, 8]) != 0)
own_scores = np.where(own_mask, raw_scores, -1e9)
own_exp = np.exp(own_scores - own_scores.max(-1, keepdims=True))
own_output = own_exp / own_exp.sum(-1, keepdims=True) @ v
off_own = np.abs(own_output - attention(q, k, v, mask=left_padded)[0]).max()

error = np.max([off_own, off_padded])
# Values near 1 after some hundred float64 operations, each off by at most 1.1e-16: 1e-13 leaves room for every machine.
assert error < 1e-13
print(f"\ncheck: {error:.1e} (must be below 1e-13)")
