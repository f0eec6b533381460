"""GPT-2: transposed layers, and query, key and value in one of them."""

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


@BACKBONES.register("gpt2")
@dataclass(frozen=True)
class GPT2:
    """GPT-2: heads and feed-forward neurons (width), blocks (depth). Models with cross-attention are another family."""

    def describes(self, model: nn.Module) -> bool:
        return type_of(model) == "gpt2" and not getattr(model.config, "add_cross_attention", False)

    def topology(self, model: Any) -> Topology:
        prefix, blocks = prefix_of(model), model.config.n_layer
        path = f"{prefix}h"
        groups = [group for block in range(blocks) for group in _groups(model, f"{path}.{block}", block)]
        return Topology(tuple(groups), (BlockStack("decoder", "depth", path, blocks, config_field="n_layer"),))

    def example(self, model: Any, batch_size: int, length: int) -> Batch:
        return text_example(batch_size, length, model.config.n_positions)


def _groups(model: Any, block: str, index: int) -> tuple[UnitGroup, UnitGroup]:
    config, attention, mlp = model.config, f"{block}.attn", f"{block}.mlp"
    hidden, inner = config.n_embd, model.get_submodule(mlp).c_fc.nf
    size = hidden // config.n_head
    heads = (
        *outputs(model, f"{attention}.c_attn", size, starts=(0, hidden, 2 * hidden)),
        *inputs(model, f"{attention}.c_proj", size),
    )
    counts = (
        Attribute(attention, "num_heads", 1),
        Attribute(attention, "split_size", size),
        Attribute(f"{attention}.c_attn", "nf", 3 * size),
    )
    neurons = (*outputs(model, f"{mlp}.c_fc"), *inputs(model, f"{mlp}.c_proj"))
    written = (Attribute(f"{mlp}.c_fc", "nf", 1),)
    return (
        UnitGroup(f"decoder.{index}.heads", "width.heads", config.n_head, heads, counts),
        UnitGroup(f"decoder.{index}.ffn", "width.ffn", inner, neurons, written, config_field="n_inner"),
    )
