"""The table of proposals on a handful of its families, and the fields that a proposal finds in configurations of several parts."""

from __future__ import annotations

import pytest
import torch

from slimformer import SuperNet
from slimformer.discovery import propose
from tests.proposal_table import build, inputs, row, section


@pytest.mark.parametrize(("family", "axes"), [("GPTJ", "width.heads, width.ffn, depth"), ("Falcon", "width.ffn, depth")])
def test_a_family_of_the_table_is_proven_along_its_axes(family: str, axes: str) -> None:
    found = row(family)
    assert found[2:4] == ["proven", axes]
    assert f"| {family} |" in section([found])


def test_an_encoder_and_a_decoder_of_the_same_depth_have_fields_of_their_own() -> None:
    torch.manual_seed(0)
    model = build("Bart")
    topology = propose(model, inputs(model)).topology
    assert {stack.name: stack.config_field for stack in topology.stacks} == {
        "encoder": "encoder_layers",
        "decoder": "decoder_layers",
    }
    live = SuperNet(model, topology).subnet(topology.spec({}, {"encoder": (0, 2)}))
    assert (live.config.encoder_layers, live.config.decoder_layers) == (2, 3)
