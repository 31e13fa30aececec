# %% [markdown]
# # 6. Residual connections, and where the norm goes
#
# An encoder layer never replaces its input: it adds to it. `y = x + sublayer(x)` is called a residual connection (He
# et al. 2016, eq. 1). Around each sum there is a layer norm, and there are two places for it:
#
# - post-norm, `norm(x + sublayer(x))`, as in Vaswani et al. 2017, section 3.1;
# - pre-norm, `x + sublayer(norm(x))`, as in Xiong et al. 2020, figure 1b.
#
# This lesson writes both, forward and backward, takes the residual path away to see what it was for, and measures
# activations and gradients in stacks of 1 to 24 layers, all at random initial weights. A gradient here is one of
# `sum(grad_output * output)` with a random `grad_output`.

# %%
import numpy as np

from npformer import Encoder, SublayerConnection, flatten, make_encoder
from npformer.oracle import trace

B, T, d_model, num_heads, d_ff = 4, 16, 64, 4, 256
rng = np.random.default_rng(0)
x = rng.standard_normal((B, T, d_model))
grad_output = rng.standard_normal((B, T, d_model))


def rms(array: np.ndarray) -> float:
    """The root of the mean square: the typical size of an entry."""
    return float(np.sqrt(np.mean(array**2)))


# %% [markdown]
# ## The connections, by hand
#
# In both of them x forks: it goes into the sum as it is, and into the sublayer. Where a value forks, its gradients add
# up. So each backward ends in a sum of two gradients, and the first of them went through no matrix at all.
#
# `NoResidual` has no fork. The pre-norm connection is the same with two more additions: one forward, one backward.


# %%
class NoResidual(SublayerConnection):
    def forward(self, x: np.ndarray, **options: object) -> tuple[np.ndarray, dict]:
        normed, norm_cache = self.norm.forward(x)
        update, sublayer_cache = self.sublayer.forward(normed, **options)
        return update, {"norm": norm_cache, "sublayer": sublayer_cache}

    def backward(self, grad_output: np.ndarray, cache: dict) -> tuple[np.ndarray, dict]:
        grad_normed, sublayer_grads = self.sublayer.backward(grad_output, cache["sublayer"])
        grad_x, norm_grads = self.norm.backward(grad_normed, cache["norm"])
        return grad_x, {"sublayer": sublayer_grads, "norm": norm_grads, "dropout": {}}


class PreNorm(NoResidual):
    def forward(self, x: np.ndarray, **options: object) -> tuple[np.ndarray, dict]:
        update, cache = super().forward(x, **options)
        return x + update, cache

    def backward(self, grad_output: np.ndarray, cache: dict) -> tuple[np.ndarray, dict]:
        grad_x, grads = super().backward(grad_output, cache)
        return grad_output + grad_x, grads


class PostNorm(SublayerConnection):
    def forward(self, x: np.ndarray, **options: object) -> tuple[np.ndarray, dict]:
        update, sublayer_cache = self.sublayer.forward(x, **options)
        output, norm_cache = self.norm.forward(x + update)
        return output, {"norm": norm_cache, "sublayer": sublayer_cache}

    def backward(self, grad_output: np.ndarray, cache: dict) -> tuple[np.ndarray, dict]:
        grad_sum, norm_grads = self.norm.backward(grad_output, cache["norm"])
        grad_x, sublayer_grads = self.sublayer.backward(grad_sum, cache["sublayer"])
        return grad_sum + grad_x, {"sublayer": sublayer_grads, "norm": norm_grads, "dropout": {}}


# %% [markdown]
# A stack is an encoder of npformer, in which these connections take the place of npformer's own. Its weights do not
# depend on the connections. Behind all layers but post-norm ones comes a final norm. `npformer.oracle.trace` runs a
# stack forward and backward, and returns every array that passes between its parts by name.


# %%
def make_stack(connection: type[SublayerConnection], num_layers: int, seed: int = 1) -> Encoder:
    stack = make_encoder(num_layers, d_model, num_heads, d_ff, norm_first=connection is not PostNorm, rng=seed)
    for layer in stack.layers:
        layer.self_attn = connection(layer.self_attn.sublayer, layer.self_attn.norm)
        layer.feed_forward = connection(layer.feed_forward.sublayer, layer.feed_forward.norm)
    return stack


