"""DistilBERT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimformer.backbones import BACKBONES, BlockStack, Topology, UnitGroup, inputs, outputs, prefix_of, text_example, type_of
from slimformer.supernet import Batch

if TYPE_CHECKING:
    from torch import nn


@BACKBONES.register("distilbert")
@dataclass(frozen=True)
class DistilBert:
    """DistilBERT: heads and feed-forward neurons (width), blocks (depth)."""

    def describes(self, model: nn.Module) -> bool:
        return type_of(model) == "distilbert"

    def topology(self, model: Any) -> Topology:
        prefix, blocks = prefix_of(model), model.config.n_layers
        path = f"{prefix}transformer.layer"
        groups = [group for block in range(blocks) for group in _groups(model, f"{path}.{block}", block)]
        stack = BlockStack("encoder", "depth", path, blocks, config_field="n_layers")
        return Topology(tuple(groups), (stack,))

    def example(self, model: Any, batch_size: int, length: int) -> Batch:
        return text_example(batch_size, length, model.config.max_position_embeddings)


def _groups(model: Any, block: str, index: int) -> tuple[UnitGroup, UnitGroup]:
    config, attention, ffn = model.config, f"{block}.attention", f"{block}.ffn"
    size = config.dim // config.n_heads
    written = [part for name in "qkv" for part in outputs(model, f"{attention}.{name}_lin", size)]
    heads = (*written, *inputs(model, f"{attention}.out_lin", size))
    neurons = (*outputs(model, f"{ffn}.lin1"), *inputs(model, f"{ffn}.lin2"))
    return (
        UnitGroup(f"encoder.{index}.heads", "width.heads", config.n_heads, heads),
        UnitGroup(f"encoder.{index}.ffn", "width.ffn", config.hidden_dim, neurons, config_field="hidden_dim"),
    )
