"""The laws on tiny encoder-decoders and models of two towers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from slimformer import Axis, Space, SuperNet, backbone_for, testing
from slimformer.export import export, load
from slimformer.space import DEPTH_POLICIES
from tests.families import build, check_flops, scatter_

T5_SIZES = {
    "d_model": 32, "d_kv": 8, "d_ff": 24, "num_heads": 4, "num_layers": 3, "num_decoder_layers": 2, "vocab_size": 60,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 10, "use_cache": False,
    "decoder_start_token_id": 0,
}  # fmt: skip
TOWER = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 24}
TEXT = TOWER | {"vocab_size": 60, "max_position_embeddings": 20, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
WHISPER_SIZES = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 24, "decoder_ffn_dim": 16, "vocab_size": 60, "num_mel_bins": 4, "max_source_positions": 6,
    "max_target_positions": 20, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
    "use_cache": False, "suppress_tokens": [], "begin_suppress_tokens": [],
}  # fmt: skip


def tiny_t5(head: str = "ForConditionalGeneration", attention: str = "sdpa", **sizes: Any) -> Any:
    return build("T5", head, attention, **T5_SIZES | sizes)


def tiny_clip(attention: str = "sdpa") -> Any:
    vision = TOWER | {"image_size": 12, "patch_size": 4}
    config = transformers.CLIPConfig(text_config=TEXT, vision_config=vision, projection_dim=16, attn_implementation=attention)
    return scatter_(transformers.CLIPModel(config))


def tiny_whisper(attention: str = "sdpa") -> Any:
    return build("Whisper", "ForConditionalGeneration", attention, **WHISPER_SIZES)


def check(model: Any) -> None:
    testing.check_backbone(backbone_for(model), model)


@pytest.mark.parametrize(("attention", "ffn"), [("eager", "relu"), ("sdpa", "gated-gelu")])
def test_t5_keeps_the_laws(attention: str, ffn: str) -> None:
    check(tiny_t5(attention=attention, feed_forward_proj=ffn))


def test_the_encoder_of_t5_keeps_the_laws_alone() -> None:
    check(tiny_t5("EncoderModel"))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_clip_keeps_the_laws(attention: str) -> None:
    check(tiny_clip(attention))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_whisper_keeps_the_laws(attention: str) -> None:
    check(tiny_whisper(attention))


def test_each_tower_may_have_a_width_and_a_depth_of_its_own() -> None:
    model = tiny_clip()
    topology = backbone_for(model).topology(model)
    axes = (Axis("width.text", (1.0, 0.5)), Axis("depth.vision", (1.0, 0.5)))
    spec = Space(topology, axes, DEPTH_POLICIES.build("keep_last")).smallest().spec
    assert {name: size for name, size in spec.units.items() if ".1." in name} == {
        "vision.1.heads": 4, "vision.1.ffn": 24, "text.1.heads": 2, "text.1.ffn": 12,
    }  # fmt: skip
    assert spec.blocks == {"vision": (1,), "text": (0, 1)}


def test_the_first_block_that_remains_inherits_the_bias_table_of_t5() -> None:
    model = tiny_t5()
    supernet = SuperNet(model, backbone_for(model).topology(model))
    network = supernet.extract(supernet.topology.spec({"encoder.heads": 3}, {"encoder": (1, 2)}))
    first, second = (block.layer[0].SelfAttention for block in network.encoder.block)
    table = model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    assert torch.equal(first.relative_attention_bias.weight, table[:, :3])
    assert first.has_relative_attention_bias
    assert not second.has_relative_attention_bias


@pytest.mark.parametrize("build_one", [tiny_t5, tiny_clip, tiny_whisper])
def test_the_flops_of_two_towers_are_those_that_the_extraction_runs(build_one) -> None:
    check_flops(build_one())


@pytest.mark.parametrize(("build_one", "sizes", "is_stock"), [
    (tiny_t5, {"heads": 2, "cross": 2, "ffn": 12}, True),
    (tiny_t5, {"heads": 3, "ffn": 12}, False),
    (tiny_clip, {"ffn": 12}, True),
    (tiny_clip, {"heads": 2, "ffn": 12}, False),
    (tiny_whisper, {"heads": 3, "ffn": 8}, False),
])  # fmt: skip
def test_an_export_without_the_first_blocks_loads_to_the_same_outputs(tmp_path, build_one, sizes, is_stock) -> None:
    model = build_one()
    backbone = backbone_for(model)
    supernet = SuperNet(model, backbone.topology(model))
    units = {g.name: sizes.get(g.axis.rpartition(".")[2], g.num_units) for g in supernet.topology.groups}
    spec = supernet.topology.spec(units, {s.name: range(1, s.num_blocks) for s in supernet.topology.stacks})
    batch = testing.random_batch(backbone, model, torch.Generator().manual_seed(0))
    assert export(supernet, spec, None, batch, tmp_path / "out") is is_stock
    with torch.no_grad():
        found, wanted = load(tmp_path / "out")(**batch), supernet.subnet(spec)(**batch)
    assert testing.tensors_of(found)
    for one, other in zip(testing.tensors_of(found), testing.tensors_of(wanted), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("build_one", [tiny_t5, tiny_whisper])
def test_every_sub_network_of_an_encoder_decoder_generates_the_same_with_and_without_a_cache(build_one) -> None:
    model = build_one()
    backbone = backbone_for(model)
    supernet = SuperNet(model, backbone.topology(model))
    batch = testing.random_batch(backbone, model, torch.Generator().manual_seed(0))
    given = {name: tensor for name, tensor in batch.items() if not name.startswith("decoder")}
    options = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    for spec in testing.random_specs(supernet.topology, 2, torch.Generator().manual_seed(1)):
        network: Any = supernet.subnet(spec)
        slow, fast = (network.generate(**given, use_cache=cache, **options) for cache in (False, True))
        assert slow.shape[1] >= 8
        assert torch.equal(slow, fast), spec
