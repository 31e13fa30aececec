# %% [markdown]
# # 10. npformer as the oracle for a kernel of one's own
#
# Someone writes attention for a GPU, in C, in JAX. Is it right? This lesson plays that author. It writes a kernel as a
# port would have it, in float32, in tiles of 16 and without the T × T matrix, forward and backward. It plants five
# bugs, one at a time, and looks which of them the usual test finds, and which `npformer.oracle` does. Here the kernel
# is NumPy too, but the oracle sees nothing but its arrays: from C or a GPU they would come as files (`npformer
# vectors` and `npformer compare`).

# %%
import numpy as np

from npformer import ScaledDotProductAttention
from npformer.oracle import Comparison, compare, expect

TILE = 16
BUGS = (
    "the tail of the last tile is not masked",
    "the sum so far is not rescaled",
    "delta is not subtracted",
    "grad_key has no scale",
    "weights are rounded to float16",
)

# %% [markdown]
# ## Forward: softmax in one pass
#
# Keys come in tiles. After each tile the kernel knows, for each query, the largest score so far (m), the sum of
# exp(score - m) and the same sum with the values. When a later tile has a larger score, both sums were made with the
# wrong m: they are multiplied by exp(old m - new m). That is the online softmax of Milakov and Gimelshein 2018,
# algorithm 3.
#
# T need not be a multiple of 16, but a tile always has 16 rows: those beyond the end are filled with zeros. Zeros give
# scores of 0, not weights of 0. So those scores must be set to -inf.
#
# A kernel never has all scores at once. But a debug build can write the tiles out, and this one does: the more arrays
# it shows, the better the oracle can say where a bug is.
#
# `bug` names the line that is to be wrong; without it all is right.


# %%
def load_tile(array: np.ndarray, start: int) -> np.ndarray:
    rows = array[start : start + TILE]
    tile = np.zeros((TILE, array.shape[1]), np.float32)
    tile[: len(rows)] = rows
    return tile


def tile_of_scores(q: np.ndarray, k: np.ndarray, query_start: int, key_start: int, bug: str) -> np.ndarray:
    scale = np.float32(1 / np.sqrt(q.shape[1]))
    scores = load_tile(q, query_start) @ load_tile(k, key_start).T * scale
    if bug != "the tail of the last tile is not masked":
        scores[:, len(k) - key_start :] = -np.inf  # nothing, unless this is the last tile
    return scores


def forward(q: np.ndarray, k: np.ndarray, v: np.ndarray, bug: str = "") -> dict[str, np.ndarray]:
    """Attention of one head: q (T_q, d), k and v (T_k, d)."""
    T_q, d = q.shape
    result = {"scores": np.empty((T_q, len(k)), np.float32), "output": np.empty((T_q, d), np.float32)}
    result |= {name: np.empty(T_q, np.float32) for name in ("row_max", "row_sum")}
    for query_start in range(0, T_q, TILE):
        rows = slice(query_start, min(query_start + TILE, T_q))
        count = rows.stop - rows.start
        row_max = np.full(TILE, -np.inf, np.float32)
        row_sum = np.zeros(TILE, np.float32)
        weighted_values = np.zeros((TILE, d), np.float32)
        for key_start in range(0, len(k), TILE):
            scores = tile_of_scores(q, k, query_start, key_start, bug)
            new_max = np.maximum(row_max, scores.max(axis=1))
            powers = np.exp(scores - new_max[:, None])
            if bug == "weights are rounded to float16":
                powers = powers.astype(np.float16).astype(np.float32)
            rescale = np.exp(row_max - new_max)
            if bug == "the sum so far is not rescaled":
                rescale[:] = 1
            row_sum = row_sum * rescale + powers.sum(axis=1)
            weighted_values = weighted_values * rescale[:, None] + powers @ load_tile(v, key_start)
            row_max = new_max
            columns = slice(key_start, min(key_start + TILE, len(k)))
            result["scores"][rows, columns] = scores[:count, : columns.stop - key_start]
        result["row_max"][rows], result["row_sum"][rows] = row_max[:count], row_sum[:count]
        result["output"][rows] = (weighted_values / row_sum[:, None])[:count]
    return result


# %% [markdown]
# ## Backward: the weights again
#
# The weights were never stored. Backward makes each tile of them a second time, from the scores, the maximum and the
# sum, and goes back through softmax with one number for each query (Dao 2023, algorithm 2):
#
#     delta = sum(grad_output * output)        grad_scores = weights (grad_weights - delta)


