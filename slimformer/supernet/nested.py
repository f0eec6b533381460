"""The topology of a model that is itself a sub-network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from torch import nn

from slimformer.supernet.resize import resize_layers_
from slimformer.supernet.stock import read_config, rebuild
from slimformer.supernet.topology import Slice, Topology, UnitGroup


def stock_of(model: nn.Module) -> nn.Module:
    """The stock model of a slim model's configuration, with its blocks and modules but stock sizes, and without weights."""
    table = read_config(model).slimformer
    stock = rebuild(model, table.get("build", {}))
    resize_layers_(stock, {kind: table.get(kind, {}) for kind in ("blocks", "modules")})
    return stock


def narrowed(topology: Topology, shapes: Mapping[str, Iterable[int]]) -> Topology:
    """A stock model's topology, with as many units in each group as the parameters of a narrower model have."""
    return Topology(tuple(_narrowed(topology, group, shapes) for group in topology.groups), topology.stacks)


def _narrowed(topology: Topology, group: UnitGroup, shapes: Mapping[str, Iterable[int]]) -> UnitGroup:
    first = group.slices[0]
    entries = sum(part.unit_size for _, part in topology.slices_of[first.parameter] if part.dim == first.dim)
    units = tuple(shapes[first.parameter])[first.dim] // entries

    def moved(part: Slice) -> Slice:
        before = [
            other for _, other in topology.slices_of[part.parameter] if other.dim == part.dim and other.start < part.start
        ]
        return replace(part, start=units * sum(other.unit_size for other in before))

    slices = tuple(moved(part) for part in group.slices)
    return replace(group, num_units=units, slices=slices, least=min(group.least, units))
