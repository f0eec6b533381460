"""The exact strategy: the best spec under the limits if values and costs are additive, by integer programming."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from slimformer.search.additive import Additive, fit_values, lower_bounds
from slimformer.search.base import STRATEGIES, Candidate, Limit, Problem
from slimformer.search.choices import Choices
from slimformer.search.neighbours import grow, randomness
from slimformer.supernet.spec import SubnetSpec

if TYPE_CHECKING:
    from torch import Generator

Variable = tuple[Any, ...]
"""("size", group, size), ("block", stack, index) or ("set", stack, place in the list): each is 0 or 1."""

EXCLUSIONS, TIGHTENINGS = 8, 8
"""How many solutions over a limit are excluded, where the additive price lies below the true one, before it is tightened."""


@dataclass(frozen=True)
class Solution:
    """What a solve found.

    spec: the optimum. value: its additive value. gap: by which share of it a better one could still be better; 0 is proven
    optimality on the additive model. seconds: wall time of building and solving.
    """

    spec: SubnetSpec
    value: float
    gap: float
    seconds: float


class Model:
    """The integer program: maximise an additive value, `sum value[v] x[v]`, subject to limits on maxima of additive prices.

    A group has one size if its block remains, none otherwise; a stack keeps a legal set of blocks; a limit is one row for
    each additive function of its price. Solved by HiGHS (`scipy.optimize.milp`) to proven optimality.
    """

    def __init__(self, choices: Choices, limits: Sequence[Limit], prices: Mapping[str, Sequence[Additive]]) -> None:
        self._choices = choices
        self._variables: dict[Variable, int] = {}
        self._rows: list[tuple[dict[int, float], float, float]] = []
        for name, sizes in choices.sizes.items():
            for size in sizes:
                self._add(("size", name, size))
        for stack in choices.topology.stacks:
            for block in range(stack.num_blocks):
                self._add(("block", stack.name, block))
            for place in range(len(choices.listed.get(stack.name, ()))):
                self._add(("set", stack.name, place))
        self._structure()
        for limit in limits:
            for price in prices[limit.cost]:
                row = {variable: weight / limit.most for variable, weight in self._weights(price).items()}
                self._rows.append((row, float("-inf"), 1 - price.base / limit.most))

    def _add(self, variable: Variable) -> None:
        self._variables[variable] = len(self._variables)

    def _structure(self) -> None:
        choices, index = self._choices, self._variables
        for name, sizes in choices.sizes.items():
            row = {index["size", name, size]: 1.0 for size in sizes}
            place = choices.topology.owner.get(name)
            if place:
                row[index["block", *place]] = -1.0
            self._rows.append((row, *((0.0, 0.0) if place else (1.0, 1.0))))
        for stack in choices.topology.stacks:
            self._blocks(stack.name, stack.num_blocks)

    def _blocks(self, stack: str, num_blocks: int) -> None:
        choices, index = self._choices, self._variables
        blocks = [index["block", stack, block] for block in range(num_blocks)]
        if stack not in choices.listed:
            self._rows.append((dict.fromkeys(blocks, 1.0), choices.least[stack], choices.most[stack]))
            return
        sets = choices.listed[stack]
        self._rows.append(({index["set", stack, place]: 1.0 for place in range(len(sets))}, 1.0, 1.0))
        for block, variable in enumerate(blocks):
            having = {index["set", stack, place]: -1.0 for place, kept in enumerate(sets) if block in kept}
            self._rows.append(({variable: 1.0} | having, 0.0, 0.0))

    def _weights(self, function: Additive) -> dict[int, float]:
        sizes = {self._variables["size", g, n]: w for g, by_size in function.units.items() for n, w in by_size.items()}
        return sizes | {self._variables["block", *place]: weight for place, weight in function.blocks.items()}

    def exclude(self, spec: SubnetSpec) -> None:
        """Forbid one spec: at least one of its decisions must be another."""
        index = self._variables
        ones = {index["size", name, size] for name, size in spec.units.items() if ("size", name, size) in index}
        kept = {index["block", stack, block] for stack, blocks in spec.blocks.items() for block in blocks}
        dropped = {i for variable, i in index.items() if variable[0] == "block"} - kept
        chosen = ones | kept
        self._rows.append((dict.fromkeys(chosen, -1.0) | dict.fromkeys(dropped, 1.0), 1.0 - len(chosen), float("inf")))

    def solve(self, values: Additive, seconds: float = 60.0) -> Solution | None:
        """The spec of the highest value, or None where none meets the limits."""
        import numpy as np
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array

        began = time.perf_counter()
        objective = np.zeros(len(self._variables))
        for variable, weight in self._weights(values).items():
            objective[variable] = -weight
        cells = [(number, column, weight) for number, (row, _, _) in enumerate(self._rows) for column, weight in row.items()]
        numbers, columns, weights = (np.array(part) for part in zip(*cells, strict=True))
        matrix = csr_array((weights, (numbers, columns)), shape=(len(self._rows), len(objective)))
        limits = LinearConstraint(matrix, [low for _, low, _ in self._rows], [high for _, _, high in self._rows])
        options = {"time_limit": seconds, "mip_rel_gap": 1e-6}
        whole = np.ones(len(objective))
        with _silence():
            found = milp(objective, constraints=limits, integrality=whole, bounds=Bounds(0, 1), options=options)
        if found.x is None:
            return None
        spec = self._read(found.x)
        return Solution(spec, values(spec), float(found.mip_gap), time.perf_counter() - began)

    def _read(self, x: Sequence[float]) -> SubnetSpec:
        on = [variable for variable, place in self._variables.items() if x[place] > 0.5]
        blocks: dict[str, list[int]] = {stack.name: [] for stack in self._choices.topology.stacks}
        for kind, stack, block in on:
            if kind == "block":
                blocks[stack].append(block)
        return self._choices.topology.spec({name: size for kind, name, size in on if kind == "size"}, blocks)


@contextmanager
def _silence() -> Iterator[None]:
    """HiGHS now and then prints a line from C++ whatever it is told: keep it off the stdout that holds a JSON document."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def solutions(problem: Problem, values: Additive, budget: float = 1.0) -> Iterator[Solution]:
    """The specs that meet `budget` times the limits, the best on the additive model first, one solve for each.

    Where a cost is no maximum of additive ones a solution may be over a limit: it is excluded and the rest solved again;
    after some exclusions the limit is tightened by the excess, which may lose the optimum.
    """
    prices = {limit.cost: _bounds(problem, limit.cost) for limit in problem.limits}
    targets = {limit.cost: limit.most * budget for limit in problem.limits}
    excluded: list[SubnetSpec] = []
    over = 0
    while over <= EXCLUSIONS + TIGHTENINGS:
        model = Model(problem.choices, [Limit(cost, most) for cost, most in targets.items()], prices)
        for spec in excluded:
            model.exclude(spec)
        found = model.solve(values)
        if found is None:
            return
        excluded.append(found.spec)
        costs = problem.price(found.spec)
        excess = {limit.cost: costs[limit.cost] / (limit.most * budget) for limit in problem.limits}
        if all(factor <= 1 + 1e-9 for factor in excess.values()) and problem.meets(found.spec):
            yield found
            continue
        over += 1
        if over > EXCLUSIONS:
            targets = {cost: most / max(1.0, excess[cost]) * (1 - 1e-6) for cost, most in targets.items()}


