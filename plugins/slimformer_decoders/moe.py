"""Decoders whose feed-forward networks are experts, of which a router picks a few for each token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimformer.backbones import BACKBONES, Attribute, BlockStack, Slice, Topology, UnitGroup, prefix_of, text_example, type_of
from slimformer.supernet import Batch
from slimformer_decoders.llama import heads, neurons

if TYPE_CHECKING:
    from torch import nn

FIELDS = {
    "mixtral": ("num_local_experts", "intermediate_size"),
    "qwen2_moe": ("num_experts", "moe_intermediate_size"),
    "qwen3_moe": ("num_experts", "moe_intermediate_size"),
}
"""What each model type's configuration calls the number of experts and of an expert's neurons."""


@BACKBONES.register("moe")
@dataclass(frozen=True)
class MixtureOfExperts:
    """Mixtral and Qwen-MoE: key-value groups, neurons of experts, shared and dense ones (width), experts, blocks (depth).

    All experts of a block keep the same number of neurons; at least as many experts remain as the router picks. The product
    that transformers prefers for experts, "grouped_mm", takes only numbers of neurons that fill 16 bytes. Models in which every
    n-th block has experts (a "decoder_sparse_step" above 1) are not described.
    """

    def describes(self, model: nn.Module) -> bool:
        return type_of(model) in FIELDS and getattr(model.config, "decoder_sparse_step", 1) == 1

    def topology(self, model: Any) -> Topology:
        path, blocks, groups = f"{prefix_of(model)}layers", model.config.num_hidden_layers, []
        for index in range(blocks):
            mlp = f"{path}.{index}.mlp"
            groups.append(heads(model, f"{path}.{index}", index))
            if not hasattr(model.get_submodule(mlp), "experts"):
                groups.append(neurons(model, mlp, f"decoder.{index}.ffn"))
                continue
            groups += _experts(model, mlp, index)
            if hasattr(model.get_submodule(mlp), "shared_expert"):
                field = "shared_expert_intermediate_size"
                groups.append(neurons(model, f"{mlp}.shared_expert", f"decoder.{index}.shared", "width.shared", field))
        dense = ("mlp_only_layers",) if hasattr(model.config, "mlp_only_layers") else ()
        stack = BlockStack("decoder", "depth", path, blocks, config_lists=("layer_types",), config_indices=dense)
        return Topology(tuple(groups), (stack,))

    def example(self, model: Any, batch_size: int, length: int) -> Batch:
        return text_example(batch_size, length, model.config.max_position_embeddings)


def _experts(model: Any, mlp: str, index: int) -> tuple[UnitGroup, UnitGroup]:
    up, down, router = f"{mlp}.experts.gate_up_proj", f"{mlp}.experts.down_proj", f"{mlp}.gate"
    number, _, inner = model.get_parameter(down).shape
    fields, least = FIELDS[type_of(model)], model.config.num_experts_per_tok
    experts = (Slice(f"{router}.weight", 0, role="choose"), Slice(up, 0, role="neither"), Slice(down, 0, role="hold"))
    counts = (Attribute(f"{mlp}.experts", "num_experts", 1), Attribute(router, "num_experts", 1))
    slices = (*(Slice(up, 1, start=start, role="writes") for start in (0, inner)), Slice(down, 2, role="reads"))
    sizes = (Attribute(f"{mlp}.experts", "intermediate_dim", 1),)
    return (
        UnitGroup(f"decoder.{index}.experts", "experts", number, experts, counts, config_field=fields[0], least=least),
        UnitGroup(f"decoder.{index}.ffn", "width.ffn", inner, slices, sizes, config_field=fields[1]),
    )