# %%
def backward(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, kept: dict[str, np.ndarray], grad_output: np.ndarray, bug: str = ""
) -> dict[str, np.ndarray]:
    scale = np.float32(1 / np.sqrt(q.shape[1]))
    delta = (grad_output * kept["output"]).sum(axis=1)
    grad_query, grad_key, grad_value = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    all_grad_scores = np.empty((len(q), len(k)), np.float32)
    for query_start in range(0, len(q), TILE):
        rows = slice(query_start, min(query_start + TILE, len(q)))
        count = rows.stop - rows.start
        for key_start in range(0, len(k), TILE):
            columns = slice(key_start, min(key_start + TILE, len(k)))
            scores = tile_of_scores(q, k, query_start, key_start, bug)[:count, : columns.stop - key_start]
            weights = np.exp(scores - kept["row_max"][rows, None]) / kept["row_sum"][rows, None]
            grad_value[columns] += weights.T @ grad_output[rows]
            grad_weights = grad_output[rows] @ v[columns].T
            grad_scores = weights * grad_weights
            if bug != "delta is not subtracted":
                grad_scores -= weights * delta[rows, None]
            all_grad_scores[rows, columns] = grad_scores
            grad_query[rows] += grad_scores @ k[columns] * scale
            grad_key[columns] += grad_scores.T @ q[rows] * (1 if bug == "grad_key has no scale" else scale)
    grads = {"grad_query": grad_query, "grad_key": grad_key, "grad_value": grad_value}
    return {"delta": delta, "grad_scores": all_grad_scores} | grads


def kernel(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, grad_output: np.ndarray, bug: str = ""
) -> dict[str, np.ndarray]:
    """Run forward and backward of several heads, and return every array that has a name."""
    heads = []
    for head in range(len(q)):
        kept = forward(q[head], k[head], v[head], bug)
        heads.append(kept | backward(q[head], k[head], v[head], kept, grad_output[head], bug))
    return {name: np.stack([each[name] for each in heads]) for name in heads[0]}


# %% [markdown]
# ## The usual test
#
# A small case, a power of two, and `np.allclose` of the outputs with a tolerance that was raised until the test was
# green: 1e-2.


# %%
def draw(T_q: int, T_k: int, seed: int) -> tuple[np.ndarray, ...]:
    """Return query, key, value and grad_output for 3 heads of size 8."""
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal((3, T, 8)).astype(np.float32) for T in (T_q, T_k, T_k, T_q))


def usual_test_accepts(bug: str) -> bool:
    q, k, v, grad_output = draw(16, 16, seed=1)
    reference = ScaledDotProductAttention()(q, k, v)
    return np.allclose(kernel(q, k, v, grad_output, bug)["output"], reference, rtol=1e-2, atol=1e-2)


# %% [markdown]
# ## The oracle
#
# Lengths that differ and are no multiples of 16: 37 queries, 45 keys. `expect` runs npformer in float64 and says, for
# each entry of each array, how far a float32 implementation may be off. `compare` takes whatever arrays the kernel can
# give, by name, and says which is the first wrong one, in the order in which they are computed. All arrays behind it
# are computed again from the kernel's own: what that explains is inherited, not another bug.

# %%
q, k, v, grad_output = draw(37, 45, seed=2)
expected = expect(ScaledDotProductAttention(), q, k, v, grad_output=grad_output, storage="float32")


def judge(bug: str) -> Comparison:
    return compare(kernel(q, k, v, grad_output, bug), expected)


comparisons = {bug: judge(bug) for bug in BUGS}
print(f"kernel with: {BUGS[1]}\n\n{comparisons[BUGS[1]]}")

# %% [markdown]
# All five bugs:

# %%
print()
for bug, comparison in comparisons.items():
    print(f"{bug}\n    usual test: {'accepts' if usual_test_accepts(bug) else 'rejects'}")
    print(f"    oracle:     {comparison.conclusion}")
    assert usual_test_accepts(bug), "the usual test finds none of the five"
    assert not comparison.passed, "the oracle finds all"

# %% [markdown]
# Why the usual test saw nothing: with 16 keys there is one tile, no tail and nothing to rescale; it does not look at
# gradients; and float16, which rounds by up to 5e-4 of a number, is well within its tolerance.
#
# The oracle names the place. For three bugs, the sum over a row is wrong while scores and maximum are right. Without
# delta, it is what comes out of softmax's backward; whether what goes in is right, the oracle cannot say, since the
# kernel does not show `grad_weights`. Without the scale, it is one gradient alone, by the factor √8 that is missing.

# %%
first_wrong = {bug: comparison.first_wrong.name for bug, comparison in comparisons.items()}
assert first_wrong == {
    "the tail of the last tile is not masked": "row_sum",
    "the sum so far is not rescaled": "row_sum",
    "delta is not subtracted": "grad_scores",
    "grad_key has no scale": "grad_key",
    "weights are rounded to float16": "row_sum",
}
for bug, comparison in comparisons.items():
    missing = "grad_weights" if bug == "delta is not subtracted" else ""
    assert (comparison.first_wrong.missing, comparison.first_wrong.origin == "wrong here") == (missing, not missing)

# %% [markdown]
# ## The check
#
# The kernel without bugs. Its errors are given in units of what each entry may be off, so that 1 is the limit for all
# arrays alike.

# %%
mended = judge("")
print(f"\nkernel without bugs\n\n{mended}")
worst = np.max([row.worst[0].ratio for row in mended.rows if row.worst])
# The limit is that of `expect`, from runs in which every float32 operation rounds at random.
assert worst < 1
assert mended.passed, "all arrays that an implementation has to give were given, and are right"
print(f"\ncheck: {worst:.2f} (must be below 1)")
