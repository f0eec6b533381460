"""Describe a model's elastic structure: the parameter slices of each unit (head, FFN neuron, expert) and the block lists that can
be shortened.

A backbone plugin gives it; everything else (sub-networks, rewiring, importance, counting, export) follows from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from slimformer.errors import TopologyError
from slimformer.supernet.elements import (
    Attribute,
    BlockStack,
    SharedInput,
    Slice,
    UnitGroup,
    linear,
)
from slimformer.supernet.spec import SubnetSpec

__all__ = [
    "Attribute",
    "BlockStack",
    "SharedInput",
    "Slice",
    "Topology",
    "UnitGroup",
    "indivisible_axes",
    "linear",
]


@dataclass(frozen=True)
class Topology:
    """All unit groups and block stacks of one model."""

    groups: tuple[UnitGroup, ...]
    stacks: tuple[BlockStack, ...]
    by_name: Mapping[str, UnitGroup] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {group.name: group for group in self.groups})
        if len(self.by_name) != len(self.groups):
            raise TopologyError("two unit groups of a topology have the same name")

    @property
    def axes(self) -> tuple[str, ...]:
        """Every axis that this model offers, in the order of the topology."""
        return tuple(dict.fromkeys([group.axis for group in self.groups] + [stack.axis for stack in self.stacks]))

    def place(self, name: str) -> tuple[str, int] | None:
        """The stack and block that hold a parameter or module, None for what lies in no block."""
        found = ((stack.name, stack.block_of(name)) for stack in self.stacks)
        return next(((stack, block) for stack, block in found if block is not None), None)

    @cached_property
    def owner(self) -> Mapping[str, tuple[str, int]]:
        """The stack and block that hold each unit group, for the groups inside a block."""
        places = {group.name: {self.place(part.parameter) for part in group.slices} for group in self.groups}
        single = {name: next(iter(found)) for name, found in places.items() if len(found) == 1}
        return {name: place for name, place in single.items() if place}

    def block_of(self, group: UnitGroup | str) -> int | None:
        """The index, in its stack, of the block that holds a unit group (or the group of that name); None for a group in no block.

        Raises: TopologyError for a name that no group has.

        >>> topology.block_of("encoder.3.heads")
        3
        """
        name = group if isinstance(group, str) else group.name
        if name not in self.by_name:
            raise TopologyError(f"the topology has no group called {name!r}")
        return self.owner[name][1] if name in self.owner else None

    @cached_property
    def slices_of(self) -> Mapping[str, tuple[tuple[UnitGroup, Slice], ...]]:
        """The slices of each elastic parameter, by the parameter's name, in the order of their starts."""
        found: dict[str, tuple[tuple[UnitGroup, Slice], ...]] = {}
        for group in self.groups:
            for part in group.slices:
                found[part.parameter] = (*found.get(part.parameter, ()), (group, part))
        return {name: tuple(sorted(parts, key=lambda pair: (pair[1].dim, pair[1].start))) for name, parts in found.items()}

    @cached_property
    def elastic_dims(self) -> Mapping[str, Mapping[int, UnitGroup]]:
        """The unit group of each elastic dimension, by the parameter's name."""
        return {name: {part.dim: group for group, part in parts} for name, parts in self.slices_of.items()}

    def is_dropped(self, name: str, spec: SubnetSpec) -> bool:
        """Whether a parameter or module lies in a block that the spec drops."""
        place = self.place(name)
        return place is not None and place[1] not in spec.blocks[place[0]]

    def is_alive(self, group: UnitGroup, blocks: Mapping[str, tuple[int, ...]]) -> bool:
        """Whether a group lies outside the dropped blocks."""
        stack, block = self.owner.get(group.name, ("", -1))
        return block in blocks.get(stack, (-1,))

    def spec(self, units: Mapping[str, int], blocks: Mapping[str, Iterable[int]]) -> SubnetSpec:
        """A valid spec: sizes of groups inside dropped blocks are left out, groups and stacks not given stay whole.

        Raises: TopologyError for an unknown name, a number of units outside least..num_units, or no remaining block.
        """
        known_stacks = {stack.name for stack in self.stacks}
        for name in (*(set(units) - set(self.by_name)), *(set(blocks) - known_stacks)):
            raise TopologyError(f"the topology has no group or stack called {name!r}")
        kept = {s.name: tuple(sorted(set(blocks.get(s.name, range(s.num_blocks))))) for s in self.stacks}
        for stack in self.stacks:
            if not kept[stack.name] or not set(kept[stack.name]) <= set(range(stack.num_blocks)):
                raise TopologyError(
                    f"stack {stack.name!r} keeps blocks {list(kept[stack.name])}: write at least one of 0..{stack.num_blocks - 1}"
                )
        sizes = {g.name: units.get(g.name, g.num_units) for g in self.groups if self.is_alive(g, kept)}
        for name, size in sizes.items():
            group = self.by_name[name]
            if not group.least <= size <= group.num_units:
                raise TopologyError(f"group {name!r} keeps {size} units: write {group.least}..{group.num_units}")
        return SubnetSpec(sizes, kept)

    def within(self, prefix: str, config: str) -> Topology:
        """The topology of a model that holds the described one as a part.

        prefix: what the names of the part's parameters and modules begin with ("timm_model."). config: what its
            configuration's fields begin with ("model_args.").
        """

        groups = tuple(group.within(prefix, config) for group in self.groups)
        return Topology(groups, tuple(stack.within(prefix, config) for stack in self.stacks))

    @property
    def full(self) -> SubnetSpec:
        """The whole model as a spec."""
        return self.spec({}, {})

    def validate(self, spec: SubnetSpec) -> None:
        """Check that a spec (read from a file, say) is one of this topology's.

        Raises: TopologyError saying how it differs.
        """
        if self.spec(spec.units, spec.blocks) != spec:
            raise TopologyError("the spec does not give a size for each group of its blocks; make it with Topology.spec")

    def shape(self, parameter: str, full_shape: Iterable[int], spec: SubnetSpec) -> tuple[int, ...]:
        """The shape of one parameter in a sub-network that holds it."""
        shape, parts = list(full_shape), self.slices_of.get(parameter, ())
        for dim, group in self.elastic_dims.get(parameter, {}).items():
            shape[dim] = spec.units[group.name] * sum(part.unit_size for _, part in parts if part.dim == dim)
        return tuple(shape)

    def kept_ranges(self, parameter: str, spec: SubnetSpec) -> dict[int, tuple[tuple[int, int], ...]]:
        """The entries of a parameter's elastic dimensions that a sub-network keeps, as (start, length) of each part."""
        found: dict[int, tuple[tuple[int, int], ...]] = {}
        for group, part in self.slices_of.get(parameter, ()):
            kept = (part.start, spec.units[group.name] * part.unit_size)
            is_whole = spec.units[group.name] == group.num_units
            found[part.dim] = ((0, kept[0] + kept[1]),) if is_whole else (*found.get(part.dim, ()), kept)
        return found

    def check(self, shapes: Mapping[str, Iterable[int]]) -> None:
        """Check the topology against the parameters of the model it is said to describe.

        Raises: TopologyError naming the first parameter whose dimension its slices do not cover, once and in one group.
        """
        for group in self.groups:
            for part in group.slices:
                if part.parameter not in shapes:
                    raise TopologyError(
                        f"group {group.name!r} names parameter {part.parameter!r}, which the model does not have"
                    )
        for name, dims in self.elastic_dims.items():
            for dim in dims:
                _check_cover(self, name, dim, tuple(shapes[name])[dim])
            parts = [part.dim for _, part in self.slices_of[name]]
            if sum(parts.count(dim) > 1 for dim in dims) > 1:
                raise TopologyError(f"{name!r} has several parts in more than one dimension: at most one may be fused")


