"""What counters share: a count as a polynomial in the numbers of units of a spec."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

from slimformer.errors import TopologyError
from slimformer.supernet import SubnetSpec, Topology, UnitGroup

Terms = tuple[tuple[int, tuple[str, ...]], ...]
"""Summands `coefficient * product of the groups' numbers of units`, each as (coefficient, names of the groups)."""

Place = tuple[str, int]
"""A stack's name and the index of a block in it."""

OUTSIDE: Place = ("", -1)
"""The place of what lies in no block."""


@dataclass(frozen=True)
class Share:
    """The part of a count that one parameter or module stands for.

    name: the parameter or module.
    full: its count in the full-size model.
    groups: the groups to whose numbers of units it is proportional, a group twice where it is so twice.
    """

    name: str
    full: int
    groups: tuple[UnitGroup, ...]

    @property
    def coefficient(self) -> int:
        """The count where each group has one unit.

        Raises: TopologyError where the full count is not a multiple of the groups' sizes, hence not proportional to them.
        """
        coefficient, rest = divmod(self.full, prod(group.num_units for group in self.groups))
        if rest:
            sizes = " x ".join(f"{group.num_units} units of {group.name!r}" for group in self.groups)
            raise TopologyError(f"{self.name!r} counts {self.full}, which is not a multiple of {sizes}: check its slices")
        return coefficient


@dataclass(frozen=True)
class Polynomial:
    """A count of a spec: `sum_t c_t * prod_{g in t} units[g]` over the terms outside all blocks and in those that remain.

    Law: with coefficients of at least 0 it is non-decreasing in every group's units and in every stack's set of blocks.

    blocks: the terms of each block, by the name of the stack.
    """

    outside: Terms
    blocks: Mapping[str, tuple[Terms, ...]]

    def __call__(self, spec: SubnetSpec) -> int:
        total = _value(self.outside, spec.units)
        for stack, kept in spec.blocks.items():
            terms = self.blocks[stack]
            for block in kept:
                total += _value(terms[block], spec.units)
        return total


def polynomial(topology: Topology, shares: Iterable[Share]) -> Polynomial:
    """Add up shares into one polynomial, like terms collected."""
    collected: dict[Place, Counter[tuple[str, ...]]] = defaultdict(Counter)
    for share in shares:
        groups = tuple(sorted(group.name for group in share.groups))
        collected[topology.place(share.name) or OUTSIDE][groups] += share.coefficient

    def terms(place: Place) -> Terms:
        return tuple((coefficient, groups) for groups, coefficient in collected[place].items())

    blocks = {stack.name: tuple(terms((stack.name, block)) for block in range(stack.num_blocks)) for stack in topology.stacks}
    return Polynomial(terms(OUTSIDE), blocks)


def _value(terms: Terms, units: Mapping[str, int]) -> int:
    total = 0
    for coefficient, groups in terms:
        value = coefficient
        for group in groups:
            value *= units[group]
        total += value
    return total
