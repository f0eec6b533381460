"""The laws on tiny image encoders of transformers and timm."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from slimformer import SuperNet, backbone_for, testing
from slimformer.errors import TopologyError
from tests.families import build, check_flops, scatter_

SIZES = {
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "image_size": 12,
    "patch_size": 4,
}
TIMM = {"img_size": 12, "patch_size": 4, "embed_dim": 32, "depth": 3, "num_heads": 4, "mlp_ratio": 1.5, "num_classes": 5}


def check(model: Any) -> None:
    testing.check_backbone(backbone_for(model), model)


def tiny_timm(name: str = "vit_tiny_patch16_224", **options: Any) -> Any:
    return scatter_(timm.create_model(name, **TIMM | options))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_vit_keeps_the_laws(attention: str) -> None:
    check(build("ViT", "ForImageClassification", attention, **SIZES, intermediate_size=48))


def test_deit_with_a_distillation_token_keeps_the_laws() -> None:
    check(build("DeiT", "ForImageClassificationWithTeacher", "sdpa", **SIZES, intermediate_size=48))


@pytest.mark.parametrize("gated", [False, True])
def test_dinov2_keeps_the_laws(gated: bool) -> None:
    check(build("Dinov2", "ForImageClassification", "sdpa", **SIZES, mlp_ratio=2, use_swiglu_ffn=gated))


@pytest.mark.parametrize("fused", [False, True])
def test_timm_vit_keeps_the_laws_with_eager_and_fused_attention(fused: bool) -> None:
    model = tiny_timm(init_values=0.5)
    for block in model.blocks:
        block.attn.fused_attn = fused
    check(model)


def test_timm_deit_with_a_distillation_token_keeps_the_laws() -> None:
    check(tiny_timm("deit_tiny_distilled_patch16_224"))


def test_timm_vit_with_gated_neurons_keeps_the_laws() -> None:
    check(tiny_timm(mlp_layer=timm.layers.GluMlp, mlp_ratio=3))


def test_timm_vit_with_a_norm_over_the_heads_is_refused() -> None:
    with pytest.raises(TopologyError, match="no backbone describes VisionTransformer"):
        backbone_for(tiny_timm(scale_attn_norm=True))


def tiny_swin() -> Any:
    sizes = {"img_size": 16, "patch_size": 2, "window_size": 4, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4)}
    return scatter_(timm.create_model("swin_tiny_patch4_window7_224", **sizes, mlp_ratio=1.5, num_classes=5))


@pytest.mark.parametrize("fused", [False, True])
def test_timm_swin_keeps_the_laws_with_eager_and_fused_attention(fused: bool) -> None:
    model = tiny_swin()
    for stage in model.layers:
        for block in stage.blocks:
            block.attn.fused_attn = fused
    check(model)


def test_swin_has_a_depth_for_each_stage() -> None:
    model = tiny_swin()
    topology = backbone_for(model).topology(model)
    assert topology.axes == ("width.heads", "width.ffn", "depth.stage0", "depth.stage1")
    assert [topology.by_name[f"stage{stage}.0.heads"].num_units for stage in (0, 1)] == [2, 4]


@pytest.mark.parametrize("name", ["beitv2_base_patch16_224", "eva02_tiny_patch14_224"])
def test_beit_and_eva_keep_the_laws_with_their_heads_whole(name: str) -> None:
    model = tiny_timm(name, mlp_ratio=3)
    assert backbone_for(model).topology(model).axes == ("width.ffn", "depth")
    check(model)


def test_eva_with_a_norm_over_the_neurons_is_refused() -> None:
    with pytest.raises(TopologyError, match="no backbone describes Eva"):
        backbone_for(tiny_timm("eva02_base_patch14_224"))


@pytest.mark.parametrize("build_one", [tiny_swin, tiny_timm])
def test_the_flops_of_image_encoders_are_those_that_the_extraction_runs(build_one) -> None:
    check_flops(build_one())


def test_an_extraction_has_the_stock_layout_of_a_fused_layer() -> None:
    model = tiny_timm()
    supernet = SuperNet(model, backbone_for(model).topology(model))
    network = supernet.extract(supernet.topology.spec({"encoder.0.heads": 2}, {}))
    weight = model.blocks[0].attn.qkv.weight.detach().unflatten(0, (3, 4, 8))
    assert torch.equal(network.get_parameter("blocks.0.attn.qkv.weight"), weight[:, :2].flatten(0, 2))
