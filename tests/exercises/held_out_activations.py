"""Held-out mistakes in softmax and GELU."""

from __future__ import annotations

import math

import numpy as np
from held_out_form import held_out

from npformer import GELU, Softmax
from npformer.component import Array, Tree
from npformer.special import erf, normal_cdf, normal_pdf


@held_out(
    Softmax,
    ("x",),
    r"sum|dot|Σ",
    r"wrong ax|ax[ie]s ?-?\d|other (rows|axis)|across rows|down|columns?|over (the )?(positions?|rows|batch)|"
    r"(must|should|not|instead).{0,30}last axis",
)
def softmax_sum_down_the_columns(component: Softmax, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The sum of grad_y·y runs over the rows (axis -2) and not over the last axis, that of the softmax."""
    y = cache["output"]
    return y * (grad_output - (grad_output * y).sum(-2, keepdims=True)), {}


@held_out(
    Softmax,
    ("x",),
    r"sum|dot|Σ",
    r"(factor|times|multipl\w+ (by|with)|weight\w* (by|with)) (the )?(y\b|output|softmax|probabilit)|unweighted|"
    r"not weighted|weighted sum|plain sum|inside the sum",
)
def softmax_plain_sum_of_grad(component: Softmax, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The sum is that of grad_y alone: its factor y is missing inside the sum."""
    y = cache["output"]
    return y * (grad_output - grad_output.sum(-1, keepdims=True)), {}


@held_out(
    Softmax,
    ("x",),
    r"log.?softmax|(first|leading|direct|grad_y) term|grad_y.{0,30}(not|without|lack|miss).{0,30}\by\b|"
    r"outer (factor )?y",
)
def softmax_as_if_of_its_logarithm(component: Softmax, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """This is the backward of log-softmax, grad_y - y Σ grad_y."""
    y = cache["output"]
    return grad_output - y * grad_output.sum(-1, keepdims=True), {}


@held_out(
    Softmax,
    ("x",),
    r"averag|\bmean\b|divid|1/(T|n|d)\b|coefficient.{0,60}0\.\d|factor.{0,30}(0\.\d|1/)|too small",
    r"sum|dot|Σ|second term",
)
def softmax_mean_for_sum(component: Softmax, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The sum of grad_y·y is a mean: it is divided by the length of the row."""
    y = cache["output"]
    return y * (grad_output - (grad_output * y).mean(-1, keepdims=True)), {}


@held_out(
    Softmax,
    ("x",),
    r"sum|dot|Σ|second",
    r"bracket|parenthes|outside|outer|both terms|(sum|dot|second term).{0,40}(not|lack|without|miss).{0,30}\by\b",
)
def softmax_bracket_lost(component: Softmax, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The bracket is lost: y multiplies grad_y only, and the sum is subtracted from every entry as it is."""
    y = cache["output"]
    return y * grad_output - (y * grad_output).sum(-1, keepdims=True), {}


@held_out(
    GELU,
    ("x",),
    r"φ|phi\b|density|pdf|exp|gauss|normal",
    r"exponent|exp\(|x²|x\^2|x\*\*2|x\*x|square|(density|pdf|φ) (itself )?is (wrong|too)|narrow",
)
def gelu_exponent_without_half(component: GELU, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The exponent of the density φ is -x² instead of -x²/2."""
    x = cache["x"]
    return grad_output * (cache["cdf"] + x * np.exp(-x * x) / math.sqrt(2 * math.pi)), {}


@held_out(
    GELU,
    ("x",),
    r"(?-i:φ)|phi\b|density|pdf|second term|derivative of erf|erf'",
    r"√ ?2|sqrt\(?2|1\.41|factor|coefficient|chain|constant",
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


@held_out(GELU, ("x",), r"negative|x ?< ?0|\babs|\|x\||left (side|half|tail)", r"sign|abs|\|x\||positive|second|term|φ")
def gelu_absolute_value(component: GELU, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The term x·φ has |x|, so that its sign is wrong where x is negative."""
    x = cache["x"]
    return grad_output * (cache["cdf"] + np.abs(x) * normal_pdf(x)), {}


@held_out(GELU, ("x",), r"(?-i:Φ)|cdf|distribution|erf\(x\)|first term", r"√ ?2|sqrt\(?2|argument|1\.41")
def gelu_erf_of_x(component: GELU, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """Φ is computed as (1 + erf(x)) / 2: the argument is not divided by √2."""
    x = cache["x"]
    return grad_output * ((1 + erf(x)) / 2 + x * normal_pdf(x)), {}


@held_out(GELU, ("x",), r"(?<!grad_)output|\by\b|gelu\(x\)|wrong variable|instead of x|not x\b|at x\b")
def gelu_slope_at_the_output(component: GELU, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The slope is taken at the output y instead of at the input x."""
    y = cache["x"] * cache["cdf"]
    return grad_output * (normal_cdf(y) + y * normal_pdf(y)), {}
