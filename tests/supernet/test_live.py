"""Live sub-networks follow the model: gradients, modes, settings, statistics; a bounded number of them is kept."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
from torch import nn

from slimformer import SuperNet, Topology
from slimformer.backbones import BlockStack, backbone_for
from slimformer.errors import TopologyError
from slimformer.supernet import Slice, UnitGroup
from slimformer.testing import random_specs


def gradients(supernet: SuperNet) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in supernet.model.named_parameters() if p.grad is not None}


@pytest.fixture
def specs(supernet, generator):
    return random_specs(supernet.topology, 3, generator)


@pytest.mark.parametrize("order", ["step then zero_grad", "zero_grad before backward"])
def test_an_ordinary_training_loop_trains_as_one_with_buffers_allocated_in_each_step(bert, batch, order) -> None:
    trained = []
    for is_explicit in (True, False):
        model = copy.deepcopy(bert)
        supernet = SuperNet(model, backbone_for(model).topology(model))
        optimizer = torch.optim.SGD(supernet.parameters(), lr=0.1)
        for _ in range(3):
            if is_explicit:
                supernet.allocate_gradients_()
            loss = supernet.subnet(supernet.topology.full)(**batch).loss
            if order.startswith("zero_grad"):
                optimizer.zero_grad()
            if is_explicit:
                supernet.allocate_gradients_()
            loss.backward()
            optimizer.step()
            if order.startswith("step"):
                optimizer.zero_grad()
        trained.append(dict(model.named_parameters()))
    assert not torch.equal(trained[1]["classifier.weight"], bert.classifier.weight)
    assert all(torch.equal(value, trained[1][name]) for name, value in trained[0].items())


def test_passes_of_several_sub_networks_add_up_without_any_preparation(supernet, specs, batch) -> None:
    single = []
    for spec in specs:
        supernet.subnet(spec)(**batch).loss.backward()
        single.append(gradients(supernet))
        supernet.zero_grad()
    for spec in specs:
        supernet.subnet(spec)(**batch).loss.backward()
    for name, found in gradients(supernet).items():
        torch.testing.assert_close(found, sum(g[name] for g in single if name in g))


def test_gradients_land_after_the_live_network_was_dropped_from_the_cache(bert, batch) -> None:
    supernet = SuperNet(bert, backbone_for(bert).topology(bert), max_live=1)
    full, small = supernet.topology.full, supernet.topology.spec({"encoder.0.heads": 1}, {})
    kept = supernet.subnet(full)
    supernet.subnet(small)
    kept(**batch).loss.backward()
    assert supernet.model.classifier.weight.grad.any()


def test_only_the_sub_networks_used_last_are_kept_and_the_others_are_freed(bert) -> None:
    supernet = SuperNet(bert, backbone_for(bert).topology(bert), max_live=2)
    specs = [supernet.topology.spec({"encoder.0.heads": n}, {}) for n in (1, 2, 3)]
    first, second = (supernet.subnet(spec) for spec in specs[:2])
    assert supernet.subnet(specs[0]) is first
    gone = weakref.ref(second)
    supernet.subnet(specs[2])
    del second
    gc.collect()
    assert gone() is None
    assert supernet.subnet(specs[0]) is first


def test_train_and_eval_mode_are_mirrored_module_by_module_without_a_new_build(supernet, specs) -> None:
    live = supernet.subnet(specs[0])
    supernet.model.train()
    supernet.model.bert.eval()
    assert supernet.subnet(specs[0]) is live
    assert (live.training, live.bert.training, live.bert.encoder.layer[0].training) == (True, False, False)
    live.eval()
    assert supernet.subnet(specs[0]).training


CHANGES = {
    "an attribute": lambda model: setattr(model.bert.encoder.layer[0].attention.self, "scaling", 0.1),
    "the probability of dropout": lambda model: setattr(model.bert.encoder.layer[0].output.dropout, "p", 0.5),
    "the attention": lambda model: model.set_attn_implementation("eager"),
    "a value of the configuration": lambda model: setattr(model.config, "output_hidden_states", True),
    "a list of the configuration": lambda model: model.config.architectures.append("x"),
    "a hook": lambda model: model.bert.register_forward_hook(lambda module, args, output: None),
    "a buffer": lambda model: model.register_buffer("extra", torch.ones(1)),
    "a replaced module": lambda model: setattr(model, "dropout", nn.Identity()),
    "a module put into a part": lambda model: setattr(model.bert.pooler, "activation", nn.ReLU()),
    "a frozen parameter": lambda model: model.bert.pooler.requires_grad_(False),
    "another tensor under a parameter": lambda model: setattr(model.classifier.weight, "data", torch.ones(2, 32)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_in_the_model_reaches_live_sub_networks(supernet, specs, change) -> None:
    supernet.model.config.architectures = ["y"]
    live = supernet.subnet(specs[0])
    assert supernet.subnet(specs[0]) is live
    CHANGES[change](supernet.model)
    new = supernet.subnet(specs[0])
    assert new is not live
    assert supernet.subnet(specs[0]) is new


def test_values_of_weights_and_equal_settings_build_nothing_anew(supernet, specs, batch) -> None:
    supernet(**batch)  # the first pass with labels notes the kind of problem in the configuration
    live = supernet.subnet(specs[0])
    with torch.no_grad():
        supernet.model.classifier.weight.mul_(2)
    supernet.model.dropout.p = float(str(supernet.model.dropout.p))
    supernet.load_state_dict(supernet.state_dict())
    supernet(**batch)
    assert supernet.subnet(specs[0]) is live


class Normed(nn.Module):
    """Blocks with batch norms over the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*[nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 12), nn.Linear(12, 8)) for _ in range(2)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(x)


def test_batch_norm_statistics_of_a_live_sub_network_are_the_models() -> None:
    model = Normed()
    group = UnitGroup(
        "ffn", "width", 12, (Slice("blocks.0.1.weight", 0), Slice("blocks.0.1.bias", 0), Slice("blocks.0.2.weight", 1))
    )
    supernet = SuperNet(model, Topology((group,), ()))
    spec = supernet.topology.spec({"ffn": 6}, {})
    x = torch.randn(16, 8, generator=torch.Generator().manual_seed(0)) * 3 + 2
    model.train()
    supernet.subnet(spec)(x)
    assert model.blocks[0][0].num_batches_tracked == 1
    extraction = supernet.extract(spec)
    model.eval()
    torch.testing.assert_close(supernet.subnet(spec)(x), extraction.eval()(x))
    extraction.train()(x)
    assert model.blocks[0][0].num_batches_tracked == 1


def test_parameters_shared_by_two_blocks_are_refused_with_both_names() -> None:
    model = Normed()
    model.blocks[1][1].weight = model.blocks[0][1].weight
    stack = BlockStack("blocks", "depth", "blocks", 2, config_field="")
    with pytest.raises(TopologyError, match=r"'blocks.0.1.weight' and 'blocks.1.1.weight' are the same parameter"):
        SuperNet(model, Topology((), (stack,)))
    SuperNet(model, Topology((), ()))


def test_a_copy_of_a_super_network_keeps_its_gradients_to_itself(supernet, specs, batch) -> None:
    supernet.subnet(specs[0])(**batch).loss.backward()
    other = copy.deepcopy(supernet)
    other.zero_grad()
    other.subnet(specs[0])(**batch).loss.backward()
    before = gradients(supernet)
    other.subnet(specs[0])(**batch).loss.backward()
    assert all(torch.equal(value, before[name]) for name, value in gradients(supernet).items())
