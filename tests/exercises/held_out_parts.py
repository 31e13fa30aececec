"""Held-out mistakes in the linear map, dropout and embeddings."""

from __future__ import annotations

import numpy as np
from held_out_form import held_out

from npformer import Dropout, Embeddings, Linear
from npformer.component import Array, Tree


@held_out(
    Linear, ("bias",), r"averag|\bmean\b|divid|number of rows|factor.{0,40}(1/|0\.\d)|0\.\d+ ?(times|×)|too small|1/\d"
)
def linear_bias_is_a_mean(component: Linear, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The gradient of the bias is the mean over the rows, not their sum."""
    grad_x, grads = component.backward(grad_output, cache)
    return grad_x, {"weight": grads["weight"], "bias": grad_output.reshape(-1, grad_output.shape[-1]).mean(0)}


@held_out(Linear, ("bias",), r"batch|sample|leading ax", r"\bsum|\badd|only|miss|lost|left out")
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


@held_out(
    Linear,
    ("weight", "bias"),
    r"averag|mean (of|over)|divid|half|halv|0\.50* ?(times|×)|1/2|factor.{0,30}0\.5|too small|1/B\b",
)
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


@held_out(
    Dropout,
    ("x",),
    r"scal|factor|1 ?/|divid|times",
    r"1/p\b|by p\b|\brate\b|1 ?- ?p|keep|kept|factor (of )?3|3(\.0+)? times",
)
def dropout_one_over_p(component: Dropout, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The kept entries are divided by the rate p of dropping, not by 1 - p, that of keeping."""
    return (grad_output * cache["mask"] / component.p if "mask" in cache else grad_output), {}


@held_out(
    Dropout, ("x",), r"scal|factor|divid", r"1 ?- ?p|measured|actual|fraction|share|expect|constant|ratio|happened"
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


@held_out(
    Embeddings, ("weight",), r"repeat|occur|more than once|uses|several", r"averag|\bmean\b|divid|add(ed)? up|\bsum"
)
def embeddings_mean_of_repeats(component: Embeddings, grad_output: Array, cache: Tree) -> tuple[None, Tree]:
    """The gradients of a repeated token are averaged; they should add up."""
    tokens = cache["tokens"]
    counts = np.bincount(tokens.ravel(), minlength=len(component.weight))
    sums = _scattered(component, tokens, component.scale * grad_output)
    return None, {"weight": sums / np.maximum(counts, 1)[:, None]}


@held_out(
    Embeddings, ("weight",), r"scale|√|sqrt|d_model", r"divid|invers|instead|1/scale|by 1/|scale²|d_model times|factor"
)
def embeddings_divided_by_scale(component: Embeddings, grad_output: Array, cache: Tree) -> tuple[None, Tree]:
    """The gradient is divided by the scale instead of multiplied."""
    return None, {"weight": _scattered(component, cache["tokens"], grad_output / component.scale)}


@held_out(
    Embeddings, ("weight",), r"shift|off.by.one|neighbo|(wrong|other|next|previous|one) row|index|v ?- ?1|moved|counted"
)
def embeddings_counted_from_one(component: Embeddings, grad_output: Array, cache: Tree) -> tuple[None, Tree]:
    """The gradient of token v goes to row v - 1, as if tokens counted from one."""
    return None, {"weight": _scattered(component, cache["tokens"] - 1, component.scale * grad_output)}


@held_out(
    Embeddings,
    ("weight",),
    r"repeat|occur|more than once|duplicat|every use|all uses",
    r"add(ed)? up|\bsum|accum|only|lost|miss",
)
def embeddings_first_use_only(component: Embeddings, grad_output: Array, cache: Tree) -> tuple[None, Tree]:
    """A repeated token gets the gradient of its first use only."""
    tokens, first = np.unique(cache["tokens"], return_index=True)
    grad_rows = grad_output.reshape(-1, grad_output.shape[-1])[first]
    return None, {"weight": _scattered(component, tokens, component.scale * grad_rows)}