# %% [markdown]
# ## What the residual path is for
#
# Attention averages tokens. After a few averages in a row all tokens of a sentence are the same vector, and what told
# them apart is lost for good (Dong et al. 2021, section 2). The residual path carries each token past the average.
#
# Measured forward: the spread of the tokens, which is the RMS of (token - mean of the sentence's tokens), over the RMS
# of the tokens. Measured backward: a gradient that asks for *differences* between tokens (its mean over the tokens is
# 0), and how much of it arrives at the input.


# %%
def spread(x: np.ndarray) -> float:
    return rms(x - x.mean(1, keepdims=True)) / rms(x)


spreads, arriving = {}, {}
ask_for_difference = grad_output - grad_output.mean(1, keepdims=True)
for connection in (NoResidual, PreNorm):
    traced = trace(make_stack(connection, 24), x, grad_output=ask_for_difference)
    spreads[connection] = [spread(x)] + [spread(traced[f"layers.{layer}.output"]) for layer in range(24)]
    arriving[connection] = rms(traced["grad_x"])

print("spread of the tokens after a number of layers")
print("layers     no residual    residual")
for depth in (0, 1, 2, 4, 6, 12, 24):
    print(f"{depth:6} {spreads[NoResidual][depth]:15.1e} {spreads[PreNorm][depth]:11.2f}")
print(f"gradient {arriving[NoResidual]:13.1e} {arriving[PreNorm]:11.2f}   of differences, at the input of 24 layers")

assert spreads[NoResidual][6] < 1e-14, "after 6 layers without a residual path only rounding tells tokens apart"
assert arriving[NoResidual] < 1e-12, "and no gradient can bring the difference back"
assert spreads[PreNorm][24] > 0.2
assert arriving[PreNorm] > 0.1

# %% [markdown]
# The spread shrinks with residual connections too, but slowly, and training can act on it: the gradient arrives.
#
# ## Pre-norm and post-norm through depth
#
# Now stacks of 1 to 24 layers. A pre-norm stack gets a final norm, as `make_encoder` gives it one. Four columns for
# each kind: the RMS of what the last layer gives, the RMS of the output, and the RMS of the gradients of two weight
# matrices, that of the second linear map in the feed-forward network of the first and of the last layer. Each number
# is a mean over four draws of the weights.

# %%
table = {PreNorm: {}, PostNorm: {}}
for depth in (1, 2, 3, 6, 12, 24):
    for connection, rows in table.items():
        draws = []
        for seed in (1, 2, 3, 4):
            stack = make_stack(connection, depth, seed)
            output, cache = stack.forward(x)
            grads = flatten(stack.backward(grad_output, cache)[1])
            names = (f"layers.{layer}.feed_forward.sublayer.linear2.weight" for layer in (0, depth - 1))
            last = Encoder(stack.layers)(x)  # without the final norm
            draws.append([rms(last), rms(output), *(rms(grads[name]) for name in names)])
        rows[depth] = np.mean(draws, axis=0)

for connection, rows in table.items():
    print(f"\n{connection.__name__}: RMS of the last layer's output, of the encoder's output, of weight gradients")
    print("layers   last layer   output   first layer's gradient   last layer's gradient")
    for depth, (last, output, first_grad, last_grad) in rows.items():
        print(f"{depth:6} {last:12.2f} {output:8.2f} {first_grad:24.2f} {last_grad:23.2f}")

# %% [markdown]
# Post-norm first. Its activations have RMS 1 at every depth, by construction. The gradient of its last layer's weights
# is near 3 however deep the stack is.
#
# Pre-norm: nothing normalises the sum, so activations grow with depth, and the gradient of the last layer's weights
# falls. The two are one fact: their product hardly depends on depth, which the next section explains.
#
# That is theorem 1 of Xiong et al. 2020. They conclude that deep post-norm stacks need a learning rate that warms up,
# since their first gradients are too large for the full one, and that pre-norm stacks train without.
#
# The gradient of the first layer neither vanishes nor explodes in either kind.

# %%
post_last = [last_grad for _, _, _, last_grad in table[PostNorm].values()]
pre_products = [last * last_grad for last, _, _, last_grad in table[PreNorm].values()]
print("\nlayers   pre-norm: last layer's output x last layer's gradient")
for depth, product in zip(table[PreNorm], pre_products, strict=True):
    print(f"{depth:6} {product:12.2f}")

