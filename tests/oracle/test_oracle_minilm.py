"""Every parameter gradient of a real model of 22.7 million parameters, proven by complex step without PyTorch."""

import pytest

from npformer import BertEncoder, BertModel, flatten
from npformer.gradcheck import Report, check_gradients
from npformer.mistakes import MISTAKES, plant
from npformer.oracle.pretrained import Pretrained, load_bert

SENTENCES = ["Snow fell overnight.", "Where did you leave the keys?"]  # few and short, since each forward is complex


@pytest.fixture(scope="module")
def bert() -> Pretrained:
    try:
        return load_bert()
    except ImportError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="module")
def report(bert: Pretrained) -> Report:
    tokens, mask = bert.encode(SENTENCES)
    assert not mask.all()  # there is padding
    return check_gradients(bert.model, tokens, mask=mask, directions=1, jointly=True)


def test_every_gradient_is_proven_along_a_direction(bert: Pretrained, report: Report) -> None:
    parameters = flatten(bert.model.parameters())
    assert sum(array.size for array in parameters.values()) == 22_713_216
    assert [check.name for check in report.checks] == list(parameters)
    assert report.verdict == "PASS", report


def test_key_biases_which_are_0_in_truth_are_measured_by_their_terms(report: Report) -> None:
    by_terms = [check.name for check in report.checks if check.yardstick == "terms"]
    assert {name for name in by_terms if name.endswith(".k_proj.bias")} == {
        f"encoder.encoder.layers.{index}.self_attn.sublayer.k_proj.bias" for index in range(6)
    }
    assert max(check.error for check in report.checks if check.yardstick == "largest") <= 1e-13  # the checker's own


def test_a_wrong_gradient_of_this_model_is_rejected(bert: Pretrained) -> None:
    assert isinstance(bert.model, BertModel)
    assert isinstance(bert.model.encoder, BertEncoder)
    mistake = MISTAKES["BertEmbeddings.positions_of_the_first_item_alone"]
    wrong = BertEncoder(plant(mistake, bert.model.encoder.embeddings), bert.model.encoder.encoder)
    tokens, mask = bert.encode(SENTENCES)
    name = "embeddings.position_embeddings.weight"
    assert check_gradients(wrong, tokens, mask=mask, directions=1, only=[name]).verdict == "FAIL"
