# %% [markdown]
# # 7. One encoder layer, forward and backward, every number
#
# Here is a whole encoder layer (pre-norm, two heads) for one sentence of three tokens, so small that each step can be
# done on paper: d_model 4, two heads of 2, d_ff 3. For each step the text works out an entry or a row by hand, mostly
# of token 1, from the rounded numbers of the steps before. The code asserts that it is so, prints every array under the
# name that npformer gives it, and compares it with npformer's. Take a pencil and do the others yourself.
#
# `npformer.oracle.trace` runs a component and returns every array that passes between its parts, forward and backward,
# by dotted name. That is what the arrays here are compared with.

# %%
import numpy as np

from npformer import EncoderLayer, MultiHeadedAttention, PositionwiseFeedForward, flatten
from npformer.oracle import trace

T, d_model, num_heads, d_head, d_ff = 3, 4, 2, 2, 3
layer = EncoderLayer(
    d_model, MultiHeadedAttention(num_heads, d_model), PositionwiseFeedForward(d_model, d_ff), norm_first=True
)
rng = np.random.default_rng(6)
for name, array in flatten(layer.parameters()).items():  # weights with one decimal, and no bias of 0, no gamma of 1
    array[...] = rng.integers(-9, 10, array.shape) / 10 + (1.0 if name.endswith("norm.weight") else 0.0)

x = np.array([[1.0, 2.0, 0.0, -1.0], [0.0, 1.0, 3.0, 0.0], [2.0, -1.0, 1.0, 1.0]])
grad_output = np.array([[1.0, 0.0, -1.0, 2.0], [0.0, 1.0, 1.0, 0.0], [-1.0, 2.0, 0.0, 1.0]])

traced = trace(layer, x[None], grad_output=grad_output[None])  # npformer's arrays have a batch axis in front
p = flatten(layer.parameters())
errors = {}


def show(name: str, ours: np.ndarray) -> np.ndarray:
    """Print an array under npformer's name, note its largest difference from npformer's, and return it."""
    theirs = traced[name]
    theirs = theirs[0] if theirs.ndim == ours.ndim + 1 else theirs
    assert theirs.shape == ours.shape, name
    errors[name] = np.abs(ours - theirs).max()
    with np.printoptions(precision=4, suppress=True, floatmode="fixed"):
        print(f"\n{name} {ours.shape}\n{ours.round(4) + 0.0}")  # + 0.0 makes 0 of -0
    return ours


def on_paper(computed: np.ndarray, *by_hand: float) -> None:
    """Make sure that an entry, or the entries of a row, are what the text works out, to four decimals."""
    assert np.abs(computed - np.array(by_hand)).max() <= 0.5001e-4  # at most half of the last decimal


print(f"x {x.shape}\n{x}")
for name in sorted({name.rpartition(".")[0] for name in p}):
    print(f"\n{name}, weight and bias\n{p[f'{name}.weight']}\n{p[f'{name}.bias']}")

# %% [markdown]
# # Forward
#
# ## Layer norm
#
# Each token on its own: subtract the mean of its 4 entries, divide by the root of (variance + eps), then scale and
# shift:
#
#     rstd = 1 / √(mean((x - mean x)²) + eps)        x_hat = (x - mean x) rstd        output = weight x_hat + bias
#
# Token 0 is (1, 2, 0, -1): its mean is 0.5, its squared deviations 0.25, 2.25, 0.25, 2.25, their mean 1.25, and rstd is
# 1/√1.25 = 0.8944. Its first entry of x_hat is (1 - 0.5) · 0.8944 = 0.4472, and of the output, with the weight 1.5 and
# the bias -0.2, 1.5 · 0.4472 - 0.2 = 0.4708. Look for them below.

# %%
centred = x - x.mean(axis=1, keepdims=True)
rstd1 = show("self_attn.norm.rstd", 1 / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5))
x_hat1 = show("self_attn.norm.x_hat", centred * rstd1)
normed1 = show("self_attn.norm.output", p["self_attn.norm.weight"] * x_hat1 + p["self_attn.norm.bias"])
on_paper(rstd1[0], 0.8944)
on_paper(x_hat1[0, 0], 0.4472)
on_paper(normed1[0, 0], 0.4708)

