"""ModernBERT: query, key and value in one layer, and gated feed-forward neurons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimformer.backbones import BACKBONES, BlockStack, Topology, UnitGroup, inputs, outputs, prefix_of, text_example, type_of
from slimformer.supernet import Batch

if TYPE_CHECKING:
    from torch import nn


@BACKBONES.register("modernbert")
@dataclass(frozen=True)
class ModernBert:
    """ModernBERT: heads and gated feed-forward neurons (width), blocks of local and global attention (depth)."""

    def describes(self, model: nn.Module) -> bool:
        return type_of(model) == "modernbert"

    def topology(self, model: Any) -> Topology:
        prefix, blocks = prefix_of(model), model.config.num_hidden_layers
        path = f"{prefix}layers"
        groups = [group for block in range(blocks) for group in _groups(model, f"{path}.{block}", block)]
        stack = BlockStack("encoder", "depth", path, blocks, config_lists=("layer_types",))
        return Topology(tuple(groups), (stack,))

    def example(self, model: Any, batch_size: int, length: int) -> Batch:
        return text_example(batch_size, length, model.config.max_position_embeddings)


def _groups(model: Any, block: str, index: int) -> tuple[UnitGroup, UnitGroup]:
    config, hidden, inner = model.config, model.config.hidden_size, model.config.intermediate_size
    size = hidden // config.num_attention_heads
    fused = outputs(model, f"{block}.attn.Wqkv", size, starts=(0, hidden, 2 * hidden))
    gated = outputs(model, f"{block}.mlp.Wi", starts=(0, inner))
    heads = (*fused, *inputs(model, f"{block}.attn.Wo", size))
    neurons = (*gated, *inputs(model, f"{block}.mlp.Wo"))
    return (
        UnitGroup(f"encoder.{index}.heads", "width.heads", config.num_attention_heads, heads),
        UnitGroup(f"encoder.{index}.ffn", "width.ffn", inner, neurons, config_field="intermediate_size"),
    )
