"""Topologies proposed for models that no backbone describes: what is found, what is refused, and the plugin file that says it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from slimformer import Topology, testing
from slimformer.backbones import BACKBONES, backbone_for
from slimformer.discovery import inspect as inspection, plugin_source, propose
from slimformer.errors import TopologyError
from tests.families import FAMILIES, build, scatter_

IDS = {"input_ids": torch.randint(3, 30, (2, 6), generator=torch.Generator().manual_seed(0))}
TEXT = IDS | {"attention_mask": torch.ones(2, 6, dtype=torch.long)}
SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "vocab_size": 60, "use_cache": False}
SMALL = SIZES | {"num_attention_heads": 4, "max_position_embeddings": 40}


class Attention(nn.Module):
    """Query, key and value in one layer, head by head in `nn.Linear`'s rows: q q k k v v."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, width // heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        scores = query @ key.transpose(-1, -2) / self.head_dim**0.5
        return self.out((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.norm, self.attention, self.norm2 = nn.LayerNorm(width), Attention(width, heads), nn.LayerNorm(width)
        self.gate_up, self.down = nn.Linear(width, 2 * inner), nn.Linear(inner, width)
        self.scale = nn.Parameter(torch.ones(inner))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm(x))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, -1)
        return x + self.down(nn.functional.silu(gate) * up * self.scale)


class Net(nn.Module):
    """A plain torch transformer, without a configuration."""

    def __init__(self, width: int = 24, heads: int = 3, inner: int = 20, depth: int = 3) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(30, width), nn.Linear(width, 5)
        self.blocks = nn.ModuleList(Block(width, heads, inner) for _ in range(depth))

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(input_ids)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def outline(topology: Topology) -> Any:
    """Each group's units, slices and attributes, whatever it is called."""
    return {
        (g.axis, g.num_units, frozenset((s.parameter, s.dim, s.unit_size, s.start) for s in g.slices), frozenset(g.attributes))
        for g in topology.groups
    }


def test_a_plain_transformer_gets_heads_gated_neurons_and_blocks_and_a_plugin_file_that_fits_other_sizes(
    tmp_path: Path,
) -> None:
    model = Net()
    proposal = propose(model, IDS)
    assert proposal.topology.axes == ("width.heads", "width.ffn", "depth")
    heads, neurons = (proposal.topology.by_name[f"blocks.0.{kind}"] for kind in ("heads", "ffn"))
    assert (heads.num_units, [part.start for part in heads.slices if part.parameter.endswith("qkv.weight")]) == (3, [0, 24, 48])
    assert (neurons.num_units, sum("scale" in part.parameter for part in neurons.slices)) == (20, 1)
    assert not proposal.refusals
    file = tmp_path / "plain.py"
    backbone = inspection.plugin_backbone(model, IDS, proposal, "plain_net", file)
    assert plugin_source(model, IDS, proposal, "plain_net") == file.read_text()
    testing.check_backbone(backbone, scatter_(Net(width=32, heads=4, inner=10, depth=2)))
    lessened = dataclasses.replace(proposal, topology=Topology(proposal.topology.groups[1:], ()))
    with pytest.raises(TopologyError, match="no plugin file can say the topology that was found in Net"):
        inspection.plugin_backbone(model, IDS, lessened, "plain_net_again", tmp_path / "again.py")
    assert not (tmp_path / "again.py").exists()


@pytest.mark.parametrize("family", ["GPT-2", "Llama"])
def test_a_known_family_is_found_again_as_its_backbone_describes_it(family: str) -> None:
    model = FAMILIES[family].build("sdpa")
    known = backbone_for(model).topology(model)
    assert outline(propose(model, TEXT).topology) == outline(known)


def test_units_that_an_argument_tells_apart_are_refused_by_name() -> None:
    model = build("Bloom", "ForCausalLM", "eager", **SIZES, n_head=4)
    proposal = propose(model, TEXT)
    reasons = {refusal.module: refusal.reason for refusal in proposal.refusals}
    assert set(reasons) == {f"transformer.h.*.self_attention.{name}" for name in ("query_key_value", "dense")}
    assert all("its 4 units are tied to the argument 'alibi'" in reason for reason in reasons.values())
    assert proposal.topology.axes == ("width.ffn", "depth")


def test_heads_that_torch_will_not_narrow_are_refused_and_its_neurons_are_not() -> None:
    layer = nn.TransformerEncoderLayer(24, 3, 20, batch_first=True)
    proposal = propose(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), {"src": torch.randn(2, 5, 24)})
    assert {refusal.module for refusal in proposal.refusals} == {f"layers.*.self_attn{name}" for name in ("", ".out_proj")}
    assert proposal.topology.axes == ("width.ffn", "depth")


def test_a_norm_over_all_heads_makes_them_break_a_law_which_the_refusal_names() -> None:
    model = build("Olmo2", "ForCausalLM", "eager", **SMALL, num_key_value_heads=2, intermediate_size=48, pad_token_id=1)
    reasons = {refusal.module: refusal.reason for refusal in propose(model, TEXT).refusals}
    assert "break law 3" in reasons["model.layers.*.self_attn.o_proj"]


class Growing(Net):
    """Blocks whose share grows with their place."""

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(input_ids)
        for place, block in enumerate(self.blocks):
            x = x + (place + 1) * block(x)
        return self.head(x)


def test_blocks_that_go_by_their_place_are_refused_and_their_units_are_not() -> None:
    proposal = propose(Growing(), IDS)
    assert proposal.topology.axes == ("width.heads", "width.ffn")
    assert [refusal.module for refusal in proposal.refusals] == ["blocks"]
    assert "its blocks cannot be dropped: law 3" in proposal.refusals[0].reason


class Marked(nn.Module):
    """Neurons that a buffer tells apart, and a norm that mixes others."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 12), nn.Linear(12, 8)
        self.register_buffer("marks", torch.arange(12.0))
        self.wide, self.norm, self.back = nn.Linear(8, 12), nn.LayerNorm(12), nn.Linear(12, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.down(self.up(x) * self.marks)
        return self.back(self.norm(self.wide(x)))


def test_where_nothing_can_be_proven_the_error_names_each_module_and_why() -> None:
    with pytest.raises(
        TopologyError, match=r"down: its 12 units are tied to the buffer 'marks'.*back: .*every row of wide\.weight"
    ):
        propose(Marked(), {"x": torch.randn(2, 8)})


def test_inspect_proposes_for_an_unknown_family_writes_a_plugin_and_checks_the_laws_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build("OPT", "ForCausalLM", "sdpa", **SMALL, ffn_dim=48, word_embed_proj_dim=32, pad_token_id=1)
    model.save_pretrained(tmp_path / "opt")
    monkeypatch.setattr(BACKBONES, "_classes", dict(BACKBONES._classes))
    said: list[str] = []
    request = inspection.Request(str(tmp_path / "opt"), 16, check=True, write=tmp_path / "opt.py")
    found = inspection.inspect_checkpoint(request, said.append)
    assert (found["backbone"], found["laws"]["held"]) == ("opt", 9)
    assert {row["axis"] for row in found["axes"]} == {"width.heads", "width.ffn", "depth", "all"}
    assert found["proposal"]["plugin"] == str(tmp_path / "opt.py")
    assert '*writes(model, f"{block}self_attn.k_proj", number),' in (tmp_path / "opt.py").read_text()
    again = inspection.inspect_checkpoint(inspection.Request(str(tmp_path / "opt"), 16), said.append)
    assert "proposal" not in again
    assert json.loads(json.dumps(again))["patterns"] == found["patterns"]
