"""Importance scorers: the first-order identities, dead units, and the scorers' laws."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from slimformer import SuperNet
from slimformer.backbones import backbone_for
from slimformer.errors import TopologyError
from slimformer.importance import SCORERS, ActivationNorm, FirstOrder, Magnitude, RandomScores, load_scores, save_scores
from slimformer.rewiring import Shuffle

READING = [
    FirstOrder("abs_of_sum"), FirstOrder("sum_of_abs"), FirstOrder("cumulative"),
    ActivationNorm(), ActivationNorm(weighted=False), Magnitude(),
]  # fmt: skip
ALL = [*READING, RandomScores()]


@pytest.fixture
def precise(bert) -> SuperNet:
    """The super-network in float64."""
    return SuperNet(bert.double(), backbone_for(bert).topology(bert))


def gate_gradients(supernet: SuperNet, batch) -> dict[str, list[Tensor]]:
    """d loss / d gate of each group's gates, from the ordinary gradients of the weights that the gates scale."""
    model = supernet.model
    model.zero_grad()
    model(**batch).loss.backward()
    found = {}
    for index, block in enumerate(model.bert.encoder.layer):
        output, up, down = block.attention.output.dense, block.intermediate.dense, block.output.dense
        read = (output.weight * output.weight.grad).sum(0).view(4, 8).sum(1)
        written = (up.weight * up.weight.grad).sum(1) + up.bias * up.bias.grad
        found[f"encoder.{index}.heads"] = [read.detach()]
        found[f"encoder.{index}.ffn"] = [(down.weight * down.weight.grad).sum(0).detach(), written.detach()]
    model.zero_grad()
    return found


def reduce(reduction: str, gradients: list[Tensor]) -> Tensor:
    """What the reduction means, over one gate's gradients of several batches."""
    stacked = torch.stack(gradients)
    if reduction == "abs_of_sum":
        return stacked.sum(0).abs()
    return (stacked if reduction == "sum_of_abs" else stacked.cumsum(0)).abs().sum(0)


@pytest.mark.parametrize("reduction", ["abs_of_sum", "sum_of_abs", "cumulative"])
def test_first_order_scores_are_weights_times_gradients(precise, batches, reduction) -> None:
    scores = FirstOrder(reduction)(precise, batches)
    per_batch = [gate_gradients(precise, batch) for batch in batches]
    assert set(scores) == set(precise.topology.by_name)
    for name, score in scores.items():
        gates = zip(*(gradients[name] for gradients in per_batch), strict=True)
        wanted = sum(reduce(reduction, list(gate)) for gate in gates)
        torch.testing.assert_close(score, wanted, rtol=1e-10, atol=1e-12)


def test_the_reductions_differ_over_several_batches(precise, batches) -> None:
    first, second, third = (
        FirstOrder(r)(precise, batches)["encoder.0.ffn"] for r in ("abs_of_sum", "sum_of_abs", "cumulative")
    )
    assert not torch.allclose(first, second)
    assert not torch.allclose(second, third)
    assert (first <= second + 1e-6).all()


@pytest.mark.parametrize("reduction", ["sum_of_abs", "cumulative"])
def test_with_one_batch_all_reductions_agree(supernet, batch, reduction) -> None:
    wanted = FirstOrder("abs_of_sum")(supernet, [batch])
    for name, score in FirstOrder(reduction)(supernet, [batch]).items():
        torch.testing.assert_close(score, wanted[name])


@pytest.mark.parametrize("scorer", [s for s in READING if s != ActivationNorm(weighted=False)], ids=repr)
def test_a_unit_that_nothing_reads_scores_zero_and_the_others_do_not(supernet, batches, scorer) -> None:
    block = supernet.model.bert.encoder.layer[1]
    with torch.no_grad():
        block.attention.output.dense.weight[:, 8:16] = 0
        block.output.dense.weight[:, 5] = 0
        block.intermediate.dense.weight[5] = 0
    scores = scorer(supernet, batches)
    assert (scores["encoder.1.heads"] == 0).tolist() == [unit == 1 for unit in range(4)]
    assert (scores["encoder.1.ffn"] == 0).tolist() == [unit == 5 for unit in range(64)]


@pytest.mark.parametrize("scorer", ALL, ids=repr)
def test_scores_have_one_finite_number_for_each_unit(supernet, batches, scorer) -> None:
    scores = scorer(supernet, batches)
    assert {name: tuple(s.shape) for name, s in scores.items()} == {g.name: (g.num_units,) for g in supernet.topology.groups}
    assert all(s.isfinite().all() and (s >= 0).all() and not s.requires_grad for s in scores.values())


