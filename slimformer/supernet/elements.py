"""The elements of a topology: slices of parameters, units coupled across them, and lists of blocks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, replace
from typing import Literal


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

    def within(self, prefix: str, config: str) -> UnitGroup:
        """The group in a model that holds the described one as a part; the arguments are those of `Topology.within`."""
        return replace(
            self,
            slices=tuple(replace(part, parameter=prefix + part.parameter) for part in self.slices),
            attributes=tuple(replace(attribute, module=prefix + attribute.module) for attribute in self.attributes),
            config_field=config + self.config_field if self.config_field else "",
            more_config=tuple((config + name, per_unit) for name, per_unit in self.more_config),
            shared=tuple(replace(shared, module=prefix + shared.module) for shared in self.shared),
        )

    @property
    def is_divisible(self) -> bool:
        """Whether a sub-network can have fewer units."""
        return self.num_units > self.least

    @property
    def why_indivisible(self) -> str:
        """Why no sub-network can have fewer units, for messages."""
        if self.num_units == 1:
            return "one unit in each group (attention with a single key-value head, say), which cannot be halved"
        return f"{self.num_units} units in each group, and none can do with fewer"

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

    def within(self, prefix: str, config: str) -> BlockStack:
        """The stack in a model that holds the described one as a part; the arguments are those of `Topology.within`."""
        return replace(
            self,
            path=prefix + self.path,
            config_field=config + self.config_field if self.config_field else "",
            config_lists=tuple(config + name for name in self.config_lists),
            config_indices=tuple(config + name for name in self.config_indices),
        )
