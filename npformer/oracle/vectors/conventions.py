"""What the arrays of conformance cases mean, field by field, for those who write the encoder in another language."""

from __future__ import annotations

from npformer.attention import MASKED_SCORE
from npformer.oracle.rounding import FORMATS
from npformer.oracle.tolerance import FLOOR, KINKED, RUNS, SHARED, SPREADS

FORMAT = "npformer conformance vectors 1"

TOLERANCE_RULE = (
    f"{SPREADS:g} standard deviations of what each entry becomes in {RUNS} runs with roundings at random (Parker 1997, "
    "Monte Carlo arithmetic; sizes of the roundings after Higham and Mary 2019, theorem 2.4), "
    f"plus {SPREADS * SHARED:g} of those of a typical entry of the array, plus {FLOOR:g} unit roundoffs of its "
    "root mean square"
)
EXACT_RULE = "the same, but gradients of keys and values that no query sees must be exactly 0"

REPRODUCIBILITY = (
    "the same machine, NumPy and number of BLAS threads give every file byte for byte; elsewhere inputs, parameters, "
    "masks and cotangents agree by sha256, and what is computed within the tolerances"
)

FORMATS_IN_WORDS = {
    name: f"unit roundoff 2^{exponent}, held in {FORMATS[name].held_in} arrays"
    for name, exponent in (("float64", -53), ("float32", -24), ("float16", -11), ("bfloat16", -8))
}

DEFAULTS = {
    "bias": True,
    "norm_first": True,
    "activation": "relu",
    "dropout": "0.1; of ScaledDotProductAttention, and of all that is packed or of variable lengths by itself, 0",
    "causal": False,
    "approximate": "none",
    "fully_masked": "uniform",
}  # of arguments that a recipe does not have