# %% [markdown]
# ## Three projections, cut into heads
#
# Each is `x Wᵀ + b`. Head 0 takes the columns 0 and 1 of q, k and v, head 1 the columns 2 and 3. A reshape to (3, 2,
# 2) cuts each token's row in two; the transpose puts the heads in front.
#
# On paper, token 1, the first entry of q. The first row of the weight is (-0.1, 0.1, 0, -0.3), its bias is 0.3, and the
# normed token is (-1.4247, -0.8000, 1.6330, -0.6880): 0.1425 - 0.0800 + 0 + 0.2064 + 0.3 = 0.5689. With the second
# entry, -0.0523, it is token 1's query in head 0: (0.5689, -0.0523).

# %%
MHA = "self_attn.sublayer"


def split(rows: np.ndarray) -> np.ndarray:
    return rows.reshape(T, num_heads, d_head).transpose(1, 0, 2)


def merge(heads: np.ndarray) -> np.ndarray:
    return heads.transpose(1, 0, 2).reshape(T, d_model)


q = show(f"{MHA}.q_proj.output", normed1 @ p[f"{MHA}.q_proj.weight"].T + p[f"{MHA}.q_proj.bias"])
k = show(f"{MHA}.k_proj.output", normed1 @ p[f"{MHA}.k_proj.weight"].T + p[f"{MHA}.k_proj.bias"])
v = show(f"{MHA}.v_proj.output", normed1 @ p[f"{MHA}.v_proj.weight"].T + p[f"{MHA}.v_proj.bias"])
query = show(f"{MHA}.attention.query", split(q))
key = show(f"{MHA}.attention.key", split(k))
value = show(f"{MHA}.attention.value", split(v))
on_paper(normed1[1], -1.4247, -0.8000, 1.6330, -0.6880)
on_paper(q[1, 0], 0.5689)
on_paper(query[0, 1], 0.5689, -0.0523)

# %% [markdown]
# ## Attention
#
#     scores = query keyᵀ / √d_head        weights = softmax of each row        output = weights value
#
# Each head has a 3 × 3 table: rows are queries, columns are keys. The rows of the weights add up to 1.
#
# On paper, the row of token 1 in head 0. Its score with its own key (1.1965, 1.2731) is
# (0.5689 · 1.1965 - 0.0523 · 1.2731) / 1.4142 = 0.4342; with the others it is -0.4652 and 1.0047. exp of the row,
# before it is rounded, is (0.6280, 1.5438, 2.7312), and 0.6280 + 1.5438 + 2.7312 = 4.9030. So the weights are
# 0.6280 / 4.9030 = 0.1281, 1.5438 / 4.9030 = 0.3149 and 2.7312 / 4.9030 = 0.5570. They mix the first entries of the
# values: 0.1281 · 0.4310 + 0.3149 · 0.4956 - 0.5570 · 1.3489 = -0.5401. After merging, token 1 is
# (-0.5401, 0.3280, 0.4998, -0.5098), and out_proj's first row makes of it
# 0.7 · 0.5401 + 0.2 · 0.3280 - 0.3 · 0.4998 + 0.3 · 0.5098 + 0.5 = 0.9467.

# %%
scores = show(f"{MHA}.attention.scores", query @ key.swapaxes(1, 2) / np.sqrt(d_head))
powers = np.exp(scores - scores.max(axis=2, keepdims=True))
weights = show(f"{MHA}.attention.weights", powers / powers.sum(axis=2, keepdims=True))
heads = show(f"{MHA}.attention.output", weights @ value)
merged = show(f"{MHA}.out_proj.x", merge(heads))
update1 = show(f"{MHA}.output", merged @ p[f"{MHA}.out_proj.weight"].T + p[f"{MHA}.out_proj.bias"])
on_paper(scores[0, 1], -0.4652, 0.4342, 1.0047)
on_paper(np.exp(scores[0, 1]), 0.6280, 1.5438, 2.7312)  # without the shift by the largest, which cancels
on_paper(weights[0, 1], 0.1281, 0.3149, 0.5570)
on_paper(heads[0, 1, 0], -0.5401)
on_paper(merged[1], -0.5401, 0.3280, 0.4998, -0.5098)
on_paper(update1[1, 0], 0.9467)

