"""The space of sub-networks: a few ratios on each elastic axis, and what each combination means in exact integers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from slimformer.axes.base import AXES, DEPTH_POLICIES, Axis, DepthPolicy, size_at
from slimformer.errors import SpaceError
from slimformer.supernet.spec import SubnetSpec
from slimformer.supernet.topology import Topology, indivisible_axes

if TYPE_CHECKING:
    from torch import Generator

    from slimformer.supernet.network import SuperNet

NO_RATIOS: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True)
class Point:
    """A sub-network of the grid: its ratio on each axis, and its spec.

    ratios: (axis, ratio) in the order of the space's axes.
    spec: the sub-network in exact integers.

    ```python
    point = space.find("w0.5")
    assert point.name == "width0.5-depth1"
    ```
    """

    ratios: tuple[tuple[str, float], ...]
    spec: SubnetSpec

    @property
    def name(self) -> str:
        """The name in tables and on the command line, for example "width0.5-depth0.75"."""
        return "-".join(f"{axis}{ratio:g}" for axis, ratio in self.ratios) or "full"


@dataclass(frozen=True)
class Space:
    """The uniform sub-networks of a topology: every combination of the axes' ratios.

    topology: the elastic structure of the model.
    axes: the elastic directions with their ratios.
    depth_policy: the rule that picks the blocks which a depth ratio keeps.

    Raises: SpaceError for an axis that the topology lacks, two axes that cover the same group, or a ratio outside (0, 1].

    ```python
    from slimformer.axes import Axis, KeepLast, Space
    halves = Space(supernet.topology, (Axis("width", (1.0, 0.5)),), KeepLast())
    assert [point.name for point in halves.points()] == ["width1", "width0.5"]
    ```
    """

    topology: Topology
    axes: tuple[Axis, ...]
    depth_policy: DepthPolicy

    def __post_init__(self) -> None:
        for axis in self.axes:
            covered = [name for name in self.topology.axes if axis.covers(name)]
            if not covered:
                raise SpaceError(_not_offered(axis.name, self.topology))
            for name in covered:
                if sum(other.covers(name) for other in self.axes) > 1:
                    raise SpaceError(f"two axes of the recipe cover {name!r}: keep one of them")
            if not axis.ratios or not all(0 < ratio <= 1 for ratio in axis.ratios):
                raise SpaceError(f"the ratios of {axis.name!r} are {list(axis.ratios)}: write numbers above 0, up to 1")
        tidy = tuple(Axis(a.name, tuple(sorted(set(a.ratios), reverse=True))) for a in self.axes)
        object.__setattr__(self, "axes", tidy)

    def ratio_of(self, axis: str, ratios: Mapping[str, float]) -> float:
        """The ratio that a choice gives to one of the topology's axes; 1 where it gives none."""
        return next((ratios[a.name] for a in self.axes if a.covers(axis) and a.name in ratios), 1.0)

    @staticmethod
    def of(supernet: SuperNet, depth_policy: str | DepthPolicy = "keep_last", **ratios: Sequence[float]) -> Space:
        """The space of a super-network from its axes' ratios; an axis in a group is written with two underscores.

        depth_policy: which blocks a depth ratio keeps, by name or as a component.
        Raises: SpaceError as the constructor; UnknownComponentError for an unknown depth policy.

        >>> space = Space.of(supernet, width=[1, 0.75, 0.5], depth=[1, 0.5])
        >>> space = Space.of(supernet, width__ffn=[1, 0.5])
        """
        policy = DEPTH_POLICIES.build(depth_policy) if isinstance(depth_policy, str) else depth_policy
        axes = tuple(Axis(name.replace("__", "."), tuple(map(float, values))) for name, values in ratios.items())
        return Space(supernet.topology, axes, policy)

    def spec(self, ratios: Mapping[str, float] = NO_RATIOS, **named: float) -> SubnetSpec:
        """The uniform spec of one ratio for each axis; an axis not given stays whole.

        Each axis rounds its sizes (`size_at`), the depth policy picks the blocks.

        ratios: by axis; `named` is the same as keywords, an axis in a group written with two underscores.

        >>> space.spec(width=0.5, depth=0.5)
        """
        ratios = {**ratios, **{name.replace("__", "."): ratio for name, ratio in named.items()}}
        for name in set(ratios) - {axis.name for axis in self.axes}:
            raise SpaceError(f"{name!r} is not an axis of this space, which has: {', '.join(a.name for a in self.axes)}")
        units = {g.name: size_at(g, self.ratio_of(g.axis, ratios)) for g in self.topology.groups}
        blocks = {s.name: self._kept(s.num_blocks, self.ratio_of(s.axis, ratios)) for s in self.topology.stacks}
        return self.topology.spec(units, blocks)

    def _kept(self, num_blocks: int, ratio: float) -> tuple[int, ...]:
        return tuple(range(num_blocks)) if ratio == 1 else self.depth_policy(num_blocks, ratio)

    def point(self, ratios: Mapping[str, float]) -> Point:
        """The grid point of one ratio for each axis; an axis not given stays whole."""
        ordered = tuple((axis.name, float(ratios.get(axis.name, 1.0))) for axis in self.axes)
        return Point(ordered, self.spec(ratios))

    def points(self) -> tuple[Point, ...]:
        """Every grid point, largest first; the first axis varies fastest. Points that round to the same spec appear once."""
        choices = [[(axis.name, ratio) for ratio in axis.ratios] for axis in reversed(self.axes)]
        points = [self.point(dict(choice)) for choice in itertools.product(*choices)]
        return tuple({point.spec: point for point in reversed(points)}.values())[::-1]

    def restrict(self, names: tuple[str, ...]) -> Space:
        """The same space with only the named axes elastic.

        Raises: SpaceError for a name that is not one of this space's axes.
        """
        for name in set(names) - {axis.name for axis in self.axes}:
            raise SpaceError(f"a stage makes {name!r} elastic, but [space] has only: {', '.join(a.name for a in self.axes)}")
        return Space(self.topology, tuple(axis for axis in self.axes if axis.name in names), self.depth_policy)

    def largest(self) -> Point:
        """The grid point of the largest ratio on every axis."""
        return self.point({axis.name: axis.ratios[0] for axis in self.axes})

    def smallest(self) -> Point:
        """The grid point of the smallest ratio on every axis."""
        return self.point({axis.name: axis.ratios[-1] for axis in self.axes})

    def random_point(self, generator: Generator) -> Point:
        """A grid point, each with the same probability."""
        import torch

        points = self.points()
        return points[int(torch.randint(len(points), (), generator=generator))]

    def random_spec(self, generator: Generator) -> SubnetSpec:
        """A per-layer spec: each group's size and each stack's depth drawn between the smallest and the largest ratio."""
        import torch

        low, high = self.smallest(), self.largest()
        blocks = {}
        for stack in self.topology.stacks:
            least, most = len(low.spec.blocks[stack.name]), len(high.spec.blocks[stack.name])
            depth = int(torch.randint(least, most + 1, (), generator=generator))
            order = torch.randperm(stack.num_blocks, generator=generator)[:depth]
            blocks[stack.name] = tuple(sorted(order.tolist()))
        units = {}
        for group in self.topology.groups:
            least = size_at(group, self.ratio_of(group.axis, dict(low.ratios)))
            most = size_at(group, self.ratio_of(group.axis, dict(high.ratios)))
            units[group.name] = int(torch.randint(least, most + 1, (), generator=generator))
        return self.topology.spec(units, blocks)

    def find(self, name: str) -> Point:
        """The grid point called `name`; axes may be shortened and whole ones left out: "w0.5" is "width0.5-depth1".

        Raises: SpaceError naming the points there are.
        """
        for point in self.points():
            if point.name == name:
                return point
        ratios = read_ratios(name, self.axes)
        if ratios is None:
            names = ", ".join(point.name for point in self.points())
            raise SpaceError(f"{name!r} is not a sub-network of this run; there are: {names}")
        return self.point(ratios)


