"""The nine laws on a tiny model of every family, with each kind of attention and in bfloat16."""

from __future__ import annotations

import pytest
import torch

from slimformer import testing
from slimformer.backbones import backbone_for
from tests.families import FAMILIES, few_specs

GENERATING = ("GPT-2", "Llama", "Qwen3", "Gemma-2", "Gemma-3", "Phi-3", "Mixtral", "Qwen2-MoE", "T5", "Whisper")


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_keeps_the_laws(family: str) -> None:
    model = FAMILIES[family].build("eager")
    testing.check_backbone(backbone_for(model), model)


@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if "sdpa" in family.attentions])
def test_the_laws_hold_with_sdpa_at_some_specs(family: str) -> None:
    model = FAMILIES[family].build("sdpa")
    testing.check_backbone(backbone_for(model), model, specs=few_specs(model))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_laws_hold_in_bfloat16_at_some_specs(family: str) -> None:
    model = FAMILIES[family].build("eager").to(torch.bfloat16)
    case = testing.Case.of(backbone_for(model), model, specs=few_specs(model))
    for law in FAMILIES[family].bfloat16_laws:
        law(case)


@pytest.mark.parametrize("family", GENERATING)
def test_every_sub_network_generates_the_same_with_and_without_a_cache(family: str) -> None:
    model = FAMILIES[family].build("eager")
    testing.check_generation(testing.Case.of(backbone_for(model), model, specs=few_specs(model)[2:]))
