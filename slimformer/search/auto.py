"""The default strategy: enumerate a small space; otherwise solve for seeds, then evolve from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slimformer.search.base import STRATEGIES, Candidate, Problem
from slimformer.search.evolution import Evolution
from slimformer.search.milp import best_specs, seeds
from slimformer.search.neighbours import grow, randomness
from slimformer.supernet.spec import SubnetSpec

if TYPE_CHECKING:
    from torch import Generator


@STRATEGIES.register("auto")
@dataclass(frozen=True)
class Auto:
    """Everything, in a small space; in a large one exact solutions at several budgets, then evolution from them.

    Solving is best where contributions add up, evolution where they interact (both were measured); each generation
    therefore also has a few exact solutions of the values refitted to all ratings.

    solved: how many exact solutions a generation has. evolution: how the rest of it is bred.
    """

    solved: int = 2
    evolution: Evolution = field(default_factory=lambda: Evolution(batch=6))

    def ask(self, problem: Problem, seen: Sequence[Candidate], generator: Generator) -> Sequence[SubnetSpec]:
        known = {candidate.spec for candidate in seen}
        if problem.choices.count() <= problem.max_ratings:
            return [spec for spec in problem.choices.every() if spec not in known and problem.meets(spec)]
        if known <= set(problem.choices.grid):
            first = [spec for spec in seeds(problem, seen, generator) if spec not in known]
            if first:
                return first
        return [*self._solved(problem, seen, generator), *self.evolution.ask(problem, seen, generator)]

    def _solved(self, problem: Problem, seen: Sequence[Candidate], generator: Generator) -> list[SubnetSpec]:
        if not problem.limits:
            return []
        random = randomness(generator)
        found = best_specs(problem, seen, 1.0, self.solved)
        return [grow(problem, spec, random) for spec in found] if problem.goal.grows else found
