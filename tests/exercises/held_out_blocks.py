"""Held-out mistakes in the feed-forward network and in the residual connections."""

from __future__ import annotations

from held_out_form import held_out

from npformer import PositionwiseFeedForward, PostNormSublayerConnection, PreNormSublayerConnection
from npformer.component import Array, Tree

# Those of an attention as sublayer. The bias of k_proj is missing: its gradient is 0 whatever arrives.
SUBLAYER = (
    *("sublayer.q_proj.weight", "sublayer.q_proj.bias", "sublayer.k_proj.weight", "sublayer.v_proj.weight"),
    *("sublayer.v_proj.bias", "sublayer.out_proj.weight", "sublayer.out_proj.bias"),
)


@held_out(
    PositionwiseFeedForward,
    ("x", "linear1.weight", "linear1.bias"),
    r"activation|relu",
    r"sign|positive|negative|pre.?activation|forward's|(of|by) the gradient|grad\w* ?> ?0",
)
def activation_by_sign_of_gradient(
    component: PositionwiseFeedForward, grad_output: Array, cache: Tree
) -> tuple[Array, Tree]:
    """The ReLU passes the gradient where the gradient itself is positive, not where forward's input was."""
    _, grads = component.backward(grad_output, cache)
    grad_hidden, _ = component.linear2.backward(grad_output, cache["linear2"])
    grad_hidden, _ = component.dropout.backward(grad_hidden, cache["dropout"])
    grad_x, grads_of_1 = component.linear1.backward(grad_hidden * (grad_hidden > 0), cache["linear1"])
    return grad_x, {**grads, "linear1": grads_of_1}


@held_out(
    PositionwiseFeedForward, ("linear2.weight",), r"dropout|dropped|\bmask\b", r"linear2|hidden|weight|input|activation"
)
def linear2_input_before_dropout(
    component: PositionwiseFeedForward, grad_output: Array, cache: Tree
) -> tuple[Array, Tree]:
    """The gradient of linear2's weight is made with the hidden values before dropout."""
    grad_x, grads = component.backward(grad_output, cache)
    hidden, _ = component.activation.forward(component.linear1(cache["linear1"]["x"]))
    _, grads_of_2 = component.linear2.backward(grad_output, {"x": hidden})
    return grad_x, {**grads, "linear2": {**grads["linear2"], "weight": grads_of_2["weight"]}}


@held_out(
    PositionwiseFeedForward,
    ("linear1.weight", "linear1.bias"),
    r"linear1|parameter|weight|bias",
    r"(before|without|skip|past|through|forgot|miss|lack|left out|slope).{0,40}(activation|relu)|"
    r"(activation|relu).{0,40}(miss|forgot|skip|left out|lack|not\b|slope)",
)
def linear1_parameters_before_activation(
    component: PositionwiseFeedForward, grad_output: Array, cache: Tree
) -> tuple[Array, Tree]:
    """The parameters of linear1, but not x, get the gradient from before the activation's backward."""
    grad_x, grads = component.backward(grad_output, cache)
    grad_hidden, _ = component.linear2.backward(grad_output, cache["linear2"])
    grad_hidden, _ = component.dropout.backward(grad_hidden, cache["dropout"])
    return grad_x, {**grads, "linear1": component.linear1.backward(grad_hidden, cache["linear1"])[1]}


@held_out(
    PositionwiseFeedForward,
    ("x",),
    r"residual|skip|identity|grad_output|grad_y",
    r"no residual|extra|too much|should not|was added|is added|surplus|not belong|one too many|there is no|as if",
)
def feed_forward_with_residual(
    component: PositionwiseFeedForward, grad_output: Array, cache: Tree
) -> tuple[Array, Tree]:
    """grad_output is added to grad_x, as if there were a residual path in the network itself."""
    grad_x, grads = component.backward(grad_output, cache)
    return grad_x + grad_output, grads


