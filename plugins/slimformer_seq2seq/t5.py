"""T5: an encoder and a decoder, each with one relative position bias for all its blocks."""

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
    inputs,
    outputs,
    prefix_of,
    text_example,
    type_of,
)
from slimformer.supernet import Batch

if TYPE_CHECKING:
    from torch import nn

DEPTHS = {"encoder": "num_layers", "decoder": "num_decoder_layers"}
TABLE = "layer.0.SelfAttention.relative_attention_bias"
FIRST = (TABLE, "layer.0.SelfAttention.has_relative_attention_bias")


@BACKBONES.register("t5")
@dataclass(frozen=True)
class T5:
    """T5, T5 1.1 and the encoder alone: in each stack heads, cross-attention heads and neurons (width), and blocks (depth).

    The blocks of a stack have the same heads in the same order, as its position bias is computed once for all of them.
    """

    def describes(self, model: nn.Module) -> bool:
        return type_of(model) == "t5"

    def topology(self, model: Any) -> Topology:
        groups: list[UnitGroup] = []
        stacks: list[BlockStack] = []
        for tower in _towers(model):
            path = f"{prefix_of(model)}{tower}.block"
            blocks = len(model.get_submodule(path))
            groups += _groups(model, tower, [f"{path}.{block}.layer" for block in range(blocks)])
            depth = f"depth.{tower}"
            stacks.append(BlockStack(tower, depth, path, blocks, config_field=DEPTHS[tower], inherited=FIRST))
        return Topology(tuple(groups), tuple(stacks))

    def example(self, model: Any, batch_size: int, length: int) -> Batch:
        text = text_example(batch_size, length, longest=length)
        return {**text, "decoder_input_ids": text["input_ids"]} if "decoder" in _towers(model) else text


def _towers(model: Any) -> list[str]:
    return [tower for tower in DEPTHS if hasattr(model.get_submodule(prefix_of(model).rstrip(".")), tower)]


def _groups(model: Any, tower: str, paths: list[str]) -> list[UnitGroup]:
    axis = f"width.{tower}"
    table = Slice(f"{paths[0]}{TABLE.removeprefix('layer')}.weight", 1, role="neither")
    groups = [_heads(model, f"{tower}.heads", f"{axis}.heads", [f"{path}.0.SelfAttention" for path in paths], (table,))]
    if tower == "decoder":
        groups.append(_heads(model, f"{tower}.cross", f"{axis}.cross", [f"{path}.1.EncDecAttention" for path in paths], ()))
    for block, path in enumerate(paths):
        name = f"{path}.{1 if tower == 'encoder' else 2}.DenseReluDense"
        module = model.get_submodule(name)
        neurons = [part for way in ("wi", "wi_0", "wi_1") if hasattr(module, way) for part in outputs(model, f"{name}.{way}")]
        slices = (*neurons, *inputs(model, f"{name}.wo"))
        groups.append(UnitGroup(f"{tower}.{block}.ffn", f"{axis}.ffn", model.config.d_ff, slices, config_field="d_ff"))
    return groups


def _heads(model: Any, name: str, axis: str, modules: list[str], table: tuple[Slice, ...]) -> UnitGroup:
    size, number = model.config.d_kv, model.config.num_heads
    written = [part for module in modules for way in "qkv" for part in outputs(model, f"{module}.{way}", size)]
    read = [part for module in modules for part in inputs(model, f"{module}.o", size)]
    counts = [Attribute(module, *count) for module in modules for count in (("n_heads", 1), ("inner_dim", size))]
    return UnitGroup(name, axis, number, (*written, *read, *table), tuple(counts), config_field="num_heads")
