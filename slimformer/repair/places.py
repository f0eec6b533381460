"""Find where the output of a module meets the residual stream, by perturbing it and watching what changes by as much."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from slimformer.repair.blocks import BlockCall, first_tensor
from slimformer.supernet.topology import BlockStack, Topology

SAME = 1e-2
"""Largest deviation from the perturbation, as a fraction of its largest entry, that counts as float error."""


@dataclass(frozen=True)
class Place:
    """Where a reader's output has just been added to the residual stream.

    module: the module inside the block, relative to it, whose input is the sum; "" for the block's own output.
    inverts: the module is a norm whose output is the block's output (post-norm blocks, as BERT's).
    is_local: nothing is added before that module (a norm of the output itself, as Gemma 2's): the target is then the reader's own
        output, and earlier errors are not absorbed.
    gain: Float[Tensor, "hidden"], by which the output is multiplied before it is added (a layer scale); None for 1.
    """

    module: str
    inverts: bool = False
    is_local: bool = False
    gain: Tensor | None = field(default=None, compare=False)

    @property
    def ends_block(self) -> bool:
        """Whether the block's output follows from the sum alone."""
        return not self.module or self.inverts


@dataclass(frozen=True)
class Reader:
    """A linear module that reads a group's units and adds to the residual stream.

    module: its name relative to the block. unit_size: inputs of each unit. transposed: its weight is [in, out], as GPT-2's.
    """

    module: str
    group: str
    unit_size: int
    transposed: bool
    place: Place


def reading_modules(topology: Topology, model: nn.Module, stack: BlockStack, block: int) -> dict[str, tuple[str, int, bool]]:
    """The matrices in one block that read a group's units: module relative to the block -> the group, its unit size, and
    whether the weight is [in, out]."""
    prefix, found = f"{stack.path}.{block}.", dict[str, tuple[str, int, bool]]()
    for group in topology.groups:
        if group.axis == "hidden":
            continue  # units of the stream itself: every module reads them
        for part in group.slices:
            if part.reads and part.parameter.startswith(prefix) and model.get_parameter(part.parameter).dim() == 2:
                found[part.module.removeprefix(prefix)] = (group.name, part.unit_size, part.dim == 0)
    return found


def find_readers(topology: Topology, model: nn.Module, stack: BlockStack, block: int, call: BlockCall) -> tuple[Reader, ...]:
    """The readers of one block in the order in which they run; those whose sum cannot be found are left out.

    call: the inputs of the block on a few examples.
    """
    module = model.get_submodule(f"{stack.path}.{block}")
    named = reading_modules(topology, model, stack, block)
    with torch.no_grad():
        clean = _watch(module, call, {})
    readers = []
    for name in (name for name in clean.order if name in named):
        if clean.order.count(name) != 1:
            continue  # shared between several places: one refit cannot serve them all
        place = _place_of(module, call, name, clean)
        if place is not None:
            readers.append(Reader(name, *named[name], place))
    return tuple(readers)


@dataclass
class _Watched:
    """Inputs and outputs of every module of a block in one pass, in the order of their calls."""

    order: list[str] = field(default_factory=list)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    result: Tensor = field(default_factory=lambda: torch.zeros(()))


def _watch(block: nn.Module, call: BlockCall, added: Mapping[str, Tensor]) -> _Watched:
    """Run a block; `added` is added to the outputs of some modules."""
    found = _Watched()

    def enter(name: str):
        def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
            tensor = first_tensor(args, kwargs)
            if tensor is not None and tensor.is_floating_point():
                found.inputs[name] = tensor.clone()
                found.order.append(name)

        return hook

    def leave(name: str):
        def hook(module: nn.Module, args: tuple, output: object) -> object:
            tensor = output if isinstance(output, Tensor) else None
            if tensor is None:
                return None
            changed = tensor + added[name] if name in added else tensor
            found.outputs[name] = changed.clone()
            return changed

        return hook

    with ExitStack() as hooks:
        for name, module in block.named_modules():
            if name:
                hooks.callback(module.register_forward_pre_hook(enter(name), with_kwargs=True).remove)
                hooks.callback(module.register_forward_hook(leave(name)).remove)
        found.result = call.run(block).clone()
    return found


def _place_of(block: nn.Module, call: BlockCall, name: str, clean: _Watched) -> Place | None:
    output = clean.outputs[name]
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(output.shape, generator=generator).to(output)
    delta = noise * output.square().mean().sqrt().clamp(min=1e-3)
    with torch.no_grad():
        moved = _watch(block, call, {name: delta})

    start = clean.order.index(name)
    local: Place | None = None
    for other in clean.order[start + 1 :]:
        if other not in moved.inputs or other not in clean.outputs or _passes_on(clean, other):
            continue
        gain = _gain(clean.inputs[other], moved.inputs[other], delta)
        if gain is None:
            continue
        if _is_near(clean.inputs[other], gain * output, output):
            local = local or (Place(other, is_local=True) if bool((gain == 1).all()) else None)
            continue
        inverts = isinstance(getattr(block.get_submodule(other), "weight", None), Tensor) and torch.equal(
            clean.outputs[other], clean.result
        )
        return Place(other, inverts=inverts, gain=_unless_one(gain))
    gain = _gain(clean.result, moved.result, delta)
    return local if gain is None else Place("", gain=_unless_one(gain))


def _gain(before: Tensor, after: Tensor, delta: Tensor) -> Tensor | None:
    """g where `after - before == g * delta` with one number for each entry of the stream, Float[Tensor, "hidden"]; else None."""
    if not before.shape == delta.shape == after.shape:
        return None
    change, rows = (after - before).flatten(0, -2), delta.flatten(0, -2)
    if _is_near(change, rows, rows):
        return torch.ones_like(rows[0])
    gain = (change * rows).sum(0) / rows.square().sum(0)
    return gain if bool(gain.any()) and _is_near(change, gain * rows, gain * rows) else None


def _is_near(found: Tensor, wanted: Tensor, scale: Tensor) -> bool:
    return float((found - wanted).abs().max()) <= SAME * float(scale.abs().max())


def _unless_one(gain: Tensor) -> Tensor | None:
    return None if bool((gain == 1).all()) else gain


def _passes_on(clean: _Watched, name: str) -> bool:
    """Whether a module returns its input, as dropout in eval mode."""
    return (
        torch.equal(clean.inputs[name], clean.outputs[name]) if clean.inputs[name].shape == clean.outputs[name].shape else False
    )
