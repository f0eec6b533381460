"""ALBERT: one block run many times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimformer.backbones import BACKBONES, Attribute, Topology, UnitGroup, inputs, outputs, prefix_of, text_example, type_of
from slimformer.supernet import Batch

if TYPE_CHECKING:
    from torch import nn


@BACKBONES.register("albert")
@dataclass(frozen=True)
class Albert:
    """ALBERT: heads and feed-forward neurons (width). Its blocks share their weights, so that it has no depth axis."""

    def describes(self, model: nn.Module) -> bool:
        return type_of(model) == "albert"

    def topology(self, model: Any) -> Topology:
        config, path = model.config, f"{prefix_of(model)}encoder.albert_layer_groups"
        layers = [(group, layer) for group in range(config.num_hidden_groups) for layer in range(config.inner_group_num)]
        groups = [part for g, n in layers for part in _groups(model, f"{path}.{g}.albert_layers.{n}", f"{g}.{n}")]
        return Topology(tuple(groups), ())

    def example(self, model: Any, batch_size: int, length: int) -> Batch:
        return text_example(batch_size, length, model.config.max_position_embeddings)


def _groups(model: Any, block: str, name: str) -> tuple[UnitGroup, UnitGroup]:
    config, attention = model.config, f"{block}.attention"
    size = config.hidden_size // config.num_attention_heads
    written = [part for name in ("query", "key", "value") for part in outputs(model, f"{attention}.{name}", size)]
    heads = (*written, *inputs(model, f"{attention}.dense", size))
    counts = (Attribute(attention, "num_attention_heads", 1), Attribute(attention, "all_head_size", size))
    neurons = (*outputs(model, f"{block}.ffn"), *inputs(model, f"{block}.ffn_output"))
    return (
        UnitGroup(f"encoder.{name}.heads", "width.heads", config.num_attention_heads, heads, counts),
        UnitGroup(f"encoder.{name}.ffn", "width.ffn", config.intermediate_size, neurons, config_field="intermediate_size"),
    )
