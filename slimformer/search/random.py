"""The strategy that draws at random: what every other one must beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slimformer.search.base import STRATEGIES, Candidate, Problem
from slimformer.search.neighbours import TRIES, draw, fit, randomness
from slimformer.supernet.spec import SubnetSpec

if TYPE_CHECKING:
    from torch import Generator


@STRATEGIES.register("random")
@dataclass(frozen=True)
class Random:
    """Per-layer sub-networks drawn at random and fitted to the limits.

    batch: how many at a time.
    """

    batch: int = 8

    def ask(self, problem: Problem, seen: Sequence[Candidate], generator: Generator) -> Sequence[SubnetSpec]:
        random = randomness(generator)
        known, found = {candidate.spec for candidate in seen}, []
        for _ in range(TRIES * self.batch):
            spec = fit(problem, draw(problem.choices, random), random)
            if spec is not None and spec not in known:
                known.add(spec)
                found.append(spec)
            if len(found) == self.batch:
                break
        return found
