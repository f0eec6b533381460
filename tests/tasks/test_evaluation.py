"""Predictions in the examples' order, and metrics that do not depend on how examples are batched."""

import numpy as np
import pytest
import torch

from slimformer.tasks import batches, evaluate, predict
from tests.tiny import collate, tiny_data

EXAMPLES = tiny_data().evaluation["validation"]


def inputs_of(batch):
    return {name: tensor for name, tensor in batch.items() if name != "labels"}


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_predictions_come_in_the_examples_order_whatever_their_lengths(bert, batch_size):
    (found,) = predict(bert, EXAMPLES, collate, batch_size)
    with torch.no_grad():
        alone = [bert(**inputs_of(collate([example]))).logits[0].numpy() for example in EXAMPLES]
    np.testing.assert_allclose(found, np.stack(alone), atol=1e-5)
    assert len({len(example["input_ids"]) for example in EXAMPLES}) > 3


def test_examples_of_like_length_share_a_batch(bert):
    shapes = []
    predict(bert, EXAMPLES, lambda chosen: shapes.append([len(e["input_ids"]) for e in chosen]) or collate(chosen), 4)
    lengths = [length for batch in shapes for length in batch]
    assert lengths == sorted(lengths, reverse=True)


def test_every_output_head_gets_an_array(tiny):
    model = tiny(head="ForQuestionAnswering")
    examples = [{"input_ids": example["input_ids"][:3], "labels": 0} for example in EXAMPLES[:5]]
    start, end = predict(model, examples, collate, 2)
    with torch.no_grad():
        whole = model(**inputs_of(collate(examples)))
    np.testing.assert_allclose(start, whole.start_logits.numpy(), atol=1e-5)
    np.testing.assert_allclose(end, whole.end_logits.numpy(), atol=1e-5)


def test_the_network_does_not_see_the_labels(bert):
    unknown = [dict(example, labels=-7) for example in EXAMPLES]
    assert np.array_equal(predict(bert, unknown, collate, 8)[0], predict(bert, EXAMPLES, collate, 8)[0])


def test_metrics_are_those_of_the_task_on_one_big_batch(bert):
    data = tiny_data()
    with torch.no_grad():
        logits = bert(**inputs_of(collate(EXAMPLES))).logits.numpy()
    found = evaluate(bert, data, "validation", batch_size=5)
    assert found == data.score("validation", (logits,))
    assert 0 < found["accuracy"] < 100


def test_a_network_in_training_is_scored_without_dropout_and_left_in_training(tiny):
    model, data = tiny(hidden_dropout_prob=0.5), tiny_data()
    quiet = evaluate(model, data, "validation", 8)
    assert not model.training
    assert evaluate(model.train(), data, "validation", 8) == quiet
    assert all(module.training for module in model.modules())


def test_low_precision_predictions_are_float32_arrays_near_the_exact_ones(bert):
    (exact,) = predict(bert, EXAMPLES, collate, 8)
    (rounded,) = predict(bert, EXAMPLES, collate, 8, lambda: torch.autocast("cpu", torch.bfloat16))
    assert rounded.dtype == np.float32
    assert 0 < np.abs(exact - rounded).max() < 0.1 * np.abs(exact).max()


@pytest.mark.parametrize(("limit", "sizes"), [(0, [3, 3, 3, 1]), (5, [3, 2]), (99, [3, 3, 3, 1])])
def test_batches_are_consecutive_examples_up_to_the_limit(limit, sizes):
    found = batches(EXAMPLES[:10], collate, 3, limit)
    assert [len(batch["labels"]) for batch in found] == sizes
    assert torch.cat([batch["labels"] for batch in found]).tolist() == [e["labels"] for e in EXAMPLES[: sum(sizes)]]
    assert torch.equal(found[1]["input_ids"], collate(EXAMPLES[3 : 3 + sizes[1]])["input_ids"])
