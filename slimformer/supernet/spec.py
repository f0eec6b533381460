"""The spec of a sub-network: exact numbers of units and blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class SubnetSpec:
    """One sub-network, written as exact integers.

    units: how many units of each group remain (the first ones); groups inside dropped blocks do not appear.
    blocks: which blocks of each stack remain, in ascending order.

    Hashable; `SubnetSpec.from_json(spec.to_json()) == spec`.
    """

    units: Mapping[str, int]
    blocks: Mapping[str, tuple[int, ...]]

    @cached_property
    def key(self) -> tuple[Any, ...]:
        return tuple(sorted(self.units.items())), tuple(sorted(self.blocks.items()))

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SubnetSpec) and self.key == other.key

    def to_json(self) -> dict[str, Any]:
        return {"units": dict(self.units), "blocks": {name: list(kept) for name, kept in self.blocks.items()}}

    @staticmethod
    def from_json(table: Mapping[str, Any]) -> SubnetSpec:
        blocks = {name: tuple(int(b) for b in kept) for name, kept in table["blocks"].items()}
        return SubnetSpec({name: int(n) for name, n in table["units"].items()}, blocks)
