"""DeBERTa-v2 and -v3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimformer.backbones import (
    BACKBONES,
    Attribute,
    BlockStack,
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


@BACKBONES.register("deberta")
@dataclass(frozen=True)
class DebertaV2:
    """DeBERTa-v2 and -v3: heads and feed-forward neurons (width); blocks (depth), but for models with a convolution.

    The convolution reads what enters and what leaves the first block, so that no block may be dropped there.
    """

    def describes(self, model: nn.Module) -> bool:
        return type_of(model) == "deberta-v2"

    def topology(self, model: Any) -> Topology:
        prefix, blocks = prefix_of(model), model.config.num_hidden_layers
        path = f"{prefix}encoder.layer"
        groups = [group for block in range(blocks) for group in _groups(model, f"{path}.{block}", block)]
        stack = BlockStack("encoder", "depth", path, blocks)
        has_convolution = model.get_submodule(f"{prefix}encoder").conv is not None
        return Topology(tuple(groups), () if has_convolution else (stack,))

    def example(self, model: Any, batch_size: int, length: int) -> Batch:
        return text_example(batch_size, length, model.config.max_position_embeddings)


def _groups(model: Any, block: str, index: int) -> tuple[UnitGroup, UnitGroup]:
    config, attention = model.config, f"{block}.attention.self"
    module = model.get_submodule(attention)
    size, number = module.attention_head_size, module.num_attention_heads
    layers = ("query_proj", "key_proj", "value_proj", "pos_key_proj", "pos_query_proj")
    written = [part for name in layers if hasattr(module, name) for part in outputs(model, f"{attention}.{name}", size)]
    heads = (*written, *inputs(model, f"{block}.attention.output.dense", size))
    counts = (Attribute(attention, "num_attention_heads", 1), Attribute(attention, "all_head_size", size))
    neurons = (*outputs(model, f"{block}.intermediate.dense"), *inputs(model, f"{block}.output.dense"))
    return (
        UnitGroup(f"encoder.{index}.heads", "width.heads", number, heads, counts),
        UnitGroup(f"encoder.{index}.ffn", "width.ffn", config.intermediate_size, neurons, config_field="intermediate_size"),
    )
