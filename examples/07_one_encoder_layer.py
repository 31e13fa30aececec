# %% [markdown]
# # 7. One encoder layer, forward and backward, every number
#
# Here is a whole encoder layer (pre-norm, two heads) for one sentence of three tokens, so small that each step can be
# done on paper: d_model 4, two heads of 2, d_ff 3. Every array is printed under the name that npformer gives it, and
# compared with npformer's. Take a pencil, do a few entries yourself, and look whether they are the ones printed.
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
# Token 0 is (1, 2, 0, -1): its mean is 0.5, its squared deviations 0.25, 2.25, 0.25, 2.25, their mean 1.25, and rstd
# is 1/√1.25 = 0.8944. Look for it below.

# %%
centred = x - x.mean(axis=1, keepdims=True)
rstd1 = show("self_attn.norm.rstd", 1 / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5))
x_hat1 = show("self_attn.norm.x_hat", centred * rstd1)
normed1 = show("self_attn.norm.output", p["self_attn.norm.weight"] * x_hat1 + p["self_attn.norm.bias"])
assert round(rstd1[0, 0], 4) == 0.8944

# %% [markdown]
# ## Three projections, cut into heads
#
# Each is `x Wᵀ + b`. Head 0 takes the columns 0 and 1 of q, k and v, head 1 the columns 2 and 3. A reshape to (3, 2,
# 2) cuts each token's row in two; the transpose puts the heads in front.

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

# %% [markdown]
# ## Attention
#
#     scores = query keyᵀ / √d_head        weights = softmax of each row        output = weights value
#
# Each head has a 3 × 3 table: rows are queries, columns are keys. The rows of the weights add up to 1.

# %%
scores = show(f"{MHA}.attention.scores", query @ key.swapaxes(1, 2) / np.sqrt(d_head))
powers = np.exp(scores - scores.max(axis=2, keepdims=True))
weights = show(f"{MHA}.attention.weights", powers / powers.sum(axis=2, keepdims=True))
heads = show(f"{MHA}.attention.output", weights @ value)
merged = show(f"{MHA}.out_proj.x", merge(heads))
update1 = show(f"{MHA}.output", merged @ p[f"{MHA}.out_proj.weight"].T + p[f"{MHA}.out_proj.bias"])

# %% [markdown]
# ## The residual connection, the second norm, the feed-forward network, the second residual connection
#
# The second half works on each token alone. ReLU keeps what is above 0.

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

# %%
grad_update2 = grad_output
show(f"{FFN}.linear2.grad_weight", grad_update2.T @ active)
show(f"{FFN}.linear2.grad_bias", grad_update2.sum(axis=0))
grad_active = show(f"{FFN}.linear2.grad_x", grad_update2 @ p[f"{FFN}.linear2.weight"])
grad_hidden = show(f"{FFN}.activation.grad_x", grad_active * (hidden > 0))
show(f"{FFN}.linear1.grad_weight", grad_hidden.T @ normed2)
show(f"{FFN}.linear1.grad_bias", grad_hidden.sum(axis=0))
grad_normed2 = show(f"{FFN}.grad_x", grad_hidden @ p[f"{FFN}.linear1.weight"])

# %% [markdown]
# ## The second norm, and the fork
#
# With g = grad_output of the norm times its weight (lesson 4 derives it):
#
#     grad_x = rstd (g - mean(g) - x_hat mean(g x_hat))
#
# `middle` was used twice: by the norm, and by the sum. So its gradient is a sum of two.

# %%
g = grad_normed2 * p["feed_forward.norm.weight"]
show("feed_forward.norm.grad_weight", (grad_normed2 * x_hat2).sum(axis=0))
show("feed_forward.norm.grad_bias", grad_normed2.sum(axis=0))
through_norm2 = show(
    "feed_forward.norm.grad_x",
    rstd2 * (g - g.mean(axis=1, keepdims=True) - x_hat2 * (g * x_hat2).mean(axis=1, keepdims=True)),
)
grad_middle = show("feed_forward.grad_x", grad_output + through_norm2)

# %% [markdown]
# ## Attention, backward
#
# `heads = weights value` gives the gradients of both factors. Then softmax: with one row w of the weights and its
# gradient grad_w, the gradient of the scores is `w (grad_w - sum(w grad_w))`. The sum, one number for each query, is
# called delta in kernels. And last, `scores = query keyᵀ / √d_head`: the factor 1/√2 belongs to both gradients.

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
assert np.abs(grad_scores.sum(axis=2)).max() < 1e-13, "adding a number to a row of scores changes no weight"

# %% [markdown]
# ## The three projections: a fork of three
#
# q, k and v all come from the same normed x, so three gradients add up. Look at the gradient of the key bias: it is 0,
# but for rounding. That bias adds the same number, query · bias, to a whole row of scores, which softmax does not see.

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
assert np.abs(grad_k.sum(axis=0)).max() < 1e-13, "the gradient of the key bias is 0 in truth"

# %% [markdown]
# ## The first norm, and the first fork

# %%
g = grad_normed1 * p["self_attn.norm.weight"]
show("self_attn.norm.grad_weight", (grad_normed1 * x_hat1).sum(axis=0))
show("self_attn.norm.grad_bias", grad_normed1.sum(axis=0))
through_norm1 = show(
    "self_attn.norm.grad_x",
    rstd1 * (g - g.mean(axis=1, keepdims=True) - x_hat1 * (g * x_hat1).mean(axis=1, keepdims=True)),
)
grad_x = show("grad_x", grad_middle + through_norm1)

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