def _check_cover(topology: Topology, parameter: str, dim: int, size: int) -> None:
    """Raises: TopologyError where the slices of one dimension overlap, leave a gap, or belong to several groups."""
    end, parts = 0, [(group, part) for group, part in topology.slices_of[parameter] if part.dim == dim]
    for group, part in parts:
        if part.start != end or group is not parts[0][0]:
            break
        end += group.num_units * part.unit_size
    if end != size or len({group.name for group, _ in parts}) > 1:
        units = " and ".join(f"{g.num_units} units of {p.unit_size}" + f" from {p.start}" * (p.start > 0) for g, p in parts)
        raise TopologyError(f"group {parts[0][0].name!r}: {parameter!r} has {size} entries in dimension {dim}, not {units}")


def indivisible_axes(topology: Topology) -> dict[str, str]:
    """The axes along which no group can lose a unit, each with the reason."""
    elastic = {group.axis for group in topology.groups if group.is_divisible}
    elastic |= {stack.axis for stack in topology.stacks if stack.num_blocks > 1}
    reasons = {group.axis: group.why_indivisible for group in topology.groups}
    reasons |= {stack.axis: "a single block, which cannot be dropped" for stack in topology.stacks if stack.num_blocks == 1}
    return {axis: reason for axis, reason in reasons.items() if axis not in elastic}
