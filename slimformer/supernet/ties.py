"""Check that parameters which a model uses in several places can be followed by a topology."""

from __future__ import annotations

from torch import nn

from slimformer.errors import TopologyError
from slimformer.supernet.topology import Topology


def check_ties(model: nn.Module, topology: Topology) -> None:
    """Check that each parameter with several names lies in one block, and is elastic alike under each name or under one.

    Raises: TopologyError naming the parameter: blocks that share weights cannot be dropped or narrowed one by one.
    """
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    for first, *others in names.values():
        for other in others:
            if topology.place(first) != topology.place(other):
                raise TopologyError(
                    f"{first!r} and {other!r} are the same parameter, in different blocks, one of which could be dropped without "
                    "the other: give the blocks weights of their own, or describe no depth axis for them"
                )
            mine, its = topology.elastic_dims.get(first, {}), topology.elastic_dims.get(other, {})
            if its and {dim: group.name for dim, group in its.items()} != {dim: group.name for dim, group in mine.items()}:
                raise TopologyError(
                    f"{first!r} and {other!r} are the same parameter, but their units are in different groups: name its units once"
                )