CONVENTIONS: dict[str, object] = {
    "mask": "uint8, 1 = may attend, 0 = masked; rows are queries, columns are keys; broadcasts to (batch, heads, T_q, "
    "T_k) by NumPy's rules",
    "causal_upper_left": "query i may attend to key j where j <= i",
    "causal_lower_right": "query i may attend to key j where j <= i + T_k - T_q",
    "masked_score": MASKED_SCORE,
    "masked_score_rule": "replaces the scaled score, and is not added to it; the score that was replaced gets no "
    "gradient; where a score is masked, scores and the gradients that only reach it are not compared",
    "fully_masked_rows": "uniform: attend to all keys equally, value gets its gradient, query and key get none; zero: "
    "output and all gradients of the row are 0; a recipe with fully_masked or VariableLengthAttention says zero, every "
    "other one is uniform; row_max, row_sum and logsumexp of such a row are not compared",
    "scale": "scores are query key^T times 1/sqrt(d_head), the size of a head of query and key",
    "heads": "(batch, heads, T, d_head); head h is the columns h d_head to (h + 1) d_head - 1 of (batch, T, d_model)",
    "row_max_row_sum": "the maximum of a row of scaled scores, and the sum of exp(score - maximum)",
    "logsumexp": "natural logarithm of the sum of exp(scaled score), row_max + log(row_sum)",
    "weights": "after dropout; softmax.output before it, where the two differ",
    "grad_weights": "gradient of the weights after dropout",
    "grad_scores": "gradient of the scaled scores, 0 where they are masked",
    "delta": "sum over the last axis of output * grad_output of the attention core",
    "self_attention": "where a case gives no key, key and value are query; grad_query is then the sum of all three",
    "multi_head_attention": "out_proj(merged(core(heads of q_proj(query), of k_proj(key), of v_proj(value)), mask)), "
    "the core with the rate of dropout of the recipe on its weights",
    "causal_variable_lengths": "the argument causal of VariableLengthAttention is causal_lower_right in each sequence",
    "feed_forward": "linear2(dropout(activation(linear1(x))))",
    "pre_norm": "PreNormSublayerConnection: y = x + dropout(sublayer(norm(x)))",
    "post_norm": "PostNormSublayerConnection: y = norm(x + dropout(sublayer(x)))",
    "encoder_layer": "self_attn, then feed_forward, each in a pre_norm, or where norm_first is false a post_norm; the "
    "rate of dropout is that of all four: weights, inside feed_forward, and both sublayers",
    "encoder": "the layers one after the other, then norm, or nothing where norm_first is false; a SharedEncoder "
    "applies its layer N times, with the number of the use in the names (layer.0, layer.1), then the norm of its "
    "recipe, if any",
    "token_encoder": "encoder(positions(embeddings(tokens))), where positions is dropout(x + table)",
    "bert_embeddings": "dropout(norm(word_embeddings[tokens] + position_embeddings[0..T-1] + "
    "token_type_embeddings[token_types])), eps 1e-12, no scale",
    "bert": "encoder: post-norm layers with exact gelu and eps 1e-12, no dropout inside feed_forward, no final norm; "
    "pooler: tanh(dense(hidden state of the first token)); BertEncoder gives the hidden states, BertModel what pooler "
    "makes of them",
    "softmax": "along the last axis",
    "norm_intermediates": "x_hat is the row after normalisation, before weight and bias; rstd 1/sqrt(variance + eps); "
    "std the standard deviation, without eps",
    "activation_intermediates": "of gelu cdf is Phi(x), or 0.5 (1 + tanh(...)) of the approximate form; of silu "
    "gate is 1 / (1 + exp(-x)); of relu positive is x > 0",
    "defaults": DEFAULTS,
    "linear": "y = x weight^T + bias with weight (d_out, d_in)",
    "packed_projection": "in_proj.weight (3 d_model, d_model): rows of the queries, then of the keys, then of the "
    "values; qkv (batch, T, 3, heads, d_head)",
    "variable_lengths": "sequences one behind the other without padding; sequence i is the rows cu_seqlens[i] to "
    "cu_seqlens[i + 1] - 1, int32; truth is computed from sequences padded with 0 to the longest, whose padding is "
    "masked; real, real_q and real_k say which places of the padded arrays hold a row",
    "layer_norm": "biased variance (divided by n), eps added to it inside the root; eps is that of the recipe, or 1e-5",
    "annotated_layer_norm": "standard deviation with n - 1, eps added to it outside the root; that of the recipe, or "
    "1e-6",
    "relu": "derivative 0 at 0",
    "gelu": "x Phi(x), exact; with approximate tanh 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))",
    "silu": "x / (1 + exp(-x))",
    "dropout": "inverted: x * mask / (1 - p); mask uint8, 1 = keep, given in arrays whose names end in mask and whose "
    "role is dropout mask; in their order, each dropout of the forward takes the next one",
    "embeddings": "weight[tokens] times the scale of the recipe, or sqrt(d_model)",
    "positions": "sin(pos / 10000^(2i/d_model)) in column 2i, cos of the same in column 2i + 1, from position 0",
    "gradient": "grad_NAME is the gradient of the sum of all entries of output * grad_output with respect to NAME; "
    "those of parameters are summed over batch and tokens; PART.grad_x is what flows back through this part alone, "
    "even where others, such as q_proj, k_proj and v_proj, have the same input",
    "names": "dotted paths of components; an array that passes several of them has one name, and the others as aliases",
    "storage": "inputs, parameters and grad_output are rounded to the storage format, to nearest, ties to even, before "
    "anything is computed from them",
    "rounding_points": "truth is computed in float64 and never rounded; tolerances are for an implementation that "
    "rounds every array of a case to the storage format as it is made, and sums in the accumulation format",
    "accumulation": "float64 for float64 storage, float32 for every other",
    "bfloat16": "arrays are float32 whose values are bfloat16 numbers",
    "booleans": "uint8, 0 or 1",
    "formats": FORMATS_IN_WORDS,
    "hidden_keys": "the NaN policy: inputs that a case lists under nan hold NaN where the mask hides a key from every "
    "query; truth is computed with 0 in its place; outputs must be finite and the gradients there exactly 0; garbage "
    "in other cases is finite, and must not matter either",
    "compared": "all entries, or those where the uint8 array NAME.compared of the tolerances is 1",
    "tolerances": "float64, one for each entry under the array's name: |theirs - truth| <= tolerance, and NaN never "
    "passes",
    "at_kinks": f"where NAME.at_kinks is given and more than {KINKED:g} times the tolerance, rounding decides on which "
    "side of a ReLU's kink an entry upstream lies, and at_kinks is the entry's tolerance",
    "sha256": "of an array: of its bytes in the file, little-endian and in C order",
}
