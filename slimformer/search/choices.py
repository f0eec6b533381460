"""The per-layer space of a search: which sizes each unit group may take and which sets of blocks may remain."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import comb, floor, log2, prod
from typing import Literal

from slimformer.axes.base import count, size_at
from slimformer.axes.space import Space
from slimformer.errors import SpaceError
from slimformer.supernet.spec import SubnetSpec
from slimformer.supernet.topology import BlockStack, Topology, UnitGroup

BlockRule = Literal["any", "spread", "prefix"]
"""Which blocks may remain: any of them, the sets that the depth policy gives for each depth, or the first ones."""

STEPS = 12
"""A multiple that nobody gave leaves at least so many sizes."""


def default_multiple(num_units: int) -> int:
    """The largest power of two of which at least `STEPS` multiples make `num_units`: 256 for 3072 neurons, 1 for 12 heads."""
    return 2 ** max(0, floor(log2(max(1.0, num_units / STEPS))))


@dataclass(frozen=True)
class Choices:
    """The sub-networks among which a search chooses.

    Each group takes multiples between the sizes that the grid's smallest and largest ratio give it, each stack keeps at
    least as many blocks as the grid's shallowest point; what the grid leaves whole stays whole.

    Law: every point of the grid is among them.

    multiples: the step of the sizes, by axis or by a prefix of axes ("width.ffn"); `default_multiple` where none is given.
    blocks: which sets of blocks may remain.
    Raises: SpaceError for a multiple of an axis that the topology lacks, or one below 1.
    """

    space: Space
    multiples: Mapping[str, int] = field(default_factory=dict)
    blocks: BlockRule = "any"

    def __post_init__(self) -> None:
        for name, multiple in self.multiples.items():
            if not any(_covers(name, axis) for axis in self.topology.axes):
                raise SpaceError(f"a multiple is given for {name!r}, but the axes are: {', '.join(self.topology.axes)}")
            if multiple < 1:
                raise SpaceError(f"the multiple of {name!r} is {multiple}: write 1 or more")

    @property
    def topology(self) -> Topology:
        return self.space.topology

    @cached_property
    def grid(self) -> tuple[SubnetSpec, ...]:
        """The uniform sub-networks, largest first."""
        return tuple(point.spec for point in self.space.points())

    @cached_property
    def sizes(self) -> Mapping[str, tuple[int, ...]]:
        """The sizes of each group, ascending."""
        return {group.name: self._sizes(group) for group in self.topology.groups}

    def _sizes(self, group: UnitGroup) -> tuple[int, ...]:
        ratios = self._ratios(group.axis)
        uniform = {size_at(group, ratio) for ratio in ratios}
        if len(uniform) == 1:
            return tuple(uniform)
        step = next((m for name, m in self.multiples.items() if _covers(name, group.axis)), default_multiple(group.num_units))
        return tuple(sorted(uniform | {n for n in range(step, max(uniform) + 1, step) if n >= min(uniform)}))

    def _ratios(self, axis: str) -> tuple[float, ...]:
        return next((own.ratios for own in self.space.axes if own.covers(axis)), (1.0,))

    @cached_property
    def least(self) -> Mapping[str, int]:
        """The fewest blocks that each stack keeps."""
        return {s.name: count(s.num_blocks, min(self._ratios(s.axis))) for s in self.topology.stacks}

    @cached_property
    def most(self) -> Mapping[str, int]:
        """The most blocks that each stack keeps."""
        return {s.name: count(s.num_blocks, max(self._ratios(s.axis))) for s in self.topology.stacks}

    @cached_property
    def listed(self) -> Mapping[str, tuple[tuple[int, ...], ...]]:
        """The sets of blocks that may remain, for the stacks that do not keep any set of a legal number."""
        elastic = [s for s in self.topology.stacks if self.blocks != "any" or self.least[s.name] == s.num_blocks]
        return {stack.name: self._sets(stack) for stack in elastic}

    def _sets(self, stack: BlockStack) -> tuple[tuple[int, ...], ...]:
        total, depths = stack.num_blocks, range(self.least[stack.name], self.most[stack.name] + 1)
        found = {spec.blocks[stack.name] for spec in self.grid}
        for depth in depths:
            if depth == total or self.blocks == "prefix":
                found.add(tuple(range(depth)))
            elif self.blocks == "spread":
                found.add(tuple(self.space.depth_policy(total, depth / total)))
        return tuple(sorted(found, key=lambda kept: (len(kept), kept)))

    def may_keep(self, stack: str, kept: tuple[int, ...]) -> bool:
        """Whether a stack may keep exactly these blocks."""
        if stack in self.listed:
            return kept in self.listed[stack]
        return self.least[stack] <= len(kept) <= self.most[stack]

    def holds(self, spec: SubnetSpec) -> bool:
        """Whether a spec is one of the choices."""
        sizes = all(units in self.sizes[name] for name, units in spec.units.items())
        return sizes and all(self.may_keep(stack, kept) for stack, kept in spec.blocks.items())

    def largest(self) -> SubnetSpec:
        """The whole of everything that the grid allows."""
        blocks = {s.name: self.listed[s.name][-1] for s in self.topology.stacks if s.name in self.listed}
        return self.topology.spec({name: sizes[-1] for name, sizes in self.sizes.items()}, blocks)

    def count(self) -> int:
        """How many sub-networks there are."""
        inside = self.topology.owner
        total = prod(len(sizes) for name, sizes in self.sizes.items() if name not in inside)
        for stack in self.topology.stacks:
            ways = [
                prod(len(self.sizes[g]) for g, place in inside.items() if place == (stack.name, b))
                for b in range(stack.num_blocks)
            ]
            total *= self._ways(stack.name, ways)
        return total

    def _ways(self, stack: str, ways: list[int]) -> int:
        if stack in self.listed:
            return sum(prod(ways[block] for block in kept) for kept in self.listed[stack])
        by_depth = [1] + [0] * len(ways)  # elementary symmetric polynomials
        for way in ways:
            for depth in range(len(ways), 0, -1):
                by_depth[depth] += way * by_depth[depth - 1]
        return sum(by_depth[self.least[stack] : self.most[stack] + 1])

    def every(self) -> Iterator[SubnetSpec]:
        """All of them; ask `count` first."""
        stacks = self.topology.stacks
        for sets in itertools.product(*(self._legal_sets(stack) for stack in stacks)):
            blocks = {stack.name: kept for stack, kept in zip(stacks, sets, strict=True)}
            alive = [group.name for group in self.topology.groups if self.topology.is_alive(group, blocks)]
            for sizes in itertools.product(*(self.sizes[name] for name in alive)):
                yield self.topology.spec(dict(zip(alive, sizes, strict=True)), blocks)

    def _legal_sets(self, stack: BlockStack) -> Iterator[tuple[int, ...]]:
        if stack.name in self.listed:
            yield from self.listed[stack.name]
            return
        for depth in range(self.least[stack.name], self.most[stack.name] + 1):
            yield from itertools.combinations(range(stack.num_blocks), depth)

    def num_sets(self, stack: BlockStack) -> int:
        """How many sets of blocks a stack may keep."""
        if stack.name in self.listed:
            return len(self.listed[stack.name])
        return sum(comb(stack.num_blocks, d) for d in range(self.least[stack.name], self.most[stack.name] + 1))


def _covers(name: str, axis: str) -> bool:
    return axis == name or axis.startswith(name + ".")
