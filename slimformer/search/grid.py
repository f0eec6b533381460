"""The exhaustive strategy: every uniform sub-network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slimformer.search.base import STRATEGIES, Candidate
from slimformer.space import Space
from slimformer.topology import SubnetSpec

if TYPE_CHECKING:
    from torch import Generator


@STRATEGIES.register("grid")
@dataclass(frozen=True)
class Grid:
    """Every sub-network of the grid, once."""

    def ask(self, space: Space, seen: Sequence[Candidate], generator: Generator) -> Sequence[SubnetSpec]:
        return [] if seen else [point.spec for point in space.points()]
