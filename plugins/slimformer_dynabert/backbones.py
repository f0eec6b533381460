"""BERT-family encoders: one description for BERT, RoBERTa, XLM-R, CamemBERT and ELECTRA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimformer.backbone import BACKBONES
from slimformer.data import Batch
from slimformer.describe import prefix_of, text_example, type_of
from slimformer.topology import Attribute, BlockStack, Topology, UnitGroup, linear

if TYPE_CHECKING:
    from torch import nn

MODEL_TYPES = ("bert", "roberta", "xlm-roberta", "camembert", "electra")


@BACKBONES.register("bert")
@dataclass(frozen=True)
class BertFamily:
    """BERT, RoBERTa, XLM-R, CamemBERT, ELECTRA: heads and feed-forward neurons (width), blocks (depth)."""

    def describes(self, model: nn.Module) -> bool:
        return type_of(model) in MODEL_TYPES

    def topology(self, model: Any) -> Topology:
        config = model.config
        prefix = prefix_of(model)
        path = f"{prefix}encoder.layer"
        groups = []
        for block in range(config.num_hidden_layers):
            groups += [_heads(f"{path}.{block}", block, config), _neurons(f"{path}.{block}", block, config)]
        stack = BlockStack("encoder", "depth", path, config.num_hidden_layers)
        return Topology(tuple(groups), (stack,))

    def example(self, model: Any, batch_size: int, length: int) -> Batch:
        return text_example(batch_size, length, _longest_input(model.config))


def _longest_input(config: Any) -> int:
    """Positions that the model has; RoBERTa's begin behind the padding index."""
    first = 0 if config.model_type in ("bert", "electra") else config.pad_token_id + 1
    return int(config.max_position_embeddings) - first


def _heads(block: str, index: int, config: Any) -> UnitGroup:
    attention, size = f"{block}.attention", config.hidden_size // config.num_attention_heads
    written = [part for name in ("query", "key", "value") for part in linear(f"{attention}.self.{name}", 0, size)]
    return UnitGroup(
        name=f"encoder.{index}.heads",
        axis="width.heads",
        num_units=config.num_attention_heads,
        slices=(*written, *linear(f"{attention}.output.dense", 1, size)),
        attributes=(
            Attribute(f"{attention}.self", "num_attention_heads", 1),
            Attribute(f"{attention}.self", "all_head_size", size),
        ),
    )


def _neurons(block: str, index: int, config: Any) -> UnitGroup:
    return UnitGroup(
        name=f"encoder.{index}.ffn",
        axis="width.ffn",
        num_units=config.intermediate_size,
        slices=(*linear(f"{block}.intermediate.dense", 0, 1), *linear(f"{block}.output.dense", 1, 1)),
        config_field="intermediate_size",
    )