assert all(abs(last - 1) < 1e-3 for last, *_ in table[PostNorm].values()), "post-norm keeps the RMS at 1"
assert np.max(post_last) < 1.25 * np.min(post_last), "post-norm: the last layer's gradient hardly depends on depth"
assert table[PreNorm][24][0] > 4 * table[PreNorm][1][0], "pre-norm: activations grow"
assert table[PreNorm][24][3] < 0.25 * table[PreNorm][1][3], "pre-norm: the last layer's gradient falls"
assert np.max(pre_products) < 1.25 * np.min(pre_products), "and the product of the two stays"
assert all(0.4 < row[2] / table[kind][1][2] < 2.5 for kind in table for row in table[kind].values()), (
    "the first layer's gradient neither vanishes nor explodes, in either kind"
)

# %% [markdown]
# ## What pre-norm's final norm is for
#
# The output of a pre-norm stack is x plus all updates. At random weights the updates have nothing to do with one
# another, so their squares add up: the RMS after 24 layers is near the root of (1 + the sum of all squared updates).
#
# Without a final norm, whatever reads the encoder would see numbers whose size depends on how many layers there are.
# The final norm divides by their RMS. Its backward divides the gradient by the same RMS (`rstd`), and that is why
# gradients in a pre-norm stack fall as activations grow.

# %%
traced = trace(make_stack(PreNorm, 24), x, grad_output=grad_output)
stream = [rms(x)] + [rms(traced[f"layers.{layer}.output"]) for layer in range(24)]
by_attention, by_feed_forward = (
    np.array([rms(traced[f"layers.{layer}.{part}.sublayer.output"]) for layer in range(24)])
    for part in ("self_attn", "feed_forward")
)
grad_stream = traced["norm.grad_x"]

print("\npre-norm, inside a stack of 24 layers: RMS")
print(" layer   what comes in   attention adds   feed-forward adds   its share of the sum")
for number in (1, 2, 3, 6, 12, 24):
    added, fed = by_attention[number - 1], by_feed_forward[number - 1]
    print(f"{number:6} {stream[number - 1]:15.2f} {added:16.2f} {fed:19.2f} {fed / stream[number]:22.2f}")
expected_rms = np.sqrt(rms(x) ** 2 + (by_attention**2).sum() + (by_feed_forward**2).sum())
print(f"RMS after 24 layers {stream[-1]:.2f}, from the updates' squares alone {expected_rms:.2f}")
print(f"gradient before the final norm {rms(grad_output):.3f}, behind it {rms(grad_stream):.3f},", end=" ")
print(f"1 / RMS of the activations {1 / stream[-1]:.3f}")

assert abs(stream[-1] / expected_rms - 1) < 0.1, "updates at random weights are nearly uncorrelated"
assert 0.4 < by_feed_forward.min() <= by_feed_forward.max() < 0.75, "the feed-forward networks add about the same"
assert abs(rms(grad_stream) / rms(grad_output) * stream[-1] - 1) < 0.05, "the norm divides gradients too"

# %% [markdown]
# The last column is the price of pre-norm: the feed-forward networks of all layers add about the same amount, but to a
# larger and larger sum, so that late layers change their input little.
#
# ## The check
#
# The connections above against npformer's own, in whole encoders of 24 layers, pre-norm and post-norm: output,
# gradient of the input, and gradients of all parameters. And the gradient of the input against the slope of forward
# along a random direction v, which a complex step gives exactly: Im f(x + ihv) / h with h = 1e-200 (lesson 8 says
# why).

# %%
error = 0.0
v = rng.standard_normal(x.shape)
for connection in (PreNorm, PostNorm):
    npformers = make_encoder(24, d_model, num_heads, d_ff, norm_first=connection is PreNorm, rng=1)
    results = []
    for encoder in (make_stack(connection, 24), npformers):
        output, cache = encoder.forward(x)
        grad_x, grads = encoder.backward(grad_output, cache)
        results.append({"output": output, "grad_x": grad_x} | flatten(grads))
    ours, theirs = results
    assert ours.keys() == theirs.keys()
    compared = [name for name in theirs if not name.endswith("k_proj.bias")]  # the gradients of these are 0 in truth
    difference = np.max([np.abs(ours[name] - theirs[name]).max() / np.abs(theirs[name]).max() for name in compared])

    slope = (grad_output * make_stack(connection, 24)(x + 1e-200j * v)).sum().imag / 1e-200
    slope_error = abs((ours["grad_x"] * v).sum() - slope) / (rms(ours["grad_x"]) * rms(v) * np.sqrt(x.size))
    print(f"{connection.__name__:9} from npformer {difference:.1e}, from the exact slope {slope_error:.1e}")
    error = np.max([error, difference, slope_error])

# Both are sums of some thousand products in float64, relative to their size; 24 layers leave about 1e-15.
assert error < 1e-13
print(f"\ncheck: {error:.1e} (must be below 1e-13)")
