"""MPNet: BERT with one relative-attention bias for all blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimformer.backbones import (
    BACKBONES,
    Attribute,
    BlockStack,
    SharedInput,
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


@BACKBONES.register("mpnet")
@dataclass(frozen=True)
class MPNet:
    """MPNet: heads and feed-forward neurons (width), blocks (depth).

    The table of the attention bias stays whole, a column for each of the checkpoint's heads: every block picks the columns
    of its own heads from the bias computed once, whatever their order and number.
    """

    def describes(self, model: nn.Module) -> bool:
        return type_of(model) == "mpnet"

    def topology(self, model: Any) -> Topology:
        prefix, blocks = prefix_of(model), model.config.num_hidden_layers
        path = f"{prefix}encoder.layer"
        groups = [group for block in range(blocks) for group in _groups(model, f"{path}.{block}", block)]
        return Topology(tuple(groups), (BlockStack("encoder", "depth", path, blocks),))

    def example(self, model: Any, batch_size: int, length: int) -> Batch:
        return text_example(batch_size, length, model.config.max_position_embeddings - 2)


def _groups(model: Any, block: str, index: int) -> tuple[UnitGroup, UnitGroup]:
    config, attention = model.config, f"{block}.attention.attn"
    size = config.hidden_size // config.num_attention_heads
    heads = (
        *(part for name in "qkv" for part in outputs(model, f"{attention}.{name}", size)),
        *inputs(model, f"{attention}.o", size),
    )
    neurons = (*outputs(model, f"{block}.intermediate.dense"), *inputs(model, f"{block}.output.dense"))
    counts = (Attribute(attention, "num_attention_heads", 1), Attribute(attention, "all_head_size", size))
    bias = SharedInput(f"{block}.attention", "position_bias", dim=1)
    return (
        UnitGroup(f"encoder.{index}.heads", "width.heads", config.num_attention_heads, heads, counts, shared=(bias,)),
        UnitGroup(f"encoder.{index}.ffn", "width.ffn", config.intermediate_size, neurons, config_field="intermediate_size"),
    )
