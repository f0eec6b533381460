"""The residual stream of the whole model on calibration batches: the targets of every repair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from slimformer.errors import RepairError
from slimformer.repair.blocks import first_tensor, inputs_of, record_calls, stream_of
from slimformer.repair.places import Reader, find_readers
from slimformer.supernet.outputs import Batch

if TYPE_CHECKING:
    from slimformer.supernet.network import SuperNet
    from slimformer.supernet.topology import BlockStack

EXAMPLES = 2
"""Examples on which the places of the readers are found."""


@dataclass(frozen=True)
class StackStreams:
    """One stack of the whole model on the calibration batches, each list by batch.

    readers: the modules that can be refitted, by block. sums: (block, module) -> the stream just behind that module's sum,
    each Float[Tensor, "batch tokens hidden"]. outputs: block -> the stream behind the block. masks: Bool[Tensor, "batch tokens"],
    True at real tokens.
    """

    readers: Mapping[int, tuple[Reader, ...]]
    sums: Mapping[tuple[int, str], list[Tensor]] = field(default_factory=dict)
    outputs: Mapping[int, list[Tensor]] = field(default_factory=dict)
    masks: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class TeacherStreams:
    """The residual streams of the whole model, by stack."""

    stacks: Mapping[str, StackStreams]


def record_streams(supernet: SuperNet, batches: Sequence[Batch]) -> TeacherStreams:
    """Run the whole model on the batches and keep the residual stream behind every half block.

    Memory: about two floats for each block, real or padding token and entry of the stream, 4 bytes each.
    Raises: RepairError for no batches.
    """
    if not batches:
        raise RepairError("there are no calibration batches: give some texts (a few hundred sentences are enough)")
    model = supernet.frozen(supernet.topology.full)
    few = {name: tensor[:EXAMPLES] for name, tensor in batches[0].items()}
    stacks: dict[str, StackStreams] = {}
    for stack in supernet.topology.stacks:
        calls = record_calls(model, stack.path, [few])[0]
        readers = {i: find_readers(supernet.topology, model, stack, i, call) for i, call in enumerate(calls)}
        stacks[stack.name] = StackStreams(readers)
    with ExitStack() as hooks, torch.no_grad():
        for stack in supernet.topology.stacks:
            _watch_stack(hooks, model, stack, stacks[stack.name])
        for batch in batches:
            model(**inputs_of(model, batch))
            for position, stack in enumerate(supernet.topology.stacks):
                found = stacks[stack.name]
                found.masks.append(mask_of(batch, found.outputs[0][-1], position))
    return TeacherStreams(stacks)


def _watch_stack(hooks: ExitStack, model: nn.Module, stack: BlockStack, found: StackStreams) -> None:
    """Let the blocks of a stack append to `found` in every forward pass."""
    sums: dict[tuple[int, str], list[Tensor]] = found.sums  # type: ignore[assignment]
    outputs: dict[int, list[Tensor]] = found.outputs  # type: ignore[assignment]

    def keep_output(index: int):
        def hook(module: nn.Module, args: tuple, output: object) -> None:
            outputs.setdefault(index, []).append(stream_of(output))

        return hook

    def keep_input(index: int, name: str):
        def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
            tensor = first_tensor(args, kwargs)
            if tensor is not None:
                sums.setdefault((index, name), []).append(tensor)

        return hook

    for index, block in enumerate(model.get_submodule(stack.path).children()):
        hooks.callback(block.register_forward_hook(keep_output(index)).remove)
        for reader in found.readers[index]:
            if reader.place.module:
                place = block.get_submodule(reader.place.module)
                hook = keep_input(index, reader.module)
                hooks.callback(place.register_forward_pre_hook(hook, with_kwargs=True).remove)
            else:
                sums[index, reader.module] = outputs.setdefault(index, [])


def mask_of(batch: Batch, stream: Tensor, position: int) -> Tensor:
    """The real tokens of a stream, Bool[Tensor, "batch tokens"]: all of them where the batch has no mask of its shape.

    position: of the stack in the topology; a decoder behind an encoder has masks of its own.
    """
    shape = stream.shape[:-1]
    names = ("decoder_attention_mask",) if position else ("attention_mask",)
    if position and "decoder_attention_mask" not in batch and "decoder_input_ids" not in batch and "input_ids" not in batch:
        names = ("attention_mask",)
    for name in names:
        if name in batch and batch[name].shape == shape:
            return batch[name].to(stream.device).bool()
    return torch.ones(shape, dtype=torch.bool, device=stream.device)
