"""What is special about encoder-decoders and models of two towers; the laws, and generation, are in tests/laws."""

from __future__ import annotations

import pytest
import torch

from slimformer import Axis, Space, SuperNet, testing
from slimformer.axes import DEPTH_POLICIES
from slimformer.backbones import backbone_for
from slimformer.export import export, from_pretrained
from tests.families import FAMILIES, T5_SIZES, build, check_flops, few_specs


def test_the_encoder_of_t5_keeps_the_laws_alone_and_inside_another_model() -> None:
    model = build("T5", "ForTokenClassification", "sdpa", **T5_SIZES)
    assert backbone_for(model).topology(model).axes == ("width.encoder.heads", "width.encoder.ffn", "depth.encoder")
    testing.check_backbone(backbone_for(model), model, specs=few_specs(model))


def test_each_tower_may_have_a_width_and_a_depth_of_its_own() -> None:
    model = FAMILIES["CLIP"].build("sdpa")
    topology = backbone_for(model).topology(model)
    axes = (Axis("width.text", (1.0, 0.5)), Axis("depth.vision", (1.0, 0.5)))
    spec = Space(topology, axes, DEPTH_POLICIES.build("keep_last")).smallest().spec
    assert {name: size for name, size in spec.units.items() if ".1." in name} == {
        "vision.1.heads": 4, "vision.1.ffn": 24, "text.1.heads": 2, "text.1.ffn": 12,
    }  # fmt: skip
    assert spec.blocks == {"vision": (1,), "text": (0, 1)}


def test_the_first_block_that_remains_inherits_the_bias_table_of_t5() -> None:
    model = FAMILIES["T5"].build("sdpa")
    supernet = SuperNet(model, backbone_for(model).topology(model))
    network = supernet.extract(supernet.topology.spec({"encoder.heads": 3}, {"encoder": (1, 2)}))
    first, second = (block.layer[0].SelfAttention for block in network.encoder.block)
    table = model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    assert torch.equal(first.relative_attention_bias.weight, table[:, :3])
    assert first.has_relative_attention_bias
    assert not second.has_relative_attention_bias


@pytest.mark.parametrize("family", ["T5", "CLIP", "Whisper"])
def test_the_flops_of_two_towers_are_those_that_the_extraction_runs(family: str) -> None:
    check_flops(FAMILIES[family].build("sdpa"))


@pytest.mark.parametrize(("family", "sizes", "is_stock"), [
    ("T5", {"heads": 2, "cross": 2, "ffn": 12}, True),
    ("T5", {"heads": 3, "ffn": 12}, False),
    ("CLIP", {"ffn": 12}, True),
    ("CLIP", {"heads": 2, "ffn": 12}, False),
    ("Whisper", {"heads": 3, "ffn": 8}, False),
])  # fmt: skip
def test_an_export_without_the_first_blocks_loads_to_the_same_outputs(tmp_path, family, sizes, is_stock) -> None:
    model = FAMILIES[family].build("sdpa")
    backbone = backbone_for(model)
    supernet = SuperNet(model, backbone.topology(model))
    units = {g.name: sizes.get(g.axis.rpartition(".")[2], g.num_units) for g in supernet.topology.groups}
    spec = supernet.topology.spec(units, {s.name: range(1, s.num_blocks) for s in supernet.topology.stacks})
    batch = testing.random_batch(backbone, model, torch.Generator().manual_seed(0))
    assert export(supernet, spec, None, batch, tmp_path / "out") is is_stock
    with torch.no_grad():
        found, wanted = from_pretrained(tmp_path / "out")(**batch), supernet.subnet(spec)(**batch)
    assert testing.tensors_of(found)
    for one, other in zip(testing.tensors_of(found), testing.tensors_of(wanted), strict=True):
        torch.testing.assert_close(one, other)
