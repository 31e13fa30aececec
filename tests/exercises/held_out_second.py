"""Wrong backwards that the diagnosis does not know: of all that is not attention, and of the residual connections."""

from __future__ import annotations

from typing import Any

import numpy as np
from held_out_form import held_out_second as held_out

import npformer as nf
from npformer.component import Array, Tree
from npformer.special import normal_pdf


@held_out(nf.Softmax, ("x",), r"diagonal|others?\b|Jacobian|Σ|\bsum\b|sigmoid|y\s*\*?\s*\(1\s*[-−]\s*y\)")
def softmax_slope_of_sigmoid(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Takes y (1 - y), the diagonal of the Jacobian alone: what each x does to the other entries of y is missing."""
    y = cache["output"]
    return grad_output * y * (1 - y), {}


@held_out(nf.Softmax, ("x",), r"\baxis|\baxes|over the (last|rows?|columns?|entries)|along|column")
def softmax_sum_down_the_columns(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Sums grad_y * y over the last axis but one instead of the last."""
    y = cache["output"]
    return y * (grad_output - (grad_output * y).sum(-2, keepdims=True)), {}


@held_out(nf.Softmax, ("x",), r"Σ|\bsum\b|others?\b|diagonal|denominator|normali[sz]")
def softmax_sum_not_times_y(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Multiplies only the first term by y: the row sum is subtracted without its factor y."""
    y = cache["output"]
    return y * grad_output - (grad_output * y).sum(-1, keepdims=True), {}


def _right_linear(component: Any, grad_output: Array, cache: Tree) -> tuple[Array, Tree, Array, Array]:
    d_out, d_in = component.weight.shape
    rows, x_rows = grad_output.reshape(-1, d_out), cache["x"].reshape(-1, d_in)
    grads = {"weight": rows.T @ x_rows} | ({} if component.bias is None else {"bias": rows.sum(0)})
    return grad_output @ component.weight, grads, rows, x_rows


@held_out(nf.Linear, ("bias",), r"\bmean\b|averag|divided|number of rows|constant factor|1/8|0\.125")
def linear_bias_averaged(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Takes the mean over all rows as the gradient of the bias, where the sum is right."""
    grad_x, grads, rows, _ = _right_linear(component, grad_output, cache)
    return grad_x, grads | ({} if component.bias is None else {"bias": rows.mean(0)})


@held_out(nf.Linear, ("weight",), r"accumulat|\+=|overwrit|not summed|missing sum|sum over|last (row|one)|added up")
def linear_weight_of_last_row(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Writes = for += in the loop over rows: only the last row's outer product is left in the weight's gradient."""
    grad_x, grads, rows, x_rows = _right_linear(component, grad_output, cache)
    for row, x_row in zip(rows, x_rows, strict=True):
        grads["weight"] = np.outer(row, x_row)
    return grad_x, grads


@held_out(nf.Linear, ("weight",), r"transpos|reshap|wrong order|order of|\baxes|swap|layout|scrambl|permut")
def linear_weight_reshaped_for_transposed(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Computes xᵀ grad_y, which is (d_in, d_out), and reshapes it to the weight's shape instead of transposing it."""
    grad_x, grads, rows, x_rows = _right_linear(component, grad_output, cache)
    return grad_x, grads | {"weight": (x_rows.T @ rows).reshape(component.weight.shape)}


@held_out(nf.GELU, ("x",), r"φ|\bphi\b|\bpdf\b|density|Φ'|slope of Φ|x\s*\*?\s*Φ|product rule|second term")
def gelu_density_not_times_x(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Forgets the factor x of the product rule's second term: Φ(x) + φ(x)."""
    return grad_output * (cache["cdf"] + normal_pdf(cache["x"])), {}


@held_out(nf.GELU, ("x",), r"φ|\bphi\b|\bpdf\b|density|Φ'|slope of Φ|exp|second term")
def gelu_exponent_not_halved(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Takes exp(-x²) / √(2π) as the density: the 2 under x² is missing."""
    x = cache["x"]
    return grad_output * (cache["cdf"] + x * np.exp(-x * x) / np.sqrt(2 * np.pi)), {}


@held_out(nf.GELU, ("x",), r"tanh|approximat")
def gelu_slope_of_tanh_form(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Differentiates the tanh approximation, though forward computes the exact form."""
    x = cache["x"]
    t, slope_of_u = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)), np.sqrt(2 / np.pi) * (1 + 0.134145 * x * x)
    return grad_output * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope_of_u), {}


@held_out(nf.Dropout, ("x",), r"1\s*[-−–]\s*p|factor|\bscal(e|ing)|\bkeep|0\.56|9/16|divided")
def dropout_multiplied_by_keep_rate(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Multiplies by 1 - p where it should divide by it."""
    return grad_output * (cache["mask"] * (1 - component.p) if "mask" in cache else 1), {}


@held_out(nf.Dropout, ("x",), r"(new|other|different|own|wrong|fresh|same) mask|mask.*(match|forward|differ|drawn)")
def dropout_of_a_new_mask(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Draws a mask of its own instead of taking the one that forward drew."""
    if "mask" not in cache:
        return grad_output, {}
    mask = np.random.default_rng(0).random(grad_output.shape) >= component.p
    return grad_output * mask / (1 - component.p), {}


def _norm(component: Any, grad_output: Array, cache: Tree) -> tuple[Array, Array, Tree]:
    """g = grad_y * weight, x_hat, and the right gradients of a norm's parameters."""
    x_hat, rows = cache["x_hat"], tuple(range(grad_output.ndim - 1))
    grads = {"weight": (grad_output * x_hat).sum(rows), "bias": grad_output.sum(rows)}
    return grad_output * component.weight, x_hat, grads


@held_out(nf.LayerNorm, ("x",), r"mean\s?\((x|g)|mean term|mean of")
def layer_norm_mean_without_weight(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Subtracts the mean of grad_y where it is that of g = grad_y * weight."""
    g, x_hat, grads = _norm(component, grad_output, cache)
    through_rstd = x_hat * (g * x_hat).mean(-1, keepdims=True)
    return cache["rstd"] * (g - grad_output.mean(-1, keepdims=True) - through_rstd), grads


@held_out(nf.LayerNorm, ("x",), r"\bvar|rstd|\bstd|g\s?[*·]\s?x_hat|x_hat\s?[*·]\s?mean")
def layer_norm_slope_of_unbiased_variance(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Divides the sum of g * x_hat by d_model - 1, as if the variance were unbiased."""
    g, x_hat, grads = _norm(component, grad_output, cache)
    dots = (g * x_hat).sum(-1, keepdims=True) / (g.shape[-1] - 1)
    return cache["rstd"] * (g - g.mean(-1, keepdims=True) - x_hat * dots), grads


@held_out(nf.LayerNorm, ("x",), r"\bvar|rstd|\bstd|g\s?[*·]\s?x_hat|x_hat\s?[*·]\s?mean")
def layer_norm_bracket_closed_too_early(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Closes the bracket before the last term, which is then not multiplied by rstd."""
    g, x_hat, grads = _norm(component, grad_output, cache)
    return cache["rstd"] * (g - g.mean(-1, keepdims=True)) - x_hat * (g * x_hat).mean(-1, keepdims=True), grads


@held_out(nf.LayerNorm, ("weight",), r"x_hat|normali[sz]ed|rstd|\bstd|centred|centered")
def layer_norm_weight_of_centred_x(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Multiplies grad_y by x - mean(x) instead of x_hat in the gradient of the weight."""
    g, x_hat, grads = _norm(component, grad_output, cache)
    grads["weight"] = (grad_output * x_hat / cache["rstd"]).reshape(-1, x_hat.shape[-1]).sum(0)
    return cache["rstd"] * (g - g.mean(-1, keepdims=True) - x_hat * (g * x_hat).mean(-1, keepdims=True)), grads


def _annotated(component: Any, grad_output: Array, cache: Tree) -> tuple[Array, Array, Array, Tree]:
    """g, std, the right term of grad_c through std, and the right gradients of the parameters."""
    g, x_hat, grads = _norm(component, grad_output, cache)
    std, dots = cache["std"], (g * x_hat).sum(-1, keepdims=True)
    return g, std, x_hat * dots / ((g.shape[-1] - 1) * np.where(std == 0, 1, std)), grads


@held_out(nf.AnnotatedLayerNorm, ("x",), r"\bstd\b|\bvar|d_model\s?[-−]\s?1|\bd\s?[-−]\s?1|\bn\s?[-−]\s?1|5/6|0\.83")
def annotated_norm_slope_of_biased_std(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Divides the term through std by d_model, as if the variance were biased; it is d_model - 1."""
    g, std, through_std, grads = _annotated(component, grad_output, cache)
    grad_centred = g / (std + component.eps) - through_std * (g.shape[-1] - 1) / g.shape[-1]
    return grad_centred - grad_centred.mean(-1, keepdims=True), grads


@held_out(nf.AnnotatedLayerNorm, ("x",), r"\beps|ε")
def annotated_norm_eps_inside_the_root(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Divides g by √(std² + eps), as in LayerNorm, instead of by std + eps."""
    g, std, through_std, grads = _annotated(component, grad_output, cache)
    grad_centred = g / np.sqrt(std**2 + component.eps) - through_std
    return grad_centred - grad_centred.mean(-1, keepdims=True), grads


@held_out(nf.AnnotatedLayerNorm, ("x",), r"\bmean|\baxis|centr")
def annotated_norm_mean_of_everything(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Takes the last mean without an axis, over all rows at once, instead of over the last axis of each."""
    g, std, through_std, grads = _annotated(component, grad_output, cache)
    grad_centred = g / (std + component.eps) - through_std
    return grad_centred - grad_centred.mean(), grads


@held_out(nf.Embeddings, ("weight",), r"averag|\bmean\b|\bcount|divided|how often|number of (times|uses|occ)|1/2")
def embeddings_repeats_averaged(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Divides the gradient of each token by how often it stands in the batch."""
    tokens, grad_weight = cache["tokens"], np.zeros_like(component.weight, dtype=grad_output.dtype)
    np.add.at(grad_weight, tokens, component.scale * grad_output)
    counts = np.bincount(tokens.ravel(), minlength=len(grad_weight))
    return None, {"weight": grad_weight / np.maximum(counts, 1)[:, None]}


@held_out(nf.Embeddings, ("weight",), r"\bscale|factor|√\s?d|sqrt|1/6|0\.16|divided")
def embeddings_divided_by_scale(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Divides by the scale where it should multiply by it."""
    grad_weight = np.zeros_like(component.weight, dtype=grad_output.dtype)
    np.add.at(grad_weight, cache["tokens"], grad_output / component.scale)
    return None, {"weight": grad_weight}


def _right_feed_forward(component: Any, grad_output: Array, cache: Tree) -> tuple[Array, Tree, Array]:
    grads: Tree = {}
    grad_hidden, grads["linear2"] = component.linear2.backward(grad_output, cache["linear2"])
    grad_active, grads["dropout"] = component.dropout.backward(grad_hidden, cache["dropout"])
    grad_hidden, grads["activation"] = component.activation.backward(grad_active, cache["activation"])
    grad_x, grads["linear1"] = component.linear1.backward(grad_hidden, cache["linear1"])
    return grad_x, grads, grad_active


@held_out(nf.PositionwiseFeedForward, ("linear1.bias",), r"activation|ReLU|positive|[xh]\w* > 0|too (early|late)")
def feed_forward_bias_from_before_the_activation(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Sums for linear1's bias the gradient that has not been taken back through the activation yet."""
    grad_x, grads, grad_active = _right_feed_forward(component, grad_output, cache)
    grads["linear1"]["bias"] = grad_active.reshape(-1, grad_active.shape[-1]).sum(0)
    return grad_x, grads


@held_out(nf.PositionwiseFeedForward, ("linear2.weight",), r"dropout|dropped|\bmask")
def feed_forward_weight_of_undropped(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Computes the gradient of linear2's weight with the activation from before the dropout."""
    grad_x, grads, _ = _right_feed_forward(component, grad_output, cache)
    undropped = component.activation(component.linear1(cache["linear1"]["x"]))
    grads["linear2"] = _right_linear(component.linear2, grad_output, {"x": undropped})[1]
    return grad_x, grads


def _right_update(component: Any, grad_sum: Array, cache: Tree) -> tuple[Array, Array, Tree]:
    grads: Tree = {}
    grad_update, grads["dropout"] = component.dropout.backward(grad_sum, cache["dropout"])
    grad_input, grads["sublayer"] = component.sublayer.backward(grad_update, cache["sublayer"])
    return grad_update, grad_input, grads


@held_out(nf.PreNormSublayerConnection, ("x",), r"residual|\bskip|identity|x → (y|output)|\+ x\b|\bx \+|straight")
def pre_norm_residual_through_dropout(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Takes the residual path through the dropout too: adds its gradient where grad_y itself belongs."""
    grad_update, grad_normed, grads = _right_update(component, grad_output, cache)
    grad_x, grads["norm"] = component.norm.backward(grad_normed, cache["norm"])
    return grad_update + grad_x, grads


@held_out(nf.PreNormSublayerConnection, ("x", "norm.weight", "norm.bias"), r"residual|\bskip|identity|x → (y|output)")
def pre_norm_residual_from_after_the_norm(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Joins the residual path to the other before the norm's backward, as if the fork stood after the norm."""
    _, grad_normed, grads = _right_update(component, grad_output, cache)
    grad_x, grads["norm"] = component.norm.backward(grad_normed + grad_output, cache["norm"])
    return grad_x, grads


@held_out(nf.PostNormSublayerConnection, ("x",), r"residual|\bskip|identity|x → (x \+|sum|norm|y|output)|\bnorm\b")
def post_norm_residual_past_the_norm(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Adds grad_y for the residual path, as in the pre-norm form: that path leads through the norm here."""
    grad_sum, norm_grads = component.norm.backward(grad_output, cache["norm"])
    _, grad_x, grads = _right_update(component, grad_sum, cache)
    return grad_output + grad_x, grads | {"norm": norm_grads}


@held_out(nf.PostNormSublayerConnection, ("x",), r"residual|\bskip|identity|x → (x \+|sum|norm)", r"twice|doubl|\b2\b")
def post_norm_residual_twice(component: Any, grad_output: Array, cache: Tree) -> tuple[Any, Tree]:
    """Adds the residual path at the end though it has been added already: it counts twice."""
    grad_sum, norm_grads = component.norm.backward(grad_output, cache["norm"])
    _, grad_x, grads = _right_update(component, grad_sum, cache)
    return grad_sum + (grad_sum + grad_x), grads | {"norm": norm_grads}