# %% [markdown]
# ## The residual connection, the second norm, the feed-forward network, the second residual connection
#
# The second half works on each token alone. ReLU keeps what is above 0. On paper, token 1:
#
# - sum: its second entry is 1 + 0.7315 = 1.7315; all four are 0.9467, 1.7315, 3.1362, -0.1048
# - norm: mean 1.4274; squared deviations 0.231, 0.092, 2.920, 2.348, their mean 5.591 / 4 = 1.3978; rstd is
#   1/√1.3978 = 0.8458. First entry of x_hat: (0.9467 - 1.4274) · 0.8458 = -0.4066; of the output:
#   0.9 · -0.4066 + 0.1 = -0.2659
# - linear1: with the normed token (-0.2659, -0.3971, 1.8563, -0.2888), the first row (0.6, 0.6, 0.5, 0.7) and the bias
#   0.1 it is -0.1595 - 0.2383 + 0.9282 - 0.2022 + 0.1 = 0.4282
# - ReLU: 0.4282 stays; token 0's second entry, -0.9222, becomes 0
# - linear2: the second row is (0.7, 0.9, 0), so 0.7 · 0.4282 + 0.9 · 0.4110 + 0 - 0.6 = 0.0696
# - sum: 1.7315 + 0.0696 = 1.8011

# %%
FFN = "feed_forward.sublayer"
middle = show("self_attn.output", x + update1)
centred = middle - middle.mean(axis=1, keepdims=True)
rstd2 = show("feed_forward.norm.rstd", 1 / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5))
x_hat2 = show("feed_forward.norm.x_hat", centred * rstd2)
normed2 = show("feed_forward.norm.output", p["feed_forward.norm.weight"] * x_hat2 + p["feed_forward.norm.bias"])
hidden = show(f"{FFN}.linear1.output", normed2 @ p[f"{FFN}.linear1.weight"].T + p[f"{FFN}.linear1.bias"])
active = show(f"{FFN}.activation.output", np.maximum(hidden, 0))
update2 = show(f"{FFN}.output", active @ p[f"{FFN}.linear2.weight"].T + p[f"{FFN}.linear2.bias"])
output = show("output", middle + update2)
assert 0 < (hidden > 0).sum() < hidden.size, "both sides of ReLU must occur"
on_paper(middle[1], 0.9467, 1.7315, 3.1362, -0.1048)
on_paper(middle[1].mean(), 1.4274)
on_paper((centred[1] ** 2).mean(), 1.3978)
on_paper(rstd2[1], 0.8458)
on_paper(x_hat2[1, 0], -0.4066)
on_paper(normed2[1], -0.2659, -0.3971, 1.8563, -0.2888)
on_paper(hidden[0, 1], -0.9222)
on_paper(active[0, 1], 0.0)
on_paper(active[1, 0], 0.4282)
on_paper(update2[1, 1], 0.0696)
on_paper(output[1, 1], 1.8011)

# %% [markdown]
# # Backward
#
# Now the same lines, last line first. The rule for each: what did this line use, and how does its output change with
# it? Where an array was used twice, its gradients add up.
#
# ## The second residual connection and the feed-forward network
#
# `output = middle + update2` hands `grad_output` to both. For `y = x Wᵀ + b` the three gradients are
#
#     grad_W = grad_yᵀ x        grad_b = sum of the rows of grad_y        grad_x = grad_y W
#
# On paper, linear2. The first entry of its weight took the first entry of `active` of each token to the first of the
# output, so its gradient is 1 · 0.4641 + 0 · 0.4282 - 1 · 0.7522 = -0.2881, a sum over tokens. The bias' second entry
# gets 0 + 1 + 2 = 3.0. grad_output of token 1 is (0, 1, 1, 0): it gets the sum of the second and the third row of the
# weight, (0.7 - 0.7, 0.9 - 0.2, 0 - 0.5) = (0.0, 0.7, -0.5). ReLU hands on all of it, but of token 0's (2.7, 0.5, 0.9)
# not the 0.5, where it gave 0: (2.7, 0.0, 0.9). In linear1 only token 1 is left in the second column, and its gradient
# in the second row and third column of the weight is 0.7 · 1.8563 = 1.2994. Back through linear1's first column, token
# 1 gets 0.0 · 0.6 - 0.7 · 0.4 - 0.5 · 0.4 = -0.48.

