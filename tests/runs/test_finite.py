"""Weights, scores and logits that are no finite numbers stop a run, and scores that order nothing are refused or named."""

import pytest
import torch

from slimformer.errors import RunError
from slimformer.runs.finite import check_scores, check_weights
from slimformer.tasks.evaluation import evaluate
from tests.tiny import tiny_data


class Lines:
    """A report that keeps its lines."""

    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_named_with_the_stage_and_a_remedy(bert, value):
    check_weights(bert, "after stage 'width'")
    bert.classifier.weight.data[0, 0] = value
    with pytest.raises(
        RunError, match=r"after stage 'width' the weight classifier\.weight .* nan or infinite: .*learning_rate"
    ):
        check_weights(bert, "after stage 'width'")


def test_a_score_that_is_not_finite_is_named(bert):
    with pytest.raises(RunError, match=r"importance scores of a have values that are nan or infinite"):
        check_scores({"a": torch.tensor([1.0, float("nan")])}, True, Lines())


def test_scores_that_are_all_zero_are_refused_and_one_such_group_is_named():
    zero, some, report = torch.zeros(2), torch.ones(2), Lines()
    with pytest.raises(RunError, match="every importance score is 0"):
        check_scores({"a": zero, "b": zero}, True, report)
    check_scores({"a": zero, "b": some}, True, report)
    assert [line for line in report.said if "importance scores of a are 0" in line] == report.said != []
    check_scores({"a": zero}, False, report)


def test_logits_that_are_nan_are_not_scored(bert):
    data = tiny_data()
    evaluate(bert, data, "validation", 4)
    bert.classifier.weight.data[0, 0] = float("nan")
    with pytest.raises(RunError, match="logits are nan"):
        evaluate(bert, data, "validation", 4)
