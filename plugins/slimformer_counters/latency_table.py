"""The table behind the latency cost: which sub-networks to time, and a monotone function fitted to what they took."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from slimformer.supernet import BlockStack, SubnetSpec, Topology
from slimformer_counters.polynomial import OUTSIDE, Place

if TYPE_CHECKING:
    from torch import nn

    from slimformer.supernet import SuperNet

KNOTS = (1 / 12, 1 / 3, 2 / 3, 1.0)
"""The shares of a group's units at which its part of the latency is measured."""


@dataclass(frozen=True)
class Sample:
    """The seconds that one spec took; a check is not fitted, but tells the error of the fit."""

    spec: SubnetSpec
    seconds: float
    is_check: bool

    def to_json(self) -> dict[str, Any]:
        return {"spec": self.spec.to_json(), "seconds": self.seconds, "check": self.is_check}


@dataclass(frozen=True)
class Family:
    """Groups that share one curve: the same group of blocks that are alike, or one outside all blocks."""

    groups: tuple[str, ...]
    num_units: int
    least: int

    @property
    def knots(self) -> tuple[int, ...]:
        return tuple(sorted({max(self.least, round(self.num_units * share)) for share in KNOTS}))


@dataclass(frozen=True)
class Plan:
    """What is measured.

    alike: the blocks of each kind, which share their curves. families: the groups of each curve.
    """

    alike: tuple[tuple[Place, ...], ...]
    families: tuple[Family, ...]

    @property
    def weight(self) -> float:
        """About how many passes of the full-size model a round is."""
        return 2 + 0.7 * (sum(len(family.knots) - 1 for family in self.families) + len(self.alike))

    def specs(self, topology: Topology, share: float) -> list[SubnetSpec]:
        """Specs that tell the curves apart: whole, one family smaller, all of them smallest, half of a kind's blocks.

        share: of the blocks; fewer make a measurement shorter.
        """
        kept = self._kept(topology, [max(1, round(share * len(places))) for places in self.alike])
        smallest = {name: family.knots[0] for family in self.families for name in family.groups}
        found = [topology.spec({}, kept), topology.spec(smallest, kept)]
        for family in self.families:
            found += [topology.spec(dict.fromkeys(family.groups, knot), kept) for knot in family.knots[:-1]]
        for number, places in enumerate(self.alike):
            counts = [max(1, round(share * len(places))) for places in self.alike]
            counts[number] //= 2
            fewer = self._kept(topology, counts)
            if all(fewer.values()):
                found.append(topology.spec({}, fewer))
        return list(dict.fromkeys(found))

    def _kept(self, topology: Topology, counts: Sequence[int]) -> dict[str, list[int]]:
        kept: dict[str, list[int]] = {stack.name: [] for stack in topology.stacks}
        for places, most in zip(self.alike, counts, strict=True):
            for stack, block in places[:most]:
                kept[stack].append(block)
        return kept

    def checks(self, topology: Topology, number: int, share: float) -> list[SubnetSpec]:
        """Per-layer specs that vary everything, the same ones at each call."""
        from random import Random

        random, found = Random(0), []
        kept = self._kept(topology, [max(1, round(share * len(places))) for places in self.alike])
        for _ in range(number):
            blocks = {
                stack: sorted(random.sample(all_, random.randint((len(all_) + 1) // 2, len(all_))))
                for stack, all_ in kept.items()
            }
            units = {
                name: random.randint(family.knots[0], family.num_units) for family in self.families for name in family.groups
            }
            found.append(topology.spec(units, blocks))
        return found


def plan(supernet: SuperNet) -> Plan:
    """Find the blocks that are alike and the groups that share a curve; knows no model family."""
    topology = supernet.topology
    inside: dict[Place, list[str]] = defaultdict(list)
    for group in topology.groups:
        inside[topology.owner.get(group.name, OUTSIDE)].append(group.name)
    kinds: dict[str, list[Place]] = defaultdict(list)
    for stack in topology.stacks:
        for block in range(stack.num_blocks):
            module = supernet.model.get_submodule(f"{stack.path}.{block}")
            sizes = [(topology.by_name[g].axis, topology.by_name[g].num_units) for g in inside[stack.name, block]]
            kinds[_signature(stack, module, sizes)].append((stack.name, block))
    families = [_family((name,), topology) for name in inside[OUTSIDE]]
    for places in kinds.values():
        for groups in zip(*(inside[place] for place in places), strict=True):
            families.append(_family(groups, topology))
    return Plan(tuple(map(tuple, kinds.values())), tuple(families))


def _family(groups: tuple[str, ...], topology: Topology) -> Family:
    first = topology.by_name[groups[0]]
    return Family(groups, first.num_units, first.least)


def _signature(stack: BlockStack, block: nn.Module, sizes: Sequence[tuple[str, int]]) -> str:
    """What blocks that take equally long have in common: their modules, the modules' settings, and all shapes."""
    modules = [
        (name, type(module).__name__, sorted((k, v) for k, v in vars(module).items() if _is_setting(k, v, stack)))
        for name, module in block.named_modules()
    ]
    shapes = [(name, tuple(parameter.shape)) for name, parameter in block.named_parameters()]
    return hashlib.sha256(repr((stack.name, modules, shapes, sizes)).encode()).hexdigest()


def _is_setting(name: str, value: object, stack: BlockStack) -> bool:
    return name not in (stack.index_attribute, "training") and not name.startswith("_") and isinstance(value, int | str | tuple)


@dataclass(frozen=True)
class Table:
    """The seconds of a spec: `outside + sum over remaining blocks of block[b] + sum over remaining groups of curve[g](units)`.

    Law: non-decreasing, the curves being so and nothing being below 0.

    blocks: by stack, the seconds of each block with every group at its smallest knot. curves: by group, its knots and the
        seconds that it adds at each of them; straight lines between, level below the first knot.
    """

    outside: float
    blocks: Mapping[str, tuple[float, ...]]
    curves: Mapping[str, tuple[tuple[int, float], ...]]

    def __call__(self, spec: SubnetSpec) -> float:
        total = self.outside
        for stack, kept in spec.blocks.items():
            for block in kept:
                total += self.blocks[stack][block]
        for group, units in spec.units.items():
            total += _at(self.curves[group], units)
        return total

    def error(self, samples: Sequence[Sample]) -> float:
        """The mean absolute error on samples, as a share of what they took."""
        return sum(abs(self(sample.spec) / sample.seconds - 1) for sample in samples) / max(1, len(samples))


def _at(curve: tuple[tuple[int, float], ...], units: int) -> float:
    for (low, below), (high, above) in pairwise(curve):
        if units <= high:
            return below + (above - below) * max(0, units - low) / (high - low)
    return curve[-1][1]


def fit(topology: Topology, layout: Plan, samples: Sequence[Sample]) -> Table:
    """The table that explains samples best: least squares of the relative errors, every increment at least 0.

    Solved by non-negative least squares, so that the curves are isotonic by construction.
    """
    import numpy as np
    from scipy.optimize import nnls

    rows = np.array([_row(layout, sample.spec) for sample in samples])
    seconds = np.array([sample.seconds for sample in samples])
    weights = iter(nnls(rows / seconds[:, None], np.ones(len(samples)))[0].tolist())
    outside = next(weights)
    blocks = {stack.name: [0.0] * stack.num_blocks for stack in topology.stacks}
    for places in layout.alike:
        each = next(weights)
        for stack, block in places:
            blocks[stack][block] = each
    curves: dict[str, tuple[tuple[int, float], ...]] = {}
    for family in layout.families:
        curve = [(family.knots[0], 0.0)]
        for knot in family.knots[1:]:
            curve.append((knot, curve[-1][1] + next(weights)))
        curves |= dict.fromkeys(family.groups, tuple(curve))
    return Table(outside, {name: tuple(each) for name, each in blocks.items()}, curves)


def _row(layout: Plan, spec: SubnetSpec) -> list[float]:
    """The features of a spec: 1, the remaining blocks of each kind, and for each stretch of each curve how much is used."""
    row = [1.0]
    for places in layout.alike:
        row.append(float(sum(block in spec.blocks[stack] for stack, block in places)))
    for family in layout.families:
        sizes = [spec.units[name] for name in family.groups if name in spec.units]
        for low, high in pairwise(family.knots):
            row.append(sum(min(max(size - low, 0), high - low) / (high - low) for size in sizes))
    return row
