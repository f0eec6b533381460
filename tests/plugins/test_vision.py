"""What is special about image encoders of transformers and timm; the laws are in tests/laws."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from slimformer import SuperNet, testing
from slimformer.backbones import backbone_for
from slimformer.errors import TopologyError
from tests.families import FAMILIES, IMAGES, TIMM_SIZES, VIT_SIZES, build, build_timm, check_flops, few_specs


def check(model: Any) -> None:
    testing.check_backbone(backbone_for(model), model, specs=few_specs(model))


def tiny_timm(name: str = "vit_tiny_patch16_224", **options: Any) -> Any:
    return build_timm(name, "sdpa", **TIMM_SIZES | options)


def test_dinov2_without_gates_keeps_the_laws() -> None:
    check(build("Dinov2", IMAGES, "sdpa", **VIT_SIZES, mlp_ratio=2))


def test_timm_vit_with_gated_neurons_keeps_the_laws() -> None:
    check(tiny_timm(mlp_layer=timm.layers.GluMlp, mlp_ratio=3))


def test_timm_vit_with_a_norm_over_the_heads_is_refused() -> None:
    with pytest.raises(TopologyError, match="no backbone describes VisionTransformer"):
        backbone_for(tiny_timm(scale_attn_norm=True))


def test_swin_has_a_depth_for_each_stage() -> None:
    model = FAMILIES["timm Swin"].build("sdpa")
    topology = backbone_for(model).topology(model)
    assert topology.axes == ("width.heads", "width.ffn", "depth.stage0", "depth.stage1")
    assert [topology.by_name[f"stage{stage}.0.heads"].num_units for stage in (0, 1)] == [2, 4]


@pytest.mark.parametrize("family", ["timm BEiT", "timm EVA-02"])
def test_beit_and_eva_keep_their_heads(family: str) -> None:
    model = FAMILIES[family].build("sdpa")
    assert backbone_for(model).topology(model).axes == ("width.ffn", "depth")


def test_eva_with_a_norm_over_the_neurons_is_refused() -> None:
    with pytest.raises(TopologyError, match="no backbone describes Eva"):
        backbone_for(tiny_timm("eva02_base_patch14_224"))


@pytest.mark.parametrize("family", ["timm ViT", "timm Swin"])
def test_the_flops_of_image_encoders_are_those_that_the_extraction_runs(family: str) -> None:
    check_flops(FAMILIES[family].build("sdpa"))


def test_an_extraction_has_the_stock_layout_of_a_fused_layer() -> None:
    model = tiny_timm()
    supernet = SuperNet(model, backbone_for(model).topology(model))
    network = supernet.extract(supernet.topology.spec({"encoder.0.heads": 2}, {}))
    weight = model.blocks[0].attn.qkv.weight.detach().unflatten(0, (3, 4, 8))
    assert torch.equal(network.get_parameter("blocks.0.attn.qkv.weight"), weight[:, :2].flatten(0, 2))
