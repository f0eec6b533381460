"""Limits, goals, candidates, the protocol of strategies, and the search itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from slimformer.costs.quantity import format_cost
from slimformer.errors import InfeasibleError, SearchError
from slimformer.registry import Registry
from slimformer.search.choices import Choices
from slimformer.search.journal import Coordinator, SingleProcess
from slimformer.supernet.spec import SubnetSpec
from slimformer.supernet.topology import Topology

if TYPE_CHECKING:
    from torch import Generator

Price = Callable[[SubnetSpec], Mapping[str, float]]
Rate = Callable[[SubnetSpec], float]

MAX_RATINGS = 60


@dataclass(frozen=True)
class Limit:
    """A ceiling on a cost: `costs[cost] <= most`.

    unit: of the cost, as `Cost.unit` says it, for messages ("" for a plain number).
    """

    cost: str
    most: float
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.cost} <= {format_cost(self.most, self.unit)}"


@dataclass(frozen=True)
class Candidate:
    """A spec with its price in every cost, and its rating (higher is better) once it has one."""

    spec: SubnetSpec
    costs: Mapping[str, float]
    rating: float | None = None

    def meets(self, limits: Sequence[Limit]) -> bool:
        return all(self.costs[limit.cost] <= limit.most for limit in limits)

    def excess(self, limits: Sequence[Limit]) -> float:
        """By what factor the candidate exceeds the limit that it exceeds most; at most 1 where it meets all."""
        return max((self.costs[limit.cost] / limit.most for limit in limits), default=0.0)


class Goal(Protocol):
    """What a search wants of the candidates that meet the limits.

    grows: whether a larger sub-network within the limits is worth more than a smaller one.
    """

    @property
    def grows(self) -> bool: ...

    def key(self, candidate: Candidate) -> tuple[Any, ...]:
        """What rated candidates are sorted by, the best one first."""
        ...

    def tighten(self, limits: Sequence[Limit], seen: Sequence[Candidate]) -> tuple[Limit, ...]:
        """The limits that a further candidate must meet to be of any use."""
        ...


@dataclass(frozen=True)
class Best:
    """The best rating; the cheaper candidate among equals."""

    grows: bool = True

    def key(self, candidate: Candidate) -> tuple[Any, ...]:
        return (-(candidate.rating or 0.0), tuple(candidate.costs.values()))

    def tighten(self, limits: Sequence[Limit], seen: Sequence[Candidate]) -> tuple[Limit, ...]:
        return tuple(limits)


@dataclass(frozen=True)
class Cheapest:
    """The lowest cost with a rating of at least `least`; one that is not cheaper than the best so far is not rated."""

    cost: str
    least: float
    grows: bool = False

    def key(self, candidate: Candidate) -> tuple[Any, ...]:
        rating = candidate.rating or 0.0
        return (0, candidate.costs[self.cost], -rating) if rating >= self.least else (1, -rating, candidate.costs[self.cost])

    def tighten(self, limits: Sequence[Limit], seen: Sequence[Candidate]) -> tuple[Limit, ...]:
        reached = [c.costs[self.cost] for c in seen if c.rating is not None and c.rating >= self.least]
        return (*limits, Limit(self.cost, min(reached) * (1 - 1e-9))) if reached else tuple(limits)


@dataclass(frozen=True)
class Problem:
    """What is asked of a search, as far as strategies may know it.

    price: the value of every cost of a spec; pure and quick.
    limits: what every candidate that is rated must meet.
    max_ratings: how many sub-networks are rated at most, the uniform ones included, which are all rated in any case.
    importance: the importance of each unit of a group, in the super-network's order; a hint about which sizes matter.
    memo: what strategies worked out about the prices, by cost, and need not work out again at the next batch.
    """

    choices: Choices
    price: Price
    limits: tuple[Limit, ...] = ()
    goal: Goal = field(default_factory=Best)
    max_ratings: int = MAX_RATINGS
    importance: Mapping[str, Sequence[float]] = field(default_factory=dict)
    memo: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def topology(self) -> Topology:
        return self.choices.topology

    def meets(self, spec: SubnetSpec) -> bool:
        costs = self.price(spec) if self.limits else {}
        return all(costs[limit.cost] <= limit.most for limit in self.limits)

    def now(self, seen: Sequence[Candidate]) -> Problem:
        """The problem with the limits that matter after what was seen."""
        return replace(self, limits=self.goal.tighten(self.limits, seen))

    def ranked(self, seen: Sequence[Candidate]) -> list[Candidate]:
        """The rated candidates, the best first, in an order that does not depend on who rated them when."""
        return sorted((c for c in seen if c.rating is not None), key=lambda c: (self.goal.key(c), c.spec.key))


class Strategy(Protocol):
    """Proposes specs, batch after batch, until it returns an empty one.

    Law: a function of its arguments. `seen` holds every candidate so far, the uniform ones first; only those that met the
    limits have a rating. `problem.limits` are those of the moment.
    """

    def ask(self, problem: Problem, seen: Sequence[Candidate], generator: Generator) -> Sequence[SubnetSpec]: ...


STRATEGIES: Registry[Strategy] = Registry("search strategy", "strategies", requires=("ask",))
"""Search strategies by name."""


def search(
    problem: Problem, strategy: Strategy, rate: Rate, generator: Generator, ledger: Coordinator | None = None
) -> list[Candidate]:
    """All candidates that meet every limit, best first (the cheaper one first among equals).

    Laws: everything returned meets every limit; a candidate over a limit is never rated, its cost being free to know; the
    uniform sub-networks come first, so that the best one is never worse than any of them on the rating.
    rate: the rating of a spec, higher is better. ledger: who else rates; nobody by default.
    Raises: InfeasibleError naming the nearest candidate where none meets the limits; SearchError where a rating is nan.
    """
    ledger = ledger or SingleProcess()
    seen: dict[SubnetSpec, Candidate] = {}
    asked: Sequence[SubnetSpec] = problem.choices.grid
    while asked:
        for spec in asked:
            _join(problem, seen, ledger)
            is_uniform = spec in problem.choices.grid
            if is_uniform or ledger.count() < problem.max_ratings:
                _consider(problem, spec, seen, rate, ledger)
        _join(problem, seen, ledger)
        room = ledger.count() < problem.max_ratings
        proposed = strategy.ask(problem.now(list(seen.values())), list(seen.values()), generator) if room else ()
        asked = [spec for spec in dict.fromkeys(proposed) if spec not in seen]
    ledger.wait()
    _join(problem, seen, ledger)
    found = [candidate for candidate in problem.ranked(list(seen.values())) if candidate.meets(problem.limits)]
    if not found:
        raise InfeasibleError(_nearest(problem, list(seen.values())))
    return found


def _consider(problem: Problem, spec: SubnetSpec, seen: dict[SubnetSpec, Candidate], rate: Rate, ledger: Coordinator) -> None:
    """Price a spec, and rate it if it meets the limits of the moment and nobody else is at it."""
    if spec in seen:
        return
    priced = seen[spec] = Candidate(spec, problem.price(spec))
    if not priced.meets(problem.goal.tighten(problem.limits, list(seen.values()))) or not ledger.claim(spec):
        return
    try:
        rating = rate(spec)
        if math.isnan(rating):
            raise SearchError(
                f"the rating of a sub-network is no number (its costs: {priced.costs}): it computes nan on the probe"
            )
    except BaseException:
        ledger.give_up(spec)
        raise
    ledger.tell(spec, rating)
    seen[spec] = replace(priced, rating=rating)


def _join(problem: Problem, seen: dict[SubnetSpec, Candidate], ledger: Coordinator) -> None:
    """Add what others have rated."""
    for spec, rating in ledger.others().items():
        if spec not in seen:
            problem.topology.validate(spec)
        if spec not in seen or seen[spec].rating is None:
            seen[spec] = Candidate(spec, problem.price(spec), rating)


def _nearest(problem: Problem, seen: Sequence[Candidate]) -> str:
    """Where even the smallest sub-network is over a limit, name the one nearest to it."""
    limits = problem.limits
    nearest = min(seen, key=lambda candidate: (candidate.excess(limits), tuple(candidate.costs.values())))
    points = problem.choices.space.points()
    name = next((point.name for point in points if point.spec == nearest.spec), "a per-layer one")
    has = ", ".join(f"{limit.cost} {format_cost(nearest.costs[limit.cost], limit.unit)}" for limit in limits)
    asked = " and ".join(str(limit) for limit in limits)
    return f"no sub-network has {asked}; the nearest, {name}, has {has}. Raise the limit or add smaller ratios to [space]"
