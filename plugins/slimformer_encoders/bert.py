"""BERT-family encoders: one description for BERT, RoBERTa, XLM-R, CamemBERT and ELECTRA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimformer.backbones import (
    BACKBONES,
    Attribute,
    BlockStack,
    Slice,
    Topology,
    UnitGroup,
    adds,
    check_stream_stays_inside,
    inputs,
    linear,
    norms,
    prefix_of,
    text_example,
    type_of,
)
from slimformer.backbones.layers import LEAST_STREAM
from slimformer.errors import TopologyError
from slimformer.supernet import Batch

if TYPE_CHECKING:
    from torch import nn

MODEL_TYPES = ("bert", "roberta", "xlm-roberta", "camembert", "electra")


@BACKBONES.register("bert")
@dataclass(frozen=True)
class BertFamily:
    """BERT, RoBERTa, XLM-R, CamemBERT, ELECTRA: heads and feed-forward neurons (width), blocks (depth).

    hidden: the width of the residual stream is elastic too (axis "hidden"). What a pooler or a classifier's first layer writes
        stays whole.
    """

    hidden: bool = False

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
        if self.hidden:
            check_stream_stays_inside(model)
            groups.append(_stream(model, prefix, config))
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


def _stream(model: Any, prefix: str, config: Any) -> UnitGroup:
    """The residual stream: what enters it, the norms over it, and what reads it."""
    parts = [*_entry(model, prefix), *_exit(model, prefix)]
    for block in (f"{prefix}encoder.layer.{index}" for index in range(config.num_hidden_layers)):
        for name in ("query", "key", "value"):
            parts += inputs(model, f"{block}.attention.self.{name}")
        parts += inputs(model, f"{block}.intermediate.dense")
        for name in ("attention.output", "output"):
            parts += (*adds(model, f"{block}.{name}.dense"), *norms(model, f"{block}.{name}.LayerNorm"))
    return UnitGroup("hidden", "hidden", config.hidden_size, tuple(parts), least=LEAST_STREAM)


def _entry(model: Any, prefix: str) -> list[Slice]:
    if hasattr(model.get_submodule(prefix.rstrip(".")), "embeddings_project"):
        return [*adds(model, f"{prefix}embeddings_project")]
    embeddings = f"{prefix}embeddings"
    tables = ("word_embeddings", "position_embeddings", "token_type_embeddings")
    return [
        *(part for name in tables for part in adds(model, f"{embeddings}.{name}")),
        *norms(model, f"{embeddings}.LayerNorm"),
    ]


def _exit(model: Any, prefix: str) -> list[Slice]:
    """The first layers behind the last block; a masked-language-model head goes on with the stream, up to the decoder.

    Raises: TopologyError for a head that is not known.
    """
    there = {name for name, _ in model.named_modules()}
    words = model.get_submodule(f"{prefix}embeddings.word_embeddings").weight
    for head, norm in (("cls.predictions.transform", "LayerNorm"), ("lm_head", "layer_norm")):
        if f"{head}.dense" in there:
            decoder = f"{head.removesuffix('.transform')}.decoder"
            is_tied = model.get_submodule(decoder).weight is words
            transform = (*inputs(model, f"{head}.dense"), *adds(model, f"{head}.dense"), *norms(model, f"{head}.{norm}"))
            return [*transform, *([] if is_tied else inputs(model, decoder))]
    readers = (f"{prefix}pooler.dense", "classifier.dense", "discriminator_predictions.dense", "qa_outputs", "classifier")
    reader = next((name for name in readers if name in there), "")
    if not reader:
        raise TopologyError(f"the axis hidden is not described for the head of {type(model).__name__}: leave it out")
    return [*inputs(model, reader)]