# %%
grad_update2 = grad_output
grad_weight2 = show(f"{FFN}.linear2.grad_weight", grad_update2.T @ active)
grad_bias2 = show(f"{FFN}.linear2.grad_bias", grad_update2.sum(axis=0))
grad_active = show(f"{FFN}.linear2.grad_x", grad_update2 @ p[f"{FFN}.linear2.weight"])
grad_hidden = show(f"{FFN}.activation.grad_x", grad_active * (hidden > 0))
grad_weight1 = show(f"{FFN}.linear1.grad_weight", grad_hidden.T @ normed2)
show(f"{FFN}.linear1.grad_bias", grad_hidden.sum(axis=0))
grad_normed2 = show(f"{FFN}.grad_x", grad_hidden @ p[f"{FFN}.linear1.weight"])
on_paper(grad_weight2[0, 0], -0.2881)
on_paper(grad_bias2[1], 3.0)
on_paper(grad_active[1], 0.0, 0.7, -0.5)
on_paper(grad_hidden[0], 2.7, 0.0, 0.9)
on_paper(grad_weight1[1, 2], 1.2994)
on_paper(grad_normed2[1, 0], -0.48)

# %% [markdown]
# ## The second norm, and the fork
#
# With g = grad_output of the norm times its weight (lesson 4 derives it):
#
#     grad_x = rstd (g - mean(g) - x_hat mean(g x_hat))
#
# `middle` was used twice: by the norm, and by the sum. So its gradient is a sum of two.
#
# On paper, token 1. What comes back to it, (-0.48, -0.81, 0.28, -0.30), times the weight (0.9, 0.4, 0.8, 0.3) is
# g = (-0.432, -0.324, 0.224, -0.090), with the mean -0.1555. With x_hat = (-0.4066, 0.2572, 1.4453, -1.2959), the
# product g x_hat is (0.1756, -0.0833, 0.3238, 0.1166), with the mean 0.1332. So, with rstd = 0.8458:
#
#     0.8458 (-0.432 + 0.1555 + 0.4066 · 0.1332) = -0.1881
#     0.8458 (-0.324 + 0.1555 - 0.2572 · 0.1332) = -0.1715
#     0.8458 ( 0.224 + 0.1555 - 1.4453 · 0.1332) = 0.1582
#     0.8458 (-0.090 + 0.1555 + 1.2959 · 0.1332) = 0.2014
#
# They add up to 0: moving all entries of a token by the same amount changes nothing in what the norm gives. The second
# entry and the 1.0 that came along the sum make 1 - 0.1715 = 0.8285. The gradient of the norm's bias is the sum over
# tokens; its first entry is 1.98 - 0.48 + 0.80 = 2.3.

# %%
g = grad_normed2 * p["feed_forward.norm.weight"]
show("feed_forward.norm.grad_weight", (grad_normed2 * x_hat2).sum(axis=0))
grad_norm_bias2 = show("feed_forward.norm.grad_bias", grad_normed2.sum(axis=0))
through_norm2 = show(
    "feed_forward.norm.grad_x",
    rstd2 * (g - g.mean(axis=1, keepdims=True) - x_hat2 * (g * x_hat2).mean(axis=1, keepdims=True)),
)
grad_middle = show("feed_forward.grad_x", grad_output + through_norm2)
on_paper(g[1], -0.432, -0.324, 0.224, -0.090)
on_paper(g[1].mean(), -0.1555)
on_paper(x_hat2[1], -0.4066, 0.2572, 1.4453, -1.2959)
on_paper((g * x_hat2)[1], 0.1756, -0.0833, 0.3238, 0.1166)
on_paper((g * x_hat2)[1].mean(), 0.1332)
on_paper(through_norm2[1], -0.1881, -0.1715, 0.1582, 0.2014)
on_paper(grad_middle[1, 1], 0.8285)
on_paper(grad_norm_bias2[0], 2.3)

