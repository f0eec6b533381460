"""The strategy that breeds: mutation and crossover of the best candidates so far, on legal specs within the limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from slimformer.search.base import STRATEGIES, Candidate, Problem
from slimformer.search.neighbours import TRIES, cross, draw, fit, mutate, randomness
from slimformer.supernet.spec import SubnetSpec

if TYPE_CHECKING:
    from torch import Generator


@STRATEGIES.register("evolution")
@dataclass(frozen=True)
class Evolution:
    """Children of the best candidates, by mutation and crossover, fitted to the limits before anything is rated.

    After Once-for-All (arXiv 1908.09791, section 4), which rejects what is over the limit; here it is shrunk to fit.

    batch: children in a generation. parents: how many of the best breed. mutation: the share of sizes that change.
    crossover: the share of children that have two parents. fresh: the share that has none.
    """

    batch: int = 8
    parents: int = 8
    mutation: float = 0.15
    crossover: float = 0.5
    fresh: float = 0.1

    def ask(self, problem: Problem, seen: Sequence[Candidate], generator: Generator) -> Sequence[SubnetSpec]:
        random = randomness(generator)
        parents = [candidate.spec for candidate in problem.ranked(seen) if problem.choices.holds(candidate.spec)]
        known, found = {candidate.spec for candidate in seen}, []
        for _ in range(TRIES * self.batch):
            child = fit(problem, self._child(problem, parents[: self.parents], random), random)
            if child is not None and child not in known:
                known.add(child)
                found.append(child)
            if len(found) == self.batch:
                break
        return found

    def _child(self, problem: Problem, parents: Sequence[SubnetSpec], random: Random) -> SubnetSpec:
        if not parents or random.random() < self.fresh:
            return draw(problem.choices, random)
        one, other = random.choice(parents), random.choice(parents)
        child = cross(problem.choices, one, other, random) if random.random() < self.crossover else one
        return mutate(problem.choices, child, random, self.mutation)