@held_out(
    PreNormSublayerConnection,
    ("x", "norm.weight", "norm.bias"),
    r"residual|skip|identity|fork",
    r"(through|inside|before|into|behind).{0,20}norm|norm.{0,40}(too\b|outside|bypass)",
)
def residual_through_the_norm(
    component: PreNormSublayerConnection, grad_output: Array, cache: Tree
) -> tuple[Array, Tree]:
    """The residual path joins before the norm, so that it goes back through the norm too."""
    _, grads = component.backward(grad_output, cache)
    grad_update, _ = component.dropout.backward(grad_output, cache["dropout"])
    grad_normed, _ = component.sublayer.backward(grad_update, cache["sublayer"])
    grad_x, grads_of_norm = component.norm.backward(grad_output + grad_normed, cache["norm"])
    return grad_x, {**grads, "norm": grads_of_norm}


@held_out(PreNormSublayerConnection, ("x",), r"residual|skip|identity", r"dropout|dropped|mask|scale|1 ?- ?p")
def residual_through_the_dropout(
    component: PreNormSublayerConnection, grad_output: Array, cache: Tree
) -> tuple[Array, Tree]:
    """The residual path goes back through the dropout, which is on the sublayer's path only."""
    grad_x, grads = component.backward(grad_output, cache)
    grad_update, _ = component.dropout.backward(grad_output, cache["dropout"])
    return grad_x - grad_output + grad_update, grads


@held_out(
    PreNormSublayerConnection,
    ("x",),
    r"grad_output|grad_y|identity|residual|skip|fork",
    r"grad_normed|gradient of (the )?norm|normed|norm.{0,30}(twice|instead|skip|bypass)|wrong variable|"
    r"residual.{0,30}(miss|forgot|left out)",
)
def residual_is_grad_normed(
    component: PreNormSublayerConnection, grad_output: Array, cache: Tree
) -> tuple[Array, Tree]:
    """Wrong variable at the fork: the gradient of the normed x is added where grad_output should be."""
    grad_x, grads = component.backward(grad_output, cache)
    grad_update, _ = component.dropout.backward(grad_output, cache["dropout"])
    grad_normed, _ = component.sublayer.backward(grad_update, cache["sublayer"])
    return grad_x - grad_output + grad_normed, grads


@held_out(
    PostNormSublayerConnection,
    ("x", *SUBLAYER),
    r"norm",
    r"grad_sum|(past|skip\w*|bypass\w*|around|without|not .{0,25}through|miss\w*|forgot\w*) .{0,25}norm|"
    r"(sublayer|branch|path).{0,30}(starts|grad_output)|norm.{0,30}(skip|miss|forgot|left out|bypass)",
)
def branch_past_the_norm(component: PostNormSublayerConnection, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The sublayer's path starts from grad_output: only the residual path has gone back through the norm."""
    grad_sum, grads_of_norm = component.norm.backward(grad_output, cache["norm"])
    grad_update, _ = component.dropout.backward(grad_output, cache["dropout"])
    grad_x, grads_of_sublayer = component.sublayer.backward(grad_update, cache["sublayer"])
    return grad_sum + grad_x, {"norm": grads_of_norm, "sublayer": grads_of_sublayer, "dropout": {}}


@held_out(
    PostNormSublayerConnection, ("x",), r"norm", r"twice|\bagain\b|second time|double|two times|once (more|too)|already"
)
def norm_undone_twice(component: PostNormSublayerConnection, grad_output: Array, cache: Tree) -> tuple[Array, Tree]:
    """The sum of the two paths is taken back through the norm a second time."""
    grad_x, grads = component.backward(grad_output, cache)
    return component.norm.backward(grad_x, cache["norm"])[0], grads


@held_out(
    PostNormSublayerConnection,
    ("x", *SUBLAYER),
    r"dropout|dropped",
    r"order|after|before|swap|too late|wrong place|earlier",
)
def dropout_undone_after_sublayer(
    component: PostNormSublayerConnection, grad_output: Array, cache: Tree
) -> tuple[Array, Tree]:
    """Wrong order: the gradient goes back through the sublayer first and through its dropout afterwards."""
    grad_sum, grads_of_norm = component.norm.backward(grad_output, cache["norm"])
    grad_update, grads_of_sublayer = component.sublayer.backward(grad_sum, cache["sublayer"])
    grad_x, _ = component.dropout.backward(grad_update, cache["dropout"])
    return grad_sum + grad_x, {"norm": grads_of_norm, "sublayer": grads_of_sublayer, "dropout": {}}