# %% [markdown]
# ## Attention, backward
#
# `heads = weights value` gives the gradients of both factors. Then softmax: with one row w of the weights and its
# gradient grad_w, the gradient of the scores is `w (grad_w - sum(w grad_w))`. The sum, one number for each query, is
# called delta in kernels. And last, `scores = query keyᵀ / √d_head`: the factor 1/√2 belongs to both gradients.
#
# On paper, token 1 in head 0 again. Its second entry back through out_proj's second column is
# -0.2 · 0.1881 - 0.2 · 0.8285 - 0.1 · 1.1582 + 0.9 · 0.2014 = -0.1379, and its first is -0.5102. Its weight for token 2
# mixed that token's value (-1.3489, 1.1414) into the output, so that the weight's gradient is
# 0.5102 · 1.3489 - 0.1379 · 1.1414 = 0.5308; for tokens 0 and 1 it is -0.1492 and -0.1468. With the weights 0.1281,
# 0.3149, 0.5570:
#
#     delta = -0.1281 · 0.1492 - 0.3149 · 0.1468 + 0.5570 · 0.5308 = 0.2303
#     0.1281 (-0.1492 - 0.2303) = -0.0486
#     0.3149 (-0.1468 - 0.2303) = -0.1187
#     0.5570 ( 0.5308 - 0.2303) = 0.1674
#
# The last three are the gradients of its scores. They add up to 0, but for the last decimal of the rounded ones. Of the
# rest, the first entry of token 0: grad_value sums over the queries that looked at it,
# -0.0044 · 0.2816 - 0.1281 · 0.5102 + 0.0041 · 0.5520 = -0.0643; so does grad_key,
# (-0.0164 · 0.7277 - 0.0486 · 0.5689 - 0.0025 · 0.3554) / 1.4142 = -0.0286; and grad_query sums over the keys that
# it looked at, (0.0164 · 1.2299 - 0.2310 · 1.1965 + 0.2474 · 2.9149) / 1.4142 = 0.3288.

# %%
grad_update1 = grad_middle
show(f"{MHA}.out_proj.grad_weight", grad_update1.T @ merged)
show(f"{MHA}.out_proj.grad_bias", grad_update1.sum(axis=0))
grad_merged = show(f"{MHA}.out_proj.grad_x", grad_update1 @ p[f"{MHA}.out_proj.weight"])
grad_heads = show(f"{MHA}.attention.grad_output", split(grad_merged))

grad_value = show(f"{MHA}.attention.grad_value", weights.swapaxes(1, 2) @ grad_heads)
grad_weights = show(f"{MHA}.attention.grad_weights", grad_heads @ value.swapaxes(1, 2))
delta = show(f"{MHA}.attention.delta", (weights * grad_weights).sum(axis=2))
grad_scores = show(f"{MHA}.attention.grad_scores", weights * (grad_weights - delta[:, :, None]))
grad_query = show(f"{MHA}.attention.grad_query", grad_scores @ key / np.sqrt(d_head))
grad_key = show(f"{MHA}.attention.grad_key", grad_scores.swapaxes(1, 2) @ query / np.sqrt(d_head))
on_paper(grad_heads[0, 1], -0.5102, -0.1379)
on_paper(grad_weights[0, 1], -0.1492, -0.1468, 0.5308)
on_paper(delta[0, 1], 0.2303)
on_paper(grad_scores[0, 1], -0.0486, -0.1187, 0.1674)
on_paper(np.array([each[0, 0, 0] for each in (grad_value, grad_key, grad_query)]), -0.0643, -0.0286, 0.3288)
assert np.abs(grad_scores.sum(axis=2)).max() < 1e-13, "adding a number to a row of scores changes no weight"

# %% [markdown]
# ## The three projections: a fork of three
#
# q, k and v all come from the same normed x, so three gradients add up. Look at the gradient of the key bias: it is 0,
# but for rounding. That bias adds the same number, query · bias, to a whole row of scores, which softmax does not see.
#
# On paper: the first entry of q_proj's weight gets 0.3288 · 0.4708 - 0.2868 · 1.4247 - 0.0271 · 1.5206 = -0.2950, that
# of its bias 0.3288 + 0.2868 - 0.0271 = 0.5885, and that of the key bias -0.0286 - 0.1707 + 0.1993 = 0.0. At the fork
# the first entry of token 0 gets 0.3887 - 0.2376 - 0.1967 = -0.0456.

