"""The topology of a model: which slices of which parameters make up each head, neuron or block.

A backbone plugin states it; everything else (sub-networks, rewiring, importance, counting, export) follows from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from typing import Literal

from slimformer.errors import TopologyError
from slimformer.supernet.spec import SubnetSpec


@dataclass(frozen=True)
class Slice:
    """The part of one parameter that belongs to a unit group.

    Unit `u` owns the indices `start + u * unit_size ... start + (u + 1) * unit_size - 1` of dimension `dim` of `parameter`.
    unit_size: the head size for attention heads, 1 for feed-forward neurons; it may differ between the slices of a group
        (a key-value group with its query heads).
    start: where a fused parameter's part begins: its query, key and value, or gate and up, are slices of one parameter.
    role: what the units do in the parameter's module: "reads" if they are entries of its input's last dimension, "writes" if
        of its output's, "neither" for a table. "" goes by the layout of `nn.Linear`: columns read, rows write.
        Experts have two more: they "choose" in the router's rows, whose outputs compete for each token (the place of a unit
        that is gone is one at minus infinity), and "hold" in the stacked matrices with which each makes its own output.
        The units of the residual stream have two more: a module "adds" them to the stream (its outputs, or a table's entries),
        and a "norm" takes its statistics over them.
    """

    parameter: str
    dim: int
    unit_size: int = 1
    start: int = 0
    role: Literal["", "reads", "writes", "neither", "choose", "hold", "adds", "norm"] = ""

    @property
    def reads(self) -> bool:
        return self.role == "reads" or (not self.role and self.dim == 1 and self.parameter.endswith(".weight"))

    @property
    def writes(self) -> bool:
        return self.role == "writes" or (not self.role and self.dim == 0 and self.parameter.endswith(".weight"))

    @property
    def carries(self) -> bool:
        """Whether a unit whose entries are zero here has no effect on the model's output."""
        return self.reads or self.role == "hold"

    @property
    def module(self) -> str:
        return self.parameter.rpartition(".")[0]


@dataclass(frozen=True)
class Attribute:
    """A number that a module reads instead of its weight's shape: `module.name == per_unit * units` in a sub-network.

    name: "config.num_attention_heads", say, where the module reads its configuration, of which it then gets its own copy.
    """

    module: str
    name: str
    per_unit: int


def linear(module: str, dim: int, unit_size: int = 1, *, starts: Iterable[int] = (0,), bias: bool = True) -> tuple[Slice, ...]:
    """The slices of an `nn.Linear`: output rows (`dim=0`) take the bias along, input columns (`dim=1`) do not.

    starts: where each part of a fused layer begins, for example `(0, h, 2 * h)` for query, key and value.
    """
    parts = tuple(Slice(f"{module}.weight", dim, unit_size, start) for start in starts)
    with_bias = bias and dim == 0
    return (*parts, *(Slice(f"{module}.bias", 0, unit_size, start) for start in starts if with_bias))


@dataclass(frozen=True)
class SharedInput:
    """An argument of a module that several blocks share and that has one entry per unit in dimension `dim`.

    An example is MPNet's attention bias, computed once with a column for each head. As each block may order its heads in its
    own way, the super-network gives the module a buffer with its units' places in the argument, and a hook that picks them;
    rewiring permutes the buffer and a sub-network keeps its first entries, as if it were a parameter.

    argument: the name by which the module is called with it.
    """

    module: str
    argument: str
    dim: int

    @property
    def buffer(self) -> str:
        """The name of the module's buffer that holds the places, Int[Tensor, "units"]."""
        return f"{self.argument}_units"


@dataclass(frozen=True)
class UnitGroup:
    """Units (heads, neurons) coupled across slices.

    Law: permuting the units in all slices at once leaves the model's function unchanged.

    axis: the elastic direction, as a dotted path: "width.heads" is covered by a choice for "width" and for "width.heads".
    config_field: the stock configuration's name for `config_per_unit * units` ("text_config.intermediate_size", say, in a
        part or table of it), or "" where it has none; a sub-network whose groups all agree on it can be stored in the stock
        format.
    more_config: further such fields, each with its number per unit.
    shared: inputs that the group's blocks share with others.
    least: the fewest units that a sub-network may keep: a router that picks two experts for each token needs two.

    The slices may lie in several blocks: the heads of T5 are the same in all blocks, since a bias with a column for each head is
    computed once. Such a group belongs to no block.
    """

    name: str
    axis: str
    num_units: int
    slices: tuple[Slice, ...]
    attributes: tuple[Attribute, ...] = ()
    config_field: str = ""
    config_per_unit: int = 1
    more_config: tuple[tuple[str, int], ...] = ()
    shared: tuple[SharedInput, ...] = ()
    least: int = 1

    def at(self, ratio: float) -> int:
        """How many units a ratio keeps: at least `least`, halves rounded to even (as DynaBERT's code does)."""
        return max(self.least, round(ratio * self.num_units))

    @property
    def config(self) -> tuple[tuple[str, int], ...]:
        """The stock configuration's fields that give the group's size, each with its number per unit."""
        return (*(((self.config_field, self.config_per_unit),) if self.config_field else ()), *self.more_config)


@dataclass(frozen=True)
class BlockStack:
    """A list of transformer blocks of which some may be dropped.

    path: the `nn.ModuleList` (or `nn.Sequential`) that holds the blocks.
    config_field: the stock configuration's name for the number of blocks, as a unit group's.
    config_lists: fields of the configuration with one entry per block, which lose the dropped blocks' entries.
    config_indices: fields of the configuration that list some of the blocks by their indices, which are counted anew.
    index_attribute: what modules inside a block call the block's index, where they keep it.
    inherited: members of the first block (modules, attributes) that whichever block comes first has, for example the table
        of T5's attention bias: they are never dropped.
    """

    name: str
    axis: str
    path: str
    num_blocks: int
    _: KW_ONLY
    config_field: str = "num_hidden_layers"
    config_lists: tuple[str, ...] = ()
    config_indices: tuple[str, ...] = ()
    index_attribute: str = "layer_idx"
    inherited: tuple[str, ...] = ()

    def block_of(self, name: str) -> int | None:
        """The block that holds a parameter or module, None where none does or whichever comes first."""
        index, _, member = name.removeprefix(f"{self.path}.").partition(".")
        is_inherited = any(f"{member}.".startswith(f"{own}.") for own in self.inherited)
        return None if not name.startswith(f"{self.path}.") or is_inherited else int(index)


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

        def inside(group: UnitGroup) -> UnitGroup:
            return replace(
                group,
                slices=tuple(replace(part, parameter=prefix + part.parameter) for part in group.slices),
                attributes=tuple(replace(attribute, module=prefix + attribute.module) for attribute in group.attributes),
                config_field=config + group.config_field if group.config_field else "",
                more_config=tuple((config + name, per_unit) for name, per_unit in group.more_config),
                shared=tuple(replace(shared, module=prefix + shared.module) for shared in group.shared),
            )

        stacks = tuple(
            replace(
                stack,
                path=prefix + stack.path,
                config_field=config + stack.config_field if stack.config_field else "",
                config_lists=tuple(config + name for name in stack.config_lists),
                config_indices=tuple(config + name for name in stack.config_indices),
            )
            for stack in self.stacks
        )
        return Topology(tuple(inside(group) for group in self.groups), stacks)

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
                self._check_cover(name, dim, tuple(shapes[name])[dim])
            if sum(self._parts(name, dim) > 1 for dim in dims) > 1:
                raise TopologyError(f"{name!r} has several parts in more than one dimension: at most one may be fused")

    def _parts(self, parameter: str, dim: int) -> int:
        return sum(part.dim == dim for _, part in self.slices_of[parameter])

    def _check_cover(self, parameter: str, dim: int, size: int) -> None:
        """Raises: TopologyError where the slices of one dimension overlap, leave a gap, or belong to several groups."""
        end, parts = 0, [(group, part) for group, part in self.slices_of[parameter] if part.dim == dim]
        for group, part in parts:
            if part.start != end or group is not parts[0][0]:
                break
            end += group.num_units * part.unit_size
        if end != size or len({group.name for group, _ in parts}) > 1:
            units = " and ".join(f"{g.num_units} units of {p.unit_size}" + f" from {p.start}" * (p.start > 0) for g, p in parts)
            raise TopologyError(f"group {parts[0][0].name!r}: {parameter!r} has {size} entries in dimension {dim}, not {units}")
