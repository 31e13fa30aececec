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
# of the tokens. Measured backward: the gradient of each layer's query projection, which is what attention learns from;
# and of a gradient that asks for *differences* between tokens (its mean over the tokens is 0), how much arrives at the
# input.


# %%
def spread(x: np.ndarray) -> float:
    return rms(x - x.mean(1, keepdims=True)) / rms(x)


def query_gradients(traced: dict[str, np.ndarray]) -> list[float]:
    return [rms(traced[f"layers.{layer}.self_attn.sublayer.q_proj.grad_weight"]) for layer in range(24)]


connections = (NoResidual, PreNorm, PostNorm)
spreads, of_queries, arriving = {}, {}, {}
ask_for_difference = grad_output - grad_output.mean(1, keepdims=True)
for connection in connections:
    stack = make_stack(connection, 24)
    traced = trace(stack, x, grad_output=grad_output)
    spreads[connection] = [spread(x)] + [spread(traced[f"layers.{layer}.output"]) for layer in range(24)]
    of_queries[connection] = query_gradients(traced)
    arriving[connection] = rms(trace(stack, x, grad_output=ask_for_difference)["grad_x"])

print("         spread of the tokens after a layer      RMS of the gradient of its q_proj.weight")
print("layer    no residual   pre-norm   post-norm      no residual   pre-norm   post-norm")
for depth in (0, 1, 2, 4, 6, 12, 18, 24):
    columns = [f"{spreads[connection][depth]:12.2g}" for connection in connections]
    if depth > 0:
        columns += ["    ", *(f"{of_queries[connection][depth - 1]:12.2g}" for connection in connections)]
    print(f"{depth:5}   " + "".join(columns))
none, pre, post = (arriving[connection] for connection in connections)
print("how much of a gradient of differences arrives at the input:", end=" ")
print(f"{none:.1e} no residual, {pre:.2f} pre-norm, {post:.3f} post-norm")

assert spreads[NoResidual][6] < 1e-14, "after 6 layers without a residual path only rounding tells tokens apart"
assert none < 1e-12, "and no gradient can bring the difference back"
assert 0.2 < spreads[PreNorm][24] < 0.5
assert pre > 0.1
assert spreads[PostNorm][6] > 0.1
assert spreads[PostNorm][24] < 2e-3, "post-norm: it takes longer, and it comes to the same"
assert post < 0.1 * pre
assert of_queries[PreNorm][23] > 0.01 * of_queries[PreNorm][0]
assert of_queries[PostNorm][23] < 1e-5 * of_queries[PostNorm][0]

# %% [markdown]
# The spread shrinks with residual connections too. Pre-norm is slow: of 0.97 there is 0.30 left after 24 layers, and
# training can act on it, since the gradient arrives. Post-norm tokens *collapse* with depth: the norm shrinks each sum
# back to RMS 1, and with it the part of x that the sum has carried past the average. Pre-norm leaves the sum as it is.
#
# What it means: in the late layers of the post-norm stack all tokens of a sentence are nearly one vector. Then their
# values are one vector too, and it does not matter where a query looks. So its gradient is gone, 1.5 millionths of the
# first layer's, and attention cannot learn there until the tokens differ again.
#
# This is so at *this* initialisation, where a sublayer adds 0.4 to 1 times as much as the stream holds. With updates a
# quarter as large (the last matrix of each sublayer times 1/4) the same post-norm stack keeps its tokens apart:

# %%
stack = make_stack(PostNorm, 24)
for layer in stack.layers:
    layer.self_attn.sublayer.out_proj.weight *= 0.25
    layer.feed_forward.sublayer.linear2.weight *= 0.25
traced = trace(stack, x, grad_output=grad_output)
kept, (first, *_, late) = spread(traced["layers.23.output"]), query_gradients(traced)
print(f"\npost-norm, updates a quarter as large: spread after 24 layers {kept:.2f},", end=" ")
print(f"q_proj gradient of the last layer over that of the first {late / first:.2f}")
assert kept > 0.5
assert late > 0.1 * first

# %% [markdown]
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
# The gradient of this matrix in the first layer neither vanishes nor explodes in either kind. The feed-forward network
# works on each token alone, so it gets a gradient even where all tokens are one, and hides what the last section saw.

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
# The output of a pre-norm stack is x plus all updates. At random weights the updates have little to do with one
# another, so their squares nearly add up: the RMS after 24 layers is near the root of (1 + the sum of all squared
# updates). The rest is in their dot products. Two random vectors of 64 entries have a cosine of about ±1/√64 = ±0.125,
# and there are 1,176 pairs of x and 48 updates. Their sum is 0 on average over draws of the weights, since each update
# ends in a matrix of mean 0 of its own; but in one draw it is not. So we look at 16 draws.
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
over_expected = []
for seed in range(1, 17):
    drawn = trace(make_stack(PreNorm, 24, seed), x)
    parts = (drawn[f"layers.{n}.{part}.sublayer.output"] for n in range(24) for part in ("self_attn", "feed_forward"))
    over_expected.append(rms(drawn["layers.23.output"]) ** 2 / (rms(x) ** 2 + sum(rms(each) ** 2 for each in parts)))
print(f"square of the one over that of the other: {over_expected[0]:.2f};", end=" ")
print(f"of 16 draws {np.min(over_expected):.2f} to {np.max(over_expected):.2f}, mean {np.mean(over_expected):.2f}")
print(f"gradient of the final norm's output {rms(grad_output):.3f}, of its input {rms(grad_stream):.3f},", end=" ")
print(f"1 / RMS of the activations {1 / stream[-1]:.3f}")

assert abs(over_expected[0] / (stream[-1] / expected_rms) ** 2 - 1) < 1e-12, "the first draw is the stack above"
# 40 draws differed with a standard deviation of 0.12: the mean of 16 is off by 0.03, and four times that is rare.
assert abs(np.mean(over_expected) - 1) < 0.12, "updates at random weights are uncorrelated on average"
assert np.min(over_expected) < 1 < np.max(over_expected), "and not in each draw"
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