# %%
grad_q, grad_k, grad_v = merge(grad_query), merge(grad_key), merge(grad_value)
for name, grad in (("q_proj", grad_q), ("k_proj", grad_k), ("v_proj", grad_v)):
    show(f"{MHA}.{name}.grad_weight", grad.T @ normed1)
    show(f"{MHA}.{name}.grad_bias", grad.sum(axis=0))
    show(f"{MHA}.{name}.grad_x", grad @ p[f"{MHA}.{name}.weight"])
grad_normed1 = show(
    f"{MHA}.grad_query",  # of the argument query of the self-attention, which is all three
    grad_q @ p[f"{MHA}.q_proj.weight"] + grad_k @ p[f"{MHA}.k_proj.weight"] + grad_v @ p[f"{MHA}.v_proj.weight"],
)
on_paper((grad_q.T @ normed1)[0, 0], -0.2950)
on_paper(grad_q.sum(axis=0)[0], 0.5885)
on_paper(grad_k.sum(axis=0)[0], 0.0)
on_paper(grad_normed1[0, 0], -0.0456)
assert np.abs(grad_k.sum(axis=0)).max() < 1e-13, "the gradient of the key bias is 0 in truth"

# %% [markdown]
# ## The first norm, and the first fork
#
# On paper, token 1 and its first entry: g = (0.5012, 0.1597, -0.0834, -0.1844) has the mean 0.0983, g x_hat has the
# mean -0.0987, so that 0.8165 (0.5012 - 0.0983 - 0.8165 · 0.0987) = 0.2632. The sum adds -0.1881: grad_x is 0.0751. The
# norm's weight sums over tokens: its first entry gets -0.0456 · 0.4472 - 0.3342 · 0.8165 + 1.0832 · 1.1471 = 0.9493.

# %%
g = grad_normed1 * p["self_attn.norm.weight"]
show("self_attn.norm.grad_weight", (grad_normed1 * x_hat1).sum(axis=0))
show("self_attn.norm.grad_bias", grad_normed1.sum(axis=0))
through_norm1 = show(
    "self_attn.norm.grad_x",
    rstd1 * (g - g.mean(axis=1, keepdims=True) - x_hat1 * (g * x_hat1).mean(axis=1, keepdims=True)),
)
grad_x = show("grad_x", grad_middle + through_norm1)
on_paper(g[1], 0.5012, 0.1597, -0.0834, -0.1844)
on_paper(g[1].mean(), 0.0983)
on_paper((g * x_hat1)[1].mean(), -0.0987)
on_paper(through_norm1[1, 0], 0.2632)
on_paper(grad_x[1, 0], 0.0751)
on_paper((grad_normed1 * x_hat1).sum(axis=0)[0], 0.9493)

# %% [markdown]
# # The check
#
# All arrays above were compared with npformer's. Now npformer is called as one would call it: the gradients of its
# `backward` have the names of the parameters, and each of the 16 was computed above.
#
# Last, the gradient of x against the truth, entry by entry: the complex step Im f(x + ih) / h with h = 1e-200, which
# knows nothing of any backward.

# %%
npformer_output, cache = layer.forward(x[None])
npformer_grad_x, grads = layer.backward(grad_output[None], cache)
assert flatten(grads).keys() == p.keys()
for name in p:
    path, _, leaf = name.rpartition(".")
    assert f"{path}.grad_{leaf}" in errors, f"{name} was left out"
    errors[name] = np.abs(flatten(grads)[name] - traced[f"{path}.grad_{leaf}"]).max()
errors["weights in the cache"] = np.abs(weights - cache["self_attn"]["sublayer"]["attention"]["weights"]).max()

true_grad_x = np.zeros_like(x)
for place in np.ndindex(x.shape):
    nudged = x.astype(complex)
    nudged[place] += 1e-200j
    true_grad_x[place] = (grad_output * layer(nudged[None])[0]).sum().imag / 1e-200
errors["grad_x by complex step"] = np.abs(grad_x - true_grad_x).max()

error = np.max(list(errors.values()))
print(f"\n{len(p)} gradients of parameters; {len(errors)} comparisons")
# Sums of at most a dozen products of numbers of size 1 to 10 in float64: each is off by a few units of 1e-15.
assert error < 1e-13
print(f"\ncheck: {error:.1e} (must be below 1e-13)")
