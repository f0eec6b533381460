"""Llama-like decoders: grouped queries and gated feed-forward neurons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimformer.backbone import BACKBONES
from slimformer.data import Batch
from slimformer.describe import inputs, outputs, prefix_of, text_example, type_of
from slimformer.topology import BlockStack, Topology, UnitGroup

if TYPE_CHECKING:
    from torch import nn

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text")


@BACKBONES.register("llama")
@dataclass(frozen=True)
class LlamaFamily:
    """Llama, Mistral, Qwen2, Qwen3, Gemma 1 to 3: key-value groups and feed-forward neurons (width), blocks (depth).

    The unit of attention is a key-value head with all query heads that read it.
    """

    def describes(self, model: nn.Module) -> bool:
        return type_of(model) in MODEL_TYPES

    def topology(self, model: Any) -> Topology:
        prefix, blocks = prefix_of(model), model.config.num_hidden_layers
        path = f"{prefix}layers"
        groups = [group for block in range(blocks) for group in _groups(model, f"{path}.{block}", block)]
        stack = BlockStack("decoder", "depth", path, blocks, config_lists=("layer_types",))
        return Topology(tuple(groups), (stack,))

    def example(self, model: Any, batch_size: int, length: int) -> Batch:
        return text_example(batch_size, length, model.config.max_position_embeddings)


def _groups(model: Any, block: str, index: int) -> tuple[UnitGroup, UnitGroup]:
    config, attention, mlp = model.config, f"{block}.self_attn", f"{block}.mlp"
    size, number = model.get_submodule(attention).head_dim, config.num_key_value_heads
    queries = config.num_attention_heads // number
    heads = (
        *outputs(model, f"{attention}.q_proj", queries * size),
        *outputs(model, f"{attention}.k_proj", size),
        *outputs(model, f"{attention}.v_proj", size),
        *inputs(model, f"{attention}.o_proj", queries * size),
    )
    neurons = (*outputs(model, f"{mlp}.gate_proj"), *outputs(model, f"{mlp}.up_proj"), *inputs(model, f"{mlp}.down_proj"))
    fields = (("num_key_value_heads", 1), ("num_attention_heads", queries))
    return (
        UnitGroup(f"decoder.{index}.heads", "width.heads", number, heads, more_config=fields),
        UnitGroup(f"decoder.{index}.ffn", "width.ffn", config.intermediate_size, neurons, config_field="intermediate_size"),
    )
