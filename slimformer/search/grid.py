"""The strategy that adds nothing to the uniform sub-networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slimformer.search.base import STRATEGIES, Candidate, Problem
from slimformer.supernet.spec import SubnetSpec

if TYPE_CHECKING:
    from torch import Generator


@STRATEGIES.register("grid")
@dataclass(frozen=True)
class Grid:
    """Every uniform sub-network of the grid, once, and nothing else."""

    def ask(self, problem: Problem, seen: Sequence[Candidate], generator: Generator) -> Sequence[SubnetSpec]:
        return ()