@pytest.mark.parametrize("scorer", ALL, ids=repr)
def test_a_scorer_leaves_no_trace(supernet, batches, scorer) -> None:
    supernet.train()
    supernet.model.classifier.requires_grad_(False)
    supernet.model.bert.pooler.dense.weight.grad = torch.ones(32, 32)
    values = {name: p.detach().clone() for name, p in supernet.named_parameters()}
    scorer(supernet, batches)
    assert supernet.training
    assert supernet.model.bert.encoder.layer[0].training
    assert [n for n, p in supernet.named_parameters() if not p.requires_grad] == [
        "model.classifier.weight",
        "model.classifier.bias",
    ]
    assert [n for n, p in supernet.named_parameters() if p.grad is not None] == ["model.bert.pooler.dense.weight"]
    assert torch.equal(supernet.model.bert.pooler.dense.weight.grad, torch.ones(32, 32))
    assert all(torch.equal(p, values[name]) for name, p in supernet.named_parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in supernet.modules())


@pytest.mark.parametrize("scorer", READING, ids=repr)
def test_permuting_the_units_permutes_the_scores(supernet, batches, scorer) -> None:
    before = scorer(supernet, batches)
    rewiring = Shuffle(3)(supernet.topology, {})
    rewiring.apply_(supernet)
    for name, score in scorer(supernet, batches).items():
        torch.testing.assert_close(score, before[name][list(rewiring.orders[name])], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("scorer", [s for s in READING if s != Magnitude()], ids=repr)
def test_padding_a_batch_further_changes_no_score(supernet, batches, scorer) -> None:
    padded = []
    for batch in batches:
        longer = {name: torch.nn.functional.pad(batch[name], (0, 5)) for name in ("input_ids", "attention_mask")}
        padded.append(longer | {"labels": batch["labels"]})
    wanted = scorer(supernet, batches)
    for name, score in scorer(supernet, padded).items():
        torch.testing.assert_close(score, wanted[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("weighted", [True, False])
def test_the_activation_norm_is_that_of_the_real_tokens_only(supernet, batches, weighted) -> None:
    block = supernet.model.bert.encoder.layer[2].output.dense
    seen = []
    handle = block.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        for batch in batches:
            supernet(**batch)
    handle.remove()
    tokens = torch.cat([hidden[batch["attention_mask"].bool()] for hidden, batch in zip(seen, batches, strict=True)])
    wanted = tokens.norm(dim=0) * (block.weight.detach().norm(dim=0) if weighted else 1)
    torch.testing.assert_close(ActivationNorm(weighted)(supernet, batches)["encoder.2.ffn"], wanted)


def test_magnitude_is_the_norm_of_the_reading_weights(supernet) -> None:
    weight = supernet.model.bert.encoder.layer[0].attention.output.dense.weight.detach()
    wanted = torch.stack([weight[:, 8 * head : 8 * head + 8].norm() for head in range(4)])
    torch.testing.assert_close(Magnitude()(supernet, [])["encoder.0.heads"], wanted)


def test_random_scores_follow_their_seed(supernet) -> None:
    first, again, other = RandomScores(1)(supernet, []), RandomScores(1)(supernet, []), RandomScores(2)(supernet, [])
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("scorer", [s for s in ALL if not s.needs_data], ids=repr)
def test_scorers_without_need_of_data_read_no_batch(supernet, scorer) -> None:
    def batches():
        raise RuntimeError("a batch was read")
        yield

    assert scorer(supernet, batches())


def test_every_registered_scorer_is_tested_here() -> None:
    assert {SCORERS.name_of(scorer) for scorer in ALL} >= {"first_order", "activation_norm", "magnitude", "random"}


def test_saved_scores_load_the_same(supernet, tmp_path) -> None:
    scores = RandomScores()(supernet, [])
    save_scores(scores, tmp_path / "scores.safetensors")
    loaded = load_scores(tmp_path / "scores.safetensors", supernet.topology)
    assert set(loaded) == set(scores)
    assert all(torch.equal(loaded[name], scores[name]) for name in scores)


def test_scores_of_another_topology_are_refused(supernet, tmp_path) -> None:
    save_scores({"encoder.0.heads": torch.ones(4)}, tmp_path / "scores.safetensors")
    with pytest.raises(TopologyError, match=r"scores.safetensors holds scores of another topology"):
        load_scores(tmp_path / "scores.safetensors", supernet.topology)
