"""A checkpoint's head: its classes keep their numbers, and what is not fine-tuned must be trained."""

from __future__ import annotations

import pytest
from torch import nn

from slimformer.errors import CheckpointError
from slimformer.tasks.head import check_head, classes_of, in_order_of
from slimformer_text.text import Goal, Rows, Score, load_classifier
from slimformer_text.text_files import TextFiles
from tests.conftest import build_tiny, build_tokenizer


@pytest.fixture
def checkpoint(tmp_path) -> str:
    """A classifier whose classes do not stand in the order of the alphabet."""
    model = build_tiny("Bert")
    model.config.id2label, model.config.label2id = {0: "positive", 1: "negative"}, {"positive": 0, "negative": 1}
    model.save_pretrained(tmp_path / "ck")
    build_tokenizer().save_pretrained(tmp_path / "ck")
    return str(tmp_path / "ck")


@pytest.fixture
def table(tmp_path) -> str:
    rows = ["text,label", *(f"{'good' if i % 2 else 'bad'} film,{'positive' if i % 2 else 'negative'}" for i in range(40))]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    return str(tmp_path / "t.csv")


def test_classes_follow_the_checkpoint_where_the_names_are_the_same(checkpoint):
    assert classes_of(checkpoint) == ("positive", "negative")
    assert in_order_of(checkpoint, ("negative", "positive")) == ("positive", "negative")
    assert in_order_of(checkpoint, ("Negative", "POSITIVE")) == ("POSITIVE", "Negative")
    assert in_order_of(checkpoint, ("bad", "good")) == ("bad", "good")
    assert in_order_of(f"new:{checkpoint}", ("negative", "positive")) == ("negative", "positive")


def test_names_that_transformers_made_up_say_nothing(tmp_path):
    build_tiny("Bert").save_pretrained(tmp_path)
    assert classes_of(str(tmp_path)) == ()


def test_data_model_and_scores_have_the_checkpoint_s_numbers(checkpoint, table):
    task = TextFiles(train=table, validation=table, metric="f1", positive="positive")
    data, model = task.load(checkpoint), task.load_model(checkpoint, "sdpa")
    assert model.config.id2label == {0: "positive", 1: "negative"}
    assert [example["labels"] for example in data.evaluation["validation"]][:4] == [1, 0, 1, 0]
    check_head(model, checkpoint)


def test_f1_is_that_of_the_class_that_is_named_whatever_its_number(checkpoint):
    import numpy as np

    labels, logits = [0, 0, 0, 1], (np.array([[2.0, 1], [2, 1], [1, 2], [1, 2]]),)
    first = Goal(("a", "b"), ("f1",))
    assert Score({"x": labels}, first)("x", logits)["f1"] == pytest.approx(200 / 3)
    assert Score({"x": labels}, Goal(("a", "b"), ("f1",), "a"))("x", logits)["f1"] == pytest.approx(80)
    glue = Goal(("negative", "positive"), ("f1",)).following(checkpoint)
    assert (glue.classes, glue.positive_class) == (("positive", "negative"), 0)
    assert Rows([("x",)], [1]).renumbered([1, 0]).labels == [0]


def test_another_set_of_classes_is_refused_with_both_lists(checkpoint):
    model = load_classifier(checkpoint, "sdpa", Goal(("bad", "good"), ("accuracy",)))
    with pytest.raises(CheckpointError, match=r"classes are 'positive', 'negative', but the data's are 'bad', 'good'"):
        check_head(model, checkpoint)


def test_a_head_that_was_drawn_at_random_is_refused(tmp_path):
    build_tiny("Bert", "ForMaskedLM").save_pretrained(tmp_path)
    model: nn.Module = load_classifier(str(tmp_path), "sdpa", Goal(("bad", "good"), ("accuracy",)))
    with pytest.raises(CheckpointError, match=r"was drawn at random; set finetune.epochs to 1 or more"):
        check_head(model, str(tmp_path))
