"""What an export compares: every tensor that a model returns, at two input shapes, and every tensor that it holds."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
import transformers
from torch import Tensor, nn

from slimformer.errors import ExportError
from slimformer.export.check import check_same, difference, named_tensors, two_shapes
from tests.conftest import build_tiny


@dataclass
class Answer:
    scores: Tensor
    parts: tuple[Tensor, ...]


class Holder:
    def __init__(self, tensor: Tensor) -> None:
        self.layers = [{"keys": tensor}]


def test_tensors_are_found_in_mappings_sequences_dataclasses_and_objects():
    one = torch.zeros(1)
    found = dict(named_tensors({"a": one, "b": [Answer(one, (one, one)), None, "text"], "c": Holder(one)}))
    assert list(found) == ["a", "b.0.scores", "b.0.parts.0", "b.0.parts.1", "c.layers.0.keys"]


def test_a_plain_tensor_is_found():
    assert list(dict(named_tensors(torch.zeros(1)))) == ["output"]


@pytest.mark.parametrize(
    ("one", "other", "word"),
    [
        ({"a": torch.ones(2)}, {"b": torch.ones(2)}, "name"),
        ({"a": torch.ones(2)}, {"a": torch.ones(3)}, "shape"),
        ({"a": torch.ones(2)}, {"a": torch.tensor([1.0, 1.001])}, "a differ by"),
        ({"a": torch.tensor([1, 2])}, {"a": torch.tensor([1, 3])}, "a differ by"),
        ({"a": torch.ones(2)}, {"a": torch.tensor([1.0, torch.nan])}, "a differ by"),
        ({"a": torch.tensor([1.0, torch.inf])}, {"a": torch.tensor([1.0, -torch.inf])}, "a differ by"),
        ({"a": torch.tensor([0.0, torch.nan])}, {"a": torch.tensor([torch.nan, 0.0])}, "a differ by"),
    ],
)
def test_what_differs_is_named(one, other, word):
    assert word in difference(one, other)


def test_float_error_and_equal_infinities_are_no_difference():
    one = torch.tensor([1.0, -torch.inf, torch.nan])
    assert difference({"a": one}, {"a": one + torch.tensor([1e-6, 0, 0])}) == ""
    assert difference({"a": one}, {"a": one + torch.tensor([1e-6, 0, 0])}, tolerance=0)


def test_a_lost_tensor_that_no_output_shows_is_a_difference(batch):
    model, other = build_tiny("Bert"), build_tiny("Bert")
    other.bert.embeddings.word_embeddings.weight.data[59] += 1  # a token that the example does not have
    inputs = {"input_ids": batch["input_ids"].clamp(max=50)}
    with pytest.raises(ExportError, match=r"bert.embeddings.word_embeddings.weight differ by .*; nothing was written"):
        check_same(model, other, inputs)


@pytest.mark.parametrize("name", ["pooler_output", "last_hidden_state"])
def test_a_body_without_logits_is_compared(name):
    model, other = build_tiny("Bert", "Model"), build_tiny("Bert", "Model")
    layer = other.pooler.dense if name == "pooler_output" else other.encoder.layer[1].output.LayerNorm
    layer.weight.data.zero_()
    with pytest.raises(ExportError, match=f"{name} differ by"):
        check_same(model, other, {"input_ids": torch.arange(10).view(2, 5)})


class KnowsOneLength(nn.Module):
    """A model that is another function for a batch of another size."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x if len(x) == 2 else self.factor * x


def test_a_difference_that_another_batch_size_shows_is_found():
    with pytest.raises(ExportError, match="output differ by"):
        check_same(KnowsOneLength(1.0), KnowsOneLength(2.0), {"x": torch.randn(2, 3)})


def test_the_second_batch_has_another_size_and_length_and_ids_are_varied():
    model = transformers.BertModel(build_tiny("Bert").config)
    ids = torch.full((2, 9), 5)
    first, second = two_shapes(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    assert (first["input_ids"].shape, second["input_ids"].shape) == ((2, 9), (3, 6))
    assert (first["attention_mask"].shape, second["attention_mask"].shape) == ((2, 9), (3, 6))
    assert len(first["input_ids"].unique()) > 5
    assert first["attention_mask"].all()
