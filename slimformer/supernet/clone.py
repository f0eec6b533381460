"""Copy a module tree with smaller parameters: views, fused parts, renumbered blocks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from slimformer.supernet import resize
from slimformer.supernet.config_fields import PLACES, read_field, write_field_
from slimformer.supernet.spec import SubnetSpec
from slimformer.supernet.topology import BlockStack, Topology

ParameterMap = Callable[[str, nn.Parameter, Sequence[Tensor]], Sequence[nn.Parameter]]
"""(name, full parameter, views of the parts that a spec keeps) -> a parameter for each part, or a single one for all."""


class _Parts(nn.Module):
    """Concatenates a fused parameter's parts whenever it is read, for `torch.nn.utils.parametrize`."""

    def __init__(self, parts: Sequence[nn.Parameter], shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self._given = [part.detach() for part in parts]

    def forward(self, *parts: Tensor) -> Tensor:
        return join(parts, self.shape)

    def right_inverse(self, whole: Tensor) -> list[Tensor]:
        return self._given


def fuse_(module: nn.Module, name: str, parts: Sequence[nn.Parameter], shape: Sequence[int]) -> None:
    """Let a module compute one of its parameters from the given parts."""
    owner, _, leaf = name.rpartition(".")
    rule = _Parts(parts, shape)
    parametrize.register_parametrization(module.get_submodule(owner), leaf, rule, unsafe=True)
    rule._given = []
    originals = module.get_submodule(f"{owner}.parametrizations.{leaf}")
    for index, part in enumerate(parts):
        setattr(originals, f"original{index}", part)


def join(parts: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """Concatenate parts in the one dimension in which they are smaller than the whole."""
    if len(parts) == 1:
        return parts[0]
    dim = next(dim for dim, size in enumerate(shape) if parts[0].shape[dim] != size)
    return torch.cat(tuple(parts), dim)


def parts_of(name: str, full: Tensor, topology: Topology, spec: SubnetSpec) -> list[Tensor]:
    """Views of what a spec keeps of a parameter (or of a tensor of its shape): one, or one for each part if it is fused."""
    views = [full]
    for dim, ranges in topology.kept_ranges(name, spec).items():
        views = [view.narrow(dim, start, length) for view in views for start, length in ranges]
    return views


def renumber(name: str, topology: Topology, spec: SubnetSpec) -> str:
    """What a parameter or module of the full model is called in a sub-network, whose remaining blocks count from 0."""
    for stack in topology.stacks:
        block = stack.block_of(name)
        if block is not None:
            new = spec.blocks[stack.name].index(block)
            return f"{stack.path}.{new}{name.removeprefix(f'{stack.path}.{block}')}"
    return name


def set_sizes_(module: nn.Module, full: nn.Module, topology: Topology, spec: SubnetSpec) -> None:
    """Set a clone's attributes, blocks' indices and places in shared inputs to what a spec says.

    full: the super-network's model.
    """
    config = getattr(module, "config", None)
    if hasattr(config, PLACES):
        delattr(config, PLACES)
    for stack in topology.stacks:
        if len(spec.blocks[stack.name]) != stack.num_blocks:
            renumber_blocks_(module, config, stack, spec.blocks[stack.name])
    for name, units in spec.units.items():
        group = topology.by_name[name]
        for attribute in group.attributes:
            if not topology.is_dropped(attribute.module, spec):
                owner = module.get_submodule(renumber(attribute.module, topology, spec))
                resize.set_attribute_(owner, attribute.name, attribute.per_unit * units)
        for shared in group.shared:
            owner = module.get_submodule(renumber(shared.module, topology, spec))
            places = full.get_submodule(shared.module).get_buffer(shared.buffer)
            setattr(owner, shared.buffer, places[:units])
    for part in module.modules():
        resize.follow_shapes_(part)


def gather_shared_inputs_(model: nn.Module, topology: Topology) -> None:
    """Let the modules with shared inputs take their units' entries, in the order that the configuration notes, if any."""
    noted = getattr(getattr(model, "config", None), PLACES, {})
    for group in topology.groups:
        for shared in group.shared:
            module = model.get_submodule(shared.module)
            if shared.buffer not in module._buffers:
                order = noted.get(shared.module, {}).get(shared.argument, list(range(group.num_units)))
                resize.gather_input_(module, shared.argument, shared.dim, order)
                module._non_persistent_buffers_set.add(shared.buffer)


def renumber_blocks_(module: nn.Module, config: Any, stack: BlockStack, kept: Sequence[int]) -> None:
    """Write the number of blocks into a sub-network's configuration, and the blocks' new indices, counted from 0."""
    if config is not None:
        if stack.config_field:
            write_field_(config, stack.config_field, len(kept))
            renumber_stages_(config, stack, kept)
        for field in stack.config_lists:
            entries = read_field(config, field)
            if entries:
                write_field_(config, field, [entries[block] for block in kept])
        for field in stack.config_indices:
            listed = read_field(config, field) or ()
            write_field_(config, field, [new for new, block in enumerate(kept) if block in listed])
    for new, block in enumerate(module.get_submodule(stack.path).children()):
        for part in block.modules():
            if stack.index_attribute in vars(part):
                setattr(part, stack.index_attribute, new)


def renumber_stages_(config: Any, stack: BlockStack, kept: Sequence[int]) -> None:
    """Count anew the stages that some vision configurations name: the stem and one for each block.

    A stage whose block is gone, but which the model is to return, becomes that of the last remaining block before it.
    """
    part, _, _ = stack.config_field.rpartition(".")
    owner = read_field(config, part) if part else config
    names = getattr(owner, "stage_names", None)
    if names is None or len(names) != stack.num_blocks + 1:
        return
    listed = [index % len(names) for index in owner.out_indices or [-1]]
    owner.stage_names = ["stem", *(f"stage{number}" for number in range(1, len(kept) + 1))]
    owner.set_output_features_output_indices(None, sorted({sum(block < index for block in kept) for index in listed}))


def copy_stack(model: nn.Module, stack: BlockStack, kept: Iterable[int], memo: dict[int, Any]) -> None:
    """Put a copy of a block list with only the kept blocks into `memo`, so that a deep copy of the model uses it."""
    container = model.get_submodule(stack.path)
    blocks = list(container.children())
    short = copy.copy(container)
    short.__dict__ = {key: copy.copy(value) if isinstance(value, dict) else value for key, value in vars(container).items()}
    memo[id(container)] = short
    short._modules = {str(new): copy.deepcopy(blocks[old], memo) for new, old in enumerate(kept)}
    if 0 not in kept:
        for member in stack.inherited:
            owner, _, leaf = member.rpartition(".")
            inherited = copy.deepcopy(getattr(blocks[0].get_submodule(owner), leaf), memo)
            setattr(short.get_submodule(f"0.{owner}".rstrip(".")), leaf, inherited)