def _not_offered(name: str, topology: Topology) -> str:
    """The error for an axis that a topology lacks: the axes that it offers, and how the axis is made elastic if it can be."""
    offered = f"the recipe makes {name!r} elastic, but this backbone offers only: {', '.join(topology.axes)}"
    hint = AXES.build(name).hint if name in AXES else ""
    return f"{offered}. For {name!r} {hint}" if hint else offered


def check_divisible(space: Space) -> None:
    """Raises: SpaceError where an axis has ratios below 1, but nothing along it can be left out."""
    whole = indivisible_axes(space.topology)
    for axis in space.axes:
        covered = [name for name in space.topology.axes if axis.covers(name)]
        if min(axis.ratios) < 1 and all(name in whole for name in covered):
            reasons = "; ".join(f"{name} has {whole[name]}" for name in covered)
            raise SpaceError(f"{axis.name!r} cannot be below 1 for this model: {reasons}. Leave the axis out")


def read_ratios(name: str, axes: tuple[Axis, ...]) -> dict[str, float] | None:
    """The ratio on every axis, from a point's name with axes shortened and whole ones left out; None if it is no such name."""
    import re

    ratios = {axis.name: 1.0 for axis in axes}
    for part in name.split("-"):
        match = re.fullmatch(r"([a-z.]+?)(\.?[0-9]+|[0-9]+\.[0-9]*)", part)
        meant = [a for a in axes if match and a.name.startswith(match[1])]
        if not match or len(meant) != 1 or float(match[2]) not in meant[0].ratios:
            return None
        ratios[meant[0].name] = float(match[2])
    return ratios
