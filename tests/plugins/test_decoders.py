"""The laws on tiny causal language models, and that every sub-network generates the same with and without a cache."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from slimformer import SuperNet, backbone_for, testing
from slimformer.errors import TopologyError
from slimformer.export import export, load
from slimformer.importance import ActivationNorm, FirstOrder, Magnitude
from tests.families import build, check_flops

LLAMA_SIZES = {
    "hidden_size": 32,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 4,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "vocab_size": 60,
    "max_position_embeddings": 40,
    "use_cache": False,
}
MIXED = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "sliding_window": 4}
MOE = {"num_experts_per_tok": 2, "moe_intermediate_size": 24, "experts_implementation": "eager"}
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": {"tie_word_embeddings": True, "attention_bias": True},
    "Mistral": {"sliding_window": 4},
    "Qwen2": MIXED | {"use_sliding_window": True},
    "Qwen3": MIXED | {"use_sliding_window": True},
    "Gemma": {"hidden_activation": "gelu_pytorch_tanh"},
    "Gemma2": MIXED,
    "Gemma3": MIXED,
    "Phi3": {},
    "Mixtral": MOE | {"num_local_experts": 5, "intermediate_size": 24, "experts_implementation": "batched_mm"},
    "Qwen2Moe": MOE | {"num_experts": 5, "shared_expert_intermediate_size": 16, "mlp_only_layers": [0]},
    "Qwen3Moe": MOE | {"num_experts": 5, "mlp_only_layers": [1], "experts_implementation": "batched_mm"},
    "GPT2": {"n_embd": 32, "n_head": 4, "n_layer": 3, "n_inner": 48, "n_positions": 40, "vocab_size": 60, "use_cache": False},
}
ENDLESS = {"bos_token_id": 1, "eos_token_id": None, "pad_token_id": 0}


def tiny(family: str, attention: str) -> Any:
    head = {"Gemma3": "ForCausalLM", "GPT2": "LMHeadModel"}.get(family, "ForCausalLM")
    sizes = FAMILIES[family] if family == "GPT2" else LLAMA_SIZES | FAMILIES[family]
    config = {"Gemma3": "Gemma3Text"}.get(family, family)
    return build(family, head, attention, config=config, **sizes, **ENDLESS)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_keeps_the_laws(family: str) -> None:
    model = tiny(family, "eager")
    testing.check_backbone(backbone_for(model), model)


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"Gemma2"}))  # which has no sdpa
def test_the_laws_hold_with_sdpa_at_some_uniform_and_per_layer_specs(family: str) -> None:
    model = tiny(family, "sdpa")
    topology = backbone_for(model).topology(model)
    specs = (*testing.uniform_specs(topology)[::3], *testing.random_specs(topology, 3, torch.Generator().manual_seed(1)))
    testing.check_backbone(backbone_for(model), model, specs=specs)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_sub_network_generates_the_same_with_and_without_a_cache(family: str) -> None:
    model = tiny(family, "eager")
    supernet = SuperNet(model, backbone_for(model).topology(model))
    specs = testing.random_specs(supernet.topology, 3, torch.Generator().manual_seed(1))
    prompt = torch.randint(3, 60, (2, 5), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(prompt)
    for spec in specs:
        for network in (supernet.subnet(spec), supernet.extract(spec)):
            options = {"attention_mask": mask, "max_new_tokens": 9, "do_sample": False, "pad_token_id": 0}
            slow, fast = (network.generate(prompt, use_cache=cache, **options) for cache in (False, True))
            assert slow.shape == (2, 14)
            assert torch.equal(slow, fast), spec


@pytest.mark.parametrize("family", ["Phi3", "Mixtral", "Qwen3Moe"])
def test_the_flops_of_fused_and_routed_decoders_are_those_that_the_extraction_runs(family: str) -> None:
    check_flops(tiny(family, "eager"))


def test_a_router_keeps_as_many_experts_as_it_picks() -> None:
    model = tiny("Mixtral", "eager")
    topology = backbone_for(model).topology(model)
    experts = topology.by_name["decoder.0.experts"]
    assert [experts.at(ratio) for ratio in (1.0, 0.6, 0.2)] == [5, 3, 2]
    with pytest.raises(TopologyError, match=r"keeps 1 units: write 2\.\.5"):
        topology.spec({"decoder.0.experts": 1}, {})


def test_experts_are_scored_by_their_weights_and_what_the_loss_loses_with_them() -> None:
    model = tiny("Mixtral", "eager")
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


def test_dropping_blocks_renumbers_them_and_filters_their_attention_types() -> None:
    model = tiny("Gemma2", "eager")
    supernet = SuperNet(model, backbone_for(model).topology(model))
    network: Any = supernet.extract(supernet.topology.spec({}, {"decoder": (1, 2)}))
    assert network.config.layer_types == ["full_attention", "sliding_attention"]
    assert [layer.self_attn.layer_idx for layer in network.model.layers] == [0, 1]
    assert model.config.layer_types == MIXED["layer_types"]


def test_gpt2_that_scales_attention_by_its_block_keeps_the_laws() -> None:
    sizes = FAMILIES["GPT2"] | {"scale_attn_by_inverse_layer_idx": True}
    model = build("GPT2", "LMHeadModel", "sdpa", **sizes, **ENDLESS)
    testing.check_backbone(backbone_for(model), model)


@pytest.mark.parametrize(("family", "widths", "is_stock"), [
    ("Llama", {"heads": 2, "ffn": 24}, True),
    ("Llama", {"heads": 2}, True),
    ("Phi3", {"heads": 2, "ffn": 24}, True),
    ("Mixtral", {"experts": 3, "heads": 2, "ffn": 12}, True),
    ("Qwen2Moe", {"experts": 3, "shared": 4}, True),
    ("GPT2", {"ffn": 24}, True),
    ("GPT2", {"heads": 2, "ffn": 24}, False),
])  # fmt: skip
def test_an_export_is_stock_where_the_configuration_can_say_its_shapes(tmp_path, family, widths, is_stock) -> None:
    model = tiny(family, "eager")
    supernet = SuperNet(model, backbone_for(model).topology(model))
    sizes = {g.name: widths.get(g.axis.removeprefix("width."), g.num_units) for g in supernet.topology.groups}
    spec = supernet.topology.spec(sizes, {"decoder": (0, 2)})
    batch = backbone_for(model).example(model, 2, 9)
    assert export(supernet, spec, None, batch, tmp_path / "out") is is_stock
    with torch.no_grad():
        torch.testing.assert_close(load(tmp_path / "out")(**batch).logits, supernet.subnet(spec)(**batch).logits)


def test_the_score_of_a_unit_in_transposed_layers_is_that_of_its_weights() -> None:
    model = tiny("GPT2", "eager")
    supernet = SuperNet(model, backbone_for(model).topology(model))
    weight = model.transformer.h[0].attn.c_proj.weight.detach()
    expected = weight.unflatten(0, (4, 8)).square().sum((1, 2)).sqrt()
    torch.testing.assert_close(Magnitude()(supernet, [])["decoder.0.heads"], expected)


def test_first_order_scores_in_transposed_layers_are_weight_times_gradient() -> None:
    model = tiny("GPT2", "eager")
    supernet = SuperNet(model, backbone_for(model).topology(model))
    ids = torch.randint(3, 60, (2, 7), generator=torch.Generator().manual_seed(0))
    scores = FirstOrder()(supernet, [{"input_ids": ids, "labels": ids}])
    model(input_ids=ids, labels=ids).loss.backward()
    layer = model.transformer.h[1].attn.c_proj.weight
    expected = (layer * layer.grad).detach().unflatten(0, (4, 8)).sum((1, 2)).abs()
    torch.testing.assert_close(scores["decoder.1.heads"], expected, rtol=1e-3, atol=1e-5)
