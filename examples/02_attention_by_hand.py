# %% [markdown]
# # 2. Attention by hand, on a sentence of three words
#
# Scaled dot-product attention (Vaswani et al. 2017, eq. 1) is one line:
#
#     output = softmax(query keyᵀ / √d_k) value
#
# Here it is computed on paper for the sentence "cats chase mice": every entry of every matrix stands in the text
# before the code prints it. At the end npformer gives the same numbers. Take a pencil and cover the tables; the
# calculator is needed only for exp, and for what comes after it.

# %%
import math

import numpy as np

from npformer import attention, subsequent_mask

words = ["cats", "chase", "mice"]


def compare(title: str, computed: np.ndarray, on_paper: list[list[float]]) -> None:
    """Print a matrix with a row for each word, and make sure that it is what stands on paper, to four decimals."""
    print(f"\n{title}")
    for word, row in zip(words, computed, strict=True):
        print(f"  {word:<7}" + "".join(f"{entry:>9.4f}" for entry in row))
    # What is rounded to four decimals is off by at most half of the last one.
    assert np.abs(computed - on_paper).max() <= 0.5001e-4


# %% [markdown]
# ## 1. The words as vectors
#
# A real model learns its embeddings, and nobody can say what their entries mean. Ours are chosen so that one can:
# d_model = 4 properties.
#
# | word | animal | verb | hunter | hunted |
# | --- | --- | --- | --- | --- |
# | cats | 1 | 0 | 1 | 0 |
# | chase | 0 | 1 | 0 | 0 |
# | mice | 1 | 0 | 0 | 1 |

# %%
x = np.array([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 1.0]])
compare("x", x, [[1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 1]])

# %% [markdown]
# ## 2. Query, key and value
#
# Each word is mapped three times, by three matrices that a model learns: to a *query* (what do I look for?), to a *key*
# (what do I offer to those who look?) and to a *value* (what do I hand over when I am found?). A matrix has the shape
# (d_out, d_in), and each of its rows makes one entry of the result.
#
# - Queries: an animal looks for its verb, with strength 2, and a hunter also for animals. A verb looks for who
#   hunts, with strength 2, and for who is hunted, with strength 1.
# - Keys: twice the word itself. Its columns mean animal, verb, hunter, hunted, as before.
# - Values: two numbers. The value need not be as long as query and key.
#
# On paper, one entry in full: the query of "cats" has the verb entry 2·1 + 0·0 + 0·1 + 0·0 = 2. The value of "cats" has
# the second entry 0·1 + 1·0 + 3·1 - 1·0 = 3. All of them:
#
# | word | query | key | value |
# | --- | --- | --- | --- |
# | cats | 1, 2, 0, 0 | 2, 0, 2, 0 | 1, 3 |
# | chase | 0, 0, 2, 1 | 0, 2, 0, 0 | 2, 1 |
# | mice | 0, 2, 0, 0 | 2, 0, 0, 2 | 1, -1 |

# %%
W_query = np.array(
    [
        [0.0, 0.0, 1.0, 0.0],  # look for animals
        [2.0, 0.0, 0.0, 0.0],  # look for verbs
        [0.0, 2.0, 0.0, 0.0],  # look for hunters
        [0.0, 1.0, 0.0, 0.0],  # look for the hunted
    ]
)
W_key = 2 * np.eye(4)
W_value = np.array([[1.0, 2.0, 0.0, 0.0], [0.0, 1.0, 3.0, -1.0]])
query, key, value = x @ W_query.T, x @ W_key.T, x @ W_value.T
compare("query", query, [[1, 2, 0, 0], [0, 0, 2, 1], [0, 2, 0, 0]])
compare("key", key, [[2, 0, 2, 0], [0, 2, 0, 0], [2, 0, 0, 2]])
compare("value", value, [[1, 3], [2, 1], [1, -1]])

# %% [markdown]
# ## 3. Scores: each query with each key
#
# The dot product of a query and a key says how well they go together. Rows are queries, columns are keys: cats, chase,
# mice. On paper, for the query of "chase", (0, 0, 2, 1):
#
# - with the key of cats: 0·2 + 0·0 + 2·2 + 1·0 = 4
# - with the key of chase: 0·0 + 0·2 + 2·0 + 1·0 = 0
# - with the key of mice: 0·2 + 0·0 + 2·0 + 1·2 = 2
#
# All of them are divided by √d_k = √4 = 2. Lesson 3 measures why.
#
# | query | with the keys of cats, chase, mice | divided by 2 |
# | --- | --- | --- |
# | cats | 2, 4, 2 | 1, 2, 1 |
# | chase | 4, 0, 2 | 2, 0, 1 |
# | mice | 0, 4, 0 | 0, 2, 0 |

# %%
products = query @ key.T
compare("query keyᵀ", products, [[2, 4, 2], [4, 0, 2], [0, 4, 0]])
scores = products / math.sqrt(query.shape[1])
compare("scores = query keyᵀ / 2", scores, [[1, 2, 1], [2, 0, 1], [0, 2, 0]])

