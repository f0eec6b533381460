"""Llama-like decoders: grouped queries and gated feed-forward neurons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimformer.backbones import (
    BACKBONES,
    BlockStack,
    Topology,
    UnitGroup,
    adds,
    check_stream_stays_inside,
    inputs,
    is_linear,
    norms,
    outputs,
    prefix_of,
    text_example,
    type_of,
)
from slimformer.backbones.layers import LEAST_STREAM
from slimformer.supernet import Batch

if TYPE_CHECKING:
    from torch import nn

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text")


@BACKBONES.register("llama")
@dataclass(frozen=True)
class LlamaFamily:
    """Llama, Mistral, Qwen2, Qwen3, Gemma 1 to 3: key-value groups and feed-forward neurons (width), blocks (depth).

    The unit of attention is a key-value head with all query heads that read it.

    hidden: the width of the residual stream is elastic too (axis "hidden").
    """

    hidden: bool = False

    def describes(self, model: nn.Module) -> bool:
        return type_of(model) in MODEL_TYPES

    def topology(self, model: Any) -> Topology:
        prefix, blocks = prefix_of(model), model.config.num_hidden_layers
        path = f"{prefix}layers"
        groups = []
        for block in range(blocks):
            groups.append(heads(model, f"{path}.{block}", block))
            groups.append(neurons(model, f"{path}.{block}.mlp", f"decoder.{block}.ffn"))
        if self.hidden:
            check_stream_stays_inside(model)
            groups.append(_stream(model, prefix))
        stack = BlockStack("decoder", "depth", path, blocks, config_lists=("layer_types",))
        return Topology(tuple(groups), (stack,))

    def example(self, model: Any, batch_size: int, length: int) -> Batch:
        return text_example(batch_size, length, model.config.max_position_embeddings)


def heads(model: Any, block: str, index: int) -> UnitGroup:
    """The key-value heads of one block, each with the query heads that read it."""
    config, attention = model.config, f"{block}.self_attn"
    size, number = model.get_submodule(attention).head_dim, config.num_key_value_heads
    queries = config.num_attention_heads // number
    slices = (
        *outputs(model, f"{attention}.q_proj", queries * size),
        *outputs(model, f"{attention}.k_proj", size),
        *outputs(model, f"{attention}.v_proj", size),
        *inputs(model, f"{attention}.o_proj", queries * size),
    )
    fields = (("num_key_value_heads", 1), ("num_attention_heads", queries))
    return UnitGroup(f"decoder.{index}.heads", "width.heads", number, slices, more_config=fields)


def neurons(model: Any, mlp: str, name: str, axis: str = "width.ffn", field: str = "intermediate_size") -> UnitGroup:
    """The neurons of one gated feed-forward network."""
    slices = (*outputs(model, f"{mlp}.gate_proj"), *outputs(model, f"{mlp}.up_proj"), *inputs(model, f"{mlp}.down_proj"))
    return UnitGroup(name, axis, model.get_submodule(f"{mlp}.down_proj").in_features, slices, config_field=field)


def _stream(model: Any, prefix: str) -> UnitGroup:
    """The residual stream: the embeddings, the norms over it, and what reads it and adds to it.

    Gemma scales its embeddings by the root of the width in its configuration, which therefore stays.
    """
    parts = [*adds(model, f"{prefix}embed_tokens"), *norms(model, f"{prefix}norm")]
    for index, layer in enumerate(model.get_submodule(f"{prefix}layers")):
        block = f"{prefix}layers.{index}"
        parts += [
            part for name, _ in layer.named_children() if name.endswith("norm") for part in norms(model, f"{block}.{name}")
        ]
        readers = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj")
        parts += [part for name in readers for part in inputs(model, f"{block}.{name}")]
        parts += [*adds(model, f"{block}.self_attn.o_proj"), *adds(model, f"{block}.mlp.down_proj")]
    words = model.get_submodule(f"{prefix}embed_tokens").weight
    heads = [name for name, module in model.named_children() if is_linear(module) and module.weight is not words]
    parts += [part for name in heads for part in inputs(model, name)]
    field = "" if type_of(model).startswith("gemma") else "hidden_size"
    return UnitGroup("hidden", "hidden", model.config.hidden_size, tuple(parts), config_field=field, least=LEAST_STREAM)
