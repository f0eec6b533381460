"""The super-network: live sub-networks share storage and gradients, follow the model, and keep out of each other's way."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from slimformer import SubnetSpec, SuperNet, Topology
from slimformer.backbones import Slice, UnitGroup, backbone_for
from slimformer.errors import TopologyError
from slimformer.testing import random_specs
from tests.families import FAMILIES


@pytest.fixture
def half(space) -> SubnetSpec:
    """Two heads, 32 neurons, blocks 1 and 3."""
    return space.spec({"width": 0.5, "depth": 0.5})


def logits(model: nn.Module, batch) -> Tensor:
    with torch.no_grad():
        return model(**batch).logits


def test_parameters_of_a_live_sub_network_are_views_of_the_model(supernet, half) -> None:
    live = supernet.subnet(half).bert.encoder.layer[1].intermediate.dense.weight
    full = supernet.model.bert.encoder.layer[3].intermediate.dense.weight
    assert live.shape == (32, 32)
    assert live.untyped_storage().data_ptr() == full.untyped_storage().data_ptr()
    assert torch.equal(live, full[:32])


def test_a_live_sub_network_is_built_once(supernet, half) -> None:
    assert supernet.subnet(half) is supernet.subnet(half)


def test_an_optimizer_step_shows_in_a_live_sub_network(supernet, half, batch) -> None:
    live = supernet.subnet(half)
    before = logits(live, batch)
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.1)
    supernet.allocate_gradients_()
    live(**batch).loss.backward()
    optimizer.step()
    assert not torch.equal(logits(live, batch), before)
    assert torch.equal(logits(live, batch), logits(supernet.extract(half), batch))


def test_an_extraction_owns_contiguous_weights_and_its_configuration(supernet, half) -> None:
    extraction = supernet.extract(half)
    kept = {name: p.clone() for name, p in extraction.named_parameters()}
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.zero_()
    assert all(torch.equal(p, kept[name]) and p.is_contiguous() for name, p in extraction.named_parameters())
    assert (extraction.config.num_hidden_layers, supernet.model.config.num_hidden_layers) == (2, 4)


def test_a_sub_network_is_of_the_models_class_with_its_own_sizes(supernet, half) -> None:
    block = supernet.subnet(half).bert.encoder.layer[0]
    assert type(supernet.subnet(half)) is type(supernet.model)
    assert (block.attention.self.num_attention_heads, block.attention.self.all_head_size) == (2, 16)
    assert (block.attention.output.dense.in_features, block.intermediate.dense.out_features) == (16, 32)


def test_going_back_to_the_full_size_gives_the_same_bits(supernet, half, batch) -> None:
    before = logits(supernet.subnet(supernet.topology.full), batch)
    logits(supernet.subnet(half), batch)
    assert torch.equal(logits(supernet.subnet(supernet.topology.full), batch), before)


def test_a_sub_network_returns_the_hidden_states_of_its_own_blocks_only(supernet, half, batch) -> None:
    supernet(**batch, output_hidden_states=True)
    assert len(supernet.subnet(half)(**batch, output_hidden_states=True).hidden_states) == 1 + 2


def test_changing_the_dtype_builds_live_sub_networks_anew(supernet, half, batch) -> None:
    old = supernet.subnet(half)
    supernet.to(torch.float64)
    new = supernet.subnet(half)
    assert new is not old
    assert logits(new, batch).dtype == torch.float64
    assert torch.equal(logits(new, batch), logits(supernet.extract(half), batch))


def test_freezing_a_parameter_builds_live_sub_networks_anew(supernet, half) -> None:
    supernet.subnet(half)
    supernet.model.classifier.requires_grad_(False)
    frozen = [name for name, p in supernet.subnet(half).named_parameters() if not p.requires_grad]
    assert frozen == ["classifier.weight", "classifier.bias"]


def test_a_replaced_parameter_builds_live_sub_networks_anew(supernet, half, batch) -> None:
    supernet.subnet(half)
    doubled = {name: 2 * tensor for name, tensor in supernet.model.state_dict().items()}
    supernet.model.load_state_dict(doubled, assign=True)
    assert torch.equal(logits(supernet.subnet(half), batch), logits(supernet.extract(half), batch))


def test_a_frozen_sub_network_takes_no_gradients_and_is_in_eval_mode(supernet, half) -> None:
    supernet.train()
    network = supernet.frozen(half)
    assert not any(p.requires_grad for p in network.parameters())
    assert not network.training
    assert supernet.model.training
    assert all(p.requires_grad for p in supernet.parameters())


def test_a_live_sub_network_is_in_the_mode_of_the_model(supernet, half) -> None:
    supernet.train()
    assert supernet.subnet(half).bert.encoder.layer[0].output.dropout.training
    supernet.eval()
    assert not supernet.subnet(half).bert.encoder.layer[0].output.dropout.training


def test_a_backward_pass_lands_in_the_super_network(supernet, half, batch) -> None:
    supernet.allocate_gradients_()
    live = supernet.subnet(half)
    live(**batch).loss.backward()
    extraction = supernet.extract(half)
    extraction(**batch).loss.backward()
    found = supernet.model.bert.encoder.layer[1].output.dense.weight.grad
    torch.testing.assert_close(found[:, :32], extraction.bert.encoder.layer[0].output.dense.weight.grad)
    assert not found[:, 32:].any()
    assert not supernet.model.bert.encoder.layer[0].output.dense.weight.grad.any()


def test_live_sub_networks_built_before_the_buffers_are_bound_too(supernet, half, batch) -> None:
    live = supernet.subnet(half)
    supernet.allocate_gradients_()
    live(**batch).loss.backward()
    assert supernet.model.classifier.weight.grad.any()


def test_gradients_start_from_zero_after_zero_grad(supernet, half, batch) -> None:
    gradients = []
    for _ in range(2):
        supernet.allocate_gradients_()
        supernet.subnet(half)(**batch).loss.backward()
        gradients.append(supernet.model.classifier.weight.grad.clone())
        supernet.zero_grad(set_to_none=True)
        assert supernet.model.classifier.weight.grad is None
    assert torch.equal(gradients[0], gradients[1])


def test_gradients_accumulate_without_zero_grad(supernet, half, batch) -> None:
    gradients = []
    for _ in range(2):
        supernet.allocate_gradients_()
        supernet.subnet(half)(**batch).loss.backward()
        gradients.append(supernet.model.classifier.weight.grad.clone())
    torch.testing.assert_close(gradients[1], 2 * gradients[0])


def test_allocating_keeps_a_gradient_that_the_model_already_has(supernet, half, batch) -> None:
    supernet(**batch).loss.backward()
    before = supernet.model.classifier.weight.grad.clone()
    supernet.allocate_gradients_()
    assert torch.equal(supernet.model.classifier.weight.grad, before)
    supernet.subnet(half)(**batch).loss.backward()
    assert not torch.equal(supernet.model.classifier.weight.grad, before)


def test_gradients_follow_a_change_of_dtype(supernet, half, batch) -> None:
    supernet.allocate_gradients_()
    supernet.subnet(half)(**batch).loss.backward()
    supernet.to(torch.float64).zero_grad()
    supernet.allocate_gradients_()
    supernet.subnet(half)(**batch).loss.backward()
    found = supernet.model.classifier.weight.grad
    assert found.dtype == torch.float64
    extraction = supernet.extract(half)
    extraction(**batch).loss.backward()
    torch.testing.assert_close(found, extraction.classifier.weight.grad)


def test_frozen_parameters_get_no_buffer(supernet) -> None:
    supernet.model.classifier.requires_grad_(False)
    supernet.allocate_gradients_()
    assert supernet.model.classifier.weight.grad is None
    assert supernet.model.bert.pooler.dense.weight.grad is not None


def test_releasing_frees_gradients_and_live_sub_networks(supernet, half, batch) -> None:
    supernet.allocate_gradients_()
    live = supernet.subnet(half)
    supernet.release_gradients_()
    assert all(p.grad is None for p in supernet.parameters())
    assert supernet.subnet(half) is not live
    supernet.allocate_gradients_()
    supernet.subnet(half)(**batch).loss.backward()
    assert supernet.model.classifier.weight.grad.any()


def test_two_threads_may_run_two_sub_networks_at_once(supernet, generator, batch) -> None:
    specs = random_specs(supernet.topology, 2, generator)
    alone = [logits(supernet.extract(spec), batch) for spec in specs]
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(lambda spec=spec: [logits(supernet.subnet(spec), batch) for _ in range(15)]) for spec in specs]
    for run, wanted in zip(runs, alone, strict=True):
        for found in run.result():
            torch.testing.assert_close(found, wanted)


def test_tied_weights_stay_tied_in_sub_networks(tiny, half) -> None:
    model = tiny("Bert", "ForMaskedLM")
    extraction = SuperNet(model, backbone_for(model).topology(model)).extract(half)
    assert extraction.cls.predictions.decoder.weight is extraction.bert.embeddings.word_embeddings.weight


def test_the_super_network_keeps_the_models_keys_and_outputs(bert, supernet, batch) -> None:
    assert set(supernet.state_dict()) == {f"model.{name}" for name in bert.state_dict()}
    assert torch.equal(logits(supernet, batch), logits(bert, batch))


def test_a_topology_of_another_model_is_refused(bert) -> None:
    group = UnitGroup("heads", "width", 4, (Slice("gpt.attention.weight", 0),))
    with pytest.raises(TopologyError, match=r"gpt.attention.weight"):
        SuperNet(bert, Topology((group,), ()))


def test_the_units_of_a_slice_are_a_view_with_the_units_first(supernet) -> None:
    group = supernet.topology.by_name["encoder.1.heads"]
    output = next(part for part in group.slices if part.reads)
    units = supernet.units(group, output)
    weight = supernet.model.bert.encoder.layer[1].attention.output.dense.weight
    assert units.shape == (4, 8, 32)
    assert torch.equal(units[2, 3], weight[:, 2 * 8 + 3])
    with torch.no_grad():
        units[2].zero_()
    assert not weight[:, 16:24].any()


def test_the_units_of_a_fused_part_begin_at_its_start() -> None:
    model = FAMILIES["GPT-2"].build("eager")
    supernet = SuperNet(model, backbone_for(model).topology(model))
    group = supernet.topology.by_name["decoder.0.heads"]
    values = [part for part in group.slices if part.parameter.endswith("c_attn.weight")][2]
    weight = model.transformer.h[0].attn.c_attn.weight
    assert torch.equal(supernet.units(group, values)[1, 0], weight[:, 2 * 32 + 8])