# %% [markdown]
# ## 4. Softmax: scores become weights
#
# exp makes every score positive, and dividing by the sum of the row makes the row add up to 1. On paper, with
# exp(0) = 1, exp(1) = 2.7183 and exp(2) = 7.3891:
#
# | query | exp of the scores | sum | weights |
# | --- | --- | --- | --- |
# | cats | 2.7183, 7.3891, 2.7183 | 12.8256 | 0.2119, 0.5761, 0.2119 |
# | chase | 7.3891, 1.0000, 2.7183 | 11.1073 | 0.6652, 0.0900, 0.2447 |
# | mice | 1.0000, 7.3891, 1.0000 | 9.3891 | 0.1065, 0.7870, 0.1065 |
#
# Read the second row: "chase" looks at the hunter first, then at the hunted, and hardly at itself.

# %%
powers = np.exp(scores)
compare("exp(scores)", powers, [[2.7183, 7.3891, 2.7183], [7.3891, 1, 2.7183], [1, 7.3891, 1]])
sums = powers.sum(axis=1, keepdims=True)
compare("sums of the rows", sums, [[12.8256], [11.1073], [9.3891]])
weights = powers / sums
compare("weights", weights, [[0.2119, 0.5761, 0.2119], [0.6652, 0.0900, 0.2447], [0.1065, 0.7870, 0.1065]])

# %% [markdown]
# ## 5. Output: the weighted mean of the values
#
# On paper, for "chase": 0.6652 · (1, 3) + 0.0900 · (2, 1) + 0.2447 · (1, -1) = (1.0899, 1.8409). The code says 1.0900
# and 1.8410, because it keeps all decimals of the weights: round at the end, not on the way. For "cats" and "mice" the
# second entry comes out as 1: they give the values (1, 3) and (1, -1) the same weight w, and 3w + (1 - 2w) - w = 1.
#
# | word | output |
# | --- | --- |
# | cats | 1.5761, 1.0000 |
# | chase | 1.0900, 1.8410 |
# | mice | 1.7870, 1.0000 |

# %%
output = weights @ value
compare("output = weights value", output, [[1.5761, 1.0], [1.0900, 1.8410], [1.7870, 1.0]])

# %% [markdown]
# ## 6. The same with a causal mask
#
# With the mask of lesson 1, "cats" sees only itself, and "chase" sees "cats" and itself. On paper: the first row is
# 1, 0, 0; the second has 7.3891 / 8.3891 = 0.8808 and 1 / 8.3891 = 0.1192; "mice", the last word, sees all, as before.
# The output of "chase" is 0.8808 · (1, 3) + 0.1192 · (2, 1) = (1.1192, 2.7616).
#
# | word | weights | output |
# | --- | --- | --- |
# | cats | 1, 0, 0 | 1, 3 |
# | chase | 0.8808, 0.1192, 0 | 1.1192, 2.7616 |
# | mice | 0.1065, 0.7870, 0.1065 | 1.7870, 1.0000 |

# %%
masked_output, masked_weights = attention(query, key, value, mask=subsequent_mask(3)[0])
compare("weights, causal", masked_weights, [[1, 0, 0], [0.8808, 0.1192, 0], [0.1065, 0.7870, 0.1065]])
compare("output, causal", masked_output, [[1, 3], [1.1192, 2.7616], [1.7870, 1.0]])

# %% [markdown]
# ## 7. What attention does not know
#
# Nothing in these steps asks *where* a word stands. Reverse the sentence, and each word gets the same output as before:
# "mice chase cats" is the same to attention. This is why a Transformer adds positions to its embeddings.

# %%
backwards, _ = attention(query[::-1], key[::-1], value[::-1])
off_reversed = np.abs(backwards[::-1] - output).max()
print(f"\nLargest change of a word's output when the sentence is reversed: {off_reversed:.1e}")
assert off_reversed < 1e-14

# %% [markdown]
# ## The check
#
# All of it once more in plain Python, one number at a time, as on paper, and then by npformer. npformer subtracts the
# largest score of a row before exp, so that exp cannot overflow; numerator and sum change by the same factor.

# %%
plain = []
for q in query.tolist():
    row = [math.exp(sum(a * b for a, b in zip(q, k, strict=True)) / math.sqrt(len(q))) for k in key.tolist()]
    row = [power / sum(row) for power in row]
    plain.append([sum(w * v for w, v in zip(row, column, strict=True)) for column in value.T.tolist()])

library_output, library_weights = attention(query, key, value)
error = np.max([np.abs(library_output - plain).max(), np.abs(library_weights - weights).max()])
# A dozen operations on numbers below 13, each rounded to a relative 1.1e-16, give at most some 1e-15.
assert error < 1e-14
print(f"\ncheck: {error:.1e} (must be below 1e-14)")