def _bounds(problem: Problem, cost: str) -> tuple[Additive, ...]:
    """The additive functions of a price, worked out once for a search."""
    if cost not in problem.memo:
        problem.memo[cost] = lower_bounds(problem.choices, lambda spec: problem.price(spec)[cost])
    return problem.memo[cost]


REPEATS = 6
"""After so many solutions in a row that were seen before the additive model has nothing new to say."""


def best_specs(problem: Problem, seen: Sequence[Candidate], budget: float, number: int) -> list[SubnetSpec]:
    """The `number` best specs of the additive model fitted to what was seen, none of them seen before."""
    known = {candidate.spec for candidate in seen}
    found = []
    for solution in islice(solutions(problem, fit_values(problem, seen), budget), REPEATS):
        if solution.spec not in known:
            found.append(solution.spec)
        if len(found) == number:
            break
    return found


BUDGETS = (1.0, 0.95, 0.9, 0.8, 0.7)
"""The shares of the limits at which seeds are solved for."""


@STRATEGIES.register("milp")
@dataclass(frozen=True)
class Milp:
    """The best specs of an additive model of the rating, solved exactly, rated, refitted and solved again.

    Importance (or the order of the units) gives the first values, the ratings so far correct them. Exact where
    contributions add up; strong interactions between blocks mislead it, which is why "auto" goes on by evolution.

    best: how many solutions are rated before the values are refitted.
    """

    best: int = 4

    def ask(self, problem: Problem, seen: Sequence[Candidate], generator: Generator) -> Sequence[SubnetSpec]:
        budget = BUDGETS[len(seen) // self.best % len(BUDGETS)] if not problem.goal.grows else 1.0
        found = best_specs(_bounded(problem), seen, budget, self.best)
        random = randomness(generator)
        return [grow(problem, spec, random) for spec in found] if problem.goal.grows else found


def seeds(problem: Problem, seen: Sequence[Candidate], generator: Generator) -> list[SubnetSpec]:
    """The optimum of the additive model at several budgets, grown to the limits."""
    random, bounded = randomness(generator), _bounded(problem)
    found = [spec for budget in BUDGETS for spec in best_specs(bounded, seen, budget, 1)]
    return list(dict.fromkeys(grow(problem, spec, random) if problem.goal.grows else spec for spec in found))


def _bounded(problem: Problem) -> Problem:
    """The problem itself; without any limit the first cost of the whole model is one, so that budgets mean something."""
    if problem.limits:
        return problem
    cost, most = next(iter(problem.price(problem.choices.largest()).items()))
    return replace(problem, limits=(Limit(cost, most),))


def certificate(problem: Problem, seen: Sequence[Candidate]) -> Solution | None:
    """The optimum of the additive model after all ratings, with its optimality gap and the time that it took."""
    return next(solutions(_bounded(problem), fit_values(problem, seen)), None)
