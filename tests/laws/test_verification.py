"""`verify`: laws 1 to 4 on a super-network in use; what it finds, and that it leaves no trace."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from slimformer import SuperNet, Topology
from slimformer.errors import TopologyError
from slimformer.testing import verify


def test_a_right_topology_passes_and_the_model_is_left_as_it_was(supernet, batch) -> None:
    supernet.model.train()
    supernet.model.bert.eval()
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    verify(supernet, batch)
    verify(supernet)
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())
    assert supernet.model.training
    assert not supernet.model.bert.training


def _without(supernet: SuperNet, kept) -> Topology:
    groups = [
        dataclasses.replace(group, slices=tuple(part for part in group.slices if kept(part))) if n == 0 else group
        for n, group in enumerate(supernet.topology.groups)
    ]
    return Topology(tuple(groups), supernet.topology.stacks)


def test_a_forgotten_slice_breaks_law_2_or_3_by_name(bert, supernet, batch) -> None:
    wrong = _without(supernet, lambda part: "query" not in part.parameter)
    with pytest.raises(TopologyError, match=r"law 2 \(rewiring changes nothing\) is broken"):
        verify(SuperNet(bert, wrong), batch)


def test_blocks_that_go_by_their_place_break_law_3(bert, supernet, batch) -> None:
    stack = dataclasses.replace(supernet.topology.stacks[0], config_field="num_attention_heads")
    verify(SuperNet(bert, Topology((), (stack,))), batch)
    layers = bert.bert.encoder.layer
    for index, layer in enumerate(layers):
        layer.layer_idx = index
        layer.register_forward_hook(
            lambda module, args, output: (
                output * (1 + module.layer_idx)
                if isinstance(output, torch.Tensor)
                else (output[0] * (1 + module.layer_idx), *output[1:])
            )
        )
    with pytest.raises(TopologyError, match="law 3"):
        verify(SuperNet(bert, supernet.topology), batch)
