"""What is special about causal language models; the laws, and generation with a cache, are in tests/laws."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from slimformer import SuperNet, testing
from slimformer.backbones import backbone_for
from slimformer.errors import TopologyError
from slimformer.export import export, from_pretrained
from slimformer.importance import ActivationNorm, FirstOrder, Magnitude
from tests.families import FAMILIES, GPT2_SIZES, MIXED, build, check_flops, few_specs


@pytest.mark.parametrize("family", ["Phi-3", "Mixtral", "Qwen2-MoE"])
def test_the_flops_of_fused_and_routed_decoders_are_those_that_the_extraction_runs(family: str) -> None:
    check_flops(FAMILIES[family].build("eager"))


def test_experts_are_scored_by_their_weights_and_what_the_loss_loses_with_them() -> None:
    model = FAMILIES["Mixtral"].build("eager")
    supernet = SuperNet(model, backbone_for(model).topology(model))
    ids = torch.randint(3, 60, (2, 7), generator=torch.Generator().manual_seed(0))
    first_order = FirstOrder()(supernet, [{"input_ids": ids, "labels": ids}])
    model(input_ids=ids, labels=ids).loss.backward()
    weight = model.model.layers[1].mlp.experts.down_proj
    product = (weight * weight.grad).detach()
    torch.testing.assert_close(first_order["decoder.1.experts"], product.sum((1, 2)).abs(), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(first_order["decoder.1.ffn"], product.sum((0, 1)).abs(), rtol=1e-3, atol=1e-5)
    squares = weight.detach().square()
    torch.testing.assert_close(Magnitude()(supernet, [])["decoder.1.experts"], squares.sum((1, 2)).sqrt())
    with pytest.raises(TopologyError, match=r"activation_norm cannot see the units of 'decoder.0.experts'"):
        ActivationNorm()(supernet, [])


def test_a_block_of_phi3_reads_its_heads_from_a_configuration_of_its_own() -> None:
    model = FAMILIES["Phi-3"].build("eager")
    supernet = SuperNet(model, backbone_for(model).topology(model))
    network: Any = supernet.subnet(supernet.topology.spec({"decoder.0.heads": 1, "decoder.2.heads": 3}, {}))
    assert [layer.self_attn.config.num_attention_heads for layer in network.model.layers] == [2, 8, 6]
    assert network.config.num_attention_heads == model.config.num_attention_heads == 8


def test_dropping_blocks_renumbers_them_and_filters_their_attention_types() -> None:
    model = FAMILIES["Gemma-2"].build("eager")
    supernet = SuperNet(model, backbone_for(model).topology(model))
    network: Any = supernet.extract(supernet.topology.spec({}, {"decoder": (1, 2)}))
    assert network.config.layer_types == ["full_attention", "sliding_attention"]
    assert [layer.self_attn.layer_idx for layer in network.model.layers] == [0, 1]
    assert model.config.layer_types == MIXED["layer_types"]


def test_gpt2_that_scales_attention_by_its_block_keeps_the_laws() -> None:
    model = build("GPT2", "LMHeadModel", "sdpa", **GPT2_SIZES, scale_attn_by_inverse_layer_idx=True)
    testing.check_backbone(backbone_for(model), model, specs=few_specs(model))


@pytest.mark.parametrize(("family", "widths", "is_stock"), [
    ("Llama", {"heads": 2, "ffn": 24}, True),
    ("Llama", {"heads": 2}, True),
    ("Phi-3", {"heads": 2, "ffn": 24}, True),
    ("Mixtral", {"experts": 3, "heads": 2, "ffn": 12}, True),
    ("Qwen2-MoE", {"experts": 3, "shared": 4}, True),
    ("GPT-2", {"ffn": 24}, True),
    ("GPT-2", {"heads": 2, "ffn": 24}, False),
])  # fmt: skip
def test_an_export_is_stock_where_the_configuration_can_say_its_shapes(tmp_path, family, widths, is_stock) -> None:
    model = FAMILIES[family].build("eager")
    supernet = SuperNet(model, backbone_for(model).topology(model))
    sizes = {g.name: widths.get(g.axis.removeprefix("width."), g.num_units) for g in supernet.topology.groups}
    spec = supernet.topology.spec(sizes, {"decoder": (0, 2)})
    batch = backbone_for(model).example(model, 2, 9)
    assert export(supernet, spec, None, batch, tmp_path / "out") is is_stock
    with torch.no_grad():
        torch.testing.assert_close(from_pretrained(tmp_path / "out")(**batch).logits, supernet.subnet(spec)(**batch).logits)


def test_the_score_of_a_unit_in_transposed_layers_is_that_of_its_weights() -> None:
    model = FAMILIES["GPT-2"].build("eager")
    supernet = SuperNet(model, backbone_for(model).topology(model))
    weight = model.transformer.h[0].attn.c_proj.weight.detach()
    expected = weight.unflatten(0, (4, 8)).square().sum((1, 2)).sqrt()
    torch.testing.assert_close(Magnitude()(supernet, [])["decoder.0.heads"], expected)


def test_first_order_scores_in_transposed_layers_are_weight_times_gradient() -> None:
    model = FAMILIES["GPT-2"].build("eager")
    supernet = SuperNet(model, backbone_for(model).topology(model))
    ids = torch.randint(3, 60, (2, 7), generator=torch.Generator().manual_seed(0))
    scores = FirstOrder()(supernet, [{"input_ids": ids, "labels": ids}])
    model(input_ids=ids, labels=ids).loss.backward()
    layer = model.transformer.h[1].attn.c_proj.weight
    expected = (layer * layer.grad).detach().unflatten(0, (4, 8)).sum((1, 2)).abs()
    torch.testing.assert_close(scores["decoder.1.heads"], expected, rtol=1e-3, atol=1e-5)
