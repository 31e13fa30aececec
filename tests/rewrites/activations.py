"""The activations and softmax in other forms."""

import math

import numpy as np

from npformer import GELU, ReLU, SiLU, Softmax, Tanh
from npformer.activations import SQRT_2_OVER_PI
from npformer.component import Array, Tree
from npformer.special import normal_cdf, saturated, sigmoid
from rewrites.registry import backward_of, forward_of


@backward_of(ReLU)
def chosen(relu: ReLU, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    return np.where(cache["positive"], grad_output, 0), {}


@backward_of(ReLU)
def assigned(relu: ReLU, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    grad_x = np.zeros_like(grad_output)
    grad_x[cache["positive"]] = grad_output[cache["positive"]]
    return grad_x, {}


@backward_of(GELU)
def product_rule(gelu: GELU, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    x, cdf = cache["x"], cache["cdf"]
    return grad_output * cdf + grad_output * x * gelu.slope(x, cdf), {}


@backward_of(GELU, only="GELU")
def density_as_one_exponential(gelu: GELU, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    x = saturated(cache["x"])
    density = np.exp(-(x * x + math.log(2 * math.pi)) / 2)
    return grad_output * (cache["cdf"] + x * density), {}


@backward_of(GELU, only="GELU, tanh")
def squared_hyperbolic_secant(gelu: GELU, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    x = saturated(cache["x"])
    decay = np.exp(-2 * np.abs(SQRT_2_OVER_PI * (x + 0.044715 * x**3)))
    slope = 0.5 * (4 * decay / (1 + decay) ** 2) * SQRT_2_OVER_PI * (1 + 3 * 0.044715 * x**2)
    return grad_output * (cache["cdf"] + x * slope), {}


@forward_of(GELU, only="GELU")
def right_half_through_the_left(gelu: GELU, x: Array) -> tuple[Array, Tree]:
    left = normal_cdf(-x * np.copysign(1, x.real))
    cdf = np.where(x.real > 0, 1 - left, left)
    return np.where(x.real > 0, x - x * left, x * left), {"x": x, "cdf": cdf}


@backward_of(SiLU)
def product_rule_of_the_gate(silu: SiLU, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    x, gate = cache["x"], cache["gate"]
    return grad_output * gate + grad_output * x * (gate * sigmoid(-x)), {}


@backward_of(SiLU)
def even_slope(silu: SiLU, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    x = cache["x"]
    decay = np.exp(-np.abs(x))
    return grad_output * (cache["gate"] + x * decay / (1 + decay) ** 2), {}


@backward_of(SiLU)
def softplus(silu: SiLU, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    x = cache["x"]
    return grad_output * np.exp(-np.logaddexp(0, -x)) * (1 + x * np.exp(-np.logaddexp(0, x))), {}


@backward_of(Tanh)
def factored(tanh: Tanh, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    y = cache["output"]
    return grad_output * ((1 - y) * (1 + y)), {}


@backward_of(Tanh)
def multiplied_out(tanh: Tanh, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    y = cache["output"]
    return grad_output - grad_output * y * y, {}


@forward_of(Tanh)
def through_exponentials(tanh: Tanh, x: Array) -> tuple[Array, Tree]:
    sign = np.copysign(1, x.real).astype(x.real.dtype)
    decay = np.expm1(-2 * x * sign)
    output = -sign * decay / (2 + decay)
    return output, {"output": output}


@backward_of(Softmax)
def explicit_jacobian(softmax: Softmax, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    y = cache["output"]
    jacobian = np.eye(y.shape[-1], dtype=y.dtype) * y[..., None] - y[..., None] * y[..., None, :]
    return np.einsum("...i,...ij->...j", grad_output, jacobian), {}


@backward_of(Softmax)
def distributed(softmax: Softmax, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    products = grad_output * cache["output"]
    return products - cache["output"] * products.sum(-1, keepdims=True), {}


@backward_of(Softmax)
def pairwise_differences(softmax: Softmax, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    y = cache["output"]
    differences = grad_output[..., None] - grad_output[..., None, :]
    return y * (y[..., None, :] * differences).sum(-1), {}


@backward_of(Softmax)
def output_by_output(softmax: Softmax, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    y = cache["output"]
    identity = np.eye(y.shape[-1], dtype=y.dtype)
    terms = ((grad_output * y)[..., i, None] * (identity[i] - y) for i in reversed(range(y.shape[-1])))
    return sum(terms), {}


@backward_of(Softmax)
def centred_cotangent(softmax: Softmax, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    y = cache["output"]
    centred = grad_output - grad_output.mean(-1, keepdims=True)
    return y * (centred - (centred * y).sum(-1, keepdims=True)), {}


@forward_of(Softmax)
def log_sum_exp(softmax: Softmax, x: Array) -> tuple[Array, Tree]:
    shifted = x - x.real.max(-1, keepdims=True)  # the logarithm alone: -1e9 + log T would lose log T
    output = np.exp(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))
    return output, {"output": output}


@forward_of(Softmax)
def summed_in_reverse(softmax: Softmax, x: Array) -> tuple[Array, Tree]:
    powers = np.exp(x - x.real.max(-1, keepdims=True))
    output = powers / powers[..., ::-1].cumsum(-1)[..., -1:]
    return output, {"output": output}
