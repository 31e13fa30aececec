"""Held-out mistakes in softmax, the linear map, GELU, dropout and embeddings."""

from __future__ import annotations

import math

import numpy as np
from held_out_form import held_out

from npformer import GELU, Dropout, Embeddings, Linear, Softmax
from npformer.component import Array, Tree
from npformer.special import erf, normal_cdf, normal_pdf


@held_out(Softmax, ("x",), r"sum|dot|Σ|total", r"\baxis\b|\baxes\b|column|other rows|across rows|dimension")
def softmax_sum_down_the_columns(component: Softmax, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The sum of grad_y·y runs over the rows (axis -2) and not over the last axis, that of the softmax."""
    y = cache["output"]
    return y * (grad_output - (grad_output * y).sum(-2, keepdims=True)), {}


@held_out(Softmax, ("x",), r"sum|dot|Σ|second term", r"times y|\by\b|y_i|weighted|probabilit|output|softmax itself")
def softmax_plain_sum_of_grad(component: Softmax, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The sum is that of grad_y alone: its factor y is missing inside the sum."""
    y = cache["output"]
    return y * (grad_output - grad_output.sum(-1, keepdims=True)), {}


@held_out(Softmax, ("x",), r"log.?softmax|first term|factor (of )?(y|the output)|times y|multipl\w+ by (y|the output)")
def softmax_as_if_of_its_logarithm(component: Softmax, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """This is the backward of log-softmax, grad_y - y Σ grad_y."""
    y = cache["output"]
    return grad_output - y * grad_output.sum(-1, keepdims=True), {}


@held_out(
    Softmax, ("x",), r"mean|averag|divid|coefficient|factor|1/(T|n|d|6)|too small|count", r"sum|dot|Σ|second term"
)
def softmax_mean_for_sum(component: Softmax, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The sum of grad_y·y is a mean: it is divided by the length of the row."""
    y = cache["output"]
    return y * (grad_output - (grad_output * y).mean(-1, keepdims=True)), {}


@held_out(Softmax, ("x",), r"sum|dot|Σ|second term", r"times y|factor|\by\b|output|bracket|parenthes|multipl")
def softmax_bracket_lost(component: Softmax, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The bracket is lost: y multiplies grad_y only, and the sum is subtracted from every entry as it is."""
    y = cache["output"]
    return y * grad_output - (y * grad_output).sum(-1, keepdims=True), {}


@held_out(Linear, ("bias",), r"mean|averag|divid|number of rows|factor|too small|1/")
def linear_bias_is_a_mean(component: Linear, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The gradient of the bias is the mean over the rows, not their sum."""
    grad_x, grads = component.backward(grad_output, cache)
    return grad_x, {"weight": grads["weight"], "bias": grad_output.reshape(-1, grad_output.shape[-1]).mean(0)}


@held_out(Linear, ("bias",), r"batch|sample|rows|leading ax|every row|all ax", r"sum|add|only|miss|lost|left out")
def linear_bias_of_the_last_sample(component: Linear, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The gradient of the bias is summed over the positions of the last sample; the rest of the batch is lost."""
    grad_x, grads = component.backward(grad_output, cache)
    return grad_x, {"weight": grads["weight"], "bias": grad_output[-1].reshape(-1, grad_output.shape[-1]).sum(0)}


@held_out(Linear, ("weight",), r"reshap|transpos|order|layout|scrambl|mixed up|shuffl|permut")
def linear_reshape_for_transpose(component: Linear, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """grad_y is reshaped to (d_out, rows) where it should be transposed, which scrambles its entries."""
    grad_x, grads = component.backward(grad_output, cache)
    d_out, d_in = component.weight.shape
    return grad_x, {**grads, "weight": grad_output.reshape(d_out, -1) @ cache["x"].reshape(-1, d_in)}


@held_out(Linear, ("weight", "bias"), r"batch|sample|rows|1/2", r"divid|mean|averag|factor|half|halv|too small|1/")
def linear_divided_by_batch(component: Linear, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The gradients of weight and bias are divided by the batch size, as if the loss had not done that already."""
    grad_x, grads = component.backward(grad_output, cache)
    return grad_x, {name: grad / len(cache["x"]) for name, grad in grads.items()}


@held_out(Linear, ("weight",), r"shift|off.by.one|previous|next|neighbo|misalign|slice|wrong (row|position|token)|pair")
def linear_weight_one_position_late(component: Linear, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The gradient of the weight pairs each grad_y with the x of the next position (slices off by one)."""
    grad_x, grads = component.backward(grad_output, cache)
    weight = np.einsum("bto,bti->oi", grad_output[:, :-1], cache["x"][:, 1:])
    return grad_x, {**grads, "weight": weight}


@held_out(GELU, ("x",), r"φ|phi|density|pdf|exp|gauss|normal", r"half|exponent|/ ?2|0\.5|x²|square")
def gelu_exponent_without_half(component: GELU, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The exponent of the density φ is -x² instead of -x²/2."""
    x = cache["x"]
    return grad_output * (cache["cdf"] + x * np.exp(-x * x) / math.sqrt(2 * math.pi)), {}


@held_out(
    GELU, ("x",), r"φ|phi|density|pdf|second term|erf|gauss", r"√ ?2|sqrt|1\.41|factor|coefficient|chain|constant"
)
def gelu_inner_derivative_of_erf_lost(component: GELU, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The derivative of erf(x/√2) lacks its inner derivative 1/√2: the term x·φ is √2 times too large."""
    x = cache["x"]
    return grad_output * (cache["cdf"] + x / 2 * (2 / math.sqrt(math.pi)) * np.exp(-x * x / 2)), {}


@held_out(
    GELU, ("x",), r"grad_y|grad_output|upstream|incoming|bracket|parenthes|chain", r"second|x ?[·*]? ?(φ|pdf)|term|φ"
)
def gelu_second_term_without_grad(component: GELU, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """Only Φ(x) is multiplied by grad_y: the term x·φ(x) is added without it."""
    x = cache["x"]
    return grad_output * cache["cdf"] + x * normal_pdf(x), {}


@held_out(GELU, ("x",), r"negative|x ?< ?0|sign|\babs|\|x\||left", r"φ|phi|density|pdf|second|term|x")
def gelu_absolute_value(component: GELU, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The term x·φ has |x|, so that its sign is wrong where x is negative."""
    x = cache["x"]
    return grad_output * (cache["cdf"] + np.abs(x) * normal_pdf(x)), {}


@held_out(GELU, ("x",), r"Φ|cdf|erf|distribution|first term", r"√ ?2|sqrt|scale|x ?/|argument|inside|1\.41|factor")
def gelu_erf_of_x(component: GELU, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """Φ is computed as (1 + erf(x)) / 2: the argument is not divided by √2."""
    x = cache["x"]
    return grad_output * ((1 + erf(x)) / 2 + x * normal_pdf(x)), {}


@held_out(GELU, ("x",), r"output|\by\b|gelu\(x\)|wrong variable|instead of x|not x|at x|argument")
def gelu_slope_at_the_output(component: GELU, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The slope is taken at the output y instead of at the input x."""
    y = cache["x"] * cache["cdf"]
    return grad_output * (normal_cdf(y) + y * normal_pdf(y)), {}


@held_out(Dropout, ("x",), r"scal|factor|1 ?/|divid|times too", r"\bp\b|1 ?- ?p|rate|keep|kept")
def dropout_one_over_p(component: Dropout, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The kept entries are divided by the rate p of dropping, not by 1 - p, that of keeping."""
    return (grad_output * cache["mask"] / component.p if "mask" in cache else grad_output), {}


@held_out(
    Dropout, ("x",), r"scal|factor|divid|1 ?/|rate", r"1 ?- ?p|measured|actual|fraction|expect|count|constant|ratio"
)
def dropout_divided_by_what_was_kept(component: Dropout, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The kept entries are divided by the share that this mask happened to keep, not by 1 - p as in forward."""
    return (grad_output * cache["mask"] / cache["mask"].mean() if "mask" in cache else grad_output), {}


@held_out(Dropout, ("x",), r"mask", r"batch|sample|broadcast|first|own|different|other|not the")
def dropout_mask_of_the_first_sample(component: Dropout, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The mask of the first sample is used for the whole batch."""
    return (grad_output * cache["mask"][:1] / (1 - component.p) if "mask" in cache else grad_output), {}


@held_out(
    Dropout, ("x",), r"mask|kept|dropped", r"invert|complement|opposite|revers|1 ?- ?mask|~|where.*dropped|swap|negat"
)
def dropout_complement(component: Dropout, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The gradient passes where forward dropped and stops where it kept."""
    return (np.where(cache["mask"], 0.0, grad_output) / (1 - component.p) if "mask" in cache else grad_output), {}


def _scattered(component: Embeddings, tokens: Array, grad_output: Array) -> Array:
    grad_weight = np.zeros_like(component.weight)
    np.add.at(grad_weight, tokens, grad_output)
    return grad_weight


@held_out(Embeddings, ("weight",), r"repeat|occur|count|several|more than once|uses", r"mean|averag|divid|add|sum")
def embeddings_mean_of_repeats(component: Embeddings, grad_output: Array, cache: Tree) -> tuple[None, Tree]:
    """The gradients of a repeated token are averaged; they should add up."""
    tokens = cache["tokens"]
    counts = np.bincount(tokens.ravel(), minlength=len(component.weight))
    sums = _scattered(component, tokens, component.scale * grad_output)
    return None, {"weight": sums / np.maximum(counts, 1)[:, None]}


@held_out(Embeddings, ("weight",), r"scale|√|sqrt|d_model|factor", r"divid|inver|instead|1/|factor|multipl|too small")
def embeddings_divided_by_scale(component: Embeddings, grad_output: Array, cache: Tree) -> tuple[None, Tree]:
    """The gradient is divided by the scale instead of multiplied."""
    return None, {"weight": _scattered(component, cache["tokens"], grad_output / component.scale)}


@held_out(Embeddings, ("weight",), r"shift|off.by.one|neighbo|wrong row|index|another row|other row|row above|moved")
def embeddings_counted_from_one(component: Embeddings, grad_output: Array, cache: Tree) -> tuple[None, Tree]:
    """The gradient of token v goes to row v - 1, as if tokens counted from one."""
    return None, {"weight": _scattered(component, cache["tokens"] - 1, component.scale * grad_output)}


@held_out(
    Embeddings, ("weight",), r"repeat|occur|more than once|duplicat|every use|all uses", r"add|sum|accum|only|lost|miss"
)
def embeddings_first_use_only(component: Embeddings, grad_output: Array, cache: Tree) -> tuple[None, Tree]:
    """A repeated token gets the gradient of its first use only."""
    tokens, first = np.unique(cache["tokens"], return_index=True)
    grad_rows = grad_output.reshape(-1, grad_output.shape[-1])[first]
    return None, {"weight": _scattered(component, tokens, component.scale * grad_rows)}
