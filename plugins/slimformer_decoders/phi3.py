"""Phi-3: queries, keys and values in one layer, and the gate with the neurons in another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimformer.backbones import (
    BACKBONES,
    Attribute,
    BlockStack,
    Slice,
    Topology,
    UnitGroup,
    inputs,
    outputs,
    prefix_of,
    text_example,
    type_of,
)
from slimformer.supernet import Batch

if TYPE_CHECKING:
    from torch import nn


@BACKBONES.register("phi3")
@dataclass(frozen=True)
class Phi3:
    """Phi-3 and Phi-4: key-value groups and feed-forward neurons (width), blocks (depth)."""

    def describes(self, model: nn.Module) -> bool:
        return type_of(model) == "phi3"

    def topology(self, model: Any) -> Topology:
        path, blocks = f"{prefix_of(model)}layers", model.config.num_hidden_layers
        groups = [group for block in range(blocks) for group in _groups(model, f"{path}.{block}", block)]
        return Topology(tuple(groups), (BlockStack("decoder", "depth", path, blocks, config_lists=("layer_types",)),))

    def example(self, model: Any, batch_size: int, length: int) -> Batch:
        return text_example(batch_size, length, model.config.max_position_embeddings)


def _groups(model: Any, block: str, index: int) -> tuple[UnitGroup, UnitGroup]:
    config, attention, mlp = model.config, f"{block}.self_attn", f"{block}.mlp"
    size, number = model.get_submodule(attention).head_dim, config.num_key_value_heads
    queries, fused = config.num_attention_heads // number, f"{attention}.qkv_proj.weight"
    keys, values = queries * number * size, (queries + 1) * number * size
    heads = (
        Slice(fused, 0, queries * size),
        Slice(fused, 0, size, keys),
        Slice(fused, 0, size, values),
        *inputs(model, f"{attention}.o_proj", queries * size),
    )
    counts = (Attribute(attention, "num_key_value_heads", 1), Attribute(attention, "config.num_attention_heads", queries))
    fields = (("num_key_value_heads", 1), ("num_attention_heads", queries))
    inner = config.intermediate_size
    neurons = (*outputs(model, f"{mlp}.gate_up_proj", starts=(0, inner)), *inputs(model, f"{mlp}.down_proj"))
    return (
        UnitGroup(f"decoder.{index}.heads", "width.heads", number, heads, counts, more_config=fields),
        UnitGroup(f"decoder.{index}.ffn", "width.ffn", inner, neurons, config_field="intermediate_size"),
    )
