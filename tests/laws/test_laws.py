"""The nine laws on other heads and sizes of BERT, and that each law can be broken."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from slimformer import Axis, Space, SuperNet, testing
from slimformer.axes import DEPTH_POLICIES
from slimformer.backbones import Attribute, Slice, Topology, UnitGroup, backbone_for
from slimformer.costs import COSTS
from slimformer.supernet import SubnetSpec, network
from slimformer.testing.saving import spec_of_each_kind
from tests.families import few_specs

TWELVE = {"num_hidden_layers": 12, "num_attention_heads": 12, "hidden_size": 48, "intermediate_size": 24}


def test_electra_with_a_smaller_embedding_keeps_the_laws(tiny) -> None:
    model = tiny("Electra", embedding_size=16)
    testing.check_backbone(backbone_for(model), model)


@pytest.mark.parametrize("head", ["Model", "ForMaskedLM", "ForQuestionAnswering"])
def test_other_heads_and_none_keep_the_laws(tiny, head: str) -> None:
    model = tiny("Bert", head, num_hidden_layers=2)
    testing.check_backbone(backbone_for(model), model, specs=few_specs(model))


def test_twelve_blocks_of_twelve_heads_keep_the_laws_at_the_twelve_points(tiny, points_of) -> None:
    model = tiny("Bert", **TWELVE)
    specs = points_of(backbone_for(model).topology(model))
    assert len(specs) == 12
    testing.check_backbone(backbone_for(model), model, specs=specs)


def test_the_laws_hold_much_tighter_in_float64(tiny) -> None:
    model = tiny("Bert", num_hidden_layers=2).double()
    testing.check_backbone(backbone_for(model), model, specs=few_specs(model))


def test_checking_leaves_the_model_as_it_was(tiny) -> None:
    model = tiny("Bert", num_hidden_layers=2).train()
    model.classifier.weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    testing.check_backbone(backbone_for(model), model)
    assert model.training
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["classifier.weight"]
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_uniform_specs_hold_all_widths_by_all_depths_and_each_axis_alone(supernet) -> None:
    specs = testing.uniform_specs(supernet.topology)
    quarters = [spec for spec in specs if spec.units.get("encoder.0.heads") == 1]
    assert specs[0] == supernet.topology.full
    assert len(specs) == 6 + 2
    assert {(s.units["encoder.0.ffn"], len(s.blocks["encoder"])) for s in quarters} == {(16, 4), (16, 2), (64, 4)}


def test_random_specs_are_valid_and_follow_the_generator(supernet) -> None:
    first, second = (testing.random_specs(supernet.topology, 20, torch.Generator().manual_seed(3)) for _ in range(2))
    assert first == second
    assert len(set(first)) == 20
    for spec in first:
        supernet.topology.validate(spec)


# What follows breaks one thing at a time: a law that cannot fail proves nothing.


@dataclass(frozen=True)
class Broken:
    """A backbone whose topology is wrong in one place."""

    topology_: Topology
    example_: Any

    def describes(self, model: nn.Module) -> bool:
        return True

    def topology(self, model: nn.Module) -> Topology:
        return self.topology_

    def example(self, model: nn.Module, batch_size: int, length: int) -> Any:
        return self.example_(model, batch_size, length)


@pytest.fixture
def break_group(bert):
    """check_backbone on a model whose first group of heads was changed."""

    def check(**changes: Any) -> None:
        backbone = backbone_for(bert)
        topology = backbone.topology(bert)
        group = dataclasses.replace(topology.groups[0], **changes)
        broken = Topology((group, *topology.groups[1:]), topology.stacks)
        testing.check_backbone(Broken(broken, backbone.example), bert)

    return check


@pytest.fixture
def points_of():
    def points(topology: Topology) -> list[SubnetSpec]:
        axes = (Axis("width", (1.0, 0.75, 0.5, 0.25)), Axis("depth", (1.0, 0.75, 0.5)))
        return [point.spec for point in Space(topology, axes, DEPTH_POLICIES.build("keep_last")).points()]

    return points


@pytest.fixture
def case(bert):
    return testing.Case.of(backbone_for(bert), bert)


@pytest.fixture
def heads(supernet) -> UnitGroup:
    return supernet.topology.groups[0]


@pytest.mark.parametrize("forgotten", range(7))
def test_a_forgotten_slice_breaks_a_law(break_group, heads, forgotten: int) -> None:
    slices = tuple(part for index, part in enumerate(heads.slices) if index != forgotten)
    # The softmax cancels the keys' bias, so that permuting it changes nothing: only slicing shows that it was forgotten.
    by_law = "law 3 " if heads.slices[forgotten].parameter.endswith("key.bias") else "law 2 "
    with pytest.raises(AssertionError, match=by_law):
        break_group(slices=slices)


def test_a_wrong_attribute_that_only_shows_in_sub_networks_breaks_law_3(break_group, heads) -> None:
    wrong = Attribute(heads.attributes[0].module, "attention_head_size", 2)
    with pytest.raises(AssertionError, match=r"law 3 .*'encoder.0.heads': 2"):
        break_group(attributes=(wrong,))


def test_a_wrong_attribute_that_shows_in_the_full_size_breaks_law_1(break_group, heads) -> None:
    with pytest.raises(AssertionError, match="law 1 "):
        break_group(attributes=(Attribute(heads.attributes[0].module, "scaling", 1),))


def test_units_that_no_forward_pass_reads_break_law_8(bert) -> None:
    bert.unused = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 2))
    slices = (Slice("unused.0.weight", 0), Slice("unused.0.bias", 0), Slice("unused.1.weight", 1))
    topology = Topology((UnitGroup("unused", "width", 4, slices),), ())
    with pytest.raises(AssertionError, match=r"law 8 .*'unused': 4.* and .*'unused': 2"):
        testing.check_backbone(Broken(topology, backbone_for(bert).example), bert)


def test_a_miscounting_cost_breaks_law_4(case, monkeypatch) -> None:
    @dataclass(frozen=True)
    class Whole:
        unit = "parameters"

        def price(self, supernet, backbone, workload):
            return lambda spec: sum(p.numel() for p in supernet.parameters())

    monkeypatch.setitem(COSTS._classes, "params", Whole)
    with pytest.raises(AssertionError, match="law 4 "):
        testing.check_parameter_count(case)


def test_a_gradient_outside_the_sub_network_breaks_law_5(case, monkeypatch) -> None:
    subnet = SuperNet.subnet

    def stray(supernet: SuperNet, spec: SubnetSpec) -> nn.Module:
        if spec != case.topology.full:
            supernet.model.bert.encoder.layer[0].output.dense.weight.grad[0, -1] += 1
        return subnet(supernet, spec)

    monkeypatch.setattr(SuperNet, "subnet", stray)
    with pytest.raises(AssertionError, match=r"law 5 \(no gradient outside"):
        testing.check_gradients(case)


def test_gradients_that_a_second_pass_overwrites_break_law_5(case, monkeypatch) -> None:
    subnet = SuperNet.subnet

    def forget(supernet: SuperNet, spec: SubnetSpec) -> nn.Module:
        supernet.model.classifier.bias.register_hook(lambda gradient: gradient)
        live = subnet(supernet, spec)
        live.classifier.bias.register_hook(lambda gradient: gradient / 2)
        return live

    monkeypatch.setattr(SuperNet, "subnet", forget)
    with pytest.raises(AssertionError, match=r"law 5 \(gradients add up\)"):
        testing.check_gradients(case)


@pytest.mark.parametrize("part", ["units", "blocks"])
def test_a_cost_that_falls_along_one_axis_breaks_law_6(case, monkeypatch, part: str) -> None:
    def size(spec: SubnetSpec) -> int:
        return sum(spec.units.values()) if part == "units" else len(spec.blocks["encoder"])

    @dataclass(frozen=True)
    class Falling:
        unit = "nothing"

        def price(self, supernet, backbone, workload):
            return lambda spec: -size(spec)

    monkeypatch.setitem(COSTS._classes, "falling", Falling)
    with pytest.raises(AssertionError, match=r"law 6 .*'falling' falls"):
        testing.check_costs(case)


def _set_heads(model) -> None:
    model.bert.encoder.layer[1].attention.self.num_attention_heads = 2


def _set_config(model) -> None:
    model.config.num_hidden_layers = 2


def _add_hook(model) -> None:
    model.bert.register_forward_hook(lambda *_: None)


def _add_buffer(model) -> None:
    model.register_buffer("width", torch.zeros(1))


def _add_to_a_weight(model) -> None:
    model.classifier.weight.data += 1e-3


@pytest.mark.parametrize("mutate", [_set_heads, _set_config, _add_hook, _add_buffer, _add_to_a_weight])
def test_a_sub_network_that_mutates_the_super_network_breaks_law_7(case, monkeypatch, mutate) -> None:
    subnet = SuperNet.subnet

    def mutating(supernet: SuperNet, spec: SubnetSpec) -> nn.Module:
        mutate(supernet.model)
        return subnet(supernet, spec)

    monkeypatch.setattr(SuperNet, "subnet", mutating)
    with pytest.raises(AssertionError, match="law 7 "):
        testing.check_no_trace(case)


def test_a_switch_that_does_nothing_breaks_law_8(case, monkeypatch) -> None:
    monkeypatch.setattr(SuperNet, "subnet", lambda supernet, spec: supernet.model)
    with pytest.raises(AssertionError, match="law 8 "):
        testing.check_specs_differ(case)


def test_a_configuration_that_is_not_written_breaks_law_9(case, monkeypatch) -> None:
    monkeypatch.setattr(network, "configure_", lambda *arguments: None)
    with pytest.raises(AssertionError, match="law 9 "):
        testing.check_saving(case)


def test_a_tensor_that_is_not_saved_breaks_law_9(case, monkeypatch) -> None:
    def save_less(model, folder) -> None:
        weights = model.state_dict()
        del weights["classifier.bias"]
        PreTrainedModel.save_pretrained(model, folder, state_dict=weights)

    monkeypatch.setattr(type(case.model), "save_pretrained", save_less)
    with pytest.raises(AssertionError, match=r"law 9 .* missing: classifier.bias"):
        testing.check_saving(case)


def test_law_9_is_checked_on_a_spec_of_each_kind(case) -> None:
    kinds = spec_of_each_kind(case)
    assert kinds[0] == case.topology.full
    assert 4 <= len(kinds) <= 6
    assert any(len(spec.blocks["encoder"]) < 4 and set(spec.units.values()) == {4, 64} for spec in kinds)
    assert any(len(set(spec.units.values())) > 2 for spec in kinds)
